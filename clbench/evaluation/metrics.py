"""The metrics of learning and forgetting, as functions of a run's counts, and of its curve within experiences.

E is the number of experiences. After training experience i the whole test set is evaluated once, and R[i][j] is the
accuracy on the test samples of experience j ≤ i. Accuracies are shares in [0, 1]; undefined values are None. The test
samples of a class belong to the experience that brings it. An experience that brings no class, since its classes
return, has none: R[i][j] is None there, and means over experiences range over the others.

- Chaudhry et al. 2018, "Riemannian Walk for Incremental Learning", arXiv 1801.10112
- De Lange, van de Ven & Tuytelaars 2023, "Continual evaluation for lifelong learning: Identifying the stability gap",
  arXiv 2205.13452
- Koh et al. 2022, "Online Continual Learning on Class Incremental Blurry Task Configuration with Anytime Inference",
  arXiv 2110.10031
- Lopez-Paz & Ranzato 2017, "Gradient Episodic Memory for Continual Learning", arXiv 1706.08840
- Rebuffi et al. 2017, "iCaRL: Incremental Classifier and Representation Learning", arXiv 1611.07725
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import accumulate
from typing import Any

from clbench.base.incremental_setting import Setting
from clbench.evaluation.counts import Counts, require
from clbench.evaluation.curve import Curve


def accuracy_matrix(counts: Counts) -> list[list[float | None]]:
    """R[i][j] = correct[i][j] / total[j], j ≤ i.

    E rows of E; None above the diagonal and if there was no evaluation i. Lopez-Paz & Ranzato 2017.
    """
    experiences = len(counts.total)
    return [
        [None] * experiences if row is None else [*_shares(row, counts.total), *[None] * (experiences - len(row))]
        for row in counts.correct
    ]


def accuracy_seen(counts: Counts) -> list[float | None]:
    """Σ_{j≤i} correct[i][j] / Σ_{j≤i} total[j], the sample-weighted accuracy on the classes seen so far.

    E entries, one per i; None if there was no evaluation i. Rebuffi et al. 2017.
    """
    return [_pooled(row, counts.total) for row in counts.correct]


def final_accuracy(counts: Counts) -> float | None:
    """Σ_j correct[E-1][j] / Σ_j total[j], sample-weighted over all classes, after the last experience."""
    return accuracy_seen(counts)[-1]


def final_accuracy_by_experience(counts: Counts) -> float | None:
    """1/E · Σ_j R[E-1][j], with equal weight per experience that brings classes. "ACC" of Lopez-Paz & Ranzato 2017."""
    last = accuracy_matrix(counts)[-1]
    return _mean(last[j] for j in _tested(counts))


def final_accuracy_macro(counts: Counts) -> float | None:
    """1/C · Σ_c recall[c] over the C classes with test samples, after the last experience: equal weight per class.

    The same as `final_accuracy` if all classes have equally many test samples. "Balanced accuracy" elsewhere.
    """
    recalls = per_class_accuracy(counts)[-1]
    return None if recalls is None else _mean(recall for recall in recalls if recall is not None)


def average_incremental_accuracy(counts: Counts) -> float | None:
    """1/E · Σ_i accuracy_seen[i]; None if an evaluation is missing. Rebuffi et al. 2017."""
    return _mean(accuracy_seen(counts))


def old_accuracy(counts: Counts) -> list[float | None]:
    """Σ_{j<i} correct[i][j] / Σ_{j<i} total[j], sample-weighted over the classes of earlier experiences.

    E entries, one per i; None at 0, which has no old classes, and if there was no evaluation i.
    """
    return [_pooled(row and row[:-1], counts.total) for row in counts.correct]


def new_accuracy(counts: Counts) -> list[float | None]:
    """R[i][i], the accuracy on the classes just learned.

    E entries, one per i; None if there was no evaluation i, and if i brought no class. Lopez-Paz & Ranzato 2017.
    """
    return [row[i] for i, row in enumerate(accuracy_matrix(counts))]


def learning_accuracy(counts: Counts) -> float | None:
    """1/E · Σ_i R[i][i] over the experiences that bring classes; None if an evaluation is missing."""
    learned = new_accuracy(counts)
    return _mean(learned[i] for i in _tested(counts))


def forgetting_after(counts: Counts) -> list[float | None]:
    """F[k] = 1/k · Σ_{j<k} (max_{j≤i<k} R[i][j] - R[k][j]), best earlier minus now; negative if accuracy improved.

    E entries in [-1, 1], one per k; None at 0, and if any evaluation up to k is missing, which might hold the best. The
    mean is over the experiences j < k that bring classes.
    Chaudhry et al. 2018, whose maximum also runs over i < j; here a class not yet seen has no accuracy.
    """
    matrix = accuracy_matrix(counts)
    return [
        _mean(_minus(_best(matrix[i][j] for i in range(j, k)), now[j]) for j in _tested(counts, k))
        for k, now in enumerate(matrix)
    ]


def forgetting(counts: Counts) -> float | None:
    """F[E-1] of `forgetting_after`; None for one experience. Chaudhry et al. 2018."""
    return forgetting_after(counts)[-1]


def backward_transfer(counts: Counts) -> float | None:
    """1/(E-1) · Σ_{j<E-1} (R[E-1][j] - R[j][j]), last minus just-learned, in [-1, 1].

    Over the experiences that bring classes. None for one experience, and if an evaluation is missing. Lopez-Paz &
    Ranzato 2017.
    """
    matrix = accuracy_matrix(counts)
    return _mean(_minus(matrix[-1][j], matrix[j][j]) for j in _tested(counts, len(matrix) - 1))


def recency_bias(counts: Counts) -> list[float | None]:
    """old_as_new[i] / Σ_{j<i} total[j], the share of old-class test samples predicted as one of the newest classes.

    E entries, one per i; None at 0, if there was no evaluation i or i brought no class, and in the task-incremental
    setting.
    """
    return [
        None if mistaken is None or not counts.total[i] else mistaken / sum(counts.total[:i])
        for i, mistaken in enumerate(counts.old_as_new)
    ]


def per_class_accuracy(counts: Counts) -> list[list[float | None] | None]:
    """class_correct[i][c] / class_total[c].

    E rows, row i over the classes seen so far, in class order; None for a row without an evaluation, and for a class
    without test samples.
    """
    return [None if row is None else _shares(row, counts.class_total) for row in counts.class_correct]


def anytime_accuracy(counts: Counts, curve: Curve) -> float | None:
    """1/N · Σ_n (Σ_{j≤i} correct_n[j] / Σ_{j≤i} total[j]) over all N evaluations, those at the ends of experiences too.

    Evaluation n, in experience i, is of the classes seen so far. The area under the curve of Koh et al. 2022, A_AUC, as
    a share; every evaluation has the same weight. None if one at an end is missing.
    """
    return _mean(_pooled(row, counts.total) for rows in _evaluations(counts, curve) for row in rows)


def minimum_accuracy(counts: Counts, curve: Curve) -> float | None:
    """1/(E-1) · Σ_{j<E-1} min_n A_n[j], n over all evaluations after the end of experience j: the lowest that it fell.

    A_n[j] is the accuracy on the test samples of experience j at evaluation n. Over the experiences that bring classes.
    None for one experience, and if an evaluation at an end is missing. "min-ACC" of De Lange et al. 2023.
    """
    evaluations = _evaluations(counts, curve)
    return _mean(
        _least(None if row is None else row[j] / counts.total[j] for rows in evaluations[j + 1 :] for row in rows)
        for j in _tested(counts, len(evaluations) - 1)
    )


def worst_case_accuracy(counts: Counts, curve: Curve) -> float | None:
    """1/E · R[E-1][E-1] + (1 - 1/E) · `minimum_accuracy`, for E experiences that bring classes.

    None if either is: for one experience, and if the last brings no class. "WC-ACC" of De Lange et al. 2023.
    """
    least, new = minimum_accuracy(counts, curve), new_accuracy(counts)[-1]
    weight = 1 / len(_tested(counts))
    return None if least is None or new is None else weight * new + (1 - weight) * least


def stability_gaps(counts: Counts, curve: Curve) -> list[float | None]:
    """accuracy_seen[i-1] - min_n (Σ_{j<i} correct_n[j] / Σ_{j<i} total[j]), n over the evaluations in experience i.

    How far the accuracy on old classes falls below its earlier value while new ones are learned; the end of i counts
    too, so that what is not recovered is included. E entries in [-1, 1], one per i; None at 0, and if either end is
    missing. De Lange et al. 2023 describe the gap, and have no number for it: this one is ours.
    """
    before = [None, *accuracy_seen(counts)]  # of experience i, at its beginning
    return [
        _minus(before[i], _least(_pooled(row and row[:i], counts.total) for row in rows))
        for i, rows in enumerate(_evaluations(counts, curve))
    ]


def stability_gap(counts: Counts, curve: Curve) -> float | None:
    """1/(E-1) · Σ_{i≥1} stability_gaps[i]; None for one experience, and if an evaluation at an end is missing."""
    return _mean(stability_gaps(counts, curve)[1:])


METRICS: tuple[Callable[[Counts], Any], ...] = (
    accuracy_matrix,
    final_accuracy,
    final_accuracy_macro,
    final_accuracy_by_experience,
    average_incremental_accuracy,
    accuracy_seen,
    old_accuracy,
    new_accuracy,
    forgetting,
    forgetting_after,
    backward_transfer,
    learning_accuracy,
    recency_bias,
    per_class_accuracy,
)


BY_NAME = {metric.__name__: metric for metric in METRICS}

CURVE_METRICS: tuple[Callable[[Counts, Curve], Any], ...] = (
    anytime_accuracy,
    minimum_accuracy,
    worst_case_accuracy,
    stability_gap,
    stability_gaps,
)
"""The metrics of runs that are evaluated within experiences."""

BY_NAME_WITHIN = {metric.__name__: metric for metric in CURVE_METRICS}


def newest(values: Mapping[str, Any]) -> dict[str, float]:
    """Return the values after the last experience from the result of `derive`, without undefined and per-class ones.

    For a metric with a value per experience it is the last; for `accuracy_matrix` it is R[E-1][j], as
    `accuracy_matrix/j`.
    """
    last: dict[str, float | None] = {}
    for name, value in values.items():
        if name == accuracy_matrix.__name__:
            last |= {f"{name}/{j}": share for j, share in enumerate(value[-1])}
        elif name != per_class_accuracy.__name__:
            last[name] = value[-1] if isinstance(value, list) else value
    return {name: value for name, value in last.items() if value is not None}


def derive(counts: Counts, curve: Curve | None = None) -> dict[str, Any]:
    """Return every metric of `METRICS`, and with a curve those of `CURVE_METRICS`, by the name of its function.

    Ready for JSON: undefined values are None, never NaN.
    """
    values = {name: metric(counts) for name, metric in BY_NAME.items()}
    return values if curve is None else values | {name: made(counts, curve) for name, made in BY_NAME_WITHIN.items()}


def intransigence(counts: Counts, joint: Counts) -> list[float | None]:
    """I[k] = a*[k] - R[k][k], where a*[k] is the joint run's accuracy on experience k after experience k.

    E entries in [-1, 1], negative if the run learned k better than the joint one; None if either run was not
    evaluated, and if k brings no class. Raises ValueError if the two were tested on different splits. Chaudhry et al.
    2018.
    """
    for name in ("classes_per_experience", "class_total"):
        ours, theirs = getattr(counts, name), getattr(joint, name)
        require(ours == theirs, f"the joint run was tested on another split: its {name} is {theirs}, not {ours}")
    return [_minus(best, own) for best, own in zip(new_accuracy(joint), new_accuracy(counts), strict=True)]


def chance(classes_per_experience: Sequence[int], total: Sequence[int]) -> dict[Setting, list[float]]:
    """class_incremental[i] = 1 / Σ_{j≤i} m_j;  task_incremental[i] = (Σ_{j≤i} n_j / m_j) / Σ_{j≤i} n_j, and
    domain_incremental[i] the same.

    The expected accuracy of random guessing on the classes seen so far; experience j brings m_j classes with n_j test
    samples, of which both may be 0 except in the first. Both arguments and all lists have E entries.
    """
    require(len(classes_per_experience) == len(total), "classes_per_experience and total differ in length")
    brought = list(zip(total, classes_per_experience, strict=True))
    require(all(n > 0 for n in brought[0]), "the first experience needs classes and test samples")
    require(all((n > 0) is (m > 0) for n, m in brought), "every experience with classes needs test samples")
    # In integers, so that equal chances give equal floats.
    denominator = math.lcm(*(m for _, m in brought if m))
    hits = accumulate(n * (denominator // m) if m else 0 for n, m in brought)
    within = [h / (denominator * n) for h, n in zip(hits, accumulate(total), strict=True)]
    return {
        "class_incremental": [1 / seen for seen in accumulate(classes_per_experience)],
        "task_incremental": within,
        "domain_incremental": list(within),
    }


def _tested(counts: Counts, before: int | None = None) -> list[int]:
    """Return the experiences (before one, if given) that bring classes; the others have no test samples."""
    return [j for j, total in enumerate(counts.total[:before]) if total]


def _evaluations(counts: Counts, curve: Curve) -> list[list[tuple[int, ...] | None]]:
    """Return the rows of the evaluations in each experience: those of its points, and the one at its end."""
    rows: list[list[tuple[int, ...] | None]] = [[] for _ in counts.total]
    for row, experience in zip(curve.correct, curve.experiences, strict=True):
        rows[experience].append(row)
    for own, end in zip(rows, counts.correct, strict=True):
        own.append(end)
    return rows


def _shares(right: Sequence[int], total: Sequence[int]) -> list[float | None]:
    """right[j] / total[j] for as many entries as `right` has; None if the total is 0."""
    return [r / n if n else None for r, n in zip(right, total, strict=False)]


def _pooled(right: Sequence[int] | None, total: Sequence[int]) -> float | None:
    """Σ right / Σ total over as many entries as `right` has; None if it is None or empty."""
    return sum(right) / sum(total[: len(right)]) if right else None


def _mean(values: Iterable[float | None]) -> float | None:
    """Return the mean, exact in any order; None if there are no values or one of them is undefined."""
    defined, complete = _defined(values)
    return math.fsum(defined) / len(defined) if complete else None


def _best(values: Iterable[float | None]) -> float | None:
    defined, complete = _defined(values)
    return max(defined) if complete else None


def _least(values: Iterable[float | None]) -> float | None:
    defined, complete = _defined(values)
    return min(defined) if complete else None


def _defined(values: Iterable[float | None]) -> tuple[list[float], bool]:
    """Return the defined values, and whether these are all values and at least one."""
    given = list(values)
    defined = [value for value in given if value is not None]
    return defined, 0 < len(defined) == len(given)


def _minus(a: float | None, b: float | None) -> float | None:
    return None if a is None or b is None else a - b
