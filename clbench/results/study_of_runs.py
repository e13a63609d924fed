"""Writes the study that reproduces stored runs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from clbench.results.asked_for import asked_for
from clbench.results.stored_run import StoredRun
from clbench.results.study_text import study_text


def study_of_runs(runs: Sequence[StoredRun], files: Mapping[str, str] | None = None) -> str:
    """Return the study of these runs as text; what it cannot express is in its comment.

    `files` are the paths of strategies' sources next to the study, by their hash.
    """
    ordered = sorted(runs, key=_place)
    asked = asked_for(ordered)
    count = "one run" if len(runs) == 1 else f"these {len(runs)} runs"
    sources = {run.spec.strategy.sha256: run for run in ordered}
    said = [
        f"Reproduces {count}, with the same ids if strategies, networks and data are the same.",
        *(f"To do: {text}" for text in asked.lacking),
        "The files of the strategies that made them:",
        *(f"  {_source(run, (files or {}).get(sha256))}" for sha256, run in sources.items()),
    ]
    return study_text([_as_written(section) for section in asked.sections], "\n".join(said))


def _place(run: StoredRun) -> tuple[Any, ...]:
    spec = run.spec
    return spec.scenario.name, spec.recipe.name, spec.scenario.setting, spec.strategy.selector, spec.seeds.run


def _source(run: StoredRun, file: str | None) -> str:
    name, sha256 = run.spec.strategy.name, run.spec.strategy.sha256
    if run.spec.strategy.package:
        return f"{name}: from {run.spec.strategy.package}"
    where = f", here {file}" if file else "" if run.source else ", which their results folder does not have"
    return f"{name}: SHA-256 {sha256}{where}"


def _as_written(section: Mapping[str, Any]) -> dict[str, Any]:
    """Return a section with a name instead of a list of one, and with numbers instead of their text."""
    names = {name: section[name][0] for name in ("strategy", "scenario") if len(section[name]) == 1}
    seeds, split = section["seeds"], section.get("split", "")
    numbers: dict[str, Any] = {"seeds": len(seeds) if seeds == list(range(len(seeds))) else seeds}
    if split:  # a stream that creates its own experiences has none
        numbers["split"] = int(split) if split.isdecimal() else split
    return {**section, **names, **numbers}
