"""`clbench.train` and `clbench.extend`: train a first network, and add classes to a network."""

from __future__ import annotations

import base64
import contextlib
import dataclasses
import shlex
import sys
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime, timezone
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from rich.console import Console

from clbench.base.config import typed
from clbench.base.events import Listener, Note
from clbench.deployment.loading import load_network
from clbench.deployment.trained_network import TrainedNetwork
from clbench.errors import UsageError
from clbench.extension import extending, first_network, first_network_planning, planning
from clbench.extension.around import Around
from clbench.extension.folder import REPORT, read_result
from clbench.extension.given import lineage_of
from clbench.extension.judging import USUAL
from clbench.extension.requests import ExtendRequest, TrainRequest
from clbench.extension.wording import lineage_in_lines, reasons_in_lines
from clbench.plugins.discovery import Plugin
from clbench.results.environment import Environment, describe
from clbench.results.extension_result import ExtensionResult
from clbench.results.network_record import NetworkRecord
from clbench.runs.option import options_of, with_options
from clbench.system import gc_freeze
from clbench.system.files import found_at, from_home
from clbench.system.signals import Interruption, as_keyboard_interrupt
from clbench.system.tables import listed
from clbench.system.terminal import Terminal
from clbench.trackers.progress import ProgressDisplay

if TYPE_CHECKING:
    import pandas as pd

FIRST_STRATEGY = "naive"
"""The strategy that trains a first network, when there is nothing to remember yet."""


class Extended:
    """A folder that `train` or `extend` has written."""

    def __init__(self, folder: Path, network_file: Path | None = None) -> None:
        """`network_file` defines the network's architecture, if it is a user's own and not in ./networks."""
        self.folder, self.network_file = folder, network_file
        self.result: ExtensionResult = read_result(folder)

    @property
    def classes(self) -> tuple[str, ...]:
        """All classes that the network knows, in the order of its scores."""
        return (*self.result.old_classes, *self.result.new_classes)

    @property
    def page(self) -> Path:
        """The report."""
        return self.folder / REPORT

    def network(self) -> TrainedNetwork:
        """Return the network, in evaluation mode, with `.classes` and `.transform`; see `clbench.load_network`."""
        return load_network(self.folder, self.network_file)

    def frame(self) -> pd.DataFrame:
        """Return the counts as a tidy frame with a row per strategy and class and the columns strategy, chosen, class,
        is_new, train_images, test_images, correct_before and correct_after."""
        import pandas as pd

        frame = pd.DataFrame(
            {
                "strategy": each.strategy.selector,
                "chosen": each.strategy.selector == self.result.chosen,
                "class": own.name,
                **own.model_dump(exclude={"name"}),
            }
            for each in self.result.candidates
            for own in each.classes
        )
        return frame.astype({"correct_before": "Int64"})  # nullable, as it is not known for new classes

    def __repr__(self) -> str:
        kept = self.result.kept
        known = [
            f"{name} {100 * value:.1f} %"
            for name, value in (
                ("old before", kept.old_accuracy_before),
                ("old", kept.old_accuracy),
                ("new", kept.new_accuracy),
            )
            if value is not None
        ]
        return f"{self.folder}: {len(self.classes)} classes, {self.result.chosen}; {', '.join(known)}"

    def _repr_html_(self) -> str:
        from html import escape

        from clbench.reporting.extension_figures import main_figure

        said = f"<p>{escape(repr(self))}</p>"
        picture = base64.b64encode(main_figure(self.result)).decode()
        if not picture:  # no class has test images
            return said
        return f'{said}<img alt="Accuracy by class" src="data:image/png;base64,{picture}" style="max-width: 100%">'


def train(
    images: str | Path,
    *,
    network: str | Path,
    out: str | Path,
    weights: str | Path | None = None,
    size: int | None = None,
    fit: Literal["crop", "pad", "stretch"] = "crop",
    epochs: int | None = None,
    prepare: str | Sequence[str] | None = None,
    set: Mapping[str, Any] | None = None,
    held_out: float | None = None,
    export: str | None = None,
    seed: int = 0,
    device: str = "auto",
    threads: int | None = None,
    data: str | Path | None = None,
) -> Extended:
    """Train a first network on a folder of images, as `clbench train` does, and return what it wrote.

    The arguments are the command's options, listed below. Raises UsageError, DataError, MachineError or PluginError.
    """
    request = TrainRequest.from_python(locals())  # every argument is an option of the request
    with as_keyboard_interrupt():
        train_request(request, Terminal(file=sys.stderr))
    return Extended(request.out, request.network_file)


def extend(
    source: str | Path | Extended | None = None,
    images: str | Path | None = None,
    *,
    out: str | Path,
    strategy: str | Sequence[str] = (),
    old_test: str | Path | None = None,
    old_images: str | Path | None = None,
    unlabelled: str | Path | None = None,
    also_old: bool = False,
    network: str | Path | None = None,
    weights: str | Path | None = None,
    classes: str | Path | None = None,
    head: str | None = None,
    size: int | None = None,
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
    fit: Literal["crop", "pad", "stretch"] | None = None,
    epochs: int | None = None,
    set: Mapping[str, Any] | None = None,
    held_out: float | None = None,
    export: str | None = None,
    seed: int = 0,
    device: str = "auto",
    threads: int | None = None,
    data: str | Path | None = None,
) -> Extended:
    """Add classes to a network, as `clbench extend` does, and return what it wrote.

    The arguments are the command's options, listed below. Raises UsageError, DataError, MachineError or PluginError.
    """
    if images is None:
        raise UsageError("images, the folder of the new classes, must be given")
    given = {name: value for name, value in locals().items() if name != "source"}  # the others are all options
    if isinstance(source, Extended):
        given["network"] = source.network_file if network is None else network
        source = source.folder
    request = ExtendRequest.from_python(given, source=None if source is None else Path(from_home(source)))
    with as_keyboard_interrupt():
        extend_request(request, Terminal(file=sys.stderr))
    return Extended(request.out, request.network_file)


train.__doc__ = with_options(train.__doc__, options_of(TrainRequest))
extend.__doc__ = with_options(extend.__doc__, options_of(ExtendRequest))


def train_request(request: TrainRequest, console: Console) -> ExtensionResult:
    """Train a first network, with progress on `console`."""
    with _around(request, console) as around:
        return first_network.train(request, FIRST_STRATEGY, around)


def extend_request(request: ExtendRequest, console: Console) -> ExtensionResult:
    """Extend a network, with progress on `console`."""
    with _around(request, console) as around:
        return extending.extend(request, USUAL, around)


@contextlib.contextmanager
def _around(request: TrainRequest | ExtendRequest, console: Console) -> Iterator[Around]:
    from clbench.system.randomness import randomness_untouched  # imports torch

    gc_freeze.freeze_imports()
    with Interruption() as interruption, ProgressDisplay(console) as progress, randomness_untouched():  # the caller's
        yield Around(progress, interruption, partial(_page, request))


def _page(
    request: TrainRequest | ExtendRequest,
    result: ExtensionResult,
    strategy: Plugin,
    thumbnails: Mapping[tuple[str, str], bytes],
    record: NetworkRecord,
) -> str:
    from clbench.reporting.extension_page import Facts, extension_page

    facts = Facts(
        Environment(**describe(result.device), finished=datetime.now(timezone.utc).isoformat(timespec="seconds")),
        record.weights_sha256,
        record.lineage[-1].id,
        strategy.doc,
        str(strategy.presets.get(result.kept.strategy.preset or "", {}).get("loss", "")),
    )
    return extension_page(result, thumbnails, command_of(request, result.threads), facts)


def command_of(request: TrainRequest | ExtendRequest, threads: int) -> str:
    """Return the command line of a request, for computing with this number of threads."""
    extends = isinstance(request, ExtendRequest)
    words = ["clbench", "extend" if extends else "train"]
    if isinstance(request, ExtendRequest) and request.source is not None:
        words.append(str(request.source))
    for field in dataclasses.fields(request):
        value = getattr(request, field.name)
        if field.name in ("source", "set", "threads", "data") or value == field.default or value in (None, (), []):
            continue
        flag = f"--{field.name.replace('_', '-')}"
        if value is True:
            words.append(flag)
        else:
            listed = isinstance(value, (tuple, list))
            words += [flag, ",".join(map(str, value)) if listed else str(value)]
    words += ["--threads", str(threads)]
    for name, value in request.set.items():
        words += ["--set", f"{name}={typed(value)}"]
    return shlex.join(words)


def plan_training(request: TrainRequest) -> dict[str, Any]:
    """Check the request and describe what `train` would do; nothing is trained or written."""
    notes: list[str] = []
    what = first_network_planning.plan(request, FIRST_STRATEGY, _into(notes))
    return {
        "network": what.network.label,
        "weights": {"pretrained": "pretrained", "file": str(request.weights), None: "drawn at random"}[
            what.network.weights
        ],
        "classes": [
            _counted(name, len(train), len(test))
            for name, train, test in zip(what.images.classes, what.images.train, what.images.test, strict=True)
        ],
        "recipe": f"{what.recipe.name}, {what.recipe.config.length}",
        "keeps statistics for": [method.plugin.name for method in what.prepared],
        "writes": _writes(request.out),
        "notes": [*notes, _UNREAD],
    }


def plan_extension(request: ExtendRequest) -> dict[str, Any]:
    """Check the request and describe what `extend` would do; nothing is trained or written."""
    notes: list[str] = []
    what = planning.plan(request, USUAL, _into(notes))
    usable = [each for each in what.tried if each.prospect.refusal is None]
    without = [each.spec.selector for each in usable if not each.prospect.takes_steps]
    recipe = f"{what.recipe.name}, {what.recipe.config.length}"
    if without:
        take = "takes" if len(without) == 1 else "take"
        recipe = (
            f"{recipe}; {listed(without)} {take} no gradient steps"
            if len(without) < len(usable)
            else "no gradient steps"
        )
    return {
        "network": what.parent.record.network.label,
        "made by": lineage_in_lines(lineage_of(what.parent.record)),
        "keeps statistics for": [
            name for name in sorted(what.states) if not isinstance(planning.kept_by(what, name, _into(notes)), str)
        ],
        "old classes": f"{len(what.parent.classes)}: {', '.join(what.parent.classes)}",
        "new classes": [
            _counted(name, len(train), len(test))
            for name, train, test in zip(what.new.classes, what.new.train, what.new.test, strict=True)
        ],
        "recipe": recipe,
        "strategy": [each.spec.selector for each in usable],
        "left out": reasons_in_lines(what.left_out),
        "writes": _writes(request.out),
        "notes": [*notes, _UNREAD],
    }


_UNREAD = (
    "images are counted by their names: unreadable ones, copies, and images in two places are found when they are read"
)


def _into(notes: list[str]) -> Listener:
    return lambda event: notes.append(event.text) if isinstance(event, Note) else None


def _writes(out: Path) -> str:
    """Return the folder to write, and what happens if it exists: what made it is unknown until the images are read."""
    return f"{out}, which exists: kept if the same command made it, otherwise refused" if found_at(out) else str(out)


def _counted(name: str, train: int, test: int) -> str:
    return f"{name}, {train} image{'' if train == 1 else 's'} to train on and {test} to test on"
