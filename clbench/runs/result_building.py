"""Builds the records of a run, its result, costs and predictions, from what its experiences left."""

from __future__ import annotations

import io
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from itertools import accumulate
from typing import Any

import numpy as np
import numpy.typing as npt

from clbench.audit import object_graph
from clbench.audit.audit import Audit
from clbench.base.continual_tuning import ContinualTuning
from clbench.base.incremental_setting import Setting
from clbench.evaluation import metrics
from clbench.evaluation.counts import Counts, count
from clbench.evaluation.curve import Curve
from clbench.evaluation.forward_transfer import Ahead, count_ahead, forward_transfer
from clbench.networks.network import Network
from clbench.results.run_costs import CostTotals, ExperienceCosts, PeakMemory, RunCosts
from clbench.results.run_result import (
    AheadRecord,
    AuditResult,
    CountsRecord,
    CurveRecord,
    EpochResult,
    ExperienceResult,
    FindingRecord,
    Reads,
    RunResult,
    SearchResult,
    Totals,
    Trial,
)
from clbench.results.run_spec import GridTuning, RunSpec, experience_classes, run_id
from clbench.results.strategy_record import strategy_record
from clbench.runs.checkpoint import Checkpoint
from clbench.system import peak_memory
from clbench.training.continual_search import Search
from clbench.training.costs import Costs

Predictions = Sequence[Any]
"""For each experience the predicted classes (n,) by setting, None if it was not evaluated."""


class Recorder:
    """Builds the records of one run."""

    def __init__(self, spec: RunSpec, labels: npt.NDArray[Any]) -> None:
        """`labels` (n,) are the class ids of the test samples."""
        self.spec, self.labels = spec, labels
        self.classes, self.readings = experience_classes(spec), spec.scenario.readings
        self._counted: dict[Setting, list[Any]] = {}

    def counts(self, predictions: Predictions, setting: Setting, after: Iterable[int] | None = None) -> Counts:
        """Count correct predictions `after` these experiences, by default all; the others count as not evaluated."""
        rows, evaluated = self._rows(predictions, setting, range(len(predictions)) if after is None else after)
        return count(rows, self.labels, self.classes, evaluated, setting=setting)

    def within(
        self, predicted: Mapping[Setting, Any], index: int
    ) -> tuple[dict[Setting, tuple[int, ...]], dict[str, float]]:
        """Return how many test samples of each experience are `predicted` correctly in experience `index`, by reading,
        and the accuracies on all, old and new classes as `setting/name`."""
        predictions = [*[None] * index, predicted]
        right, shares = {}, {}
        for setting in self.readings:
            counts = self.counts(predictions, setting, after=[index])
            row = counts.correct[index]
            assert row is not None
            right[setting] = row
            for metric in (metrics.accuracy_seen, metrics.old_accuracy, metrics.new_accuracy):
                if (value := metric(counts)[index]) is not None:
                    shares[f"{setting}/{metric.__name__}"] = value
        return right, shares

    def metrics_so_far(self, done: Checkpoint, within: bool) -> dict[str, float]:
        """Return the metrics, as `setting/name`, that the run would have if the stream ended with the last finished
        experience, including those of evaluations `within` experiences.

        What was counted for an earlier experience is not counted again.
        """
        finished, curves = len(done.predictions), self.curves(done) if within else {}
        last: dict[str, float] = {}
        for setting in self.readings:
            known = self._counted.setdefault(setting, [])
            for index in range(len(known), finished):
                counts = self.counts(done.predictions, setting, after=[index])
                known.append((counts.correct[index], counts.class_correct[index], counts.old_as_new[index]))
            sizes = counts.classes_per_experience[:finished]
            correct, class_correct, old_as_new = zip(*known, strict=True)
            so_far = Counts(
                correct, counts.total[:finished], class_correct, counts.class_total[: sum(sizes)], sizes, old_as_new
            )
            reached = metrics.newest(metrics.derive(so_far, curves.get(setting)))
            last |= {f"{setting}/{name}": value for name, value in reached.items()}
        return last

    def _rows(
        self, predictions: Predictions, setting: Setting, after: Iterable[int]
    ) -> tuple[npt.NDArray[np.int16], list[bool]]:
        rows = np.full((len(self.classes), len(self.labels)), -1, dtype=np.int16)
        evaluated = [False] * len(self.classes)
        for index in after:
            if (predicted := predictions[index]) is not None:
                rows[index], evaluated[index] = predicted[setting], True
        return rows, evaluated

    def predictions(self, predictions: Predictions, untrained: Any = None) -> bytes:
        """Return predictions.npz: `labels` (n,), for each setting the predictions (experiences, n), -1 for none, and
        those (n,) of the `untrained` network if there are any."""
        arrays = io.BytesIO()
        rows = {setting: self._rows(predictions, setting, range(len(predictions)))[0] for setting in self.readings}
        more = {} if untrained is None else {"untrained": untrained}
        np.savez_compressed(arrays, labels=self.labels.astype(np.int16), **rows, **more)  # type: ignore[arg-type]
        return arrays.getvalue()

    def curves(self, done: Checkpoint) -> dict[Setting, Curve]:
        """Return the correct predictions within experiences, by reading; points at their ends are left to the
        counts."""
        steps, experiences, correct = zip(*done.within, strict=True) if done.within else ((), (), ())
        ends = tuple(accumulate(each.gradient_steps for each in done.experiences))
        return {
            setting: Curve(steps, experiences, tuple(row[setting] for row in correct)).within(ends)
            for setting in self.readings
        }

    def result(
        self,
        done: Checkpoint,
        audit: Audit,
        memory: int,
        source: bytes,
        curves: Mapping[Setting, Curve] | None = None,
        training_images: tuple[int, ...] | None = None,
    ) -> RunResult:
        """Return result.json; `memory` is how many exemplars the strategy declares, `source` its file.

        `curves` are by reading, if the run was evaluated within experiences; `training_images` are those of each class,
        in class order, if they differ.
        """
        counts = {setting: self.counts(done.predictions, setting) for setting in self.readings}
        within = curves or {}
        derived = {setting: metrics.derive(each, within.get(setting)) for setting, each in counts.items()}
        ahead = self._ahead(done)
        if ahead:
            own = self.spec.scenario.setting
            derived[own]["forward_transfer"] = forward_transfer(counts[own], ahead)
        chance = metrics.chance([len(own) for own in self.classes], counts[self.readings[0]].total)
        return RunResult(
            run_id=run_id(self.spec),
            counts={setting: CountsRecord(**vars(each)) for setting, each in counts.items()},
            curves={setting: CurveRecord(**vars(each)) for setting, each in within.items()},
            ahead=AheadRecord(**vars(ahead)) if ahead else None,
            training_images=training_images,
            metrics=derived,
            chance={setting: tuple(chance[setting]) for setting in self.readings},
            experiences=tuple(done.experiences),
            audit=AuditResult(
                verdict=audit.verdict(),
                findings=tuple(FindingRecord(**asdict(finding)) for finding in audit.findings),
                memory=memory,
            ),
            totals=self._totals(done.experiences),
            strategy=strategy_record(self.spec, source),
            notes=tuple(done.notes),
        )

    def _ahead(self, done: Checkpoint) -> Ahead | None:
        """Return the correct predictions on experiences before they were learned, if they were evaluated then."""
        if done.untrained is None:
            return None
        rows, evaluated = self._rows(done.predictions, self.spec.scenario.setting, range(len(done.predictions)))
        return count_ahead(rows, done.untrained, self.labels, self.classes, evaluated)

    def _totals(self, experiences: Sequence[ExperienceResult]) -> Totals:
        tuned = self._tuned(experiences)
        return Totals(
            samples_seen=sum(each.samples_seen for each in experiences),
            gradient_steps=sum(each.gradient_steps for each in experiences),
            stored_bytes=max(each.stored_bytes for each in experiences),
            exemplars=max(each.exemplars for each in experiences),
            tuning_samples_seen=sum(each.samples_seen for each in tuned) if tuned else None,
            tuning_gradient_steps=sum(each.gradient_steps for each in tuned) if tuned else None,
        )

    def _tuned(self, experiences: Sequence[ExperienceResult]) -> Sequence[SearchResult | GridTuning]:
        """Return the searches for hyper-parameters, each with its own cost; nothing if there were none."""
        if isinstance(self.spec.tuning, ContinualTuning):
            return [each.tuning for each in experiences if each.tuning]
        return [self.spec.tuning] if self.spec.tuning else []

    def costs(self, experiences: Sequence[ExperienceCosts], start_up_seconds: float) -> RunCosts:
        """Return costs.json."""
        return RunCosts(
            run_id=run_id(self.spec),
            experiences=tuple(experiences),
            totals=CostTotals(
                seconds=sum(each.seconds for each in experiences),
                training_seconds=sum(each.training_seconds for each in experiences),
                teacher_seconds=sum(each.teacher_seconds for each in experiences),
                evaluation_seconds=sum(each.evaluation_seconds for each in experiences),
            ),
            start_up_seconds=start_up_seconds,
            peak_memory=PeakMemory(**peak_memory.peak_memory()),
        )


def experience_result(
    spec: RunSpec,
    index: int,
    model: Network,
    state: object,
    costs: Costs,
    tuned: Search | None,
    reads: Reads,
    exemplars: int,
) -> ExperienceResult:
    """Return what result.json says about an experience; `state` is what the strategy carries over to the next."""
    classes = experience_classes(spec)[index]
    return ExperienceResult(
        index=index,
        classes=tuple(classes),
        class_names=tuple(map(spec.scenario.class_name, classes)),
        trained=costs.trained,
        samples_seen=costs.samples_seen,
        gradient_steps=costs.gradient_steps,
        constant_cross_entropy=costs.informative_cross_entropy is False,
        epochs=tuple(EpochResult(**vars(epoch)) for epoch in costs.epochs),
        teacher=costs.teacher,
        teacher_bytes=costs.teacher_bytes,
        features_cached=costs.features_cached,
        past_data_bytes=costs.past_data_bytes,
        stored_bytes=object_graph.carried_bytes(state, model) + costs.past_data_bytes,
        parameters=sum(parameter.numel() for parameter in model.parameters()),
        weights_sha256=object_graph.weights_sha256(model),
        reads=reads,
        exemplars=exemplars,
        tuning=_search_result(tuned) if tuned else None,
    )


def experience_costs(index: int, costs: Costs, phases: dict[str, float], tuned: float, exact: bool) -> ExperienceCosts:
    """Return what costs.json says about an experience; `tuned` are the seconds of choosing hyper-parameters.

    The `phases` are left out unless they are exact.
    """
    return ExperienceCosts(
        index=index,
        seconds=sum(phases.values()),
        training_seconds=costs.training_seconds,
        teacher_seconds=costs.teacher_seconds,
        evaluation_seconds=phases["evaluation"],
        tuning_seconds=tuned,
        phases=phases if exact else None,
        shared=costs.shared,
        replayed_steps=costs.replayed_steps,
        not_replayed=costs.not_replayed,
    )


def _search_result(search: Search) -> SearchResult:
    """Return what result.json says about a search."""
    return SearchResult(
        lr=search.lr,
        weight=search.weight,
        trials=tuple(Trial(**trial) for trial in search.trials),
        samples_seen=search.samples_seen,
        gradient_steps=search.gradient_steps,
    )
