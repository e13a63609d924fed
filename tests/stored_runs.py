"""Published runs whose predictions are made up, so that a test knows every number: real files, through the store."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from clbench.base.incremental_setting import Setting
from clbench.base.recipe import Recipe
from clbench.evaluation import metrics
from clbench.evaluation.counts import Counts, count
from clbench.evaluation.curve import Curve
from clbench.results import store, stored_runs
from clbench.results.record_model import as_json
from clbench.results.run_costs import CostTotals, PeakMemory, RunCosts
from clbench.results.run_facts import Shared, facts_of, row_of
from clbench.results.run_files import Folder
from clbench.results.run_result import (
    AuditResult,
    CountsRecord,
    CurveRecord,
    ExperienceResult,
    FailedRun,
    Reads,
    RunResult,
    Totals,
)
from clbench.results.run_spec import (
    NetworkSpec,
    RecipeSpec,
    RunSpec,
    ScenarioSpec,
    Seeds,
    StrategySpec,
    experience_classes,
    folder_name,
    run_id,
)
from clbench.results.stored_run import StoredRun
from clbench.results.strategy_record import strategy_record
from clbench.system.seeds import run_seeds

SOURCE = '''"""Does something against forgetting.

Variant: {variant}.
"""

import clbench


class Mine(clbench.Strategy):
    reference = {reference!r}
'''
"""A strategy's file, as far as a reader of results looks at it; see `source`."""

LWF = '''"""Learning without forgetting, so far as a report looks at it.

Variant: the one of this test; no other.
"""

import clbench


@clbench.config
class Config:
    alpha: float = 1.0
    """Weight of the old answers."""

    temperature: float = 2.0
    """Softens them."""


class LwF(clbench.Strategy[Config]):
    pass
'''

ENVIRONMENT: dict[str, Any] = {
    "python": "3.11.7",
    "system": "Linux 6.1",
    "processor": "A processor",
    "cores": 2,
    "packages": {"clbench": "0.1.0", "torch": "2.4.0", "avalanche-lib": "0.6.0"},
    "variables": {},
    "source": "abc1234",
    "finished": "2026-01-02T03:04:05+00:00",
}


def source(variant: str = "the usual one", reference: str | None = None) -> str:
    """The text of a strategy's file."""
    return SOURCE.format(variant=variant, reference=reference)


def publish(
    folder: Path,
    strategy: str = "naive",
    seed: int = 0,
    *,
    old: float | Sequence[float] = 0.0,
    new: float = 1.0,
    sizes: Sequence[int] = (2, 2),
    samples: int = 10,
    evaluated: Sequence[bool] | None = None,
    order: Sequence[int] | None = None,
    class_names: tuple[str, ...] | None = None,
    predictions: dict[str, npt.NDArray[np.int16]] | None = None,
    text: str | None = None,
    config: dict[str, Any] | None = None,
    recipe: str = "quick",
    scenario: str = "tiny",
    threads: int = 1,
    samples_seen: int = 80,
    seconds: float = 1.5,
    stored_bytes: int = 0,
    environment: dict[str, Any] | None = None,
    curve: Curve | None = None,
    steps: Sequence[int] = (),
    training_images: Sequence[int] | None = None,
) -> StoredRun:
    """Publish a run in `folder` and read it back, which checks it all through.

    Of each class's `samples` test samples the share `old` (one for all evaluations, or one for each) is right when the
    class is an old one, and the share `new` when it was just learned. Old ones that are wrong are given the newest
    experience's first class, new ones that are wrong the first class of all; told the experience, both are given the
    next class in it, so that the last experience's accuracies are the same in both settings wherever that is possible.
    `predictions` takes the place of all that. `curve` is what was right within experiences of so many gradient `steps`,
    in both settings; `training_images` are those of each class. `text` is the strategy's file; naive and joint are
    references by default.
    """
    text = source(reference={"naive": "lower", "joint": "upper"}.get(strategy)) if text is None else text
    made = spec_of(strategy, seed, text, config or {}, recipe, scenario, sizes, order, threads, class_names)
    classes = experience_classes(made)
    made_up = predictions or _predictions(classes, samples, old, new)
    reached = list(evaluated or [True] * len(sizes))
    counts = {s: count(made_up[s], made_up["labels"], classes, reached, setting=s) for s in _SETTINGS}
    result = result_of(made, counts, text, samples_seen, stored_bytes, curve, steps)
    if training_images:
        result = result.model_copy(update={"training_images": tuple(training_images)})
    arrays = io.BytesIO()
    np.savez_compressed(arrays, **made_up)
    files = {
        "spec.json": as_json(made),
        "result.json": as_json(result),
        "costs.json": as_json(costs_of(made, seconds)),
        "environment.json": as_json(ENVIRONMENT if environment is None else environment),
        "predictions.npz": arrays.getvalue(),
    }
    results = store.ResultsFolder(folder)
    results.keep_source(text.encode())
    run = stored_runs.read(results.publish(folder_name(made), run_id(made), files))
    assert isinstance(run, StoredRun), run.problem
    return run


def in_memory(name: str, made: RunSpec, result: RunResult, costs: RunCosts) -> StoredRun:
    """A run of these records that was not written anywhere."""
    return StoredRun(Folder(Path(name)), facts_of(row_of(made, result, costs), Shared()))


def fail(folder: Path, strategy: str, seed: int, message: str, scenario: str = "tiny") -> None:
    """Keep a failed run in `folder`."""
    made = spec_of(strategy, seed, source(), {}, "quick", scenario, (2, 2), None, 1)
    failed = FailedRun(status="failed", run_id=run_id(made), error=message)
    files = {"spec.json": as_json(made), "result.json": as_json(failed)}
    store.ResultsFolder(folder).keep_failure(folder_name(made), run_id(made), files)


def result_of(
    made: RunSpec,
    counts: dict[Setting, Counts],
    text: str,
    samples_seen: int = 80,
    stored_bytes: int = 0,
    curve: Curve | None = None,
    steps: Sequence[int] = (),
) -> RunResult:
    """The result of a run with these counts, whose strategy's file is `text`."""
    sizes, total = made.scenario.classes_per_experience, next(iter(counts.values())).total
    return RunResult(
        run_id=run_id(made),
        counts={setting: CountsRecord(**vars(each)) for setting, each in counts.items()},
        curves={setting: CurveRecord(**vars(curve)) for setting in counts} if curve else {},
        metrics={setting: metrics.derive(each, curve) for setting, each in counts.items()},
        chance={setting: values for setting, values in metrics.chance(sizes, total).items() if setting in counts},
        experiences=tuple(_experience(made, i, own) for i, own in enumerate(steps)),
        audit=AuditResult(verdict="pass", findings=(), memory=0),
        totals=Totals(
            samples_seen=samples_seen,
            gradient_steps=samples_seen // 10,
            stored_bytes=stored_bytes,
            exemplars=0,
            tuning_samples_seen=None,
            tuning_gradient_steps=None,
        ),
        strategy=strategy_record(made, text.encode()),
        notes=(),
    )


def _experience(made: RunSpec, index: int, steps: int) -> ExperienceResult:
    """What a run says of an experience in which it took so many gradient steps."""
    return ExperienceResult(
        index=index,
        classes=tuple(experience_classes(made)[index]),
        class_names=(),
        trained=True,
        samples_seen=10 * steps,
        gradient_steps=steps,
        epochs=(),
        teacher=None,
        teacher_bytes=0,
        features_cached=False,
        past_data_bytes=0,
        stored_bytes=0,
        parameters=1,
        weights_sha256="0" * 64,
        reads=Reads(current=0, earlier=0, later=0),
        exemplars=0,
        tuning=None,
    )


def costs_of(made: RunSpec, seconds: float) -> RunCosts:
    """What a run took, nearly all of it for training."""
    totals = CostTotals(seconds=seconds, training_seconds=seconds, teacher_seconds=0, evaluation_seconds=0)
    memory = PeakMemory(host_bytes=1)
    return RunCosts(run_id=run_id(made), experiences=(), totals=totals, start_up_seconds=0, peak_memory=memory)


# -- results that a report must do well on ----------------------------------------------------------------------------

HOSTILE = (
    "<script>alert(1)</script>",
    '"><img src=x onerror=alert(1)>',
    "'quotes' & \\ | `ticks` $math$ {{ 7 * 7 }}",
    "שלום עולם",
    "مرحبا 2",
    "w" * 200,
    "turned\u202eback",
    "策略" * 9,
)


def usual(folder: Path) -> None:
    """Four strategies, seeds 0 to 5, uneven experiences; mine failed on seed 5, and a run of spoilt was changed."""
    for seed in range(6):
        odd = seed % 2
        publish(folder, "naive", seed, old=0.0, sizes=(2, 1, 3), stored_bytes=0)
        publish(folder, "joint", seed, old=0.9, sizes=(2, 1, 3), samples_seen=240, seconds=6.0)
        lwf = {"alpha": 2.0, "temperature": 2.0}
        publish(folder, "lwf", seed, old=0.4 + 0.2 * odd, sizes=(2, 1, 3), config=lwf, text=LWF, stored_bytes=2_000_000)
        if seed < 5:
            publish(folder, "mine", seed, old=0.5, new=0.8, sizes=(2, 1, 3), seconds=3.0)
    fail(folder, "mine", 5, "KeyError: 'lost' in experience 1")
    spoilt = publish(folder, "spoilt", 0, sizes=(2, 1, 3))
    (spoilt.path / "result.json").write_text("{}")


def hostile(folder: Path) -> None:
    """Names of third parties that no page may take for anything but names."""
    for seed in range(2):
        publish(folder, "naive", seed)
        for position, name in enumerate(HOSTILE):
            publish(folder, name, seed, old=0.1 * (position + seed), stored_bytes=10**position)


def crowd(folder: Path) -> None:
    """Twelve strategies, half of which end alike."""
    for position, name in enumerate(["naive", "joint", *(f"third-party-{n}" for n in range(10))]):
        publish(folder, name, 0, old=min(position, 6) / 10, sizes=(1,) * 5, seconds=1.0 + position)


def long(folder: Path) -> None:
    """Twenty experiences; joint was evaluated after the last alone."""
    for seed in range(2):
        fading = [1 - (i + seed) / 25 for i in range(20)]
        publish(folder, "naive", seed, sizes=(2,) * 20)
        publish(folder, "lwf", seed, old=fading, sizes=(2,) * 20)
        publish(folder, "joint", seed, old=0.9, sizes=(2,) * 20, evaluated=[False] * 19 + [True])


def single(folder: Path) -> None:
    """One strategy, one seed, one experience."""
    publish(folder, "alone", 7, new=0.7, sizes=(4,))


def online(folder: Path) -> None:
    """Three strategies that are evaluated after every step of 10 in each of three experiences; one takes no steps."""
    for seed in range(3):
        for name, end, dip in (("naive", 0.0, 0.0), ("er", 0.8, 0.3)):
            curve = dipping(dip + 0.1 * seed, end)
            publish(folder, name, seed, old=end, sizes=(2, 2, 2), curve=curve, steps=(10, 10, 10))
        publish(folder, "means", seed, old=0.7, sizes=(2, 2, 2), curve=Curve((), (), ()), steps=(0, 0, 0))


def dipping(dip: float, end: float) -> Curve:
    """Nine points in each of three experiences of 20 test samples: old ones fall to the share `dip`, and return to
    `end`."""
    rows = []
    for i in range(3):
        for k in range(1, 10):
            old = round(20 * (dip + (end - dip) * (k - 1) / 9))
            rows.append((*[old] * i, 2 * k))
    return Curve(
        tuple(10 * i + k for i in range(3) for k in range(1, 10)),
        tuple(i for i in range(3) for _ in range(9)),
        tuple(rows),
    )


def returning(folder: Path) -> None:
    """Four experiences, of which the second and the last bring no class, and classes of unequal frequency."""
    for seed in range(2):
        for name, old in (("naive", 0.1), ("er", 0.7), ("joint", 0.9)):
            images = (500, 60, 20, 5)
            publish(folder, name, seed, old=old, sizes=(2, 0, 2, 0), training_images=images)


RESULTS: dict[str, Callable[[Path], None]] = {
    made.__name__: made for made in (usual, hostile, crowd, long, single, online, returning)
}

_SETTINGS: tuple[Setting, ...] = ("class_incremental", "task_incremental")


def spec_of(
    strategy: str,
    seed: int,
    text: str,
    config: dict[str, Any],
    recipe: str,
    scenario: str,
    sizes: Sequence[int],
    order: Sequence[int] | None,
    threads: int,
    class_names: tuple[str, ...] | None = None,
) -> RunSpec:
    """The spec of a run on the digits, or on so many classes of them as `sizes` says."""
    seeds = run_seeds(seed)
    return RunSpec(
        engine=1,
        scenario=ScenarioSpec(
            name=scenario,
            version=1,
            setting="class_incremental",
            dataset="digits",
            dataset_sha256="0" * 64,
            classes_per_experience=tuple(sizes),
            class_order_from="seed" if order else "natural",
            class_order=tuple(order or range(sum(sizes))),
            class_names=class_names,
        ),
        network=NetworkSpec(name="mlp"),
        recipe=RecipeSpec(name=recipe, config=Recipe(lr=0.1)),
        strategy=StrategySpec(name=strategy, sha256=hashlib.sha256(text.encode()).hexdigest(), config=config),
        seeds=Seeds(run=seed, class_order=seeds["class_order"], network=seeds["model"], training=seeds["training"]),
        device="cpu",
        threads=threads,
    )


def _predictions(
    classes: Sequence[Sequence[int]], samples: int, old: float | Sequence[float], new: float
) -> dict[str, npt.NDArray[np.int16]]:
    labels = np.repeat(np.sort(np.concatenate(classes)), samples).astype(np.int16)  # (N,)
    rank = np.arange(len(labels)) % samples  # of a sample within its class
    own = {c: members for members in classes for c in members}
    neighbour = np.array([own[c][(own[c].index(c) + 1) % len(own[c])] for c in labels])  # the next class, told which
    experience = np.array([next(j for j, members in enumerate(classes) if c in members) for c in labels])
    made = {setting: np.full((len(classes), len(labels)), -1, dtype=np.int16) for setting in _SETTINGS}
    for i, members in enumerate(classes):
        share = old if isinstance(old, (int, float)) else old[i]
        right = rank < np.where(experience < i, share, new) * samples - 1e-9
        newest = members[0] if members else neighbour  # where no class is new, an old one is taken for its neighbour
        instead = np.where(experience < i, newest, classes[0][0] if i else neighbour)
        seen = experience <= i
        made["class_incremental"][i, seen] = np.where(right, labels, instead)[seen]
        made["task_incremental"][i, seen] = np.where(right, labels, neighbour)[seen]
    return {"labels": labels, **made}
