"""Where the numbers come from: the methods as their files describe them, the commands, and the machines."""

from __future__ import annotations

import ast
import hashlib
import json
import re
import shlex
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from clbench.comparison.comparison import Comparison, Row
from clbench.plugins.discovery import Plugin, describe_content
from clbench.plugins.syntax import Field
from clbench.results.stored_runs import StoredRun
from clbench.streams.splits import describe_split


@dataclass(frozen=True)
class Setting:
    """A hyper-parameter of a run beside what its file says of it."""

    name: str
    value: str
    default: str
    doc: str

    @property
    def changed(self) -> bool:
        """Whether the run did not use the default."""
        return not _equal(self.default, json.loads(self.value))


@dataclass(frozen=True)
class Method:
    """A strategy in one configuration, described by the file that ran."""

    anchor: str
    label: str
    doc: str
    variant: str
    """The source of the preset in use, or the first words of what the file says after `Variant:`."""

    formula: str
    """The loss of the preset in use, as the file writes it; empty where the strategy has none."""

    settings: tuple[Setting, ...]
    sha256: str
    file: str
    """Path of its source within the report."""

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
    """Return the method of a row, from the source that its runs carry."""
    run = row.runs[0]
    strategy = run.spec["strategy"]
    plugin = described(run)
    fields = {field.name: field for field in plugin.fields}
    return Method(
        anchor=f"method-{slug(row.strategy)}-{_digest(strategy)}",
        label=row.strategy,
        doc=plugin.doc or f"The file says nothing of itself{f' ({plugin.problem})' if plugin.problem else ''}.",
        variant=_preset_of(run, plugin).get("source") or _variant(plugin.doc),
        formula=_preset_of(run, plugin).get("loss", ""),
        settings=tuple(_setting(name, value, fields.get(name)) for name, value in strategy["config"].items()),
        sha256=strategy["sha256"],
        file=f"methods/{slug(row.name)}-{strategy['sha256'][:8]}.py",
        source=run.source,
    )


def _digest(strategy: dict[str, Any]) -> str:
    """Return what tells a strategy in one configuration from all others, also where their names make one slug."""
    return hashlib.sha256(json.dumps(strategy, sort_keys=True).encode()).hexdigest()[:8]


def _preset_of(run: StoredRun, plugin: Plugin) -> dict[str, str]:
    """Return source and formula of the preset that a run was made with; nothing where it was made with none."""
    preset = plugin.presets.get(run.spec["strategy"].get("preset") or "", {})
    return {key: preset[key] for key in ("source", "loss") if isinstance(preset.get(key), str)}


def described(run: StoredRun) -> Plugin:
    """Return what the strategy's file, as the run carries it, says of itself."""
    return describe_content("strategy", run.spec["strategy"]["name"], run.source)


def _setting(name: str, value: Any, field: Field | None) -> Setting:
    return Setting(
        name, json.dumps(value, ensure_ascii=False), field.default if field else "", field.doc if field else ""
    )


def _equal(default: str, value: Any) -> bool:
    try:
        return bool(ast.literal_eval(default) == value)
    except (ValueError, SyntaxError):
        return False


def _variant(doc: str) -> str:
    match = re.search(r"^Variant:\s*(.+?)(?:[.,;:]\s|\.$|\n\n|\Z)", doc, re.MULTILINE | re.DOTALL)
    return re.sub(r"\s+", " ", match[1])[:160] if match else ""


def slug(text: str) -> str:
    """Return the text with nothing in it that a path or an anchor could not have."""
    return re.sub(r"[^A-Za-z0-9_-]+", "-", text).strip("-")[:60] or "unnamed"


# -- commands ---------------------------------------------------------------------------------------------------------


def commands(comparison: Comparison) -> list[str]:
    """Return the commands that make the runs of a comparison; several where a strategy is in several configurations."""
    pending = list(comparison.rows)
    made = []
    while pending:
        together: dict[str, Row] = {}
        for row in pending:
            if row.seeds == pending[0].seeds:
                together.setdefault(_selector(row), row)
        pending = [row for row in pending if row not in together.values()]
        made.append(_command(comparison.spec, list(together.values())))
    return made


def _command(spec: dict[str, Any], rows: Sequence[Row]) -> str:
    scenario = spec["scenario"]
    recipe, _, epochs = spec["recipe"]["name"].partition("-epochs")
    order = scenario["class_order_from"]
    words = ["clbench", "run", "-s", ",".join(map(_selector, rows)), "-S", scenario["name"], "--recipe", recipe]
    words += ["--setting", scenario["setting"].partition("_")[0]]
    words += ["--epochs", epochs] if epochs else []
    words += ["--split", _split_option(scenario["classes_per_experience"])]
    words += ["--class-order", order if order != "list" else ",".join(map(str, scenario["class_order"]))]
    words += ["--seeds", ",".join(map(str, rows[0].seeds)) + ("," if len(rows[0].seeds) == 1 else "")]
    words += ["--device", spec["device"], "--threads", str(spec["threads"])]
    for row in rows:
        for setting in method(row).settings:
            if setting.changed:
                value = row.runs[0].spec["strategy"]["config"][setting.name]
                words += [
                    "--set",
                    f"{_selector(row)}.{setting.name}={value if isinstance(value, str) else setting.value}",
                ]
    return shlex.join(words)


def _selector(row: Row) -> str:
    preset = row.runs[0].spec["strategy"].get("preset")
    return f"{row.name}:{preset}" if preset else row.name


def _split_option(sizes: Sequence[int]) -> str:
    if len(set(sizes)) == 1:
        return str(len(sizes))
    text = describe_split(sizes).replace("×", "x")
    return text if "x" in text else ",".join(map(str, sizes))


# -- machines ---------------------------------------------------------------------------------------------------------


def surroundings(runs: Sequence[StoredRun]) -> list[tuple[str, str]]:
    """Return on what the runs were made, as names and values; where runs differ, every value is given."""
    values: dict[str, set[str]] = {}
    for run in runs:
        known = run.environment
        entries = {
            "Python": known.get("python"),
            "system": known.get("system"),
            "processor": known.get("processor"),
            "cores": known.get("cores"),
            "GPU": known.get("gpu"),
            "device": run.spec["device"],
            "clbench's commit": known.get("source"),
            **(known.get("packages") or {}),
            **(known.get("variables") or {}),
        }
        for name, value in entries.items():
            if value is not None:
                values.setdefault(name, set()).add(str(value))
    return [(name, ", ".join(sorted(each))) for name, each in values.items()]


def dates(runs: Sequence[StoredRun]) -> str:
    """Return the day, or the first and the last day, on which the runs were made; nothing where it is not known."""
    days = sorted({str(run.environment["finished"])[:10] for run in runs if run.environment.get("finished")})
    return days[0] if len(days) == 1 else f"{days[0]} to {days[-1]}" if days else ""
