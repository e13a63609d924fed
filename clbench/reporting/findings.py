"""Writes the findings of a comparison as sentences with numbers and intervals; each claims no more than its numbers."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import fmean

from clbench.comparison.columns import lowest, percent
from clbench.comparison.rows import Comparison, Row, chance
from clbench.comparison.statistics import Estimate
from clbench.reporting.figures import experiences, mean_matrix
from clbench.system.tables import listed, readable_bytes


def answer(comparison: Comparison) -> str:
    """Return the result in one short sentence; the table has the numbers with their intervals."""
    if not comparison.seeds:
        return "The strategies have no seed in common, so these runs cannot show which of them is better."
    measured = [row for row in comparison.rows if row.estimates["final_accuracy"]]
    if not measured:
        return "No result after the last experience."
    lower, upper = _reference(measured, "lower"), _reference(measured, "upper")
    remedies = [row for row in measured if row.is_remedy]
    parts = []
    if lower:
        parts.append(f"{lower.strategy} {_final(lower)}")
    if remedies:
        parts.append(_best_of(comparison, remedies, lower))
    if upper:
        parts.append(f"{upper.strategy}, with all data, {_final(upper)}")
    parts.append(f"guessing {100 * _guessing(comparison):.1f} %")
    count = experiences(comparison)
    length = f"{count} experiences" if count > 1 else "one experience"
    return f"Accuracy over all classes after {length}: {'; '.join(parts)}."


def _final(row: Row) -> str:
    return f"{100 * _mean(row.estimates['final_accuracy']):.1f} %"


def _best_of(comparison: Comparison, remedies: Sequence[Row], lower: Row | None) -> str:
    """Return the best remedy, called highest only if it is one of several and above chance and the lower reference."""
    best = remedies[-1]
    bound = _bound(comparison, best, lower, "final_accuracy")
    if bound:
        none = f"none of {len(remedies)} remedies" if len(remedies) > 1 else "not"
        return f"{best.strategy} {_final(best)} ({none} above {bound[0]})"
    if len(remedies) == 1:
        return f"{best.strategy} {_final(best)}"
    return f"{best.strategy} {_final(best)} (highest of {len(remedies)} remedies{_doubt(comparison, best)})"


def _doubt(comparison: Comparison, best: Row) -> str:
    tied = [row.strategy for row in comparison.rows if row.standing == "tied" and row is not best]
    if not tied:
        return ""
    if len(comparison.seeds) == 1:
        return f", tied with {_some(tied)}"
    if comparison.testable:
        return f"; {_some(tied)} may be as good"
    return f"; {len(comparison.seeds)} seeds are too few to test that"


def _some(names: Sequence[str], more: str = "others") -> str:
    return listed(names) if len(names) <= 3 else f"{len(names)} {more}"


def _guessing(comparison: Comparison) -> float:
    return chance(comparison.rows[0])


def _bound(comparison: Comparison, row: Row, lower: Row | None, column: str) -> tuple[str, str] | None:
    """Return what the row does not exceed, as displayed, with its percentage: guessing, or the lower reference."""
    value = round(_mean(row.estimates[column]), 3)
    if value <= _guessing(comparison):
        return "guessing", f"{100 * _guessing(comparison):.1f}"
    if lower and lower.estimates[column] and value <= round(_mean(lower.estimates[column]), 3):
        return lower.strategy, percent(lower.estimates[column])
    return None


def _reference(rows: Sequence[Row], kind: str) -> Row | None:
    return next((row for row in rows if row.reference == kind), None)


def _highest(comparison: Comparison, column: str, verb: str, what: str) -> str:
    """Return which remedy is highest in a column: `of 2 remedies, lwf learns most of the new classes, 48.0 %`.

    A single remedy is given next to the lower reference; none is highest if that, or guessing, reaches as much.
    """
    rows = [row for row in comparison.rows if row.estimates[column]]
    remedies = [row for row in rows if row.is_remedy]
    lower = _reference(rows, "lower")
    if len(remedies) == 1:
        said = f"{remedies[0].strategy} {verb} {percent(remedies[0].estimates[column])} % of {what}"
        return f"{said}, {lower.strategy} {percent(lower.estimates[column])} %" if lower else said
    best = max(remedies, key=lambda row: _mean(row.estimates[column]))
    if bound := _bound(comparison, best, lower, column):
        return f"none of {len(remedies)} remedies {verb} more of {what} than {bound[0]} ({bound[1]} %)"
    equal = [row.strategy for row in remedies if percent(row.estimates[column]) == percent(best.estimates[column])]
    if len(equal) == len(remedies):
        return f"all {len(remedies)} remedies {_plural(verb)} {percent(best.estimates[column])} % of {what}"
    verb = verb if len(equal) == 1 else _plural(verb)
    return f"of {len(remedies)} remedies, {_some(equal)} {verb} most of {what}, {percent(best.estimates[column])} %"


def _plural(verb: str) -> str:
    return verb.removesuffix("s")


MANY = 8
"""Of more rows, a sentence has the references and the best remedies only; the figure's table lists all."""


def _told(rows: Sequence[Row], column: str, unit: str = " %") -> str:
    known = [row for row in rows if row.estimates[column]]
    said = [f"{row.strategy} {percent(row.estimates[column], lowest(column))}{unit}" for row in few(known)]
    return ", ".join(said) + rest(known)


def few(rows: Sequence[Row]) -> Sequence[Row]:
    if len(rows) <= MANY:
        return rows
    highest = [row for row in rows if row.reference is None][-4:]
    return [row for row in rows if row.reference or row in highest]


def rest(rows: Sequence[Row]) -> str:
    left_out = len(rows) - len(few(rows))
    return f", and {left_out} others" if left_out else ""


NO_NEW_CLASS = "The last experience has no new class."


def old_and_new(comparison: Comparison) -> str:
    """Return the finding of the figure of old-class and new-class accuracy."""
    if experiences(comparison) == 1:
        return f"One experience, so nothing to forget. New classes: {_told(comparison.rows, 'new_accuracy')}."
    rows = [row for row in comparison.rows if row.estimates["old_accuracy"]]
    forgetful = [row for row in rows if _lost(row)]
    if not rows:
        return "No strategy was evaluated after the last experience."
    parts = []
    if forgetful:
        names = _some([row.strategy for row in forgetful], "strategies")
        parts.append(
            f"{names} {'has' if len(forgetful) == 1 else 'have'} forgotten: nearly all of the old classes are lost, "
            "while the new ones are learned. That is catastrophic forgetting."
        )
    if kept := [row for row in rows if row not in forgetful]:
        parts.append(f"Accuracy on old classes after the last experience: {_told(kept, 'old_accuracy')}.")
    guessing = _guessing(comparison)
    unlearned = [row for row in rows if row.estimates["new_accuracy"] and _new(row) <= guessing]
    if unlearned:
        told = _told(unlearned, "new_accuracy")
        parts.append(f"New classes not learned, at or below guessing ({100 * guessing:.1f} %): {told}.")
    if not comparison.spec.scenario.classes_per_experience[-1]:
        parts.append(NO_NEW_CLASS)
    return " ".join(parts)


def _new(row: Row) -> float:
    return _mean(row.estimates["new_accuracy"])


def _lost(row: Row) -> bool:
    old, new = row.estimates["old_accuracy"], row.estimates["new_accuracy"]
    return bool(old and new and old.mean < 0.05 and new.mean > 0.5)


def each_alone(comparison: Comparison) -> str:
    """Return what the lines in the small panels of single strategies are."""
    return "Means over the seeds: old classes solid, new classes dashed, guessing dotted. The highest is last."


def within(comparison: Comparison) -> str:
    """Return the finding of the figure of accuracy within experiences: how far that on old classes drops."""
    rows = [row for row in comparison.rows if row.estimates["stability_gap"]]
    if not rows:
        return "The stability gap is undefined here: it requires two experiences and an evaluation after each."
    told = _told(rows, "stability_gap", " points")
    return f"Drop in accuracy on old classes within an experience, below its value before it (stability gap): {told}."


def seen(comparison: Comparison) -> str:
    """Return the finding of the figure of accuracy over all classes seen: its mean over the experiences."""
    rows = [row for row in comparison.rows if row.estimates["average_incremental_accuracy"]]
    if not rows:
        return "Its mean is undefined here: it requires an evaluation after each experience."
    return f"Mean over the experiences: {_told(rows, 'average_incremental_accuracy')}."


def matrices(comparison: Comparison) -> str:
    """Return the finding of the accuracy matrices: the accuracy on the first experience, then and at the end."""
    last = experiences(comparison) - 1
    if last == 0:
        return "One experience: a single cell each."
    fates = []
    for row in few(comparison.rows):
        means = mean_matrix(row)
        first, now = means[0][0], means[last][0]
        if first is not None and now is not None:
            fates.append(f"{row.strategy} from {100 * first:.0f} to {100 * now:.0f}")
    text = "A bright diagonal above dark cells shows forgetting: learned well, then lost."
    told = f"{', '.join(fates)} %{rest(comparison.rows)}"
    return f"{text} Accuracy on the first experience, from when it was learned to the end: {told}."


def forgetting(comparison: Comparison) -> str:
    """Return the finding of the figure of forgetting."""
    rows = [row for row in comparison.rows if row.estimates["forgetting"]]
    if not rows:
        return "Undefined here: it requires two experiences and an evaluation after each."
    remedies = [row for row in rows if row.is_remedy]
    told = f"Forgetting after the last experience: {_told(rows, 'forgetting', ' points')}."
    if len(remedies) < 2:
        return told
    least = min(remedies, key=lambda row: _mean(row.estimates["forgetting"]))
    new = least.estimates["new_accuracy"]
    # What was never learned cannot be forgotten.
    learned = new is not None and new.mean > _guessing(comparison)
    return f"{told} Of {len(remedies)} remedies, {least.strategy} forgets least." if learned else told


def _mean(value: Estimate | None) -> float:
    assert value is not None
    return value.mean


def stability_and_plasticity(comparison: Comparison) -> str:
    """Return the finding of the figure of old against new classes."""
    rows = [row for row in comparison.rows if row.is_remedy and row.estimates["old_accuracy"]]
    if not rows:
        return "The goal is the top right corner, high on both axes; the upper reference shows how close one can get."
    old = _highest(comparison, "old_accuracy", "keeps", "the old classes")
    new = _highest(comparison, "new_accuracy", "learns", "the new ones")
    return f"{old[0].upper()}{old[1:]}; {new}." if old.startswith(("of", "none", "all")) else f"{old}; {new}."


def errors(comparison: Comparison) -> str:
    """Return the finding of the figure of old-class samples that are predicted as the newest classes."""
    shares = []
    for row in few(comparison.rows):
        values = [run.metric("recency_bias")[-1] for run in row.runs]
        if None not in values:
            shares.append((fmean(values), row.strategy))
    if not shares:
        none_new = not comparison.spec.scenario.classes_per_experience[-1]
        return NO_NEW_CLASS if none_new else "Undefined here: it requires two experiences."
    told = ", ".join(f"{name} {100 * share:.0f} %" for share, name in sorted(shares, reverse=True))
    told += rest(comparison.rows)
    return f"Share of the old classes' test samples that is predicted as one of the newest classes at the end: {told}."


def cost(comparison: Comparison) -> str:
    """Return the finding of the figures of cost."""
    lower = _reference(comparison.rows, "lower") if len(comparison.rows) > 1 else None
    base = lower.estimates["seconds"] if lower else None
    told = []
    for row in few(comparison.rows):
        seconds, kept = row.estimates["seconds"], row.estimates["stored_bytes"]
        if seconds is None or kept is None:
            continue
        times = f"{seconds.mean / base.mean:.1f}×" if base and base.mean else f"{seconds.mean:.1f} s"
        told.append(f"{row.strategy} {times} and {readable_bytes(kept.mean)}")
    against = f" Times are multiples of {lower.strategy}'s." if lower and base and base.mean else ""
    return f"Time and bytes kept between experiences: {', '.join(told)}{rest(comparison.rows)}.{against}"


def settings(comparison: Comparison) -> str:
    """Return the finding of the figure of the two settings."""
    gaps = []
    for row in comparison.rows:
        one, other = row.estimates["final_accuracy"], row.estimates["task_incremental_accuracy"]
        if one and other:
            gaps.append((other.mean - one.mean, row.strategy, one.mean, other.mean))
    if not gaps:
        return "No strategy was evaluated after the last experience."
    gap, name, one_mean, other_mean = max(gaps)
    numbers = f"{100 * one_mean:.1f} % over all classes, {100 * other_mean:.1f} % given the experience of each sample"
    easier = "The networks are the same; the second task is easier, and they were not trained for it."
    if len(gaps) == 1:
        return f"{name}: {numbers}. {easier}"
    return f"The widest gap is {name}'s: {numbers}. {easier}" if gap > 0 else f"No strategy gains. {easier}"
