"""Measures how well methods add classes to a network without its old data, on a folder of images such as Caltech-101.

    python -m benchmarks.one_class IMAGES --out DIR [--new N] [--images N|all] [--train head|all] [--optimizer sgd|adam]
                                   [--cases LIST] [--methods LIST] [--steps LIST] [--json FILE]

IMAGES has a folder for each class. A case trains lite0 (ImageNet weights, 128 px) on 20 classes, and then on N new
ones, with `clbench.run`. Accuracies are means over classes, on test images that were not used for training; intervals
are 95 % t-intervals over the cases, whose new classes all differ.

Of the folders, sorted by name, only every other one is used, from the second on, so that choices made with this
benchmark can be tested on the rest. BACKGROUND_Google is not a class and Faces_easy duplicates another one; both are
left out.
"""

from __future__ import annotations

import argparse
import json
import statistics
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image
from rich.console import Console
from rich.table import Table

import clbench
from benchmarks.measuring import SEED, open_console
from clbench.comparison.statistics import estimate
from clbench.data.importing import import_dataset
from clbench.results.stored_run import StoredRun

LEFT_OUT = ("BACKGROUND_Google", "Faces_easy")
OLD = 20
"""Classes that the network knows before."""

TRAINED = (40, 60)
"""Most training images of an old and of a new class."""

TESTED = 0.25
"""Share of a class's images that test it."""

PIXELS = 128
BASE = {"head": (30, {"sgd": 0.01, "adam": 0.001}), "all": (3, {"sgd": 0.01, "adam": 0.001})}
"""Epochs and learning rates by which the network learns the old classes."""

STEPS = {"tiny": (0.01, 25), "small": (0.1, 25), "base": (1.0, 25)}
"""How it is extended: the learning rate as a share of the base's, and epochs."""


@dataclass(frozen=True)
class Method:
    """A row of the table."""

    strategy: str
    set: dict[str, Any] = field(default_factory=dict)
    steps: bool = True
    """Whether it takes gradient steps after the base, so that a learning rate matters."""

    reference: str = ""
    """What it needs from the old data, which are no longer available."""


METHODS = {
    "imprint": Method("imprint", steps=False),
    "naive": Method("naive"),
    "l2": Method("l2"),
    "frozen, over seen": Method("frozen", {"frozen.cross_entropy_over": "seen"}),
    "frozen": Method("frozen"),
    "lwf": Method("lwf"),
    "lwf:pycil": Method("lwf:pycil"),
    "lwf:facil": Method("lwf:facil"),
    "lwf:mammoth": Method("lwf:mammoth"),
    "lwf:mammoth, α = 10": Method("lwf:mammoth", {"lwf.alpha": 10.0}),
    "lwf:avalanche": Method("lwf:avalanche"),
    "lwf:vandeven2019": Method("lwf:vandeven2019"),
    "lwf_mc": Method("lwf_mc"),
    "ncm": Method("ncm", steps=False, reference="class means"),
    "slda": Method("slda", steps=False, reference="class means and a covariance"),
    "fecam": Method("fecam", steps=False, reference="a covariance of each class"),
    "acil": Method("acil", {"acil.expansion": 2000}, steps=False, reference="a Gram matrix"),
    "fetril": Method("fetril", reference="class means"),
    "joint": Method("joint", reference="the old data"),
}


@dataclass(frozen=True)
class Result:
    """Accuracy of a method on old and new classes in a case, in percent."""

    method: str
    steps: str
    case: int
    before: float
    """Old accuracy before the new classes were added."""

    old: float
    new: float

    @property
    def mean(self) -> float:
        """The mean of old and new accuracy, by which methods are ranked."""
        return (self.old + self.new) / 2


# -- the data of a case -----------------------------------------------------------------------------------------------


def class_names(root: Path) -> list[str]:
    """Return the classes that may be used here."""
    return sorted(folder.name for folder in root.iterdir() if folder.is_dir() and folder.name not in LEFT_OUT)[1::2]


def choose(names: Sequence[str], case: int, new: int) -> list[str]:
    """Return a case's old classes, followed by its new ones; new classes repeat only after all have been used."""
    shuffled = [names[i] for i in np.random.default_rng(SEED).permutation(len(names))]
    chosen = [shuffled[(case * new + i) % len(shuffled)] for i in range(new)]
    others = [name for name in shuffled if name not in chosen]
    return [others[i] for i in np.random.default_rng((case, 1)).permutation(len(others))[:OLD]] + chosen


def pixels(file: Path) -> npt.NDArray[np.uint8]:
    """Return the image, resized by its shorter side and cropped around its centre: (PIXELS, PIXELS, 3)."""
    with Image.open(file) as opened:
        image = opened.convert("RGB")
    scale = PIXELS / min(image.size)
    width, height = (max(PIXELS, round(side * scale)) for side in image.size)
    left, top = (width - PIXELS) // 2, (height - PIXELS) // 2
    resized = image.resize((width, height), Image.Resampling.BICUBIC)
    return np.asarray(resized.crop((left, top, left + PIXELS, top + PIXELS)))


def build_dataset(root: Path, classes: Sequence[str], limit: int | None, case: int, file: Path) -> None:
    """Write a case's images as an .npz; `limit` is the number of training images of a new class."""
    arrays: dict[str, list[Any]] = {name: [] for name in ("x_train", "y_train", "x_test", "y_test")}
    for label, name in enumerate(classes):
        files = sorted((root / name).glob("*.jpg"))
        files = [files[i] for i in np.random.default_rng((case, 2, label)).permutation(len(files))]
        tested = max(1, round(TESTED * min(len(files), 100)))
        most = TRAINED[0] if label < OLD else limit or TRAINED[1]
        for part, chosen in (("test", files[:tested]), ("train", files[tested : tested + most])):
            arrays[f"x_{part}"] += [pixels(each) for each in chosen]
            arrays[f"y_{part}"] += [label] * len(chosen)
    np.savez(file, classes=np.array(classes), **{name: np.array(values) for name, values in arrays.items()})


def scenario_source(dataset: str, new: int, train: str, optimizer: str) -> str:
    """Return a scenario file with a recipe for each of STEPS."""
    epochs, rates = BASE[train]
    rate = rates[optimizer]
    always = f'network="lite0", optimizer="{optimizer}", momentum={0.9 if optimizer == "sgd" else 0.0}, batch_size=32'
    first = f"first=clbench.Overrides(epochs={epochs}, lr={rate})"
    recipes = [
        f'        "{name}": clbench.Recipe({always}, lr={rate * share}, epochs={length}, {first}),'
        for name, (share, length) in STEPS.items()
    ]
    lines = [
        '"""A network learns the old classes, loses them, and gets new ones."""',
        "import clbench",
        "class OneClass(clbench.Scenario):",
        f'    dataset, split, class_order = "{dataset}", "{OLD}+{new}", "natural"',
        "    recipes = {",
        *recipes,
        "    }",
    ]
    return "\n".join(lines) + "\n"


# -- runs and what they show ------------------------------------------------------------------------------------------


def results(asked: argparse.Namespace, case: int) -> list[Result]:
    """Execute the runs of a case and return the accuracies of each method."""
    limit = None if asked.images == "all" else int(asked.images)
    dataset = f"oneclass-{case}-{asked.new}-{asked.images}"
    data, scenarios = asked.out / "data", asked.out / "scenarios"
    scenarios.mkdir(parents=True, exist_ok=True)
    if not (data / "arrays" / dataset).exists():
        file = asked.out / f"{dataset}.npz"
        build_dataset(asked.images_root, choose(class_names(asked.images_root), case, asked.new), limit, case, file)
        import_dataset(dataset, file, data)
        file.unlink()
    scenario = scenarios / f"{dataset.replace('-', '_')}_{asked.train}_{asked.optimizer}.py"
    scenario.write_text(scenario_source(dataset, asked.new, asked.train, asked.optimizer), encoding="utf-8")
    found = []
    for steps in asked.steps:
        methods = [name for name in asked.methods if METHODS[name].steps or steps == asked.steps[0]]
        # In one call, so that methods that learn the old classes in the same way do so only once.
        plain = [name for name in methods if not METHODS[name].set]
        for names in filter(None, [plain, *([name] for name in methods if METHODS[name].set)]):
            given = METHODS[names[0]].set | {"network.train": asked.train}
            runs = clbench.run(
                [METHODS[name].strategy for name in names],
                scenario,
                recipe=steps,
                set=given,
                threads=1,
                device="cpu",
                out=asked.out / "results",
                data=data,
            )
            for name, run in zip(names, runs, strict=True):
                found.append(judged(run, name, steps if METHODS[name].steps else "", case))
    return found


def judged(run: StoredRun, method: str, steps: str, case: int) -> Result:
    """Return a run's mean accuracy on the old classes before and after, and on the new ones."""
    before, after = run.metric("per_class_accuracy")
    shares = (before, after[:OLD], after[OLD:])
    return Result(method, steps, case, *(100 * statistics.fmean(each) for each in shares))


def table_of(found: Sequence[Result]) -> Table:
    """Return the table, best first."""
    table = Table("method", "steps", "old before", "old", "new", "mean", "worst case", "cases", box=None)
    rows: dict[tuple[str, str], list[Result]] = {}
    for each in found:
        rows.setdefault((each.method, each.steps), []).append(each)
    for (method, steps), own in sorted(rows.items(), key=lambda row: -statistics.fmean(each.mean for each in row[1])):
        columns = [[getattr(each, name) for each in own] for name in ("before", "old", "new", "mean")]
        reference = METHODS[method].reference
        shown = f"{method} (has {reference})" if reference else method
        worst = f"{min(columns[-1]):.1f}"
        table.add_row(shown, steps, *map(interval, columns), worst, str(len(own)))
    return table


def interval(values: Sequence[float]) -> str:
    """Return the mean and its 95 % t-interval."""
    known = estimate(values)
    assert known is not None
    return f"{known.mean:.1f}" + (f" ±{known.half_width:.1f}" if known.half_width is not None else "")


def arguments() -> argparse.Namespace:
    """Return the command line's options."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.one_class", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("images_root", type=Path, metavar="IMAGES", help="a folder of classes")
    parser.add_argument("--out", type=Path, required=True, help="where data, runs and features are kept")
    parser.add_argument("--new", type=int, default=1, help="new classes (default: 1)")
    parser.add_argument("--images", default="all", help="training images of a new class, or all: at most 60")
    parser.add_argument("--train", choices=sorted(BASE), default="head", help="what of the network trains")
    parser.add_argument("--optimizer", choices=("sgd", "adam"), default="sgd", help="of the base and the extension")
    parser.add_argument("--cases", default="0-9", help="first and last case, 0-9 by default")
    parser.add_argument("--methods", default=";".join(METHODS), help="separated by ';'")
    parser.add_argument("--steps", default=",".join(STEPS), help="of " + ", ".join(STEPS))
    parser.add_argument("--json", type=Path, help="write the results there")
    asked = parser.parse_args()
    asked.methods, asked.steps = asked.methods.split(";"), asked.steps.split(",")
    for given, known in ((asked.methods, METHODS), (asked.steps, STEPS)):
        if unknown := set(given) - set(known):
            parser.error(f"unknown: {', '.join(sorted(unknown))}")
    first, _, last = asked.cases.partition("-")
    asked.cases = range(int(first), int(last or first) + 1)
    return asked


def main(console: Console) -> None:
    """Measure, and print the table."""
    asked = arguments()
    found = [each for case in asked.cases for each in results(asked, case)]
    if asked.json:
        asked.json.write_text(json.dumps([asdict(each) for each in found], indent=1) + "\n", encoding="utf-8")
    console.print(table_of(found))


if __name__ == "__main__":
    main(open_console())
