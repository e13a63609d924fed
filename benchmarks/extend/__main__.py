"""Measures how much networks retain when classes are added to them without their old data.

    python -m benchmarks.extend [--only NAME,…] [--seeds N] [--work DIR] [--data DIR] [--json FILE]

For each seed, a first network is trained on some classes. Every strategy then adds the others step by step with
`clbench.extend`, starting each step from the output of the previous one. It is given only the new images, plus test
images of the old classes for evaluation; strategies with replay get five images of each class of the first network.
Finished parts are kept in the work folder, so that an interrupted measurement can be resumed.

Cases: `caltech-1` and `caltech-3` (Caltech-101, 20 classes, then one, or three one by one; lite0 at 128 px),
`tiny` (Tiny ImageNet, 100 classes, then 10 at once; lite0, which enlarges the images of 64 px to 128), `cifar`
(CIFAR-10, 8 classes, then two one by one) and `gtsrb` (traffic signs, 40 classes, then three one by one; a small CNN
from scratch), `resnet` and `module` (a torchvision ResNet-18 and a hand-written module, trained with plain PyTorch).
"""

from __future__ import annotations

import argparse
import json
import shutil
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.extend.elsewhere import trained_elsewhere
from benchmarks.extend.photos import Files, Photos, as_files, divided, drawn, lay_out, with_parts
from benchmarks.extend.table import print_tables
from clbench.api.extending import Extended, extend, train
from clbench.data.datasets import data_folder
from clbench.errors import UsageError

JSON = Path(__file__).parents[1] / "measured" / "extend.json"
MOST = 100
"""Images of a class of Caltech-101, whose classes have 31 to 800."""

NEED_NOTHING = ("naive", "naive@0.0001", "l2", "frozen", "lwf:vandeven2019", "lwf:hsu2018", "lwf_mc", "imprint")
"""`naive@0.0001` has a rate a hundred times smaller than the recipe's: naive training at its best."""
STATISTICS = ("ncm", "slda", "fetril", "fecam", "ranpac", "acil")
REHEARSAL = ("er", "derpp", "icarl", "bic")
SMALLER = {"ranpac.projections": 2000, "acil.expansion": 2048}
"""Expansions that fit a laptop's memory many times over."""


@dataclass(frozen=True)
class Case:
    """One scenario of added classes, measured with every seed and strategy."""

    name: str
    base: int
    """Classes of the first network."""

    steps: tuple[int, ...]
    """Classes that each step adds."""

    network: str
    size: int
    first: dict[str, Any]
    """How the first network is trained: recipe, epochs and what trains."""

    heads: tuple[str, ...]
    """Strategies that train the head alone."""

    whole: tuple[str, ...] = ()
    """Strategies that train the whole network."""

    values: dict[str, Any] = field(default_factory=dict)
    """Hyper-parameters of the extension."""


_FROZEN = {"frozen.cross_entropy_over": "seen"}
CASES = (
    Case(
        "caltech-1",
        20,
        (1,),
        "lite0",
        128,
        {"epochs": 20, "head": True},
        (*NEED_NOTHING, *STATISTICS, *REHEARSAL),
        ("naive", "lwf:vandeven2019"),
        _FROZEN,
    ),
    Case(
        "caltech-3",
        20,
        (1, 1, 1),
        "lite0",
        128,
        {"epochs": 20, "head": True},
        (*NEED_NOTHING, *STATISTICS, *REHEARSAL),
        ("naive", "lwf:vandeven2019"),
        _FROZEN,
    ),
    Case(
        "tiny",
        100,
        (10,),
        "lite0",
        64,
        {"epochs": 5, "head": True},
        (*NEED_NOTHING, "lwf", *(name for name in STATISTICS if name != "fecam"), *REHEARSAL),
        ("naive", "lwf"),
    ),
    Case(
        "cifar",
        8,
        (1, 1),
        "cnn",
        32,
        {"epochs": 10},
        (*NEED_NOTHING, *STATISTICS, *REHEARSAL),
        ("naive", "lwf_mc"),
        _FROZEN,
    ),
    Case(
        "gtsrb",
        40,
        (1, 1, 1),
        "cnn",
        32,
        {"epochs": 10},
        (*NEED_NOTHING, *STATISTICS, *REHEARSAL),
        ("naive", "lwf_mc"),
        _FROZEN,
    ),
    Case("resnet", 20, (1,), "torchvision:resnet18", 64, {}, NEED_NOTHING, ("naive", "lwf_mc"), _FROZEN),
    Case("module", 20, (1,), "module", 64, {}, NEED_NOTHING, ("naive", "lwf_mc"), _FROZEN),
)


def images_of(case: str, data: Path, work: Path) -> Files:
    """Return the images of a case."""
    if case.startswith("caltech") or case in ("resnet", "module"):
        found = divided(data / "images" / "caltech101", MOST)
        objects = [name for name in sorted(found) if name not in ("BACKGROUND_Google", "Faces_easy")]
        # The other classes are those on which the default was chosen.
        return {name: found[name] for name in objects[::2]}
    if case == "tiny":
        return with_parts(data / "images" / "tinyimagenet")
    if case == "gtsrb":
        return with_parts(data / "images" / "gtsrb")
    return with_parts(as_files(data / "cifar10.npz", work / "cifar10"))


def first_network(case: Case, photos: Photos, seed: int, data: Path) -> dict[str, Any]:
    """Return the arguments of `extend` that give the network: a folder that `train` wrote, or files from elsewhere."""
    out = photos.place / "model"
    if case.network in ("module", "torchvision:resnet18"):
        return trained_elsewhere(photos, case.network, case.size, seed)
    settings = dict(case.first)
    values = {"network.train": "head"} if settings.pop("head", False) else {}
    train(
        photos.base,
        network=case.network,
        size=case.size,
        out=out,
        # A matrix per class: 655 MB for the 100 classes of Tiny ImageNet.
        prepare=[name for name in STATISTICS if name in case.heads],
        set={**values, **SMALLER},
        held_out=0.05,
        seed=seed,
        threads=1,
        data=data,
        **settings,
    )
    return {"source": out}


def chain(
    case: Case, photos: Photos, given: dict[str, Any], strategy: str, head: bool, seed: int, data: Path
) -> dict[str, Any] | None:
    """Add the classes step by step; return the accuracies before and after, or None if the strategy cannot do it."""
    before, last = None, None
    selector, _, rate = strategy.partition("@")
    name = selector.split(":")[0]
    for step in range(1, len(case.steps) + 1):
        values = {key: value for key, value in {**SMALLER, **case.values}.items() if key.startswith(f"{name}.")}
        values |= {"recipe.lr": rate} if rate else {}
        out = photos.place / "extended" / f"{strategy.replace(':', '-')}-{'head' if head else 'all'}-{step}"
        try:
            last = extend(
                **given,
                images=photos.step(step),
                old_test=photos.tests(step),
                old_images=photos.old_images if strategy in REHEARSAL else None,
                strategy=selector,
                set={**values, "network.train": "head" if head else "all"},
                out=out,
                export="onnx" if step == len(case.steps) else None,
                seed=seed,
                threads=1,
                data=data,
            )
        except UsageError as error:
            print(f"{case.name}, seed {seed}, {strategy}: {error.message}")
            return None
        if before is None:
            before = last.result.kept.old_accuracy_before
        given = {"source": out, **{key: value for key, value in given.items() if key == "network" and step}}
        if not str(given.get("network", "")).endswith(".py"):
            given.pop("network", None)
    assert last is not None
    return {**_accuracies(case, photos, last), "before": before}


def _accuracies(case: Case, photos: Photos, last: Extended) -> dict[str, Any]:
    """Return the macro accuracy over the first network's classes, and over all classes added since."""
    first = {place.name for place in photos.base.iterdir()}
    shares = {each.name: each.correct_after / each.test_images for each in last.result.kept.classes if each.test_images}
    old = [share for name, share in shares.items() if name in first]
    new = [share for name, share in shares.items() if name not in first]
    assert (len(old), len(new)) == (case.base, sum(case.steps))
    return {"old": sum(old) / len(old), "new": sum(new) / len(new), "seconds": last.result.kept.seconds}


def main() -> None:
    """Measure, and write the results so far after every chain."""
    options = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    options.add_argument("--only", help="cases, separated by commas")
    options.add_argument("--seeds", type=int, default=3)
    options.add_argument("--work", type=Path, default=Path("extend-work"))
    options.add_argument("--data", type=Path)
    options.add_argument("--json", type=Path, default=JSON)
    given = options.parse_args()
    data = data_folder(given.data)
    wanted = given.only.split(",") if given.only else [case.name for case in CASES]
    found: list[dict[str, Any]] = json.loads(given.json.read_text())["rows"] if given.json.exists() else []
    for trains_head in (True, False):  # what takes longest comes last
        for case in (each for each in CASES if each.name in wanted):
            measure(case, trains_head, range(given.seeds), given.work, data, given.json, found)
    print_tables(found)


def measure(
    case: Case,
    trains_head: bool,
    seeds: Sequence[int],
    work: Path,
    data: Path,
    place: Path,
    found: list[dict[str, Any]],
) -> None:
    """Measure a case with strategies that train only the head, or the whole network; add the results to `found`."""
    strategies = case.heads if trains_head else case.whole
    trains = "head" if trains_head else "all"
    keys = [
        {"case": case.name, "seed": seed, "strategy": strategy, "trains": trains}
        for seed in seeds
        for strategy in strategies
    ]
    missing = [key for key in keys if not any(key.items() <= row.items() for row in found)]
    images = images_of(case.name, data, work) if missing else {}
    for seed in dict.fromkeys(key["seed"] for key in missing):
        base, steps = drawn(sorted(images), seed, case.base, case.steps)
        photos = lay_out(work / case.name / f"seed{seed}", images, base, steps)
        network = first_network(case, photos, seed, data)
        for key in (each for each in missing if each["seed"] == seed):
            measured = chain(case, photos, network, key["strategy"], trains_head, seed, data)
            # The states of some strategies are gigabytes.
            shutil.rmtree(photos.place / "extended", ignore_errors=True)
            if measured is not None:
                found.append({**key, **measured})
                place.write_text(json.dumps({"rows": found}, indent=1) + "\n")


if __name__ == "__main__":
    main()
