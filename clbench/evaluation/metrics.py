"""What a run's predictions say about learning and forgetting: integer counts, and every metric as a function of them.

E is the number of experiences. After training experience i the whole test set is evaluated once, and R[i][j] is the
accuracy on the test samples of experience j ≤ i. Accuracies are shares in [0, 1]; what is undefined is None.

- Chaudhry et al. 2018, "Riemannian Walk for Incremental Learning", arXiv 1801.10112
- Lopez-Paz & Ranzato 2017, "Gradient Episodic Memory for Continual Learning", arXiv 1706.08840
- Rebuffi et al. 2017, "iCaRL: Incremental Classifier and Representation Learning", arXiv 1611.07725
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from itertools import accumulate
from typing import TYPE_CHECKING, Any, get_args

from clbench.base.settings import Setting

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray


@dataclass(frozen=True)
class Counts:
    """Integer counts of one setting of one run; a ValueError says which of them cannot be true together."""

    correct: tuple[tuple[int, ...] | None, ...]
    """correct[i][j], j ≤ i: test samples of experience j that were right after experience i. E rows, row i of i+1
    entries; None where evaluation i was not made (a joint run may be trained at the last experience only)."""
    total: tuple[int, ...]
    """Test samples of each experience, E of them, all above 0."""
    class_correct: tuple[tuple[int, ...] | None, ...]
    """The same per class. Row i has one entry per class seen so far, in class order: experience 0's classes first."""
    class_total: tuple[int, ...]
    """Test samples of each class, in class order."""
    classes_per_experience: tuple[int, ...]
    """How many classes each experience brings, E of them, all above 0."""
    old_as_new: tuple[int | None, ...]
    """Class-incremental only: old_as_new[i] test samples of classes of experiences < i were predicted as a class of
    experience i. None at i = 0 and where evaluation i was not made; all None in the task-incremental setting."""

    def __post_init__(self) -> None:
        self._check_integers()
        self._check_test_set()
        for i in range(len(self.total)):
            self._check_evaluation(i)
        self._check_old_as_new()

    def _check_integers(self) -> None:
        for name in ("total", "class_total", "classes_per_experience"):
            _check_row(getattr(self, name), name)
        for name in ("correct", "class_correct"):
            for i, row in enumerate(getattr(self, name)):
                if row is not None:
                    _check_row(row, f"{name}[{i}]")
        _check_row(tuple(count for count in self.old_as_new if count is not None), "old_as_new")

    def _check_test_set(self) -> None:
        experiences = len(self.total)
        _require(experiences > 0, "there is no experience")
        for name in ("correct", "class_correct", "classes_per_experience", "old_as_new"):
            length = len(getattr(self, name))
            _require(length == experiences, f"{name} has {length} entries for {experiences} experiences")
        _require(0 not in self.classes_per_experience, f"an experience has no classes: {self.classes_per_experience}")
        _require(0 not in self.total, f"an experience has no test samples: total is {self.total}")
        classes = sum(self.classes_per_experience)
        _require(len(self.class_total) == classes, f"class_total has {len(self.class_total)} entries, not {classes}")
        sums = _per_experience(self.class_total, self.classes_per_experience)
        _require(sums == self.total, f"class_total adds up to {sums} per experience, but total is {self.total}")

    def _check_evaluation(self, i: int) -> None:
        row, per_class = self.correct[i], self.class_correct[i]
        if row is None or per_class is None:
            _require(row is per_class, f"evaluation {i} is in only one of correct and class_correct")
            return
        brought = self.classes_per_experience[: i + 1]
        _require(len(row) == i + 1, f"correct[{i}] has {len(row)} entries, not {i + 1}")
        _require(len(per_class) == sum(brought), f"class_correct[{i}] has {len(per_class)} entries, not {sum(brought)}")
        for c, (right, total) in enumerate(zip(per_class, self.class_total, strict=False)):
            _require(right <= total, f"class_correct[{i}][{c}] is {right}, but the class has {total} test samples")
        sums = _per_experience(per_class, brought)
        _require(sums == row, f"class_correct[{i}] adds up to {sums} per experience, but correct[{i}] is {row}")

    def _check_old_as_new(self) -> None:
        if all(count is None for count in self.old_as_new):
            return
        for i, (count, row) in enumerate(zip(self.old_as_new, self.correct, strict=True)):
            if i == 0 or row is None:
                _require(count is None, f"old_as_new[{i}] is {count}, but there is nothing to count: it must be None")
                continue
            wrong = sum(self.total[:i]) - sum(row[:i])
            _require(
                count is not None and count <= wrong,
                f"old_as_new[{i}] is {count}; {wrong} samples of old classes were wrong",
            )

    def to_json(self) -> dict[str, list[Any]]:
        """The fields by name, every tuple a list."""

        def listed(value: Any) -> Any:
            return [listed(entry) for entry in value] if isinstance(value, tuple) else value

        return {field.name: listed(getattr(self, field.name)) for field in fields(self)}

    @classmethod
    def from_json(cls, stored: Mapping[str, Any]) -> Counts:
        """The inverse of `to_json`; ValueError for a missing or unknown field and for counts that cannot be true."""
        names = {field.name for field in fields(cls)}
        _require(names == set(stored), f"counts have the fields {sorted(names)}, not {sorted(stored)}")
        for name, value in stored.items():
            _require(isinstance(value, list), f"{name} is {value!r}, not a list")

        def frozen(value: Any) -> Any:
            return tuple(frozen(entry) for entry in value) if isinstance(value, list) else value

        return cls(**{name: frozen(value) for name, value in stored.items()})


def count(
    predictions: Sequence[ArrayLike] | NDArray[Any],
    labels: ArrayLike,
    experience_classes: Sequence[Sequence[int]],
    evaluated: Sequence[bool] | NDArray[Any],
    *,
    setting: Setting,
) -> Counts:
    """correct[i][j] = #{n : labels[n] in experience_classes[j], predictions[i][n] = labels[n]}, j ≤ i.

    predictions: E rows of N class ids, row i from the evaluation after experience i; -1 is "no prediction". Of row i
    only the samples whose class was seen by then are read, so the others may hold -1 or anything; a row whose
    evaluated[i] is false is not read at all.
    labels: N class ids. experience_classes: the class ids of each of E experiences, in class order. evaluated: E.

    Ids are the dataset's own, not negative. A sample that is read must be predicted as a class the setting allows: one
    seen so far (class-incremental), one of its own experience (otherwise). -1 there is no wrong answer but a
    missing one, and like everything else that does not fit together it is a ValueError.
    """
    import numpy as np

    _require(setting in get_args(Setting), f"setting is {setting!r}, not one of {get_args(Setting)}")
    experiences = len(experience_classes)
    for name, length in (("predictions", len(predictions)), ("evaluated", len(evaluated))):
        _require(length == experiences, f"{name} has {length} rows for {experiences} experiences")
    classes = _class_ids([c for own in experience_classes for c in own], "experience_classes")
    _require(bool(classes.min() >= 0), "class ids must be at least 0: -1 means no prediction")
    _require(len(np.unique(classes)) == len(classes), "a class is listed twice in experience_classes")
    label_ids = _class_ids(labels, "labels")
    truth = _ranks(label_ids, classes)
    _require(bool((truth >= 0).all()), f"label {label_ids[truth.argmin()]} is in no experience")

    brought = tuple(len(own) for own in experience_classes)
    experience_of = np.repeat(np.arange(experiences), brought)  # (classes,)
    correct: list[tuple[int, ...] | None] = [None] * experiences
    class_correct: list[tuple[int, ...] | None] = [None] * experiences
    old_as_new: list[int | None] = [None] * experiences
    for i in range(experiences):
        if not evaluated[i]:
            continue
        row = _class_ids(predictions[i], f"predictions[{i}]")
        _require(row.shape == truth.shape, f"predictions[{i}] has {len(row)} entries for {len(truth)} labels")
        seen_classes = sum(brought[: i + 1])
        read = truth < seen_classes
        true, guess = truth[read], _ranks(row[read], classes)
        own, guessed = experience_of[true], experience_of[guess]  # (samples read,)
        allowed = (guess >= 0) & (guessed <= i if setting == "class_incremental" else guessed == own)
        if not allowed.all():
            n = int(np.flatnonzero(read)[allowed.argmin()])
            raise ValueError(
                f"predictions[{i}][{n}] is {row[n]} for a sample of class {label_ids[n]}: in the {setting} setting it "
                f"must be a class of {'the experiences seen' if setting == 'class_incremental' else 'its experience'}"
            )
        per_class = tuple(np.bincount(true[guess == true], minlength=seen_classes).tolist())
        class_correct[i] = per_class
        correct[i] = _per_experience(per_class, brought[: i + 1])
        if setting == "class_incremental" and i > 0:
            old_as_new[i] = int(np.count_nonzero((own < i) & (guessed == i)))

    class_total = tuple(np.bincount(truth, minlength=len(classes)).tolist())
    return Counts(
        correct=tuple(correct),
        total=_per_experience(class_total, brought),
        class_correct=tuple(class_correct),
        class_total=class_total,
        classes_per_experience=brought,
        old_as_new=tuple(old_as_new),
    )


def accuracy_matrix(counts: Counts) -> list[list[float | None]]:
    """R[i][j] = correct[i][j] / total[j], j ≤ i.

    E rows of E; None above the diagonal and where evaluation i was not made. Lopez-Paz & Ranzato 2017.
    """
    experiences = len(counts.total)
    return [
        [None] * experiences if row is None else [*_shares(row, counts.total), *[None] * (experiences - len(row))]
        for row in counts.correct
    ]


def accuracy_seen(counts: Counts) -> list[float | None]:
    """Σ_{j≤i} correct[i][j] / Σ_{j≤i} total[j], the sample-weighted accuracy on the classes seen so far.

    E entries, one per i; None where evaluation i was not made. Rebuffi et al. 2017.
    """
    return [_pooled(row, counts.total) for row in counts.correct]


def final_accuracy(counts: Counts) -> float | None:
    """Σ_j correct[E-1][j] / Σ_j total[j], sample-weighted over all classes, after the last experience."""
    return accuracy_seen(counts)[-1]


def final_accuracy_macro(counts: Counts) -> float | None:
    """1/E · Σ_j R[E-1][j], every experience weighing the same. "ACC" of Lopez-Paz & Ranzato 2017."""
    return _mean(accuracy_matrix(counts)[-1])


def average_incremental_accuracy(counts: Counts) -> float | None:
    """1/E · Σ_i accuracy_seen[i]; None unless every evaluation was made. Rebuffi et al. 2017."""
    return _mean(accuracy_seen(counts))


def old_accuracy(counts: Counts) -> list[float | None]:
    """Σ_{j<i} correct[i][j] / Σ_{j<i} total[j], sample-weighted over the classes of earlier experiences.

    E entries, one per i; None at 0, which has no old classes, and where evaluation i was not made.
    """
    return [_pooled(row and row[:-1], counts.total) for row in counts.correct]


def new_accuracy(counts: Counts) -> list[float | None]:
    """R[i][i], the accuracy on the classes just learned.

    E entries, one per i; None where evaluation i was not made. Lopez-Paz & Ranzato 2017.
    """
    return [row[i] for i, row in enumerate(accuracy_matrix(counts))]


def learning_accuracy(counts: Counts) -> float | None:
    """1/E · Σ_i R[i][i]; None unless every evaluation was made."""
    return _mean(new_accuracy(counts))


def forgetting_after(counts: Counts) -> list[float | None]:
    """F[k] = 1/k · Σ_{j<k} (max_{j≤i<k} R[i][j] - R[k][j]), best earlier minus now; negative when all has improved.

    E entries in [-1, 1], one per k; None at 0, and where any evaluation up to k was not made: the best might lie there.
    Chaudhry et al. 2018, whose maximum also runs over i < j; here a class not yet seen has no accuracy.
    """
    matrix = accuracy_matrix(counts)
    return [
        _mean(_minus(_best(matrix[i][j] for i in range(j, k)), now[j]) for j in range(k))
        for k, now in enumerate(matrix)
    ]


def forgetting(counts: Counts) -> float | None:
    """F[E-1] of `forgetting_after`; None for one experience. Chaudhry et al. 2018."""
    return forgetting_after(counts)[-1]


def backward_transfer(counts: Counts) -> float | None:
    """1/(E-1) · Σ_{j<E-1} (R[E-1][j] - R[j][j]), last minus just-learned, in [-1, 1].

    None for one experience, and unless every evaluation was made. Lopez-Paz & Ranzato 2017.
    """
    matrix = accuracy_matrix(counts)
    return _mean(_minus(matrix[-1][j], matrix[j][j]) for j in range(len(matrix) - 1))


def recency_bias(counts: Counts) -> list[float | None]:
    """old_as_new[i] / Σ_{j<i} total[j], the share of old-class test samples predicted as one of the newest classes.

    E entries, one per i; None at 0, where evaluation i was not made, and in the task-incremental setting.
    """
    return [
        None if mistaken is None else mistaken / sum(counts.total[:i]) for i, mistaken in enumerate(counts.old_as_new)
    ]


def per_class_accuracy(counts: Counts) -> list[list[float | None] | None]:
    """class_correct[i][c] / class_total[c].

    E rows, row i over the classes seen so far, in class order; None for a row whose evaluation was not made, and for a
    class without test samples.
    """
    return [None if row is None else _shares(row, counts.class_total) for row in counts.class_correct]


METRICS: tuple[Callable[[Counts], Any], ...] = (
    accuracy_matrix,
    final_accuracy,
    final_accuracy_macro,
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


def derive(counts: Counts) -> dict[str, Any]:
    """Every metric of `METRICS` under its function's name, ready for JSON: what is undefined is None, never NaN."""
    return {metric.__name__: metric(counts) for metric in METRICS}


def intransigence(counts: Counts, joint: Counts) -> list[float | None]:
    """I[k] = a*[k] - R[k][k], where a*[k] is the joint run's accuracy on experience k after experience k.

    E entries in [-1, 1], negative where the run learned k better than the joint one; None where either run was not
    evaluated. ValueError if the two were not tested on the same split. Chaudhry et al. 2018.
    """
    for name in ("classes_per_experience", "class_total"):
        ours, theirs = getattr(counts, name), getattr(joint, name)
        _require(ours == theirs, f"the joint run was tested on another split: its {name} is {theirs}, not {ours}")
    return [_minus(best, own) for best, own in zip(new_accuracy(joint), new_accuracy(counts), strict=True)]


def chance(classes_per_experience: Sequence[int], total: Sequence[int]) -> dict[Setting, list[float]]:
    """class_incremental[i] = 1 / Σ_{j≤i} m_j;  task_incremental[i] = (Σ_{j≤i} n_j / m_j) / Σ_{j≤i} n_j, and
    domain_incremental[i] the same.

    The accuracy that guessing evenly has on the classes seen so far; experience j has m_j classes, n_j test samples.
    Both arguments and all lists have E entries.
    """
    _require(len(classes_per_experience) == len(total), "classes_per_experience and total differ in length")
    _require(all(n > 0 for n in (*classes_per_experience, *total)), "every experience needs classes and test samples")
    denominator = math.lcm(*classes_per_experience)  # in whole numbers, so that equal chances come out as equal floats
    hits = accumulate(n * (denominator // m) for n, m in zip(total, classes_per_experience, strict=True))
    within = [h / (denominator * n) for h, n in zip(hits, accumulate(total), strict=True)]
    return {
        "class_incremental": [1 / seen for seen in accumulate(classes_per_experience)],
        "task_incremental": within,
        "domain_incremental": list(within),
    }


def _require(holds: bool, sentence: str) -> None:
    if not holds:
        raise ValueError(sentence)


def _check_row(row: object, name: str) -> None:
    _require(isinstance(row, tuple), f"{name} is {row!r}, not a tuple of counts")
    for value in row if isinstance(row, tuple) else ():
        # A bool is an int too, and 3.0 would pass every comparison.
        _require(type(value) is int and value >= 0, f"{name} holds {value!r}; a count is an integer of at least 0")


def _per_experience(per_class: Sequence[int], classes_per_experience: Sequence[int]) -> tuple[int, ...]:
    """Sums over each experience's run of classes."""
    return tuple(
        sum(per_class[end - classes : end])
        for classes, end in zip(classes_per_experience, accumulate(classes_per_experience), strict=True)
    )


def _shares(right: Sequence[int], total: Sequence[int]) -> list[float | None]:
    """right[j] / total[j] for as many entries as `right` has; None where the total is 0."""
    return [r / n if n else None for r, n in zip(right, total, strict=False)]


def _pooled(right: Sequence[int] | None, total: Sequence[int]) -> float | None:
    """Σ right / Σ total over as many entries as `right` has; None where it is None or empty."""
    return sum(right) / sum(total[: len(right)]) if right else None


def _mean(values: Iterable[float | None]) -> float | None:
    """None for no values and where one is undefined. Summed exactly: no order matters, and no bound is overstepped."""
    defined, complete = _defined(values)
    return math.fsum(defined) / len(defined) if complete else None


def _best(values: Iterable[float | None]) -> float | None:
    defined, complete = _defined(values)
    return max(defined) if complete else None


def _defined(values: Iterable[float | None]) -> tuple[list[float], bool]:
    """The defined values, and whether there are some and they are all."""
    given = list(values)
    defined = [value for value in given if value is not None]
    return defined, 0 < len(defined) == len(given)


def _minus(a: float | None, b: float | None) -> float | None:
    return None if a is None or b is None else a - b


def _class_ids(ids: ArrayLike, name: str) -> NDArray[Any]:
    """The ids as (N,) integers, N > 0."""
    import numpy as np

    array = np.asarray(ids)
    _require(array.ndim == 1 and len(array) > 0 and array.dtype.kind in "iu", f"{name} must be a row of integers")
    return array


def _ranks(ids: NDArray[Any], classes: NDArray[Any]) -> NDArray[Any]:
    """Each id's position in `classes`, (N,); -1 where it is none of them."""
    import numpy as np

    order = np.argsort(classes)
    at = np.searchsorted(classes, ids, sorter=order).clip(max=len(classes) - 1)
    return np.where(classes[order[at]] == ids, order[at], -1)
