"""Sentences and lists for the page of an extended network: result, losses, agreement and confusions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath

from clbench.evaluation.proportions import Proportion, mean_proportion, proportion
from clbench.reporting.extension_figures import ClassShares, class_shares, interval
from clbench.reporting.labels import brief
from clbench.results.extension_result import Agreement, Candidate, ChangedAnswer, Confused, ExtensionResult
from clbench.system.output import counted
from clbench.system.tables import listed

_NAMED = 5
"""Most classes that a sentence names; the others are counted."""

MOST_CONFUSED = 10
"""Most confusions of a kind that are listed."""

MOST_CHANGED = 24
"""Most images with a changed prediction that are shown."""


def named(names: Sequence[str]) -> str:
    """Return names for a sentence: `a, b and c`, or `a, b, c, d, e and 395 more`."""
    shown = [brief(name) for name in names]
    return listed(shown if len(shown) <= _NAMED else [*shown[:_NAMED], f"{len(names) - _NAMED:,} more"])


def classes(count: int) -> str:
    """Return `1 class` or `3 classes`."""
    return counted(count, "class", "classes")


def percent(value: Proportion | float) -> str:
    """Return a share in percent, with its unit."""
    return f"{100 * (value.value if isinstance(value, Proportion) else value):.1f} %"


def points(change: float) -> str:
    """Return a change of a share: `−2.5 points`."""
    return f"{100 * change:+.1f} points".replace("-", "−")


# -- the answer -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Tile:
    """A number at the top of the page, with its label above and its basis below."""

    label: str
    value: str
    detail: str


@dataclass(frozen=True)
class Means:
    """Means over the classes that have test images, each with its interval; None without any."""

    before: Proportion | None
    after: Proportion | None
    new: Proportion | None


def means(candidate: Candidate) -> Means:
    """Return a candidate's mean accuracies on old classes, before and after, and on new ones."""
    old, new = candidate.old_classes, candidate.new_classes
    return Means(
        mean_proportion([(each.correct_before or 0, each.test_images) for each in old]),
        mean_proportion([(each.correct_after, each.test_images) for each in old]),
        mean_proportion([(each.correct_after, each.test_images) for each in new]),
    )


def made_by(result: ExtensionResult) -> str:
    """Return what was done: to which network, with which classes, strategy and images of old classes."""
    if not result.old_classes:
        return (
            f"was trained on {counted(result.kept.train_images, 'image')} of {classes(len(result.new_classes))} "
            f"({named(result.new_classes)})."
        )
    rehearsed = sum(each.train_images for each in result.kept.classes if not each.is_new)
    old = f"with {counted(rehearsed, 'image')} of old classes" if rehearsed else "without any image of an old class"
    return (
        f"knew {classes(len(result.old_classes))}. It was extended by {classes(len(result.new_classes))} "
        f"({named(result.new_classes)}) with the strategy {brief(result.chosen)}, {old}."
    )


def outcome(result: ExtensionResult) -> str:
    """Return the outcome, in a sentence or two."""
    found, kept = means(result.kept), result.kept
    kind = ("new class" if len(result.new_classes) == 1 else "new classes") if result.old_classes else "test images"
    new = f"Accuracy on the {kind} is {percent(found.new)}." if found.new else ""
    if not result.old_classes:
        return new or "Its accuracy cannot be judged, since there are no test images."
    if not new:
        new = f"Its accuracy on the {kind} cannot be judged, since there are no test images."
    if found.before and found.after:
        change = found.after.value - found.before.value
        moved = "stayed at" if abs(change) < 0.0005 else f"went from {percent(found.before)} to"
        return f"Accuracy on the old classes {moved} {percent(found.after)}. {new}"
    return f"{new}{_unlabelled(kept.on_unlabelled)} Its accuracy on the old classes is not known."


def _unlabelled(found: Agreement | None) -> str:
    if not found or not found.images:
        return ""
    taken = f"{counted(found.taken_by_new, 'is', 'are')} assigned to a new class"
    same = percent(found.same / found.images)
    return f" Of {counted(found.images, 'unlabelled image')}, {same} get the same prediction as before, and {taken}."


def tiles(result: ExtensionResult) -> list[Tile]:
    """Return the numbers at the top of the page."""
    found, kept = means(result.kept), result.kept
    made = []
    old, new = kept.old_classes, kept.new_classes
    if found.before and found.after:
        basis = _basis(len(old), sum(each.test_images for each in old))
        change = points(found.after.value - found.before.value)
        made.append(Tile("Old classes, before", percent(found.before), f"{interval(found.before)} %; {basis}"))
        made.append(Tile("Old classes, after", percent(found.after), f"{interval(found.after)} %; {change}"))
    elif result.old_classes:
        made.append(Tile("Old classes", "not known", "no test images of them were given"))
    label = ("New class" if len(result.new_classes) == 1 else "New classes") if result.old_classes else "Accuracy"
    if found.new:
        basis = _basis(len(new), sum(each.test_images for each in new))
        made.append(Tile(label, percent(found.new), f"{interval(found.new)} %; {basis}"))
    else:
        made.append(Tile(label, "cannot be judged", "no test images"))
    if result.old_classes and kept.on_unlabelled and (share := _of(kept.on_unlabelled.same, kept.on_unlabelled)):
        detail = f"{interval(share)} %; {counted(kept.on_unlabelled.images, 'unlabelled image')}"
        made.append(Tile("Predictions as before", percent(share), detail))
    return made


def _basis(count: int, images: int) -> str:
    return f"mean over {classes(count)}, {counted(images, 'image')}" if count > 1 else counted(images, "image")


def _of(count: int, agreement: Agreement) -> Proportion | None:
    return proportion(count, agreement.images)


def unjudged(result: ExtensionResult) -> str:
    """Return which classes cannot be judged, if others can; nothing if all or none can."""
    names = [each.name for each in result.kept.classes if not each.test_images]
    if not names or len(names) == len(result.kept.classes):
        return ""
    if result.old_classes and not result.kept.old_classes:  # which has an alert already
        names = [each.name for each in result.kept.classes if each.is_new and not each.test_images]
    has = "has" if len(names) == 1 else "have"
    return f"{classes(len(names))} {has} no test images and cannot be judged: {named(names)}." if names else ""


# -- what was lost ----------------------------------------------------------------------------------------------------


def changes(result: ExtensionResult) -> str:
    """Return how many old classes are recognized less, more and equally often; nothing without test images."""
    moved = [each.change for each in class_shares(result.kept) if each.change is not None]
    if not moved:
        return ""
    less, more = sum(change < 0 for change in moved), sum(change > 0 for change in moved)
    equal = len(moved) - less - more
    return (
        f"Of {counted(len(moved), 'old class', 'old classes')} with test images, {less or 'none'} "
        f"{'is' if less < 2 else 'are'} recognized less often than before, {more or 'none'} more often and "
        f"{equal or 'none'} equally often."
    )


def lost_most(result: ExtensionResult) -> list[tuple[str, str]]:
    """Return the old classes that lost most, with what they lost."""
    lost = [each for each in class_shares(result.kept) if each.change is not None and each.change < 0]
    return [(brief(each.of.name), _loss(each)) for each in sorted(lost, key=lambda each: each.change or 0)[:_NAMED]]


def _loss(each: ClassShares) -> str:
    of = each.of
    before, after = f"{of.correct_before:,} of {of.test_images:,} images before", f"{of.correct_after:,} after"
    return f"{before}, {after} ({points(each.change or 0)})"


# -- agreement --------------------------------------------------------------------------------------------------------

AGREEMENT_HEADINGS = ("images", "compared", "same answer, %", "same among old classes, %", "answered with a new class")


def agreement(kept: Candidate) -> list[tuple[str, ...]]:
    """Return how often the predictions are the old network's, a row for each kind of images."""
    rows = []
    for name, found in (("unlabelled", kept.on_unlabelled), ("test images of new classes", kept.on_new)):
        if found and found.images:
            same, among = _of(found.same, found), _of(found.among_old, found)
            cells = (f"{100 * each.value:.1f} ({interval(each)})" if each else "–" for each in (same, among))
            taken = f"{found.taken_by_new:,} ({percent(found.taken_by_new / found.images)})"
            rows.append((name, f"{found.images:,}", *cells, taken))
    return rows


# -- confusion --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class ConfusionList:
    """The most frequent confusions of one kind."""

    title: str
    none: str
    """The text if there are none."""

    rows: tuple[tuple[str, str, str, str], ...]
    """The class shown, the answer, how many images, and of how many."""

    further: str
    """How many more there are; nothing if all are listed."""


def confusion_lists(result: ExtensionResult) -> list[ConfusionList]:
    """Return which classes are mistaken for which, old and new ones apart; of a first network, all together."""
    tested = {each.is_new for each in result.kept.classes if each.test_images}
    new = {each.name: each.is_new for each in result.kept.classes}
    wrong = [each for each in result.kept.confusion if each.true != each.answer]
    if not result.old_classes:
        none = "No test image is mistaken for another class."
        return [_confusion_list(result, "Classes mistaken for others", none, wrong)] if tested else []
    kinds = [
        (False, True, "Old classes mistaken for new ones", "No test image of an old class is mistaken for a new one."),
        (True, False, "New classes mistaken for old ones", "No test image of a new class is mistaken for an old one."),
    ]
    if len(result.new_classes) > 1:
        none = "No test image of a new class is mistaken for another new one."
        kinds.append((True, True, "New classes mistaken for each other", none))
    made = []
    for shown, answered, title, none in kinds:
        if shown in tested:
            of_kind = [each for each in wrong if new[each.true] is shown and new[each.answer] is answered]
            made.append(_confusion_list(result, title, none, of_kind))
    return made


def _confusion_list(result: ExtensionResult, title: str, none: str, found: Sequence[Confused]) -> ConfusionList:
    total = {each.name: each.test_images for each in result.kept.classes}
    found = sorted(found, key=lambda each: -each.images)
    rows = (
        (brief(each.true), brief(each.answer), f"{each.images:,}", f"{total[each.true]:,}")
        for each in found[:MOST_CONFUSED]
    )
    left = found[MOST_CONFUSED:]
    images = counted(sum(each.images for each in left), "image")
    return ConfusionList(
        title, none, tuple(rows), f"and {counted(len(left), 'more pair')} with {images}" if left else ""
    )


SUMMARY_HEADINGS = ("images of", "tested", "right", "wrong: an old class", "wrong: a new class")


def confusion_summary(result: ExtensionResult) -> list[tuple[str, ...]]:
    """Return how the test images of old and of new classes were classified, as counts."""
    kept = result.kept
    new = {each.name: each.is_new for each in kept.classes}
    rows = []
    for name, shown in (("old classes", False), ("new classes", True)):
        found = [each for each in kept.confusion if new[each.true] is shown]
        total = sum(each.images for each in found)
        if total and result.old_classes:
            right = sum(each.images for each in found if each.true == each.answer)
            wrong = [each for each in found if each.true != each.answer]
            as_old, as_new = (sum(each.images for each in wrong if new[each.answer] is kind) for kind in (False, True))
            shares = (f"{count:,} ({percent(count / total)})" for count in (right, as_old, as_new))
            rows.append((name, f"{total:,}", *shares))
    return rows


# -- images whose prediction changed ----------------------------------------------------------------------------------


def alternative_text(changed: ChangedAnswer) -> str:
    """Return the text alternative of the picture."""
    showed = "an unlabelled image" if changed.true is None else f"showed {changed.true}"
    return f"{showed}, before: {changed.before}, now: {changed.after}"


def file_name(changed: ChangedAnswer) -> str:
    """Return the last part of an image's path."""
    return brief(PurePosixPath(changed.image).name or changed.image)
