"""Measures how well a network's scores tell images of its classes from images of none of them.

    python -m benchmarks.unknown --images CALTECH101 [--seeds N] [--only GROUP] [--data DIR] [--json FILE]

Known classes are drawn anew for each seed. A network learns them from 60 % of their images. On half of the rest, a
threshold is calibrated as in `clbench train`; the other half are the known test images. Four functions of the
scores (n, classes) are compared:

    probability    the highest softmax probability (Hendrycks and Gimpel, ICLR 2017)
    score          the highest score itself
    energy         log Σ exp(scores) (Liu et al., NeurIPS 2020)
    margin         the highest score minus the second

AUROC is the share of pairs of a known and an unknown image in which the known one has the higher value. FPR95 is the
share of unknown images above the value that 95 % of known ones exceed. With the calibrated threshold, two more shares
are measured: known images that are accepted, and unknown ones that are predicted as "none of these".

Groups:
    caltech    lite0 with ImageNet weights, at 128 px, on 20 classes of Caltech-101; unknown: the other classes, and the
               pictures of BACKGROUND_Google. A head is trained, or a strategy classifies by statistics of features.
    extended   the same with 15 classes, to which 5 are added without the images of the others; the threshold is
               calibrated on the new classes alone, or on all classes
    fashion    cnn from scratch on 5 classes of Fashion-MNIST; unknown: the other five, and the digits of MNIST
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import cast

import numpy as np
import numpy.typing as npt
import torch
from rich.console import Console
from rich.table import Table
from scipy.stats import rankdata
from torch import Tensor, nn

from benchmarks.measuring import open_console
from clbench.base.recipe import Recipe
from clbench.data.batches import Images, Scaling, Unscaled
from clbench.data.datasets import data_folder, open_dataset
from clbench.data.feature_extraction import Extraction
from clbench.data.image_decoding import decode
from clbench.data.image_folders import find_images
from clbench.extension.learner import Inputs, Learned, Task, begin, learn
from clbench.extension.none_of_these import reached
from clbench.extension.recipes import EXTENDING, TRAINING
from clbench.networks.head import linear_layer
from clbench.networks.network import Network
from clbench.results import environment
from clbench.results.run_spec import Seeds
from clbench.runs.chosen_network import asked, choose_network
from clbench.runs.initial_network import initial_trunk
from clbench.runs.planned_runs import methods_of
from clbench.runs.selection import choose_strategies
from clbench.system.seeds import run_seeds
from clbench.system.signals import Interruption

CPU = torch.device("cpu")
SIZE, MOST = 128, 60

Values = Callable[[Tensor], Tensor]

VALUES: dict[str, Values] = {
    "probability": lambda scores: scores.softmax(dim=1).amax(dim=1),
    "score": lambda scores: scores.amax(dim=1),
    "energy": lambda scores: scores.logsumexp(dim=1),
    "margin": lambda scores: scores.topk(2, dim=1).values @ torch.tensor([1.0, -1.0], dtype=scores.dtype),
}

Array = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Row:
    """One seed's result for one function of the scores and one kind of unknown images."""

    group: str
    what: str
    unknown: str
    value: str
    seed: int
    auroc: float
    fpr95: float
    kept: float
    """Share of known images, other than those of the calibration, at or above the threshold."""

    refused: float
    """Share of unknown images below it."""


def auroc(known: Array, unknown: Array) -> float:
    """Return the share of pairs in which the known image has the higher value; a tie counts as half."""
    ranks = rankdata(np.concatenate([known, unknown]))[: len(known)]
    return float((ranks.sum() - len(known) * (len(known) + 1) / 2) / (len(known) * len(unknown)))


def fpr95(known: Array, unknown: Array) -> float:
    """Return the share of unknown images that lie no lower than the lowest of 95 % of the known ones."""
    return float((unknown >= reached(known.tolist())).mean())


def rows(
    group: str,
    what: str,
    seed: int,
    calibration: tuple[Tensor, Tensor],
    known: Tensor,
    unknown: dict[str, Tensor],
) -> list[Row]:
    """Compare all functions of scores (n, classes); `calibration` are scores and labels."""
    found = []
    for value, of in VALUES.items():
        scores, labels = calibration
        least = reached(of(scores)[scores.argmax(dim=1) == labels].tolist())
        own = of(known).numpy()
        for name, others in unknown.items():
            theirs = of(others).numpy()
            figures = auroc(own, theirs), fpr95(own, theirs), (own >= least).mean(), (theirs < least).mean()
            found.append(Row(group, what, name, value, seed, *map(float, figures)))
    return found


# -- learning ---------------------------------------------------------------------------------------------------------


def learned(
    strategy: str, recipe: Recipe, sizes: tuple[int, ...], data: Inputs, seed: int, network: Callable[[], Network]
) -> Learned:
    """Train as in `clbench train`, or as in `clbench extend` if there are two `sizes`."""
    drawn = run_seeds(seed)
    seeds = Seeds(
        run=drawn["run"], class_order=drawn["class_order"], network=drawn["model"], training=drawn["training"]
    )
    task = Task(sizes, data, recipe, seeds, network, Interruption(), lambda event: None)
    (method,) = methods_of(choose_strategies((strategy,), lambda event: None), {})
    config = method.values("class_incremental", "quick")  # with which acil's random expansion is smaller
    trainer = begin(task, method.strategy, config, strategy, None)
    return learn(task, trainer)


def inputs(x: npt.NDArray[np.generic], y: Tensor, scaling: Scaling) -> Inputs:
    """Return images or features as training data."""
    return Inputs({"new": Images(np.ascontiguousarray(x), CPU)}, {"new": y.numpy()}, scaling)


def three_parts(labels: Tensor, seed: int) -> tuple[Tensor, Tensor, Tensor]:
    """Return the rows of 60, 20 and 20 % of each class."""
    parts: tuple[list[Tensor], list[Tensor], list[Tensor]] = ([], [], [])
    generator = torch.Generator().manual_seed(seed)
    for label in labels.unique():
        own = (labels == label).nonzero().squeeze(1)
        own = own[torch.randperm(len(own), generator=generator)]
        held = round(0.2 * len(own))
        for part, chosen in zip(parts, own.split([len(own) - 2 * held, held, held]), strict=True):
            part.append(chosen)
    train, calibration, test = map(torch.cat, parts)
    return train, calibration, test


# -- the groups -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Features:
    """The frozen network's features of all images."""

    x: Tensor
    y: Tensor
    """Position of the class, (n,)."""

    classes: int
    pictures: Tensor
    """Those of BACKGROUND_Google."""


def caltech_features(folder: Path, data: Path) -> Features:
    """Return features of at most 60 images of each class, without Faces, which are Faces_easy cropped differently."""
    images = find_images(folder)
    listed = {name: own[:MOST] for name, own in zip(images.classes, images.train, strict=True) if name != "Faces"}
    pictures = dict(zip(images.classes, images.train, strict=True))["BACKGROUND_Google"]
    del listed["BACKGROUND_Google"]
    spec, file = choose_network("lite0", asked({"train": "head"}, None), (SIZE, SIZE, 3), data)
    trunk, _ = initial_trunk(spec, (SIZE, SIZE, 3), 0, "architecture", data, file)
    trunk.eval()
    assert spec.mean is not None and spec.std is not None
    scaling = Scaling("standardized", spec.mean, spec.std, CPU)

    def of(files: Sequence[Path]) -> Tensor:
        pixels = decode(files, (SIZE, SIZE, 3), "crop", lambda event: None, "images").images
        with Extraction(cast(nn.Module, trunk), scaling, CPU) as extraction:
            return torch.from_numpy(np.concatenate(list(extraction.batches(pixels))))

    y = torch.cat([torch.full((len(own),), label) for label, own in enumerate(listed.values())])
    return Features(of([file for own in listed.values() for file in own]), y, len(listed), of(pictures))


def caltech(features: Features, seed: int, progress: Console) -> list[Row]:
    """Return the rows of 20 known classes."""
    order = torch.randperm(features.classes, generator=torch.Generator().manual_seed(seed))
    x, y, others = drawn(features, order, 20)
    train, calibration, test = three_parts(y, seed)
    data = inputs(x[train].numpy(), y[train], Unscaled(CPU))
    found = []
    for strategy in ("naive", "ncm", "slda", "fecam", "acil"):
        made = learned(strategy, TRAINING, (20,), data, seed, lambda: Network([], x.shape[1]))
        unknown = {"other classes": ask(made, others), "BACKGROUND_Google": ask(made, features.pictures)}
        held = ask(made, x[calibration]), y[calibration]
        found += rows("caltech", strategy, seed, held, ask(made, x[test]), unknown)
        progress.print(f"caltech {strategy} {seed}")
    return found


def extended(features: Features, seed: int, progress: Console) -> list[Row]:
    """Return the rows of 15 known classes to which five are added."""
    order = torch.randperm(features.classes, generator=torch.Generator().manual_seed(seed))
    x, y, others = drawn(features, order, 20)
    train, calibration, test = three_parts(y, seed)
    old, new = train[y[train] < 15], train[y[train] >= 15]
    data = inputs(x[old].numpy(), y[old], Unscaled(CPU))
    first = learned("naive", TRAINING, (15,), data, seed, lambda: Network([], x.shape[1]))

    def given() -> Network:
        network, head = Network([], x.shape[1]), first.network.head
        network.head.new, network.head.seen = linear_layer(head.weight[:15].detach(), head.bias[:15].detach()), 15
        return network

    data, found = inputs(x[new].numpy(), y[new], Unscaled(CPU)), []
    for strategy in ("lwf_mc", "lwf", "imprint"):
        made = learned(strategy, EXTENDING, (15, 5), data, seed, given)
        unknown = {"other classes": ask(made, others)}
        for name, least in (("all classes", 0), ("the new classes", 15)):
            own = calibration[y[calibration] >= least]
            scores = ask(made, x[own]), y[own]
            found += rows("extended", f"{strategy}, calibrated on {name}", seed, scores, ask(made, x[test]), unknown)
        progress.print(f"extended {strategy} {seed}")
    return found


def drawn(features: Features, order: Tensor, known: int) -> tuple[Tensor, Tensor, Tensor]:
    """Return features and labels of the first classes of an order, and the features of the others."""
    place = torch.empty_like(order)
    place[order] = torch.arange(len(order))
    y = place[features.y]
    return features.x[y < known], y[y < known], features.x[y >= known]


@torch.no_grad()
def ask(made: Learned, x: Tensor) -> Tensor:
    """Return the network's scores for inputs."""
    return torch.cat([made.score(part).float() for part in x.split(256)])


def fashion(data: Path, seed: int, progress: Console) -> list[Row]:
    """Return the rows of five classes of Fashion-MNIST."""
    dataset, digits = open_dataset("fashion", data), open_dataset("mnist", data)
    order = torch.randperm(10, generator=torch.Generator().manual_seed(seed))
    place = torch.empty_like(order)
    place[order] = torch.arange(10)
    pixels, y = dataset.x_train[:10_000], place[torch.from_numpy(dataset.y_train[:10_000]).long()]
    x, y = pixels[(y < 5).numpy()], y[y < 5]
    train, calibration, test = three_parts(y, seed)
    scaling = Scaling("standardized", (float(x.mean()) / 255,), (float(x.std()) / 255,), CPU)
    spec, file = choose_network("cnn", asked({}, None), (28, 28, 1), data)

    def network() -> Network:
        trunk, features = initial_trunk(spec, (28, 28, 1), seed, "architecture", data, file)
        return Network(trunk, features).to(memory_format=torch.channels_last)

    made = learned("naive", TRAINING, (5,), inputs(x[train.numpy()], y[train], scaling), seed, network)

    def scores(images: npt.NDArray[np.uint8]) -> Tensor:
        return ask(made, scaling(torch.from_numpy(np.ascontiguousarray(images))))

    others = dataset.x_test[(place[torch.from_numpy(dataset.y_test).long()] >= 5).numpy()]
    unknown = {"other classes": scores(others), "MNIST": scores(digits.x_test[:5000])}
    held = scores(x[calibration.numpy()]), y[calibration]
    progress.print(f"fashion {seed}")
    return rows("fashion", "naive", seed, held, scores(x[test.numpy()]), unknown)


def print_table(found: Sequence[Row]) -> None:
    """Print each case's mean over seeds."""
    table = Table("group", "network", "unknown", "value", "AUROC", "FPR95", "known kept", "unknown refused")
    cases = dict.fromkeys((row.group, row.what, row.unknown, row.value) for row in found)
    for case in cases:
        own = [row for row in found if (row.group, row.what, row.unknown, row.value) == case]
        figures = ([getattr(row, name) for row in own] for name in ("auroc", "fpr95", "kept", "refused"))
        table.add_row(*case, *(f"{100 * np.mean(each):.1f}" for each in figures))
    open_console().print(table)


def main() -> None:
    """Measure, print and store."""
    parser = argparse.ArgumentParser(description="Measure how well scores tell known images from unknown ones.")
    parser.add_argument("--images", type=Path, metavar="DIR", help="the folder of Caltech-101 [default: fashion only]")
    parser.add_argument("--seeds", type=int, default=5, metavar="N", help="draws of the known classes [5]")
    parser.add_argument("--only", choices=("caltech", "extended", "fashion"), metavar="GROUP", help="one group")
    parser.add_argument("--data", type=Path, metavar="DIR", help="data folder, as for clbench")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the machine and the rows there, too")
    options = parser.parse_args()
    data, progress, found = data_folder(options.data), Console(stderr=True), list[Row]()
    features = None
    if options.images is not None and options.only != "fashion":
        features = caltech_features(options.images, data)
    for seed in range(options.seeds):
        if features is not None and options.only in (None, "caltech"):
            found += caltech(features, seed, progress)
        if features is not None and options.only in (None, "extended"):
            found += extended(features, seed, progress)
        if options.only in (None, "fashion"):
            found += fashion(data, seed, progress)
    print_table(found)
    if options.json is not None:
        lines = ",\n  ".join(json.dumps(asdict(row)) for row in found)
        machine = json.dumps(environment.describe("cpu"))
        options.json.write_text(f'{{"machine": {machine},\n "rows": [\n  {lines}\n ]}}\n')


if __name__ == "__main__":
    main()
