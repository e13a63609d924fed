"""The commands `clbench export` and `clbench predict`, which use a trained network that was kept."""

from __future__ import annotations

import math
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from clbench.cli.completion import one_of
from clbench.cli.options import AsJson, DataFolder, starting
from clbench.errors import UsageError
from clbench.system import output
from clbench.system.output import legible, say, say_json

if TYPE_CHECKING:
    from clbench.deployment.predicting import Answer
    from clbench.deployment.trained_network import TrainedNetwork

_KEPT = "A folder that train or extend wrote, a run made with --keep-networks, or a folder with only one such run."
Kept = Annotated[Path, typer.Argument(metavar="PATH", help=_KEPT)]
NetworkFile = Annotated[
    Path | None,
    typer.Option("--network", metavar="FILE", help="The file that defines the network [default: from ./networks]."),
]


def export(
    path: Kept,
    to: Annotated[
        str,
        typer.Option(
            "--to",
            metavar="onnx|pt2|torchscript|safetensors",
            help="Format of the file.",
            autocompletion=one_of("onnx", "pt2", "torchscript", "safetensors"),
        ),
    ],
    out: Annotated[
        Path | None, typer.Option("--out", metavar="FILE", help="The file [default: SCENARIO-STRATEGY-seedN.onnx …].")
    ] = None,
    network: NetworkFile = None,
    data: DataFolder = None,
) -> None:
    """Write a trained network as one file for use without clbench.

    Before the file gets its name, it is run and compared with the network, on test images if their dataset is
    available.
    """
    with starting():
        from clbench.data.datasets import data_folder
        from clbench.deployment.export_formats import metadata
        from clbench.deployment.exporting import default_name, format_named
        from clbench.deployment.exporting import export as write

        form = format_named(to)
        loaded = _loaded(path, network)
    if sys.stderr.isatty():  # a large network takes a minute
        print(f"Exporting {len(loaded.classes)} classes as {to} …", end="\r", file=sys.stderr, flush=True)
    done = write(loaded, to, out or Path(default_name(loaded.record, to)), data_folder(data))
    about = metadata(loaded.record, form.has_graph)
    say(f"{done.path}: {to}, {len(loaded.classes)} classes, named in its metadata")
    say(f"input: {about['input']}")
    say(f"output: {about['output']}")
    say(
        f"Compared on {done.compared_on}: scores differ by at most {done.largest_difference:.1e} (they go up to "
        f"{done.largest_score:.3g}), {done.same_answers} of {done.images} predictions are the same"
    )


def predict(
    path: Kept,
    images: Annotated[list[str], typer.Argument(metavar="IMAGES", help="Images, folders of images, or glob patterns.")],
    top: Annotated[int, typer.Option("--top", metavar="N", help="Classes per image.", min=1)] = 1,
    none: Annotated[
        bool, typer.Option("--none", help="Print 'none of these' below the score that was calibrated in training.")
    ] = False,
    none_below: Annotated[
        float | None,
        typer.Option("--none-below", metavar="SCORE", help="The same, below a score of your own."),
    ] = None,
    network: NetworkFile = None,
    as_csv: Annotated[bool, typer.Option("--csv", help="Print CSV on standard output.")] = False,
    as_json: AsJson = False,
) -> None:
    """Classify images with a trained network.

    Prints each image's likeliest classes with their probabilities. Images that cannot be read are reported and left
    out; the exit code is then 1. With --none or --none-below, an image whose highest score is too low is none of the
    classes.
    """
    if as_csv and as_json:
        raise UsageError("--csv and --json are both given", "Give one of them.")
    if none and none_below is not None:
        raise UsageError("--none and --none-below are both given", "Give one of them.")
    if none_below is not None and not math.isfinite(none_below):
        raise UsageError(f"--none-below must be a number (got {none_below})")
    with starting():
        from clbench.deployment.predicting import image_files
        from clbench.deployment.predicting import predict as ask

        files = image_files(images)
        loaded = _loaded(path, network)
    if not loaded.gives_logits:
        say(
            f"The scores are those of {loaded.record.classifier.name}, not logits: the highest is the prediction, but "
            "their softmax says little about how certain the network is.",
            sys.stderr,
        )
    if none:
        none_below = _calibrated(loaded)
    answers = ask(loaded, files, top)
    broken = (
        _print_json(answers, none_below, loaded.gives_logits)
        if as_json
        else _print_lines(answers, none_below, as_csv, loaded.gives_logits)
    )
    if broken:
        say(f"{broken} of {len(files)} images could not be read", sys.stderr)
        raise typer.Exit(1)


def _loaded(path: Path, network: Path | None) -> TrainedNetwork:
    import torch

    from clbench.deployment.loading import load_network
    from clbench.system.machine import available_cores

    torch.set_num_threads(available_cores())
    return load_network(path, network)


def _calibrated(network: TrainedNetwork) -> float:
    """Return the score below which an image shows none of the classes, and print how it was calibrated."""
    found, known = network.record.none_below, len(network.classes)
    if found is None:
        raise UsageError(
            "this network has no calibrated score below which an image shows none of its classes",
            "`clbench train` and `clbench extend` calibrate one on the images that they hold out. To give one: "
            "--none-below SCORE. Run the network with --csv on images of its classes that it was not trained on, "
            "and take a score that nearly all of them reach.",
        )
    of = f"the {known}" if found.classes == known else f"{found.classes} of the {known}"
    say(
        f"None of these: below the score {found.score:.4g}, which 95 % of {found.images} recognized test images reach, "
        f"of {of} classes",
        sys.stderr,
    )
    return found.score


def _print_lines(answers: Iterable[Answer], none_below: float | None, csv: bool, logits: bool) -> int:
    """Print each prediction as it comes, without probabilities if the scores are not `logits`; return how many images
    could not be read."""
    broken = 0
    if csv:
        print("image,rank,class,probability,score")
    for answer in answers:
        if answer.problem is not None:
            broken += 1
            say(f"{answer.image} cannot be read: {answer.problem}", sys.stderr)
        elif csv:
            # A score is a number: as text, a negative one would get a ' in front, as a formula does.
            rows: list[tuple[str, str, float | str]]
            rows = [
                (each.name, f"{each.probability:.6f}" if logits else "", float(f"{each.score:.6g}"))
                for each in answer.classes
            ]
            if answer.is_none(none_below):
                rows.insert(0, ("", "", ""))
            print(output.as_csv([(str(answer.image), rank, *row) for rank, row in enumerate(rows, start=1)]), end="")
        else:
            found = ", ".join(
                f"{legible(each.name)} "
                + (f"{100 * each.probability:.1f} %" if logits else f"(score {each.score:.4g})")
                for each in answer.classes
            )
            none = f"none of these (score {answer.classes[0].score:.4g}); " if answer.is_none(none_below) else ""
            say(f"{legible(str(answer.image))}: {none}{found}")
    return broken


def _print_json(answers: Iterable[Answer], none_below: float | None, logits: bool) -> int:
    rows: list[dict[str, Any]] = []
    broken = 0
    for answer in answers:
        row: dict[str, Any] = {"image": str(answer.image)}
        if answer.problem is None:
            if none_below is not None:
                row["none_below"] = none_below
                row["class"] = None if answer.is_none(none_below) else answer.classes[0].name
            row["classes"] = [
                {"class": each.name, "probability": each.probability if logits else None, "score": each.score}
                for each in answer.classes
            ]
        else:
            broken += 1
            row["problem"] = answer.problem
            say(f"{answer.image} cannot be read: {answer.problem}", sys.stderr)
        rows.append(row)
    say_json(rows)
    return broken
