"""Selects stored runs by the names of their strategy, scenario and recipe."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from clbench.errors import UsageError
from clbench.results.stored_run import StoredRun
from clbench.system.suggestions import did_you_mean


@dataclass(frozen=True)
class Selection:
    """Which runs are requested; an empty tuple selects all."""

    strategies: tuple[str, ...] = ()
    scenarios: tuple[str, ...] = ()
    recipes: tuple[str, ...] = ()

    def has(self, strategy: str, scenario: str, recipe: str | None = None) -> bool:
        """Return whether a run with these names is selected; without a recipe, whether one could be."""
        return (
            (not self.strategies or strategy in self.strategies)
            and (not self.scenarios or scenario in self.scenarios)
            and (not self.recipes or recipe is None or recipe in self.recipes)
        )

    def of(self, runs: Sequence[StoredRun]) -> list[StoredRun]:
        """Return the selected runs, in order of their ids. Raises UsageError for a name that no run has."""
        named = [(run.spec.strategy.name, run.spec.scenario.name, run.spec.recipe.name) for run in runs]
        for position, (kind, wanted) in enumerate(
            (("strategy", self.strategies), ("scenario", self.scenarios), ("recipe", self.recipes))
        ):
            known = sorted({names[position] for names in named})
            for name in wanted:
                if named and name not in known:
                    raise UsageError(
                        f"no stored run has the {kind} '{name}'{did_you_mean(name, known)}",
                        f"Stored: {', '.join(known)}",
                    )
        chosen = [run for run, names in zip(runs, named, strict=True) if self.has(*names)]
        return sorted(chosen, key=lambda run: run.run_id)  # whatever the order of the places
