"""Reads stored runs and writes their report, for `clbench report` and for `clbench.report` in Python."""

from __future__ import annotations

import html
import os
import re
import shutil
import uuid
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from filelock import FileLock

from clbench.comparison.grouping import compare
from clbench.comparison.rows import Comparison
from clbench.errors import MachineError, UsageError
from clbench.reporting.page import Content, render
from clbench.reporting.provenance import dates, methods, surroundings
from clbench.reporting.scenarios import across_scenarios
from clbench.reporting.sections import RUNS_IN_PAGE, published, run_table, run_texts, sections
from clbench.results.counts_frame import frame
from clbench.results.failed_runs import Failure, failures
from clbench.results.run_selection import Selection
from clbench.results.stored_run import StoredRun, Unreadable
from clbench.results.stored_runs import Watch, faulty_sources, read_all, unwatched
from clbench.results.study_of_runs import study_of_runs
from clbench.results.table_export import table_csv
from clbench.system.files import write_synced
from clbench.system.output import as_csv, legible

_ALWAYS = {"index.html", "data.csv"}
_ENTRIES = _ALWAYS | {"study.toml", "figures", "tables", "methods"}
_BEFORE = "-before"
"""Suffix of a report's name while it is being replaced."""


@dataclass(frozen=True)
class Report:
    """A report that was written."""

    page: Path
    runs: int
    comparisons: int
    left_out: tuple[str, ...]
    """Runs that are not in it, each with the reason."""


def write_report(
    places: Sequence[str | Path],
    out: Path | None,
    selection: Selection,
    watch: Watch = unwatched,
) -> Report:
    """Write the report of the runs in `places`, folders and packs, to the folder `out`.

    The default is reports/NAME for a single place, otherwise reports/comparison.

    The runs and the figures are iterated through `watch`, which may show progress. Raises UsageError if there is
    nothing to report, MachineError if `out` cannot be written or is not a report.
    """
    runs, unreadable = read_all(places, watch)
    chosen = selection.of(runs)
    if not chosen:
        found = "".join(f"\n{fault.path}: {fault.problem}" for fault in unreadable)
        raise UsageError(
            f"no runs in {', '.join(map(str, places))}{found}", "Make some: clbench run -s naive,lwf -S splitdigits"
        )
    failed = [each for each in failures(places) if selection.has(each.strategy, each.scenario)]
    left_out = _left_out(unreadable, failed) + [f"Not shown: {legible(fault)}" for fault in faulty_sources(chosen)]
    target = out or Path("reports") / (_name(Path(places[0])) if len(places) == 1 else "comparison")
    _require_report_or_nothing(target)
    comparisons = compare(chosen)
    _publish(target, report_files(chosen, comparisons, left_out, watch))
    return Report(target / "index.html", len(chosen), len(comparisons), tuple(left_out))


def _name(place: Path) -> str:
    return place.stem if place.is_file() else place.resolve().name


def _left_out(unreadable: Iterable[Unreadable], failed: Iterable[Failure]) -> list[str]:
    damaged = sorted(f"{'/'.join(fault.path.parts[-3:])}: {fault.problem}" for fault in unreadable)
    said = [f"Damaged, left out: {text}" for text in damaged] + [
        f"Failed, left out: {each.strategy} on {each.scenario}, seed {each.seed}: {each.message}" for each in failed
    ]
    return [legible(text) for text in said]


def report_files(
    runs: Sequence[StoredRun],
    comparisons: Sequence[Comparison],
    left_out: Sequence[str] = (),
    watch: Watch = unwatched,
    downloads: bool = True,
) -> dict[str, bytes]:
    """Return the files of a report by their paths; without `downloads`, a page that links to data.csv alone."""
    shown, written = sections(comparisons, watch)
    across, tables = across_scenarios(comparisons)
    written |= tables
    headings, rows = run_table(comparisons)
    if len(rows) > RUNS_IN_PAGE:
        written["tables/runs.csv"] = as_csv([headings, *rows]).encode(errors="replace")
    made_on = surroundings(runs)
    described = methods(comparisons)
    warnings = [
        f"{section.label}: {warning}" if len(shown) > 1 else warning
        for section in shown
        for warning in section.comparison.warnings
    ]
    content = Content(
        sections=shown,
        across=across,
        alerts=[*left_out, *warnings],
        facts=_facts(runs, comparisons, dict(made_on)),
        published=published(runs),
        methods=described,
        surroundings=made_on,
        remedies=any(row.reference is None for comparison in comparisons for row in comparison.rows),
        downloads=downloads,
        compared=len(rows),
        run_headings=headings,
        run_rows=[run_texts(headings, row) for row in rows] if len(rows) <= RUNS_IN_PAGE else [],
    )
    written["index.html"] = render(content).encode("utf-8", errors="replace")
    files = {each.sha256: each.file for each in described if each.file}
    written["study.toml"] = study_of_runs(runs, files).encode("utf-8", errors="replace")
    written["data.csv"] = table_csv(frame(runs))
    return written | {each.file: each.source for each in described if each.file}


def _facts(runs: Sequence[StoredRun], comparisons: Sequence[Comparison], known: Mapping[str, str]) -> list[str]:
    seeds = sorted({len(row.seeds) for comparison in comparisons for row in comparison.rows})
    versions = [f"{name} {known[name]}" for name in ("clbench", "torch", "avalanche-lib") if name in known]
    device = known.get("GPU") or known.get("processor") or known["device"]
    many = f"{len(runs)} runs" if len(runs) > 1 else "one run"
    spread = f"{seeds[0]} to {seeds[-1]}" if len(seeds) > 1 else str(seeds[0])
    return [
        *([f"made {when}"] if (when := dates(runs)) else []),
        f"{many}, {spread} seed{'s' if seeds[-1] > 1 else ''} per strategy",
        *versions,
        f"device: {device}",
    ]


def _require_report_or_nothing(target: Path) -> None:
    try:
        if target.exists() and not (target.is_dir() and (not any(target.iterdir()) or _is_report(target))):
            raise MachineError(f"{target} contains something other than a report", "Choose another folder with --out.")
        if target.exists() and target.samefile("."):
            raise MachineError(f"{target} is the working folder, which is never replaced", "Name another with --out.")
    except OSError as error:
        raise _cannot("read", target, error) from error


def _is_report(folder: Path) -> bool:
    """Return whether a folder holds a report and nothing else: its page links to every other file."""
    names = {path.name for path in folder.iterdir()}
    if not _ALWAYS <= names <= _ENTRIES:
        return False
    page = (folder / "index.html").read_text(encoding="utf-8", errors="replace")
    files = (path.relative_to(folder).as_posix() for path in folder.rglob("*") if not path.is_dir())
    return all(name == "index.html" or f'href="{html.escape(name)}"' in page for name in files)


def _publish(target: Path, files: dict[str, bytes]) -> None:
    """Replace the report that was there before, completely or not at all; a link to it remains a link."""
    target = Path(os.path.realpath(target))
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        lock = FileLock(target.with_name(f".{target.name}.lock"))
        Path(lock.lock_file).touch()  # otherwise filelock would retry forever if the file cannot be created
        with lock:
            _clear_up(target)
            built = target.with_name(f".{target.name}-{uuid.uuid4().hex[:8]}")
            try:
                for name, content in sorted(files.items()):
                    (built / name).parent.mkdir(parents=True, exist_ok=True)
                    write_synced(built / name, content)
                if target.exists():
                    target.rename(built.with_name(f"{built.name}{_BEFORE}"))
                built.rename(target)
            finally:
                _clear_up(target)
                Path(lock.lock_file).unlink(missing_ok=True)
    except OSError as error:
        raise _cannot("write", target, error) from error


def _clear_up(target: Path) -> None:
    """Remove what was built but not published, also by a command that was killed; restore a report that it had moved.

    Only for the holder of the lock.
    """
    left = re.compile(rf"\.{re.escape(target.name)}-[0-9a-f]{{8}}({_BEFORE})?")
    for path in sorted(target.parent.iterdir()):
        if match := left.fullmatch(path.name):
            if match[1] and not target.exists():
                path.rename(target)
            else:
                shutil.rmtree(path, ignore_errors=True)


def _cannot(what: str, target: Path, error: OSError) -> MachineError:
    return MachineError(f"cannot {what} {target}: {error.strerror or error}", "Choose a folder with --out.")
