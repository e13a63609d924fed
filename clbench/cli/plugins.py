"""The commands about plug-ins: `clbench list`, `clbench show`, `clbench check` and `clbench new`."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from clbench.cli.command import Command
from clbench.cli.completion import checked, one_of, plugins, shown
from clbench.cli.data import ImageFit, ImageSize, ImportedPath, are_ids, imported, numbered_classes, print_dataset
from clbench.cli.options import AsJson, DataFolder, one_by_one, starting, terminal
from clbench.cli.stored_runs import list_runs
from clbench.errors import UsageError
from clbench.system.output import say, say_json, say_prose

if TYPE_CHECKING:
    from clbench.checks.check import Result
    from clbench.plugins.discovery import Kind, Plugin

new_app = typer.Typer(
    help="Write a new strategy, scenario or network file.", no_args_is_help=True, rich_markup_mode=None
)


def list_(
    what: Annotated[
        str,
        typer.Argument(
            metavar="strategies|scenarios|networks|streams|runs",
            help="What to list [default: all but runs].",
            autocompletion=one_of("strategies", "scenarios", "networks", "streams", "runs"),
        ),
    ] = "",
    results: Annotated[
        list[Path] | None, typer.Argument(metavar="RESULTS", help="Folders and packs of runs [default: results].")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """List plug-ins, kinds of streams, or stored runs."""
    from clbench.system.suggestions import did_you_mean

    kinds = ("strategies", "scenarios", "networks", "streams", "runs")
    if what and what not in kinds:
        meant = "" if what in _LISTED else did_you_mean(what, kinds)
        raise UsageError(f"cannot list '{what}'{meant} (known: {', '.join(kinds)})", _LISTED.get(what, ""))
    if what == "runs":
        list_runs(results, as_json)
        return
    if results:
        raise UsageError(f"clbench list {what} takes no folders (got {', '.join(map(str, results))})")
    listed: dict[str, list[dict[str, str]]] = {}
    of_kind: dict[str, Kind] = {"strategies": "strategy", "scenarios": "scenario", "networks": "network"}
    for name, kind in of_kind.items():
        if what in ("", name):
            listed[name] = _described(kind)
    if what in ("", "streams"):
        listed["streams"] = _streams()
    if as_json:
        say_json(listed)
        return
    from clbench.system.tables import print_table

    for title, rows in listed.items():
        print_table(terminal(), title, ["name", "what"], [[row["name"], _in_a_paragraph(row)] for row in rows])
        say()
    say_prose(
        "Details: clbench show NAME. Names from Avalanche, timm and torchvision work, too: avalanche:Replay, "
        "avalanche:SplitMNIST, timm:resnet18, torchvision:mobilenet_v3_small"
    )


_LISTED = {
    "recipes": "The recipes of each scenario: clbench list scenarios",
    "presets": "The presets of each strategy: clbench list strategies",
    "settings": "What can be set, and how: clbench show NAME",
    "datasets": "Datasets: clbench data list",
    "protocols": "Published protocols: clbench reproduce --list",
    "metrics": "Metrics are described in docs/metrics.md; for a table of one: clbench compare --metric NAME",
}
"""Where to find what is listed elsewhere."""

_SAID = {"presets": "Presets: ", "recipes": "Recipes: ", "settings": "Settings: ", "aliases": "Also called "}


def _in_a_paragraph(row: dict[str, str]) -> str:
    """Return what a plug-in is, what it offers, its other names, and its origin if it is not built in."""
    said = [row["what"], *(f"{begin}{row[field]}." for field, begin in _SAID.items() if row.get(field))]
    return " ".join(said if row["from"] == "built-in" else [*said, f"({row['from']})"])


def _described(kind: Kind) -> list[dict[str, str]]:
    from clbench.plugins.discovery import discover, without_dialects

    rows = []
    for plugin in without_dialects(discover(kind)):
        row = {"name": plugin.name, "what": f"broken: {plugin.problem}" if plugin.problem else plugin.summary}
        if kind == "strategy":
            row |= {"presets": ", ".join(plugin.all_presets)}
        if kind == "network":
            row |= {"settings": ", ".join(field.name for field in plugin.fields)}
        if kind == "scenario":
            row |= {
                "recipes": ", ".join(plugin.recipes),
                "aliases": ", ".join(plugin.attributes.get("aliases", ())),
            }
        rows.append(row | {"from": plugin.source})
    return rows


def _streams() -> list[dict[str, str]]:
    from clbench.streams.catalogue import listed

    return [
        {
            "name": kind.name,
            "what": _first_paragraph(kind.doc),
            "settings": ", ".join(kind.options),
            "from": "built-in",
        }
        for kind in listed()
    ]


def _first_paragraph(doc: str) -> str:
    return " ".join(doc.partition("\n\n")[0].split())


def show(
    name: Annotated[
        str,
        typer.Argument(
            metavar="NAME", help="A strategy, scenario, network or stream, or a file.", autocompletion=shown
        ),
    ],
    as_json: AsJson = False,
) -> None:
    """Show a strategy, scenario, network or stream in detail.

    For a strategy, its source, equation, presets and hyper-parameters; for a scenario, its split and recipes.
    """
    from clbench.plugins.class_attributes import check_literals
    from clbench.plugins.description import describe_in_full, find
    from clbench.streams.kinds import KINDS, described

    if name.replace("-", "_") in KINDS:
        known = described(name.replace("-", "_"))
        say_json(known) if as_json else _print_stream(known)
        return

    plugin = find(name)
    check_literals(plugin)
    if as_json:
        say_json(describe_in_full(plugin))
        return
    from clbench.plugins.description import print_in_full

    print_in_full(plugin)
    if plugin.kind == "scenario":
        _print_classes(str(plugin.attributes.get("dataset", "")))


def _print_stream(known: dict[str, Any]) -> None:
    say(f"stream {known['name']}   (--stream {known['name']})\n")
    for paragraph in known["doc"].split("\n\n"):
        say_prose(" ".join(paragraph.split()))
        say()
    say("Options (--set stream.NAME=VALUE):")
    for option in known["options"]:
        say()
        say_prose(f"stream.{option['name']}: {option['type']}, default {option['default']}", "  ", "    ")
        say_prose(option["doc"], "      ")


def _print_classes(dataset: str) -> None:
    """Print the id of each class of a dataset, if it is in the data folder."""
    from clbench.data.datasets import cached_names, data_folder, describe

    folder = data_folder()
    if dataset in cached_names(folder) and (info := describe(dataset, folder)) and not are_ids(info.classes):
        say_prose(f"\nclasses by id: {numbered_classes(info)}")


def check(
    name: Annotated[str, typer.Argument(metavar="NAME_OR_FILE", help="A strategy or network.", autocompletion=checked)],
    as_json: AsJson = False,
) -> None:
    """Check a strategy or a network against its contract.

    Runs it on small data in many ways, and says what is wrong and how to fix it.
    """
    from clbench.networks.libraries import is_librarys
    from clbench.plugins.description import find

    plugin = None if is_librarys(name) else find(name)
    if plugin is not None and plugin.kind == "scenario":
        raise UsageError(f"{name} is a scenario; only strategies and networks can be checked")
    with starting():
        examined = _examined(name, plugin)
    results = []
    for result in one_by_one(examined, "checking"):
        results.append(result)
        if not as_json:
            _print_check(result)
    count = Counter(result.status for result in results)
    if as_json:
        say_json([vars(result) for result in results])
    else:
        others = "".join(f", {count[status]} {status}" for status in ("failed", "skipped") if count[status])
        say(f"{plugin.name if plugin else name}: {count['passed']} of {len(results)} checks passed{others}")
        if not count["failed"]:
            own = f"-s naive,{name}" if plugin and plugin.kind == "strategy" else f"-s naive,lwf --network {name}"
            say(f"Try it: clbench run {own} -S splitmnist --seeds 5")
    if count["failed"]:
        raise typer.Exit(1)


def _examined(name: str, plugin: Plugin | None) -> Iterator[Result]:
    if plugin is not None and plugin.kind == "strategy":
        from clbench.checks import strategy_contract

        return strategy_contract.examine(plugin)
    from clbench.checks import network_contract

    return network_contract.examine(str(plugin.path) if plugin else name)


@new_app.command("strategy", cls=Command, epilog="Example: clbench new strategy fading --from lwf")
def new_strategy(
    name: Annotated[str, typer.Argument(metavar="NAME", help="Name of the strategy and its file, such as my_idea.")],
    original: Annotated[
        str | None,
        typer.Option("--from", metavar="NAME", help="The strategy to copy.", autocompletion=plugins("strategy")),
    ] = None,
) -> None:
    """Write strategies/NAME.py, a commented skeleton that runs.

    With --from, it is a copy of another strategy.
    """
    from clbench.plugins.scaffold import new_strategy as write

    path = write(name, original)
    say(f"{path} is written and runs: clbench run -s naive,{name} -S splitdigits")
    say(f"Check it against the contract: clbench check {name}")


@new_app.command("network", cls=Command, epilog="Example: clbench new network tiny")
def new_network(
    name: Annotated[str, typer.Argument(metavar="NAME", help="Name of the network and its file, such as my_net.")],
    original: Annotated[
        str | None,
        typer.Option("--from", metavar="NAME", help="The network to copy.", autocompletion=plugins("network")),
    ] = None,
) -> None:
    """Write networks/NAME.py, a commented skeleton that runs.

    With --from, it is a copy of another network.
    """
    from clbench.plugins.scaffold import new_network as write

    path = write(name, original)
    say(f"{path} is written and runs: clbench run -s naive -S splitdigits --network {name}")
    say(f"Check it against the contract: clbench check {path}")


@new_app.command("scenario", cls=Command, epilog="Example: clbench new scenario flowers flowers.npz")
def new_scenario(
    name: Annotated[str, typer.Argument(metavar="NAME", help="Name of the scenario and its file, such as my_data.")],
    path: ImportedPath,
    size: ImageSize = None,
    fit: ImageFit = None,
    data: DataFolder = None,
) -> None:
    """Import a dataset of your own and write scenarios/NAME.py."""
    from clbench.data.datasets import data_folder
    from clbench.plugins.scaffold import check_free
    from clbench.plugins.scaffold import new_scenario as write
    from clbench.streams.splits import split_by_two

    check_free("scenario", name)  # before anything is imported
    info = imported(name, path, data_folder(data), size, fit)
    print_dataset(info)
    split = str(len(info.domains)) if info.domains else split_by_two(len(info.classes))
    written = write(name, name, split, info.shape, bool(info.domains))
    say(f"{written} is written and runs: clbench run -s naive,lwf -S {name}")


def _print_check(result: Result) -> None:
    marks = {"passed": "ok  ", "failed": "FAIL", "skipped": "skip"}
    say(f"{marks[result.status]}  {result.check}")
    for text in (result.found, result.fix):
        for line in text.splitlines():
            say(f"      {line}")
