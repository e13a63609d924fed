"""A comparison of runs and its rows: a row per strategy, over the same seeds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from clbench.base.recipe_changes import named
from clbench.comparison import statistics
from clbench.comparison.how_tuned import how_tuned
from clbench.comparison.statistics import Difference, Estimate
from clbench.results.run_spec import NetworkSpec, RunSpec
from clbench.results.stored_run import StoredRun
from clbench.system.output import legible

Reference = Literal["lower", "upper"]


@dataclass(frozen=True)
class Row:
    """One strategy, in one configuration, over the seeds of the comparison."""

    strategy: str
    """Its name and preset, with the hyper-parameters in which several rows of one name differ."""

    runs: tuple[StoredRun, ...]
    """A run per seed, in the order of the seeds; in every row of a comparison the same seeds."""

    estimates: dict[str, Estimate | None]
    """By column; None if a value is undefined, such as the old-class accuracy of a single experience."""

    reference: Reference | None = None
    """Whether it bounds the comparison from below or above, as its file says, rather than being a remedy itself."""

    intransigence: Estimate | None = None
    """Mean over the experiences of the upper reference's lead on each just after learning it, with equal seeds.

    None for that reference, if there is none or several, and if a run was not evaluated after every experience.
    """

    to_lower: Difference | None = None
    """Its final accuracy minus the lower reference's, with equal seeds; None for that reference or without one."""

    to_best: Estimate | None = None
    """The same relative to the best row, without a separate test: these numbers decided which row is the best."""

    p_best: float | None = None
    """The p of its being as good as the best (`statistics.p_as_good_as_best`); None with one seed."""

    standing: Literal["best", "tied"] | None = None
    """Whether it has the highest mean final accuracy of all rows but the upper reference, or may be as good as that.

    None for all if nothing is above chance level, and for a row whose cross-entropy was constant.

    With one seed, which allows no test, only rows that equal the best are tied.
    """

    @property
    def name(self) -> str:
        """The strategy's name without preset and hyper-parameters."""
        return self.runs[0].spec.strategy.name

    @property
    def seeds(self) -> tuple[int, ...]:
        """The seeds of its runs."""
        return tuple(run.spec.seeds.run for run in self.runs)

    @property
    def tuned(self) -> str:
        """How its hyper-parameters were chosen: `default`, `preset`, `by hand`, `chf` or `grid (n trials)`."""
        return how_tuned(self.runs[0])

    @property
    def audit(self) -> str:
        """The verdict of the audit (see audit/audit.py) on its runs: `pass`, or all of the worst that it found."""
        verdicts = [run.facts.verdict.rstrip(")").partition("(") for run in self.runs]
        worst = max((severity for severity, _, _ in verdicts), key=("pass", "warn", "violation").index)
        names = {name for severity, _, found in verdicts if severity == worst for name in found.split(", ") if name}
        return f"{worst}({', '.join(sorted(names))})" if names else worst

    @property
    def constant_in(self) -> tuple[int, ...]:
        """The experiences in which its cross-entropy ranged over one of several classes, and was uninformative."""
        return tuple(index for index in self.runs[0].facts.constant_in if index > 0)

    @property
    def idle_in(self) -> tuple[int, ...]:
        """The other experiences in which its loss was 0 at every step, except the first, which may have one class."""
        facts = self.runs[0].facts
        return tuple(index for index in facts.idle_in if index > 0 and index not in facts.constant_in)

    @property
    def is_remedy(self) -> bool:
        """Whether it is neither a reference nor barred from being called the best."""
        return self.reference is None and self.may_be_best

    @property
    def may_be_best(self) -> bool:
        """Whether it can be called the best: it is no upper reference, and its loss is always informative."""
        return self.reference != "upper" and not self.constant_in and not self.idle_in

    @property
    def title(self) -> str:
        """The strategy with its role in the comparison: `naive (lower reference)`."""
        return f"{self.strategy} ({self.reference} reference)" if self.reference else self.strategy


def _recipe(spec: RunSpec) -> str:
    """Return the name of the recipe, and the network if there is more to it than its name."""
    if spec.network == NetworkSpec(name=spec.network.name):
        return spec.recipe.name
    others = {path: value for path, value in spec.recipe.changes.items() if not path.startswith("network")}
    return f"{named(spec.recipe.base or spec.recipe.name, others)}, {spec.network.label}"


@dataclass(frozen=True)
class Comparison:
    """Runs that differ in nothing but strategy and seed."""

    rows: list[Row]
    """From the lowest to the highest final accuracy."""

    seeds: tuple[int, ...]
    """The seeds of every row; empty if the strategies have no seed in common."""

    warnings: list[str]
    """What a reader must know before trusting the table: seeds left out, unequal budgets."""

    notes: list[str]
    """How to read it: reference values, and what the tests can and cannot say."""

    distinction: str = ""
    """What distinguishes it from another comparison with the same title, such as the class order."""

    @property
    def testable(self) -> bool:
        """Whether a test over this many seeds could distinguish a strategy from the best, if it were much worse."""
        return statistics.smallest_joint_p(len(self.seeds)) <= statistics.LEVEL

    @property
    def imbalance(self) -> float:
        """The ratio of test samples of the largest class to those of the smallest that has any."""
        least, most = class_sizes(self.rows[0].runs[0])
        return most / least

    @property
    def training_imbalance(self) -> float:
        """The ratio of training images of the most frequent class to those of the rarest; 1 if a run has no counts."""
        found = [run.facts.training_images for row in self.rows for run in row.runs]
        return max((max(each) / max(1, min(each)) for each in found if each), default=1.0) if all(found) else 1.0

    @property
    def spec(self) -> RunSpec:
        """The spec of one of the runs, for what they have in common."""
        return self.rows[0].runs[0].spec

    @property
    def scenario(self) -> str:
        """The scenario's name."""
        return legible(self.spec.scenario.name)

    @property
    def experience_names(self) -> tuple[str, ...]:
        """The name of each experience: its domain, if it is the same in all runs, otherwise its number from 1."""
        streams = {run.spec.scenario.domains for row in self.rows for run in row.runs}
        if len(streams) == 1 and (domains := streams.pop()):
            return domains
        return tuple(str(index + 1) for index in range(len(self.spec.scenario.classes_per_experience)))

    @property
    def title(self) -> str:
        """The scenario with its protocol, in one line."""
        spec = self.spec
        threads = f"{spec.threads} thread{'s' if spec.threads != 1 else ''}"
        recipe = legible(f"recipe {_recipe(spec)}, {spec.device}, {threads}")
        title = f"{self.scenario}, {spec.scenario.in_words}, {spec.scenario.setting.replace('_', '-')}, {recipe}"
        return f"{title}, {self.distinction}" if self.distinction else title


def lower_reference(rows: Sequence[Row]) -> Row | None:
    """Return the row that bounds the others from below; of several, the one with default hyper-parameters."""
    found = [row for row in rows if row.reference == "lower"]
    return min(found, key=lambda row: (row.tuned != "default", row.strategy), default=None)


def chance(row: Row) -> float:
    """Return the chance level over all classes, in the setting of the row's runs."""
    run = row.runs[0]
    return run.facts.chance[run.setting][-1]


def final_accuracies(row: Row) -> list[float]:
    """Return the final accuracy of each seed of a row that has one."""
    return [value for run in row.runs if (value := run.final("final_accuracy")) is not None]


def class_sizes(run: StoredRun) -> tuple[int, int]:
    """Return the number of test samples of the smallest class that has any, and of the largest."""
    totals = [total for total in run.counts().class_total if total]
    return min(totals), max(totals)
