"""The commands `clbench train` and `clbench extend`."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from clbench.cli.options import AsJson, asks, starting, terminal
from clbench.extension.requests import ExtendRequest, TrainRequest
from clbench.system.output import counted, legible, say, say_json, say_prose

if TYPE_CHECKING:
    from clbench.results.extension_result import Candidate, ExtensionResult

DryRun = Annotated[bool, typer.Option("--dry-run", help="Check everything and say what would be done; train nothing.")]


@asks(TrainRequest)
def train(ctx: typer.Context, asked: dict[str, Any], dry_run: DryRun = False, as_json: AsJson = False) -> None:
    """Train a first network on a folder of images.

    `clbench extend` adds classes to it later, without these images.
    """
    request = TrainRequest(**asked)
    with starting():
        from clbench.api.extending import plan_training, train_request

        planned = plan_training(request) if dry_run else None
    if planned is not None:
        _print_lines(planned, as_json)
        return
    _print_result(train_request(request, terminal(stderr=True)), request, as_json)


@asks(ExtendRequest)
def extend(
    ctx: typer.Context,
    asked: dict[str, Any],
    source: Annotated[
        Path | None,
        typer.Argument(metavar="NETWORK", help="Folder that `train`, `extend` or `run --keep-networks` wrote."),
    ] = None,
    dry_run: DryRun = False,
    as_json: AsJson = False,
) -> None:
    """Add classes to a network without its old data.

    Nothing from the old classes is needed. With a few test images of them, the report shows what was forgotten.
    """
    request = ExtendRequest(source=source, **asked)
    with starting():
        from clbench.api.extending import extend_request, plan_extension

        planned = plan_extension(request) if dry_run else None

    if planned is not None:
        _print_lines(planned, as_json)
        return
    _print_result(extend_request(request, terminal(stderr=True)), request, as_json)


def _print_lines(planned: dict[str, Any], as_json: bool) -> None:
    if as_json:
        say_json(planned)
        return
    for name, value in planned.items():
        if not isinstance(value, list):
            say(f"{name}: {value}")
        elif value and all(len(each.split()) == 1 for each in value):
            say(f"{name}: {', '.join(value)}")
        elif value:
            say(f"{name}:")
            for each in value:
                say_prose(each, indent="  ", hanging="  ")


def _print_result(result: ExtensionResult, request: TrainRequest | ExtendRequest, as_json: bool) -> None:
    from clbench.extension.publishing import exported_name
    from clbench.results.record_model import to_json
    from clbench.system.tables import print_table

    if as_json:
        say_json(to_json(result))
        return
    extended = result.command == "extend"
    headings = (
        ["strategy", "old before", "old after", "new", "mean", "agrees", "seconds"]
        if extended
        else ["strategy", "accuracy", "seconds"]
    )
    rows = [_row(each, extended, each.strategy.selector == result.chosen) for each in result.candidates]
    title = _title(result)
    print_table(terminal(), title, headings, rows, numbers=tuple(range(1, len(headings))))
    for line in _about_the_numbers(result):
        say(line)
    from clbench.extension.wording import reasons_in_lines

    for line in reasons_in_lines(result.left_out):
        say_prose(f"left out {line}", hanging="  ")
    if extended and len(result.candidates) > 1:
        say(f"Kept (*): {result.chosen}, {result.rule}")
    elif extended and _loses_much(result.kept):
        usual = result.chosen == "imprint" and result.kept.strategy.config.get("deviations", 0) > 1
        fewer = ", --set imprint.deviations=1 takes fewer images from old ones" if usual else ""
        say(f"Much of the old classes is forgotten; -s all tries every strategy that can extend this network{fewer}")
    if extended and not result.kept.old_classes:
        say("Old-class accuracy is not known: no test images of old classes (--old-test; a few per class are enough)")
    if result.lineage:
        from clbench.extension.wording import lineage_in_lines

        say("The network came from:")
        for line in lineage_in_lines(result.lineage):
            say_prose(line, indent="  ", hanging="  ")
    out, export = request.out, request.export
    file = f" --network {shlex.quote(str(request.network))}" if request.network_file is not None else ""
    say(f"\n{out}: the network, report.html and result.json")
    if export is not None:
        say(f"{out / exported_name(export)}: the same for use without clbench, with the same predictions")
    say(f"To use it: clbench predict {shlex.quote(str(out))} IMAGES…{file}")


_MUCH = 0.1
"""A loss of old-class accuracy that makes other strategies worth trying."""


def _loses_much(candidate: Candidate) -> bool:
    before, after = candidate.old_accuracy_before, candidate.old_accuracy
    return before is not None and after is not None and before - after > _MUCH


def _about_the_numbers(result: ExtensionResult) -> Iterator[str]:
    """Yield lines about the number of images behind the accuracies, and about what agreement is."""
    from clbench.extension.wording import some

    kept = result.kept
    new = sum(each.test_images for each in kept.classes if each.is_new)
    old = sum(each.test_images for each in kept.classes if not each.is_new)
    untested = [legible(each.name) for each in kept.classes if not each.test_images and (each.is_new or old)]
    none_of = f"; none of {some(untested)}." if untested else "."
    if result.command == "train":
        yield f"On {new:,} images that it was not trained on{none_of}"
        return
    yield f"On {counted(new, 'test image')} of new classes{f' and {old:,} of old ones' if old else ''}{none_of}"
    if kept.on_unlabelled is not None:
        images = counted(kept.on_unlabelled.images, "unlabelled image")
        yield f"agrees: share of {images} predicted as by the old network."
    elif kept.on_new is not None:
        yield "agrees: share of images of new classes whose likeliest old class is the old network's prediction."


def _title(result: ExtensionResult) -> str:
    new = ", ".join(map(legible, result.new_classes[:3])) + (", …" if len(result.new_classes) > 3 else "")
    if result.command == "train":
        return f"{len(result.new_classes)} classes: {new}"
    return f"{len(result.old_classes)} old classes + {len(result.new_classes)} new: {new}"


def _row(candidate: Candidate, extended: bool, chosen: bool) -> Sequence[str]:
    name = candidate.strategy.selector + (" *" if chosen and extended else "")
    if not extended:
        return [name, _percent(candidate.new_accuracy), f"{candidate.seconds:.0f}"]
    old, new = candidate.old_accuracy, candidate.new_accuracy
    both = None if old is None or new is None else (old + new) / 2
    compared = candidate.on_unlabelled or candidate.on_new
    agrees = None
    if compared is not None and compared.images:
        same = compared.same if candidate.on_unlabelled is not None else compared.among_old
        agrees = same / compared.images
    numbers = (candidate.old_accuracy_before, old, new, both, agrees)
    return [name, *map(_percent, numbers), f"{candidate.seconds:.0f}"]


def _percent(value: float | None) -> str:
    return "–" if value is None else f"{100 * value:.1f} %"
