"""What a comparison shows, in sentences with numbers and intervals; each says only what its numbers do."""

from __future__ import annotations

from collections.abc import Sequence

from clbench.comparison.comparison import Comparison, Row
from clbench.comparison.statistics import Estimate
from clbench.reporting.figures import experiences, mean_matrix, percent
from clbench.system.tables import listed, readable_bytes


def answer(comparison: Comparison) -> str:
    """Return the result in one sentence: what is forgotten, what the best remedy buys, what is possible."""
    if not comparison.seeds:
        return "The strategies have no seed in common, so nothing here tells which of them is better."
    parts = []
    lower, upper, best = _reference(comparison, "lower"), _reference(comparison, "upper"), _best_remedy(comparison)
    if lower:
        parts.append(f"{lower.strategy}, with nothing done against forgetting, ends at {_outcome(lower)}")
    if best:
        remedies = sum(row.reference is None for row in comparison.rows)
        which = (
            f"of {remedies} remedies {best.strategy} ends highest, at" if remedies > 1 else f"{best.strategy} ends at"
        )
        parts.append(f"{which} {_outcome(best)}{_doubt(comparison, best)}")
    if upper:
        parts.append(f"{upper.strategy}, which may keep all data, ends at {_outcome(upper)}")
    return f"{_setting(comparison)}: {'; '.join(parts) or 'no result after the last experience'}."


def _setting(comparison: Comparison) -> str:
    count = experiences(comparison)
    length = f"{count} experiences" if count > 1 else "one experience"
    seeds = len(comparison.seeds)
    return f"After {length}, over {seeds} seeds" if seeds > 1 else f"After {length}, with one seed"


def _outcome(row: Row) -> str:
    old, new, final = (row.estimates[name] for name in ("old_accuracy", "new_accuracy", "final_accuracy"))
    if final is None:
        return "no result after the last experience"
    parts = f" ({percent(old)} % on old classes, {percent(new)} % on new ones)" if old and new else ""
    return f"{percent(final)} %{parts}"


def _doubt(comparison: Comparison, best: Row) -> str:
    if best.standing != "best":
        lower = _reference(comparison, "lower")
        return f", which is not above {lower.strategy}" if lower else ""
    tied = [row.strategy for row in comparison.rows if row.standing == "tied"]
    if not tied:
        return ""
    if len(comparison.seeds) == 1:
        return f", with {listed(tied)}"
    if comparison.testable:
        return f", and {listed(tied)} may be as good"
    return f", though {len(comparison.seeds)} seeds are too few to tell the strategies apart"


def _reference(comparison: Comparison, kind: str) -> Row | None:
    return next((row for row in comparison.rows if row.reference == kind), None)


def _best_remedy(comparison: Comparison) -> Row | None:
    remedies = [row for row in comparison.rows if row.reference is None and row.estimates["final_accuracy"]]
    return remedies[-1] if remedies else None


def _told(rows: Sequence[Row], column: str, unit: str = " %") -> str:
    said = [f"{row.strategy} {percent(row.estimates[column])}{unit}" for row in rows if row.estimates[column]]
    return ", ".join(said)


def old_and_new(comparison: Comparison) -> str:
    """Return the finding of the figure of old-class and new-class accuracy."""
    if experiences(comparison) == 1:
        return f"One experience, so nothing to forget. New classes: {_told(comparison.rows, 'new_accuracy')}."
    rows = [row for row in comparison.rows if row.estimates["old_accuracy"]]
    forgetful = [row for row in rows if _lost(row)]
    if not rows:
        return "No strategy was evaluated after the last experience."
    text = f"Right on old classes after the last experience: {_told(rows, 'old_accuracy')}."
    if forgetful:
        names = listed([row.strategy for row in forgetful])
        text += (
            f" {names} {'has' if len(forgetful) == 1 else 'have'} forgotten: nearly all of the old classes are lost, "
            "while the new ones are learned. That is catastrophic forgetting."
        )
    return text


def _lost(row: Row) -> bool:
    old, new = row.estimates["old_accuracy"], row.estimates["new_accuracy"]
    return bool(old and new and old.mean < 0.05 and new.mean > 0.5)


def matrices(comparison: Comparison) -> str:
    """Return the finding of the accuracy matrices: what became of the first experience."""
    last = experiences(comparison) - 1
    if last == 0:
        return "One experience: a single cell each."
    fates = []
    for row in comparison.rows:
        means = mean_matrix(row)
        first, now = means[0][0], means[last][0]
        if first is not None and now is not None:
            fates.append(f"{row.strategy} from {100 * first:.0f} to {100 * now:.0f}")
    text = "A bright diagonal over dark cells is forgetting: learned well, then lost."
    return f"{text} Accuracy on the first experience, from when it was learned to the end: {', '.join(fates)} %."


def forgetting(comparison: Comparison) -> str:
    """Return the finding of the figure of forgetting."""
    return _extremes(comparison, "forgetting", "forgets most", "least", "points")


def _extremes(comparison: Comparison, column: str, most: str, least: str, unit: str) -> str:
    rows = [row for row in comparison.rows if row.estimates[column]]
    ordered = sorted(rows, key=lambda row: (_mean(row.estimates[column]), row.strategy))
    if not ordered:
        return "Undefined here: it takes two experiences and an evaluation after each."
    last, first = ordered[-1], ordered[0]
    text = f"{last.strategy} {most}, {percent(last.estimates[column])} {unit}"
    if len(ordered) > 1:
        text += f"; {first.strategy} {least}, {percent(first.estimates[column])}"
    return f"{text}."


def _mean(value: Estimate | None) -> float:
    assert value is not None
    return value.mean


def stability_and_plasticity(comparison: Comparison) -> str:
    """Return the finding of the figure of old against new classes."""
    rows = [row for row in comparison.rows if row.reference is None and row.estimates["old_accuracy"]]
    if not rows:
        return "Both corners at once, top right, is the goal; the upper reference shows how near one can come."
    stable = max(rows, key=lambda row: _mean(row.estimates["old_accuracy"]))
    plastic = max(rows, key=lambda row: (_mean(row.estimates["new_accuracy"]), row is stable))
    both = (
        f"Of the remedies {stable.strategy} keeps most of the old classes "
        f"({percent(stable.estimates['old_accuracy'])} %), "
    )
    if stable is plastic:
        return f"{both}and also learns the new ones best ({percent(stable.estimates['new_accuracy'])} %)."
    return f"{both}{plastic.strategy} learns the new ones best ({percent(plastic.estimates['new_accuracy'])} %)."


def errors(comparison: Comparison) -> str:
    """Return the finding of the figure of old-class samples that are taken for the newest classes."""
    shares = []
    for row in comparison.rows:
        values = [run.metric("recency_bias")[-1] for run in row.runs]
        if None not in values:
            shares.append((sum(values) / len(values), row.strategy))
    if not shares:
        return "Undefined here: it takes two experiences."
    told = ", ".join(f"{name} {100 * share:.0f} %" for share, name in sorted(shares, reverse=True))
    return f"Old-class test samples that are given to one of the newest classes, at the end: {told}."


def cost(comparison: Comparison) -> str:
    """Return the finding of the figures of cost."""
    lower = _reference(comparison, "lower")
    base = lower.estimates["seconds"] if lower else None
    told = []
    for row in comparison.rows:
        seconds, kept = row.estimates["seconds"], row.estimates["stored_bytes"]
        if seconds is None or kept is None:
            continue
        times = f"{seconds.mean / base.mean:.1f}×" if base and base.mean else f"{seconds.mean:.1f} s"
        told.append(f"{row.strategy} {times} and {readable_bytes(kept.mean)}")
    against = f" Times are multiples of {lower.strategy}'s." if lower and base and base.mean else ""
    return f"Time and bytes kept between experiences: {', '.join(told)}.{against}"


def settings(comparison: Comparison) -> str:
    """Return the finding of the figure of the two settings."""
    gaps = []
    for row in comparison.rows:
        one, other = row.estimates["final_accuracy"], row.estimates["task_incremental_accuracy"]
        if one and other:
            gaps.append((other.mean - one.mean, row.strategy, one.mean, other.mean))
    if not gaps:
        return "No strategy was evaluated after the last experience."
    _, name, one_mean, other_mean = max(gaps)
    return (
        f"The widest gap is {name}'s: {100 * one_mean:.1f} % over all classes, {100 * other_mean:.1f} % when told "
        "which experience a sample is from. The networks and runs are the same; the second is the easier question, "
        "and was not trained for."
    )
