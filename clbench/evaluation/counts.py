"""Count correct predictions: how many test samples of each experience and class were right, and when.

E is the number of experiences; after training experience i the whole test set is evaluated once.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from itertools import accumulate
from typing import TYPE_CHECKING, Any, get_args

from clbench.base.incremental_setting import Setting

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray


@dataclass(frozen=True)
class Counts:
    """Integer counts of one run in one setting. Raises ValueError if they contradict each other."""

    correct: tuple[tuple[int, ...] | None, ...]
    """correct[i][j], j ≤ i: test samples of experience j classified correctly after experience i. E rows, row i of i+1
    entries; None if there was no evaluation i (a joint run may be trained at the last experience only)."""
    total: tuple[int, ...]
    """Test samples of the classes that each experience brings, E of them; 0 only for one that brings none."""
    class_correct: tuple[tuple[int, ...] | None, ...]
    """The same per class. Row i has one entry per class seen so far, in class order: experience 0's classes first."""
    class_total: tuple[int, ...]
    """Test samples of each class, in class order."""
    classes_per_experience: tuple[int, ...]
    """Number of classes that each experience brings, E of them: at least one in the first, 0 where old ones return."""
    old_as_new: tuple[int | None, ...]
    """Class-incremental only: old_as_new[i] test samples of classes of experiences < i were predicted as a class of
    experience i. None at i = 0 and if there was no evaluation i; all None in the task-incremental setting."""

    def __post_init__(self) -> None:
        self._check_integers()
        self._check_test_set()
        for i in range(len(self.total)):
            self._check_evaluation(i)
        self._check_old_as_new()

    def _check_integers(self) -> None:
        for name in ("total", "class_total", "classes_per_experience"):
            check_row(getattr(self, name), name)
        for name in ("correct", "class_correct"):
            for i, row in enumerate(getattr(self, name)):
                if row is not None:
                    check_row(row, f"{name}[{i}]")
        check_row(tuple(count for count in self.old_as_new if count is not None), "old_as_new")

    def _check_test_set(self) -> None:
        experiences = len(self.total)
        require(experiences > 0, "there are no experiences")
        for name in ("correct", "class_correct", "classes_per_experience", "old_as_new"):
            length = len(getattr(self, name))
            require(length == experiences, f"{name} has {length} entries for {experiences} experiences")
        sizes = self.classes_per_experience
        require(sizes[0] > 0, f"the first experience has no classes: {sizes}")
        untested = [j for j, size in enumerate(sizes) if size and not self.total[j]]
        require(not untested, f"an experience has no test samples: total is {self.total}")
        classes = sum(self.classes_per_experience)
        require(len(self.class_total) == classes, f"class_total has {len(self.class_total)} entries, not {classes}")
        sums = _per_experience(self.class_total, self.classes_per_experience)
        require(sums == self.total, f"class_total adds up to {sums} per experience, but total is {self.total}")

    def _check_evaluation(self, i: int) -> None:
        row, per_class = self.correct[i], self.class_correct[i]
        if row is None or per_class is None:
            require(row is per_class, f"evaluation {i} is in only one of correct and class_correct")
            return
        sizes = self.classes_per_experience[: i + 1]
        require(len(row) == i + 1, f"correct[{i}] has {len(row)} entries, not {i + 1}")
        require(len(per_class) == sum(sizes), f"class_correct[{i}] has {len(per_class)} entries, not {sum(sizes)}")
        for c, (right, total) in enumerate(zip(per_class, self.class_total, strict=False)):
            require(right <= total, f"class_correct[{i}][{c}] is {right}, but the class has {total} test samples")
        sums = _per_experience(per_class, sizes)
        require(sums == row, f"class_correct[{i}] adds up to {sums} per experience, but correct[{i}] is {row}")

    def _check_old_as_new(self) -> None:
        if all(count is None for count in self.old_as_new):
            return
        for i, (count, row) in enumerate(zip(self.old_as_new, self.correct, strict=True)):
            if i == 0 or row is None:
                require(count is None, f"old_as_new[{i}] is {count}, but there is nothing to count; it must be None")
                continue
            wrong = sum(self.total[:i]) - sum(row[:i])
            require(
                count is not None and count <= wrong,
                f"old_as_new[{i}] is {count}; {wrong} samples of old classes were wrong",
            )

    def to_json(self) -> dict[str, list[Any]]:
        """Return the fields by name, with tuples as lists."""
        return {field.name: lists(getattr(self, field.name)) for field in fields(self)}

    @classmethod
    def from_json(cls, stored: Mapping[str, Any]) -> Counts:
        """Invert `to_json`. Raises ValueError for a missing or unknown field and for contradictory counts."""
        names = {field.name for field in fields(cls)}
        require(names == set(stored), f"counts have the fields {sorted(names)}, not {sorted(stored)}")
        for name, value in stored.items():
            require(isinstance(value, list), f"{name} is {value!r}, not a list")
        return cls(**{name: frozen_lists(value) for name, value in stored.items()})

    @classmethod
    def known_to_agree(cls, stored: Mapping[str, list[Any]]) -> Counts:
        """Invert `to_json` for counts checked before, since checking takes longer than everything done with them."""
        made = object.__new__(cls)
        for name, value in stored.items():
            frozen = tuple(tuple(entry) if isinstance(entry, list) else entry for entry in value)
            object.__setattr__(made, name, frozen)
        return made


def count(
    predictions: Sequence[ArrayLike] | NDArray[Any],
    labels: ArrayLike,
    experience_classes: Sequence[Sequence[int]],
    evaluated: Sequence[bool] | NDArray[Any],
    *,
    setting: Setting,
) -> Counts:
    """correct[i][j] = #{n : labels[n] in experience_classes[j], predictions[i][n] = labels[n]}, j ≤ i.

    predictions: E rows of N class ids, row i from the evaluation after experience i; -1 means "no prediction". Row i is
    read only for samples of classes seen so far, so the others may hold -1 or anything; a row whose evaluated[i] is
    false is not read at all.
    labels: N class ids. experience_classes: the class ids of each of E experiences, in class order. evaluated: E.

    Ids are the dataset's own and not negative. A sample that is read must be predicted as a class that the setting
    allows: one seen so far (class-incremental), or one of its own experience (otherwise). -1 there is a missing
    prediction, not a wrong one. Raises ValueError for it, and for any other inconsistency.
    """
    import numpy as np

    require(setting in get_args(Setting), f"setting is {setting!r}, not one of {get_args(Setting)}")
    experiences = len(experience_classes)
    for name, length in (("predictions", len(predictions)), ("evaluated", len(evaluated))):
        require(length == experiences, f"{name} has {length} rows for {experiences} experiences")
    classes = _class_ids([c for own in experience_classes for c in own], "experience_classes")
    require(bool(classes.min() >= 0), "class ids must be at least 0: -1 means no prediction")
    require(len(np.unique(classes)) == len(classes), "a class is listed twice in experience_classes")
    label_ids = _class_ids(labels, "labels")
    truth = _ranks(label_ids, classes)
    require(bool((truth >= 0).all()), f"label {label_ids[truth.argmin()]} is in no experience")

    sizes = tuple(len(own) for own in experience_classes)
    experience_of = np.repeat(np.arange(experiences), sizes)  # (classes,)
    correct: list[tuple[int, ...] | None] = [None] * experiences
    class_correct: list[tuple[int, ...] | None] = [None] * experiences
    old_as_new: list[int | None] = [None] * experiences
    for i in range(experiences):
        if not evaluated[i]:
            continue
        row = _class_ids(predictions[i], f"predictions[{i}]")
        require(row.shape == truth.shape, f"predictions[{i}] has {len(row)} entries for {len(truth)} labels")
        seen_classes = sum(sizes[: i + 1])
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
        correct[i] = _per_experience(per_class, sizes[: i + 1])
        if setting == "class_incremental" and i > 0:
            old_as_new[i] = int(np.count_nonzero((own < i) & (guessed == i)))

    class_total = tuple(np.bincount(truth, minlength=len(classes)).tolist())
    return Counts(
        correct=tuple(correct),
        total=_per_experience(class_total, sizes),
        class_correct=tuple(class_correct),
        class_total=class_total,
        classes_per_experience=sizes,
        old_as_new=tuple(old_as_new),
    )


def require(holds: bool, sentence: str) -> None:
    if not holds:
        raise ValueError(sentence)


def lists(value: Any) -> Any:
    """Return nested tuples as lists."""
    return [lists(entry) for entry in value] if isinstance(value, tuple) else value


def frozen_lists(value: Any) -> Any:
    """Return nested lists as tuples."""
    return tuple(frozen_lists(entry) for entry in value) if isinstance(value, list) else value


def check_row(row: object, name: str) -> None:
    require(isinstance(row, tuple), f"{name} is {row!r}, not a tuple of counts")
    for value in row if isinstance(row, tuple) else ():
        # A bool is an int too, and 3.0 would pass every comparison.
        require(type(value) is int and value >= 0, f"{name} holds {value!r}; a count is an integer of at least 0")


def _per_experience(per_class: Sequence[int], classes_per_experience: Sequence[int]) -> tuple[int, ...]:
    """Sum over the classes of each experience."""
    return tuple(
        sum(per_class[end - classes : end])
        for classes, end in zip(classes_per_experience, accumulate(classes_per_experience), strict=True)
    )


def _class_ids(ids: ArrayLike, name: str) -> NDArray[Any]:
    """Return the ids as (N,) integers, N > 0."""
    import numpy as np

    array = np.asarray(ids)
    require(
        array.ndim == 1 and len(array) > 0 and array.dtype.kind in "iu",
        f"{name} must be a one-dimensional array of integers",
    )
    return array


def _ranks(ids: NDArray[Any], classes: NDArray[Any]) -> NDArray[Any]:
    """Return each id's position in `classes`, (N,); -1 if it is not among them."""
    import numpy as np

    order = np.argsort(classes)
    at = np.searchsorted(classes, ids, sorter=order).clip(max=len(classes) - 1)
    return np.where(classes[order[at]] == ids, order[at], -1)
