"""`clbench train` and `clbench extend`: a first network from images, and new classes for a network."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from clbench.cli import completion
from clbench.cli.options import AsJson, DataFolder, terminal
from clbench.errors import UsageError
from clbench.runs.option_values import assignments
from clbench.system.machine import available_cores
from clbench.system.output import legible, say, say_json, say_prose

if TYPE_CHECKING:
    from clbench.results.extension_result import Candidate, ExtensionResult

Images = Annotated[
    Path,
    typer.Option(
        "--images", metavar="FOLDER", help="Images of the classes to learn: CLASS/*, or train/CLASS/* and test/CLASS/*."
    ),
]
Out = Annotated[Path, typer.Option("--out", metavar="DIR", help="Folder to write; it must not exist.")]
Values = Annotated[
    list[str] | None,
    typer.Option(
        "--set", metavar="STRATEGY.NAME=VALUE", help="A hyper-parameter, or recipe.NAME=VALUE or network.NAME=VALUE."
    ),
]
Epochs = Annotated[
    int | None, typer.Option("--epochs", metavar="N", help="Passes over the images [default: the recipe's].")
]
Seed = Annotated[int, typer.Option("--seed", metavar="N", help="Draws batches, new weights and held-out images.")]
Device = Annotated[
    str,
    typer.Option(
        "--device", metavar="auto|cpu|cuda", help="Where to train.", autocompletion=completion.OF_OPTION.get("device")
    ),
]
Threads = Annotated[
    int | None,
    typer.Option("--threads", metavar="N", help="Threads to compute with; part of the identity [default: the cores]."),
]
HeldOut = Annotated[
    float | None,
    typer.Option(
        "--held-out",
        metavar="SHARE",
        help="Share of each class's images to test on, if there is no test part [default: 0.2].",
    ),
]
Export = Annotated[
    str | None,
    typer.Option(
        "--export",
        metavar="onnx|pt2|torchscript|safetensors",
        help="Write the network for use without clbench, too.",
        autocompletion=completion.one_of("onnx", "pt2", "torchscript", "safetensors"),
    ),
]
Fit = Annotated[
    str | None,
    typer.Option(
        "--fit",
        metavar="crop|pad|stretch",
        help="How images become square [default: crop].",
        autocompletion=completion.one_of("crop", "pad", "stretch"),
    ),
]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Check everything and say what would be done; train nothing.")]


def train(
    images: Images,
    network: Annotated[
        str, typer.Option("--network", metavar="NAME", help="Network, by name or file, timm:NAME or torchvision:NAME.")
    ],
    out: Out,
    weights: Annotated[
        str | None,
        typer.Option(
            "--weights",
            metavar="FILE|pretrained|none",
            help="Weights that it starts from [default: the network's own, if it has any].",
        ),
    ] = None,
    size: Annotated[
        int | None, typer.Option("--size", metavar="N", help="Height and width in pixels [default: the network's own].")
    ] = None,
    fit: Fit = None,
    epochs: Epochs = None,
    prepare: Annotated[
        str | None,
        typer.Option(
            "--prepare",
            metavar="STRATEGY[,…]|none",
            help="Keep what these strategies need to extend it: statistics, no images [default: small ones].",
        ),
    ] = None,
    values: Values = None,
    held_out: HeldOut = None,
    export: Export = None,
    seed: Seed = 0,
    device: Device = "auto",
    threads: Threads = None,
    data: DataFolder = None,
    dry_run: DryRun = False,
    as_json: AsJson = False,
) -> None:
    """Train a first network on a folder of images.

    `clbench extend` adds classes to it later, without these images.
    """
    from clbench.extension.requests import TrainRequest

    request = TrainRequest(
        images=images,
        out=out,
        network=network,
        weights=weights,
        size=size,
        fit=_fit(fit) or "crop",
        epochs=epochs,
        prepare=None if prepare is None else prepare.split(","),
        set=assignments(values),
        held_out=held_out,
        export=export,
        seed=seed,
        device=device,
        threads=available_cores() if threads is None else threads,
        data=data,
    )
    from clbench.api.extending import plan_training, train_request

    if dry_run:
        _print_lines(plan_training(request), as_json)
        return
    _starting()
    _print_result(train_request(request, terminal(stderr=True)), out, as_json, network)


def extend(
    images: Images,
    out: Out,
    source: Annotated[
        Path | None,
        typer.Argument(metavar="[NETWORK]", help="Folder that `train`, `extend` or `run --keep-networks` wrote."),
    ] = None,
    strategy: Annotated[
        list[str] | None,
        typer.Option(
            "--strategy",
            "-s",
            metavar="NAME[:PRESET][,NAME…]|all",
            help="Strategies, each of which is tried [default: ncm if the network keeps its statistics, else imprint].",
            autocompletion=completion.OF_OPTION.get("strategy"),
        ),
    ] = None,
    old_test: Annotated[
        Path | None, typer.Option("--old-test", metavar="FOLDER", help="Test images of old classes, a few a class.")
    ] = None,
    old_images: Annotated[
        Path | None, typer.Option("--old-images", metavar="FOLDER", help="Images of old classes to train on.")
    ] = None,
    unlabelled: Annotated[
        Path | None,
        typer.Option("--unlabelled", metavar="FOLDER", help="Any images, to compare answers before and after on."),
    ] = None,
    also_old: Annotated[
        bool, typer.Option("--also-old", help="Train on images of classes that the network knows, as those classes.")
    ] = False,
    network: Annotated[
        str | None,
        typer.Option(
            "--network",
            metavar="NAME",
            help="A network from elsewhere: file, timm:NAME, torchvision:NAME; or the file that defines NETWORK.",
        ),
    ] = None,
    weights: Annotated[
        Path | None, typer.Option("--weights", metavar="FILE", help="Its weights, head included: .safetensors or .pt.")
    ] = None,
    classes: Annotated[
        Path | None,
        typer.Option(
            "--classes", metavar="FILE", help="Its classes in the order of its outputs: a name a line, or JSON."
        ),
    ] = None,
    head: Annotated[
        str | None, typer.Option("--head", metavar="NAME", help="Its last linear layer [default: found by its shape].")
    ] = None,
    size: Annotated[int | None, typer.Option("--size", metavar="N", help="Height and width of its images.")] = None,
    mean: Annotated[
        str | None, typer.Option("--mean", metavar="M[,M,M]", help="Mean of pixels in 0..1 that it expects subtracted.")
    ] = None,
    std: Annotated[
        str | None, typer.Option("--std", metavar="S[,S,S]", help="What it expects them to be divided by.")
    ] = None,
    fit: Fit = None,
    epochs: Epochs = None,
    values: Values = None,
    held_out: HeldOut = None,
    export: Export = None,
    seed: Seed = 0,
    device: Device = "auto",
    threads: Threads = None,
    data: DataFolder = None,
    dry_run: DryRun = False,
    as_json: AsJson = False,
) -> None:
    """Add classes to a network without its old data.

    Of the old classes nothing is needed. With a few test images of them the report says what was forgotten.
    """
    from clbench.extension.requests import ExtendRequest

    request = ExtendRequest(
        source=source,
        images=images,
        out=out,
        strategy=[name for given in strategy or () for name in given.split(",")],
        old_test=old_test,
        old_images=old_images,
        unlabelled=unlabelled,
        also_old=also_old,
        network=network,
        weights=weights,
        classes=classes,
        head=head,
        size=size,
        mean=_numbers("--mean", mean),
        std=_numbers("--std", std),
        fit=_fit(fit),
        epochs=epochs,
        set=assignments(values),
        held_out=held_out,
        export=export,
        seed=seed,
        device=device,
        threads=available_cores() if threads is None else threads,
        data=data,
    )
    from clbench.api.extending import extend_request, plan_extension

    if dry_run:
        _print_lines(plan_extension(request), as_json)
        return
    _starting()
    _print_result(extend_request(request, terminal(stderr=True)), out, as_json, network)


def _starting() -> None:
    if sys.stderr.isatty():  # importing torch takes a second or more; the first line that follows replaces this one
        print("Starting …", end="\r", file=sys.stderr, flush=True)


def _fit(given: str | None) -> Any:
    known = ("crop", "pad", "stretch")
    if given is not None and given not in known:
        raise UsageError(f"--fit must be one of {', '.join(known)} (got {given})")
    return given


def _numbers(option: str, given: str | None) -> tuple[float, ...] | None:
    if given is None:
        return None
    try:
        return tuple(float(each) for each in given.split(","))
    except ValueError:
        raise UsageError(
            f"{option} must be a number, or one for each channel: 0.485,0.456,0.406 (got {given})"
        ) from None


def _print_lines(planned: dict[str, Any], as_json: bool) -> None:
    if as_json:
        say_json(planned)
        return
    for name, value in planned.items():
        for each in value if isinstance(value, list) else [value]:
            say(f"{name}: {legible(str(each))}")


def _print_result(result: ExtensionResult, out: Path, as_json: bool, network: str | None) -> None:
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
    from clbench.extension.wording import reasons_in_lines

    for line in reasons_in_lines(result.left_out):
        say_prose(f"left out {line}", hanging="  ")
    if extended and len(result.candidates) > 1:
        say(f"Kept: {result.chosen}, {result.rule}")
    if extended and not result.kept.old_classes:
        say("Old-class accuracy is not known: no test images of old classes (--old-test, a few a class are enough)")
    if result.lineage:
        from clbench.extension.wording import lineage_in_lines

        say("The network came from:")
        for line in lineage_in_lines(result.lineage):
            say_prose(line, indent="  ", hanging="  ")
    file = f" --network {network}" if network is not None and network.endswith(".py") else ""
    say(f"\n{out}: the network, report.html and result.json. To ask it: clbench predict {out} IMAGES…{file}")


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
