"""Estimates how long planned runs will take, from the times of similar stored runs."""

from __future__ import annotations

import heapq
import json
import re
import statistics
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from clbench.results import manifests
from clbench.results.record_model import to_json
from clbench.results.run_spec import folder_name
from clbench.runs.grid_search import FOLDER
from clbench.runs.parallelism import Jobs, runs_at_once
from clbench.runs.planned_runs import Planned, most_needed
from clbench.runs.request import Request
from clbench.system.files import read_plain
from clbench.system.output import duration

_ENOUGH = 20
"""How many stored runs of a kind are read."""


@dataclass(frozen=True)
class ExpectedTime:
    """How long runs will take, as far as stored runs show."""

    by_run: dict[str, tuple[float, int]]
    """By a run's name, the seconds and the number of stored runs behind them; without runs that none is like."""

    text: str
    """The total in words, always with its source."""


def expected_time(to_do: Sequence[Planned], request: Request) -> ExpectedTime:
    """Return how long these runs will take with the jobs of `request`, from the runs in its results folder."""
    if not to_do:
        return ExpectedTime({}, "")
    known: dict[str, list[float]] = {}
    for run in to_do:
        kind = _kind(to_json(run.spec))
        if kind not in known:
            known[kind] = _seconds_of(kind, run, request.out)
    by_run = {
        run.name: (statistics.fmean(found), len(found)) for run in to_do if (found := known[_kind(to_json(run.spec))])
    }
    return ExpectedTime(by_run, _in_words(to_do, by_run, sum(map(len, known.values())), request))


def _in_words(to_do: Sequence[Planned], by_run: dict[str, tuple[float, int]], stored: int, request: Request) -> str:
    unknown = len(to_do) - len(by_run)
    if not by_run:
        return f"How long they take is unknown: no run stored in {request.out} is like these."
    known = [seconds for seconds, _ in by_run.values()]
    if request.on == "local":
        jobs = 1 if request.jobs is None else request.jobs
        time = f"{duration(_until_all_are_done(known, _at_once(to_do, jobs)))} with --jobs {jobs}"
    else:  # how many run at once depends on the cluster
        time = f"{duration(sum(known))} one after the other"
    text = f"About {time}, from {_runs(stored)} in {request.out} like these"
    return f"{text}; nothing is known about {_runs(unknown)}, which come on top." if unknown else f"{text}."


def _runs(count: int) -> str:
    return "one run" if count == 1 else f"{count} runs"


def _at_once(to_do: Sequence[Planned], jobs: Jobs) -> int:
    threads, device = most_needed(to_do)
    return runs_at_once(jobs, len(to_do), threads, device)


def _until_all_are_done(seconds: Sequence[float], at_once: int) -> float:
    """Return when the last of the runs ends if `at_once` execute at a time and the longest begin first."""
    busy_until = [0.0] * at_once
    for each in sorted(seconds, reverse=True):
        heapq.heapreplace(busy_until, busy_until[0] + each)
    return max(busy_until)


def _seconds_of(kind: str, like: Planned, results: Path) -> list[float]:
    """Return the seconds that stored runs of a kind took, including their start-up."""
    found = []
    for folder in _folders(results, like):
        with suppress(OSError, ValueError, KeyError, TypeError):  # unreadable runs are ignored
            if _kind(_json(folder / "spec.json")) == kind:
                costs = _json(folder / "costs.json")
                found.append(float(costs["totals"]["seconds"] + costs["start_up_seconds"]))
        if len(found) == _ENOUGH:
            break
    return found


def _folders(results: Path, like: Planned) -> Iterator[Path]:
    """Yield the stored runs that differ from a planned one, by their names, in seed and hash at most."""
    place, _, name = folder_name(like.spec).rpartition("/")
    stem = re.sub(r"-seed\d+-[0-9a-f]+$", "-seed", name)
    for root in (results, results / FOLDER):
        with suppress(OSError):
            yield from sorted(path for path in (root / place).iterdir() if path.name.startswith(stem))


def _json(file: Path) -> Any:
    return json.loads(read_plain(file, manifests.LARGEST_JSON))


def _kind(spec: dict[str, Any]) -> str:
    """Return what runs of about the same duration have in common: all but seed, class order, data and versions."""
    scenario, strategy, network = spec["scenario"], spec["strategy"], spec["network"]
    return json.dumps(
        [
            {name: scenario[name] for name in ("name", "setting", "classes_per_experience")},
            scenario.get("held_out"),
            {name: value for name, value in network.items() if not name.endswith("sha256")},
            spec["recipe"]["config"],
            {name: value for name, value in strategy.items() if name != "sha256"},
            (spec.get("tuning") or {}).get("how") == "chf",
            spec["device"],
            spec["threads"],
        ],
        sort_keys=True,
    )
