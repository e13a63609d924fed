"""Measures how time and memory grow with the stream, the classes, the data and the seeds, on synthetic images.

    python -m benchmarks.growth [--json FILE] [--figure FILE.svg] [--only AXIS] [--data DIR] [--threads N] [--quick]

Every measurement is a separate `clbench run` of an MLP with one epoch per experience, so that training does not hide
the harness's costs. The images are not in the system's cache when it begins. Time is that of the whole process.

Axes:
    experiences  1,000 images and two classes per experience: naive, lwf, and ewc, whose memory grows by design
    classes      the same number of images, divided into more classes
    size         more images, 32x32 in colour; and the largest again with less memory than its images take
    seeds        runs of one command, one after another
"""

from __future__ import annotations

import argparse
import json
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from benchmarks.growth.linear_growth import Fit, Line, Panel, draw
from benchmarks.growth.synthetic import Synthetic, drop_from_cache, prepared
from benchmarks.growth.watched_process import Unlimited, watch
from benchmarks.measuring import command, open_console
from clbench.results import environment
from clbench.results.stored_runs import read_all

COLOUR = (32, 32, 3)

# The memory that torch and Avalanche take before a single image is read, and some working space.
LEAST_MEMORY = 1_000_000_000


@dataclass(frozen=True)
class Conditions:
    """The conditions that are common to all axes."""

    threads: int
    quick: bool
    place: Path | None
    """Folder of the synthetic data while they are needed; None is the system's temporary folder."""

    say: Callable[[str], None]


@dataclass
class Point:
    """One measured command."""

    axis: str
    series: str
    n: int
    seconds: float
    anonymous_bytes: int
    resident_bytes: int
    stored_bytes: int
    """What the method carries from experience to experience, at most."""

    data_bytes: int
    limit_bytes: int | None = None
    phases: list[dict[str, float]] = field(default_factory=list)
    """Seconds of each experience of the first seed."""


# -- one measurement --------------------------------------------------------------------------------------------------


def measure(
    under: Conditions,
    axis: str,
    n: int,
    strategy: str,
    dataset: Synthetic,
    made: tuple[Path, Path],
    seeds: int = 1,
    limit: int | None = None,
) -> Point:
    """Run one command on the dataset `made` and read what it stored."""
    folder, scenario = made
    drop_from_cache(folder)
    with tempfile.TemporaryDirectory() as results:
        what = ("-s", strategy, "-S", str(scenario), "--seeds", str(seeds), "--jobs", "1", "--device", "cpu")
        where = ("--threads", str(under.threads), "--data", str(folder), "--out", results)
        watched = watch(command("run", *what, *where), limit)
        runs, _ = read_all([results])
        largest = max(run.result.totals.stored_bytes for run in runs)
        phases = [divided(each.phases) for each in runs[0].costs.experiences if each.phases]
    under.say(f"{axis} {n:,}, {strategy}: {watched.seconds:.1f} s")
    memory = (watched.anonymous_bytes, watched.resident_bytes, largest, dataset.bytes, limit)
    return Point(axis, strategy, n, watched.seconds, *memory, phases)


def divided(phases: dict[str, float]) -> dict[str, float]:
    """Return the seconds of an experience, divided into parts that grow in different ways."""
    evaluation, bookkeeping = phases["evaluation"], phases["bookkeeping"]
    training = sum(phases.values()) - evaluation - bookkeeping
    return {"training": training, "evaluation": evaluation, "bookkeeping": bookkeeping}


# -- the axes ---------------------------------------------------------------------------------------------------------


def experiences(under: Conditions) -> Iterator[Point]:
    """Longer streams of similar experiences."""
    for n in (2, 4, 8) if under.quick else (5, 10, 20, 50):
        dataset = Synthetic(train_size=1000 * n, test_size=200 * n, classes=2 * n, experiences=n)
        with prepared(dataset, under.place) as made:
            for strategy in ("naive", "lwf", "ewc"):
                yield measure(under, "experiences", n, strategy, dataset, made)


def classes(under: Conditions) -> Iterator[Point]:
    """More classes with the same number of images, in five experiences."""
    for n in (10, 50, 100) if under.quick else (10, 100, 1000):
        size = 2_000 if under.quick else 50_000
        dataset = Synthetic(train_size=size, test_size=size // 5, classes=n, experiences=5)
        with prepared(dataset, under.place) as made:
            yield measure(under, "classes", n, "naive", dataset, made)


def size(under: Conditions) -> Iterator[Point]:
    """More images; the largest number again with half the memory that they take, if that suffices for the process."""
    sizes = (2_000, 10_000, 20_000) if under.quick else (60_000, 250_000, 600_000, 1_300_000)
    for n in sizes:
        tested = 1_000 if under.quick else 10_000
        dataset = Synthetic(train_size=n, test_size=tested, classes=10, experiences=5, shape=COLOUR)
        with prepared(dataset, under.place) as made:
            yield measure(under, "size", n, "naive", dataset, made)
            if n == max(sizes):
                try:
                    limit = max(dataset.bytes // 2, LEAST_MEMORY)
                    yield measure(under, "size", n, "naive", dataset, made, limit=limit)
                except (Unlimited, RuntimeError) as reason:
                    under.say(f"size {n:,} is not measured with less memory: {reason}")


def seeds(under: Conditions) -> Iterator[Point]:
    """More seeds in one command."""
    size = 2_000 if under.quick else 50_000
    dataset = Synthetic(train_size=size, test_size=size // 5, classes=10, experiences=5)
    with prepared(dataset, under.place) as made:
        for n in (1, 2, 3) if under.quick else (1, 2, 4, 8):
            yield measure(under, "seeds", n, "naive", dataset, made, seeds=n)


AXES: dict[str, Callable[[Conditions], Iterator[Point]]] = {
    "experiences": experiences,
    "classes": classes,
    "size": size,
    "seeds": seeds,
}
ONE = {"experiences": "experience", "classes": "class", "size": "image", "seeds": "seed"}


# -- lines ------------------------------------------------------------------------------------------------------------


def grouped(points: list[Point]) -> dict[tuple[str, str], list[Point]]:
    """Return the points that were measured without a memory limit, by axis and strategy."""
    series: dict[tuple[str, str], list[Point]] = {}
    for point in points:
        if point.limit_bytes is None:
            series.setdefault((point.axis, point.series), []).append(point)
    return series


def totals(points: list[Point]) -> list[Fit]:
    """Return fitted lines of wall time, of the process's own memory and of the method's storage over each axis."""
    fits = []
    for (axis, strategy), own in grouped(points).items():
        n = [point.n for point in own]
        for of, unit, values in (
            ("wall time", "s", [point.seconds for point in own]),
            ("anonymous memory", "MB", [point.anonymous_bytes / 1e6 for point in own]),
            ("stored by the method", "MB", [point.stored_bytes / 1e6 for point in own]),
        ):
            if any(values):
                fits.append(Fit(axis, strategy, of, unit, Line.through(n, values)))
    return fits


def along_the_stream(points: list[Point]) -> list[Fit]:
    """Return fitted lines of seconds over the index of the experience, in the longest stream of each strategy.

    The first experience is left out: it includes warm-up, and is learned without the method.
    """
    fits = []
    for (axis, strategy), own in grouped(points).items():
        if axis == "experiences":
            phases = own[-1].phases
            for phase in phases[0]:
                line = Line.through(range(1, len(phases)), [entry[phase] for entry in phases[1:]])
                fits.append(Fit(f"{axis} of the stream of {own[-1].n}", strategy, phase, "s", line))
    return fits


def panels(points: list[Point]) -> list[Panel]:
    """Return the panels of the figure: wall time over each axis."""
    labels = {"size": "training images (thousands)", **{axis: axis for axis in AXES if axis != "size"}}
    drawn: dict[str, Panel] = {}
    for (axis, strategy), own in grouped(points).items():
        panel = drawn.setdefault(axis, Panel(labels[axis], {}))
        x = [point.n / (1000 if axis == "size" else 1) for point in own]
        y = [point.seconds for point in own]
        panel.series[strategy] = (x, y, Line.through(x, y))
    return list(drawn.values())


# -- the whole --------------------------------------------------------------------------------------------------------


def print_points(console: Console, points: list[Point]) -> None:
    """Print the table."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    for heading in ("axis", "strategy"):
        table.add_column(heading)
    headings = ("n", "seconds", "per unit", "memory, anonymous", "in all", "at most", "images", "stored")
    for heading in headings:
        table.add_column(heading, justify="right")
    for point in points:
        limit = "" if point.limit_bytes is None else megabytes(point.limit_bytes)
        sizes = (point.anonymous_bytes, point.resident_bytes), (point.data_bytes, point.stored_bytes)
        before, after = (tuple(map(megabytes, pair)) for pair in sizes)
        times = (f"{point.n:,}", f"{point.seconds:.2f}", f"{point.seconds / point.n:.3g}")
        table.add_row(point.axis, point.series, *times, *before, limit, *after)
    console.print(table)


def megabytes(size: int) -> str:
    """Return a number of bytes as text."""
    return f"{size / 1e6:,.1f} MB"


def arguments() -> argparse.Namespace:
    """Return the command line's options."""
    parser = argparse.ArgumentParser(description="Measure how clbench's time and memory grow.")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the machine, the points and the lines there")
    parser.add_argument("--figure", type=Path, metavar="FILE", help="draw wall time over each axis there")
    parser.add_argument("--only", choices=AXES, metavar="AXIS", help=f"one of {', '.join(AXES)}")
    parser.add_argument("--data", type=Path, metavar="DIR", help="where the synthetic data lie meanwhile: up to 4 GB")
    parser.add_argument("--threads", type=int, default=2, metavar="N", help="threads torch computes with [2]")
    parser.add_argument("--quick", action="store_true", help="small sizes, to see that it works")
    return parser.parse_args()


def main() -> None:
    """Measure, print, draw and write."""
    options = arguments()
    progress = Console(stderr=True, highlight=False)
    under = Conditions(options.threads, options.quick, options.data, progress.print)
    chosen = [options.only] if options.only else list(AXES)
    points = [point for axis in chosen for point in AXES[axis](under)]
    whole, inner = totals(points), along_the_stream(points)
    console = open_console()
    print_points(console, points)
    console.print()
    for fit in whole:
        console.print(fit.sentence(f"for each {ONE[fit.axis]}"), soft_wrap=True)
    for fit in inner:
        console.print(fit.sentence("with each further experience"), soft_wrap=True)
    if options.figure:
        draw(panels(points), options.figure)
    if options.json:
        options.json.write_text(json.dumps(described(options.threads, points, whole + inner), indent=1) + "\n")


def described(threads: int, points: list[Point], fits: list[Fit]) -> dict[str, Any]:
    """Return all measurements, JSON-ready."""
    machine = environment.describe("cpu") | {"threads": threads}
    return {
        "machine": machine,
        "points": [asdict(point) for point in points],
        "lines": [asdict(fit) for fit in fits],
    }


if __name__ == "__main__":
    main()
