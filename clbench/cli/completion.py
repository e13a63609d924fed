"""Shell completion of plug-ins, presets, recipes, settings, `--set` and the arguments of commands."""

from __future__ import annotations

import contextlib
import glob
import io
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

if TYPE_CHECKING:
    from clbench.plugins.discovery import Kind

Completer = Callable[[str], list[str]]


def plugins(kind: Kind) -> Completer:
    """Return a completer for the last of several names of plug-ins, and for a strategy's presets after a colon."""

    def names(incomplete: str) -> list[str]:
        from clbench.plugins.discovery import discover, without_dialects

        before, comma, last = incomplete.rpartition(",")
        known = without_dialects(discover(kind))
        words = [plugin.name for plugin in known]
        if kind == "strategy":
            words += [f"{plugin.name}:{preset}" for plugin in known for preset in plugin.all_presets if ":" in last]
        return [before + comma + word for word in words if word.startswith(last)]

    return names


def recipes(ctx: typer.Context, incomplete: str) -> list[str]:
    """Complete the recipes of the scenarios typed so far, or of all scenarios if there are none."""
    from clbench.plugins.discovery import discover

    typed = ctx.params.get("scenario") or []
    wanted = {name for text in ([typed] if isinstance(typed, str) else typed) for name in text.split(",")}
    known = discover("scenario")
    named = [one for one in known if wanted & {one.name, *one.attributes.get("aliases", ())}] or known
    return _starting(incomplete, (recipe for plugin in named for recipe in plugin.recipes))


def set_names(ctx: typer.Context, incomplete: str) -> list[str]:
    """Complete `STRATEGY.NAME=` for the strategies typed so far, `recipe.NAME=`, `network.NAME=` and `stream.NAME=`."""
    from clbench.base.recipe import Recipe
    from clbench.plugins.discovery import discover, without_dialects
    from clbench.streams.kinds import KINDS, options_of

    typed = {name.partition(":")[0] for text in ctx.params.get("strategy") or [] for name in text.split(",")}
    known = without_dialects(discover("strategy"))
    named = [plugin for plugin in known if plugin.name in typed] or known
    words = [f"{plugin.name}.{field.name}=" for plugin in named for field in plugin.fields]
    words += [f"recipe.{name}=" for name in Recipe.__dataclass_fields__]
    words += [f"network.{field.name}=" for plugin in discover("network") for field in plugin.fields]
    kinds = [KINDS[name] for name in [(ctx.params.get("stream") or "").replace("-", "_")] if name in KINDS]
    words += [f"stream.{option['name']}=" for kind in kinds or KINDS.values() for option in options_of(kind)]
    return _starting(incomplete, [*words, "network.size=", "network.train="])


def streams(incomplete: str) -> list[str]:
    """Complete the kinds of streams."""
    from clbench.streams.kinds import KINDS

    return _starting(incomplete, KINDS)


def shown(incomplete: str) -> list[str]:
    """Complete the names that `clbench show` takes."""
    kinds = (plugins("strategy"), plugins("scenario"), plugins("network"), streams)
    return [word for kind in kinds for word in kind(incomplete)]


def checked(incomplete: str) -> list[str]:
    """Complete the names that `clbench check` takes."""
    return [*plugins("strategy")(incomplete), *plugins("network")(incomplete)]


def studies(incomplete: str) -> list[str]:
    """Complete folders and TOML files."""
    found = glob.glob(f"{glob.escape(incomplete)}*")  # noqa: PTH207 - which gives them as they are typed
    return sorted(f"{path}/" if Path(path).is_dir() else path for path in found if _may_be_a_study(Path(path)))


def _may_be_a_study(path: Path) -> bool:
    return path.is_dir() or path.suffix == ".toml"


def protocols(incomplete: str) -> list[str]:
    """Complete the published protocols."""
    from clbench.reproduction.targets import targets

    return _starting(incomplete, (target.protocol for target in targets()))


def metrics(incomplete: str) -> list[str]:
    """Complete the metrics that `clbench compare --metric` takes."""
    from clbench.comparison.one_metric import NAMES

    return _starting(incomplete, NAMES)


def datasets(incomplete: str) -> list[str]:
    """Complete the built-in and the imported datasets."""
    from clbench.data.datasets import data_folder, list_datasets

    return _starting(incomplete, (entry.name for entry in list_datasets(data_folder(None))))


def trackers(incomplete: str) -> list[str]:
    """Complete the last of several trackers."""
    from clbench.trackers.registry import names

    before, comma, last = incomplete.rpartition(",")
    return [before + comma + word for word in _starting(last, names())]


def one_of(*words: str) -> Completer:
    """Return a completer for one of these words."""
    return lambda incomplete: _starting(incomplete, words)


OF_OPTION: Mapping[str, Any] = {
    "strategy": plugins("strategy"),
    "scenario": plugins("scenario"),
    "recipe": recipes,
    "network": plugins("network"),
    "weights": one_of("pretrained", "none"),
    "set": set_names,
    "stream": streams,
    "setting": one_of("class", "task", "domain"),
    "tune": one_of("chf", "grid"),
    "device": one_of("auto", "cpu", "cuda"),
    "class_order": one_of("seed", "natural"),
    "jobs": one_of("auto"),
    "keep_networks": one_of("last", "all"),
    "track": trackers,
    "export": one_of("onnx", "pt2", "torchscript", "safetensors"),
    "fit": one_of("crop", "pad", "stretch"),
}
"""Completers by the name of the option."""


def _starting(incomplete: str, words: Iterable[str]) -> list[str]:
    return sorted({word for word in words if word.startswith(incomplete)})


@contextlib.contextmanager
def as_bash_divides_words() -> Iterator[None]:
    """Complete `lwf:fa` in bash, which sees three words and replaces only the last of them by the completion."""
    words, position = os.environ.get("COMP_WORDS", "").split("\n"), int(os.environ.get("COMP_CWORD", "0"))
    joined: list[list[str]] = []
    for word in words[: position + 1]:
        follows = joined and (_divides(word) or _divides(joined[-1][-1])) and word
        joined[-1:] = [[*joined[-1], word]] if follows else [*joined[-1:], [word]]
    last = joined[-1]
    before = "".join(last[: max((i + 1 for i, word in enumerate(last) if _divides(word)), default=0)])
    os.environ |= {"COMP_WORDS": "\n".join(map("".join, joined)), "COMP_CWORD": str(len(joined) - 1)}
    try:
        with contextlib.redirect_stdout(io.StringIO()) as printed:
            yield
    finally:
        option, _, value = before.partition("=")
        typed = value if option.startswith("--") else before
        print("\n".join(line.removeprefix(typed) for line in printed.getvalue().splitlines()))


def _divides(word: str) -> bool:
    return bool(word) and not word.strip(":=")
