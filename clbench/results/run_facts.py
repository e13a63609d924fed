"""What comparisons and reports need from a finished run, small enough that ten thousand runs fit into memory.

Runs of a study differ in little but their seeds. What they have in common, most of a spec and what a strategy's file
says about itself, is stored once for all of them, in memory and in the index (see run_index.py).
"""

from __future__ import annotations

import functools
import json
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from itertools import accumulate
from typing import Any, NamedTuple, TypeVar

from pydantic_core import from_json

from clbench.base.incremental_setting import Setting
from clbench.evaluation import metrics
from clbench.evaluation.counts import Counts
from clbench.evaluation.curve import Curve
from clbench.results.record_model import to_json
from clbench.results.run_costs import RunCosts
from clbench.results.run_result import ExperienceResult, RunResult, StrategyRecord, Totals
from clbench.results.run_spec import RunSpec, Seeds

T = TypeVar("T")

FINAL = (
    "final_accuracy",
    "final_accuracy_macro",
    "average_incremental_accuracy",
    "old_accuracy",
    "new_accuracy",
    "forgetting",
)
"""Metrics whose last value is known without a run's counts."""

FINAL_WITHIN = ("anytime_accuracy", "minimum_accuracy", "worst_case_accuracy", "stability_gap")
"""The same for the metrics that only a run with a curve has."""


@dataclass(frozen=True, slots=True)
class RunFacts:
    """What comparisons and reports need from a finished run."""

    run_id: str
    spec: RunSpec

    family: bytes
    """The same for runs whose specs differ only in what follows from the seed."""

    strategy: StrategyRecord
    """What the strategy's file says about itself."""

    totals: Totals
    """Samples, steps and bytes over all experiences."""

    seconds: float
    """Time of all experiences."""

    verdict: str
    """The audit's verdict: `pass`, or the worst of its findings."""

    memory: int
    """The most training samples that the strategy declares to store."""

    past_data: bool
    """Whether any experience read training data of earlier ones again."""

    constant_in: tuple[int, ...]
    """The experiences in which the cross-entropy ranged over a single class."""

    idle_in: tuple[int, ...]
    """The experiences in which the loss was 0 at every step, whatever its terms are."""

    chance: Mapping[Setting, tuple[float, ...]]
    """Chance level after each experience, by setting."""

    last: Mapping[Setting, tuple[float | None, ...]]
    """The metrics of FINAL after the last experience, in that order, by setting; with a curve, then FINAL_WITHIN."""

    ends: tuple[int, ...] | None
    """Gradient steps since the start of the stream at the end of each experience; None without a curve."""

    forward_transfer: float | None
    """None if experiences are not domains that share outputs."""

    training_images: tuple[int, ...] | None
    """Training images of each class, in class order; None if none has more than twice as many as another."""

    compressed_counts: bytes

    def counts(self, setting: Setting) -> Counts:
        """The integer counts, from which every metric follows."""
        return _counts(self.compressed_counts, setting)

    def curve(self, setting: Setting) -> Curve | None:
        """Correct test samples within experiences; None if it was evaluated only at their ends."""
        return None if self.ends is None else _curve(self.compressed_counts, setting)

    def final(self, name: str, setting: Setting) -> float | None:
        """One of the metrics in FINAL or FINAL_WITHIN after the last experience; None in the latter without a curve."""
        last, place = self.last[setting], (*FINAL, *FINAL_WITHIN).index(name)
        return last[place] if place < len(last) else None


class FactsRow(NamedTuple):
    """The facts of a run as bytes, as the index stores them."""

    family: bytes
    """The spec as JSON, without what follows from the seed."""

    strategy: bytes
    """What the strategy's file says about itself, as JSON."""

    own: bytes
    """The rest, as JSON."""

    counts: bytes


def row_of(spec: RunSpec, result: RunResult, costs: RunCosts) -> FactsRow:
    """Return the facts of a run whose records agree with each other."""
    common = to_json(spec)
    own = {"seeds": common.pop("seeds")}
    if spec.scenario.class_order_from == "seed":
        own["class_order"] = common["scenario"].pop("class_order")
    counts = {setting: Counts(**dict(result.counts[setting])) for setting in spec.scenario.readings}
    curves = {setting: Curve(**dict(each)) for setting, each in result.curves.items()}
    last = {setting: [_last(metrics.BY_NAME[name](made)) for name in FINAL] for setting, made in counts.items()}
    for setting, curve in curves.items():
        last[setting] += [metrics.BY_NAME_WITHIN[name](counts[setting], curve) for name in FINAL_WITHIN]
    own |= {
        "run_id": result.run_id,
        "totals": to_json(result.totals),
        "seconds": costs.totals.seconds,
        "verdict": result.audit.verdict,
        "memory": result.audit.memory,
        "past_data": any(each.past_data_bytes for each in result.experiences),
        "constant_in": [each.index for each in result.experiences if each.constant_cross_entropy],
        "idle_in": [each.index for each in result.experiences if _is_idle(each)],
        "chance": to_json(result.chance),
        "last": last,
        "ends": ends_of(result) if curves else None,
        "forward_transfer": result.metrics[spec.scenario.setting].get("forward_transfer"),
        "training_images": result.training_images,
    }
    by_setting: dict[str, Any] = {setting: made.to_json() for setting, made in counts.items()}
    if curves:
        by_setting["curves"] = {setting: made.to_json() for setting, made in curves.items()}
    compressed_counts = zlib.compress(_text(by_setting))
    return FactsRow(_text(common), _text(to_json(result.strategy)), _text(own), compressed_counts)


def ends_of(result: RunResult) -> list[int]:
    """Return the gradient steps since the start of the stream at the end of each experience."""
    return list(accumulate(each.gradient_steps for each in result.experiences))


def _is_idle(experience: ExperienceResult) -> bool:
    return bool(experience.epochs) and not any(epoch.loss for epoch in experience.epochs)


def _last(value: float | list[float | None] | None) -> float | None:
    return value[-1] if isinstance(value, list) else value


def _text(value: Any) -> bytes:
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False).encode()


@dataclass
class Shared:
    """Values that many runs have in common, each held once."""

    _held: dict[Any, Any] = field(default_factory=dict)

    def hold(self, key: Any, make: Callable[[], T]) -> T:
        """Return the value of this key, which is made on first use."""
        if key not in self._held:
            self._held[key] = make()
        found: T = self._held[key]
        return found


def facts_of(row: FactsRow, shared: Shared) -> RunFacts:
    """Return the facts of a row, taking what they have in common with others from `shared`."""
    own = from_json(row.own)
    family = shared.hold(row.family, lambda: row.family)
    spec = shared.hold(("spec", family), lambda: _whole_spec(family, own))
    varying: dict[str, Any] = {"seeds": Seeds.model_construct(**own["seeds"])}
    if (order := own.get("class_order")) is not None:
        in_order = {"class_order": tuple(order)}
        stream = shared.hold(("stream", family), lambda: repr(spec.scenario))
        varying["scenario"] = shared.hold((stream, *order), lambda: spec.scenario.model_copy(update=in_order))
    totals, chance = own["totals"], own["chance"]
    return RunFacts(
        run_id=own["run_id"],
        spec=spec.model_copy(update=varying),
        family=family,
        strategy=shared.hold(row.strategy, lambda: StrategyRecord.model_validate_json(row.strategy)),
        totals=shared.hold(("totals", *totals.values()), lambda: Totals.model_validate(totals)),
        seconds=own["seconds"],
        verdict=own["verdict"],
        memory=own["memory"],
        past_data=own["past_data"],
        constant_in=tuple(own["constant_in"]),
        idle_in=tuple(own["idle_in"]),
        chance=shared.hold(str(chance), lambda: {setting: tuple(values) for setting, values in chance.items()}),
        last={setting: tuple(values) for setting, values in own["last"].items()},
        ends=_tuple(own["ends"]),
        forward_transfer=own["forward_transfer"],
        training_images=_tuple(own["training_images"]),
        compressed_counts=row.counts,
    )


def _tuple(values: list[int] | None) -> tuple[int, ...] | None:
    return None if values is None else tuple(values)


def _whole_spec(family: bytes, own: dict[str, Any]) -> RunSpec:
    """Return the spec of one of the runs of a family."""
    spec = from_json(family) | {"seeds": own["seeds"]}
    if "class_order" in own:
        spec["scenario"]["class_order"] = own["class_order"]
    return RunSpec.model_validate_json(_text(spec))


@functools.lru_cache(maxsize=32)
def _counts(compressed: bytes, setting: Setting) -> Counts:
    return Counts.known_to_agree(from_json(zlib.decompress(compressed))[setting])


@functools.lru_cache(maxsize=32)
def _curve(compressed: bytes, setting: Setting) -> Curve:
    return Curve.from_json(from_json(zlib.decompress(compressed))["curves"][setting])
