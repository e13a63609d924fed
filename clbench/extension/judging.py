"""Judges an extended network by its counts on test images and its agreement with the old one, and chooses the best."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence

import numpy as np
import numpy.typing as npt

from clbench.extension.image_sets import ImageSet
from clbench.results.extension_result import Agreement, Candidate, ChangedAnswer, Confused, JudgedClass, Role
from clbench.system.output import counted
from clbench.system.tables import listed

Answers = npt.NDArray[np.int64]
"""The position of the predicted class for each image, (n,)."""

MOST_CHANGED = 200
"""Most images with a changed prediction that are listed, of all roles together."""

USUAL = ("ncm", "imprint")
"""The strategies that extend a network by default: the first whose statistics are kept with the network, otherwise the
last; the measurements are in docs/extend-results.md and docs/extend-one-class.md."""

LEAST_AGREEMENT = 0.95
"""Share of predictions that must stay the same for a strategy to be chosen by its accuracy on the new classes."""


def judged_classes(
    classes: Sequence[str],
    old: int,
    sets: Mapping[Role, ImageSet],
    before: Mapping[Role, Answers],
    after: Mapping[Role, Answers],
) -> tuple[JudgedClass, ...]:
    """Return the counts of each class; `before` and `after` are the predictions of the old and the extended network."""
    found = []
    for position, name in enumerate(classes):
        role: Role = "new_test" if position >= old else "old_test"
        trained = sum(sets[part].of_class(position) for part in ("new", "old_images") if part in sets)
        own = sets[role].labels == position if role in sets else np.zeros(0, dtype=bool)
        count = int(own.sum())
        right = int((after[role][own] == position).sum()) if count else 0
        earlier = None if position >= old else int((before[role][own] == position).sum()) if count else 0
        found.append(
            JudgedClass(
                name=name,
                is_new=position >= old,
                train_images=trained,
                test_images=count,
                correct_before=earlier,
                correct_after=right,
            )
        )
    return tuple(found)


def agreement(before: Answers, scores: npt.NDArray[np.float32], old: int) -> Agreement:
    """Compare the old network's predictions (n,) with the extended one's scores (n, classes), for `old` old classes."""
    after = scores.argmax(axis=1)
    return Agreement(
        images=len(before),
        same=int((after == before).sum()),
        among_old=int((scores[:, :old].argmax(axis=1) == before).sum()),
        taken_by_new=int((after >= old).sum()),
    )


def confusion(
    classes: Sequence[str], sets: Mapping[Role, ImageSet], after: Mapping[Role, Answers]
) -> tuple[Confused, ...]:
    """Return the number of test images by true and predicted class, in the order of the classes."""
    pairs: Counter[tuple[int, int]] = Counter()
    for role in ("old_test", "new_test"):
        if role in sets:
            pairs.update(zip(sets[role].labels.tolist(), after[role].tolist(), strict=True))
    return tuple(
        Confused(true=classes[true], answer=classes[answer], images=count)
        for (true, answer), count in sorted(pairs.items())
    )


def changed_answers(
    classes: Sequence[str], sets: Mapping[Role, ImageSet], before: Mapping[Role, Answers], after: Mapping[Role, Answers]
) -> tuple[ChangedAnswer, ...]:
    """Return the first images of old classes and unlabelled ones, in turn, whose prediction has changed."""
    roles: list[Role] = [role for role in ("old_test", "unlabelled") if role in sets]
    rows = [np.flatnonzero(before[role] != after[role])[:MOST_CHANGED].tolist() for role in roles]
    # In turn, so that a reader of the first few sees some of both.
    in_turn = [
        (role, row)
        for together in itertools.zip_longest(*rows)
        for role, row in zip(roles, together, strict=True)
        if row is not None
    ]
    found = []
    for role, row in in_turn[:MOST_CHANGED]:
        own = sets[role]
        label = int(own.labels[row])
        found.append(
            ChangedAnswer(
                image=own.names[row],
                role=role,
                true=classes[label] if label >= 0 else None,
                before=classes[before[role][row]],
                after=classes[after[role][row]],
            )
        )
    return tuple(found)


def like_guessing(right: int, images: int, classes: int) -> bool:
    """Return whether guessing gets `right` or more of the images right in more than 5 % of cases."""
    from scipy.stats import binom  # its import takes half a second

    return bool(binom.sf(right - 1, images, 1 / classes) > 0.05)


def warnings_before(labels: Answers, answers: Answers, classes: int) -> Iterator[str]:
    """Warn if a network from elsewhere is hardly better than chance: it is probably not used as it was trained."""
    right = int((labels == answers).sum())
    if like_guessing(right, len(labels), classes):
        yield (
            f"the network gets {right} of {len(labels)} old test images right, which guessing may reach, too: "
            "is the order in --classes right, and are --mean, --std and --size as in its training?"
        )


def warnings_after(kept: Candidate, classes: int, tried: int) -> Iterator[str]:
    """Warn if the kept one of the `tried` strategies has learned nothing about the new classes."""
    tested = [each for each in kept.classes if each.is_new]
    images, right = sum(each.test_images for each in tested), sum(each.correct_after for each in tested)
    if 2 * right < images and like_guessing(right, images, classes):
        others = "-s NAME keeps another of the strategies" if tried > 1 else "-s all tries the other strategies"
        yield (
            f"{kept.strategy.selector} gets {right} of {counted(images, 'test image')} of new classes right, which "
            f"guessing may reach, too: it may have learned nothing. {others}"
        )


def choose(candidates: Sequence[Candidate]) -> tuple[Candidate, str]:
    """Return the candidate that is kept, and the rule that chose it, in words. Among equals it is the first."""
    if len(candidates) == 1:
        return candidates[0], "the only strategy that was tried"
    seen = any(
        each.old_accuracy is not None or (each.on_unlabelled and each.on_unlabelled.images) for each in candidates
    )
    usual = [each for name in USUAL for each in candidates if each.strategy.name == name]
    if not seen and usual:
        return usual[0], (
            "the usual one, since new images alone do not show what is forgotten (--old-test or --unlabelled would)"
        )
    agreeing = [each for each in candidates if _share(each) >= LEAST_AGREEMENT]
    if all(each.old_accuracy is not None and each.new_accuracy is not None for each in candidates):
        eligible, value = list(candidates), _both
        rule = "the highest mean of old-class and new-class accuracy, on the test images that it is judged by here"
    elif not agreeing:
        eligible, value = list(candidates), _share
        rule = "the highest agreement with the old network, since none reaches 95 %"
    else:
        eligible, value = agreeing, _on_new
        where = "unlabelled images" if agreeing[0].on_unlabelled else "the new images, among old classes"
        rule = f"the highest new-class accuracy of those that agree with the old network on at least 95 % of {where}"
    best = max(eligible, key=value)
    equal = [each.strategy.selector for each in eligible if each is not best and value(each) == value(best)]
    return best, rule + (f"; {listed(equal)} {'has' if len(equal) == 1 else 'have'} the same" if equal else "")


def _both(candidate: Candidate) -> float:
    return ((candidate.old_accuracy or 0.0) + (candidate.new_accuracy or 0.0)) / 2


def _on_new(candidate: Candidate) -> float:
    return candidate.new_accuracy or 0.0


def _share(candidate: Candidate) -> float:
    """Return the agreement with the old network: on unlabelled images, or among old classes on the new ones."""
    if candidate.on_unlabelled is not None and candidate.on_unlabelled.images:
        return candidate.on_unlabelled.same / candidate.on_unlabelled.images
    if candidate.on_new is not None and candidate.on_new.images:
        return candidate.on_new.among_old / candidate.on_new.images
    return 1.0
