"""Collects where the numbers come from: the methods as their files describe them, the commands, and the machines."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from clbench.comparison.rows import Comparison, Row
from clbench.results.asked_for import asked_for
from clbench.results.command import command_line
from clbench.results.environment import Environment
from clbench.results.record_model import to_json
from clbench.results.run_result import HyperParameter
from clbench.results.run_spec import StrategySpec
from clbench.results.stored_run import StoredRun


@dataclass(frozen=True)
class Setting:
    """A hyper-parameter of a run, with its description from the strategy's file."""

    name: str
    value: str
    default: str
    doc: str

    changed: bool
    """Whether the run did not use the default."""


@dataclass(frozen=True)
class Method:
    """A strategy in one configuration, described by the file that ran."""

    anchor: str
    label: str
    doc: str
    variant: str
    """The source of the preset in use, the paper named in the file, or the first words after its `Variant:`."""

    formula: str
    """The loss of the preset in use, as written in the file; empty if the strategy has none."""

    settings: tuple[Setting, ...]
    sha256: str
    file: str
    """Path of its source within the report; empty if the results folder does not have it."""

    source: bytes


def methods(comparisons: Iterable[Comparison]) -> list[Method]:
    """Return the methods of all comparisons, each once, by label."""
    found: dict[str, Method] = {}
    for comparison in comparisons:
        for row in comparison.rows:
            made = method(row)
            found.setdefault(made.anchor, made)
    return sorted(found.values(), key=lambda made: (made.label, made.anchor))


def method(row: Row) -> Method:
    """Return the method of a row, from the source stored with its runs."""
    run = row.runs[0]
    strategy, said, source = run.spec.strategy, run.facts.strategy, run.source
    declared = {each.name: each for each in said.hyper_parameters}
    return Method(
        anchor=f"method-{slug(row.strategy)}-{_digest(strategy)}",
        label=row.strategy,
        doc=said.doc or f"The file has no description{f' ({said.problem})' if said.problem else ''}.",
        variant=said.variant if strategy.preset else _paper(said.doc) or said.variant,
        formula=said.formula,
        settings=tuple(_setting(name, value, declared.get(name)) for name, value in strategy.config.items()),
        sha256=strategy.sha256,
        file=f"methods/{slug(row.name)}-{strategy.sha256[:8]}.py" if source else "",
        source=source or b"",
    )


def _paper(doc: str) -> str:
    """Return the paper at the start of a docstring's line `Source:`; empty if it starts with anything else.

    The first words after `Variant:` would be half a sentence: `shrunk once`.
    """
    found = re.search(r"^Source: ((?!the )[^(]*\d{4} \((?:[^()]|\([^()]*\))*\))", doc, re.MULTILINE)
    return found[1] if found else ""


def _digest(strategy: StrategySpec) -> str:
    """Return a digest that identifies a strategy in one configuration, even if several names give the same slug."""
    return hashlib.sha256(json.dumps(to_json(strategy), sort_keys=True).encode()).hexdigest()[:8]


def _setting(name: str, value: Any, declared: HyperParameter | None) -> Setting:
    text = json.dumps(value, ensure_ascii=False)
    if declared is None:
        return Setting(name, text, "", "", changed=True)
    return Setting(name, text, _shown(declared.default), declared.doc, changed=declared.default != value)


def _shown(default: Any) -> str:
    return default if isinstance(default, str) else json.dumps(default, ensure_ascii=False)


def slug(text: str) -> str:
    """Return the text without characters that a path or an anchor cannot have."""
    return re.sub(r"[^A-Za-z0-9_-]+", "-", text).strip("-")[:60] or "unnamed"


# -- commands ---------------------------------------------------------------------------------------------------------


def commands(comparison: Comparison) -> list[str]:
    """Return the commands that make the runs of a comparison; several if a strategy has several configurations."""
    runs = [run for row in comparison.rows for run in row.runs]
    return [command_line(section) for section in asked_for(runs).sections]


# -- machines ---------------------------------------------------------------------------------------------------------


def surroundings(runs: Sequence[StoredRun]) -> list[tuple[str, str]]:
    """Return the machine and software of the runs as names and values; if runs differ, every value is given."""
    values: dict[str, set[str]] = {}
    for run in runs:
        for name, value in described(run.environment, run.spec.device):
            values.setdefault(name, set()).add(value)
    return [(name, ", ".join(sorted(each))) for name, each in values.items()]


def described(known: Environment, device: str) -> list[tuple[str, str]]:
    """Return what is known of a machine and its software as names and values."""
    entries = {
        "Python": known.python,
        "system": known.system,
        "processor": known.processor,
        "cores": known.cores,
        "GPU": known.gpu,
        "device": device,
        "clbench's commit": known.source,
        **(known.packages or {}),
        **(known.variables or {}),
    }
    return [(name, str(value)) for name, value in entries.items() if value is not None]


def dates(runs: Sequence[StoredRun]) -> str:
    """Return the day, or the first and the last day, on which the runs were made; nothing if it is not known."""
    days = sorted({run.environment.finished[:10] for run in runs if run.environment.finished})
    return days[0] if len(days) == 1 else f"{days[0]} to {days[-1]}" if days else ""
