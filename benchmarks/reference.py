"""Generates the tables, page and picture of the reference results from the packs in results/reference.

    python -m benchmarks.reference            write them again
    python -m benchmarks.reference --check    report which of them differ from the packs

These are the tidy table next to each pack, the tables in README.md and docs/results.md, and in reports/reference the
page, its data and the README's picture. The page and the picture are not checked, as drawings differ a little from one
version of matplotlib to the next; the numbers in them are those of the data. To write all figures, tables and sources
as files:

    clbench report results/reference/split*.zip --out reports/with-files
"""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from clbench.comparison.grouping import compare
from clbench.comparison.rows import Comparison
from clbench.comparison.table import cells, headings
from clbench.reporting.publication import report_files
from clbench.results.counts_frame import frame
from clbench.results.stored_run import StoredRun
from clbench.results.stored_runs import read_all
from clbench.results.table_export import table_csv
from clbench.system.files import replace_file

ROOT = Path(__file__).parents[1]
RESULTS, REPORT = Path("results/reference"), Path("reports/reference")
SHOWN = {"splitmnist": "Split MNIST", "splitfashion": "Split Fashion-MNIST", "splitcifar10": "Split CIFAR-10"}
"""The packs on the page and in the tables, and what their streams are called there."""

PAGES = (Path("README.md"), Path("docs/results.md"))
PICTURE = "figures/splitmnist-quick-old-new.png"
LEFT_OUT = ("seconds", "stored_bytes", "p_holm", "tuned", "audit", "n")
"""Columns of the comparison that the tables for readers have not."""


def main(check: bool) -> int:
    """Write the files, or check them; return the exit code."""
    runs = {pack.stem: _runs(pack) for pack in sorted((ROOT / RESULTS).glob("*.zip"))}
    files = dict(_numbers(runs))
    if check:
        stale = [path for path, content in files.items() if (ROOT / path).read_bytes() != content]
        for path in stale:
            print(f"{path} is not what the packs in {RESULTS} say; write it anew: python -m benchmarks.reference")
        return 1 if stale else 0
    shown = [run for name in SHOWN for run in runs[name]]
    page = report_files(shown, compare(shown), downloads=False)
    files |= {REPORT / name: page[name] for name in ("index.html", PICTURE)}
    for path, content in files.items():
        (ROOT / path).parent.mkdir(parents=True, exist_ok=True)
        replace_file(ROOT / path, content)
        print(path)
    return 0


def _runs(pack: Path) -> list[StoredRun]:
    runs, unreadable = read_all([pack])
    if unreadable:
        sys.exit("\n".join(map(str, unreadable)))
    return sorted(runs, key=lambda run: run.result.run_id)


def _numbers(runs: dict[str, list[StoredRun]]) -> Iterator[tuple[Path, bytes]]:
    """Yield the files whose content is fully determined by the packs."""
    for name, own in runs.items():
        yield RESULTS / f"{name}.csv", table_csv(frame(own))
    shown = [run for name in SHOWN for run in runs[name]]
    yield REPORT / "data.csv", table_csv(frame(sorted(shown, key=lambda run: run.result.run_id)))
    tables = {title: table(title, compare(runs[name])) for name, title in SHOWN.items()}
    for path in PAGES:
        yield path, with_tables((ROOT / path).read_text(), tables).encode()


def table(title: str, comparisons: Sequence[Comparison]) -> list[str]:
    """Return the lines of a table for readers, in Markdown."""
    (comparison,) = comparisons
    columns = {name: text for name, text in headings(comparison).items() if name not in LEFT_OUT}
    columns["strategy"] = f"{title}, {len(comparison.rows[0].seeds)} seeds"
    lines = [list(columns.values()), ["---"] * len(columns)]
    lines += [list(cells(row, columns).values()) for row in comparison.rows]
    return [f"| {' | '.join(line)} |" for line in lines]


def with_tables(page: str, tables: dict[str, list[str]]) -> str:
    """Return a page with the lines of these tables replaced."""
    for title, lines in tables.items():
        page = re.sub(rf"^\| {re.escape(title)}, .*\n(\|.*\n)*", "\n".join(lines) + "\n", page, flags=re.MULTILINE)
    return page


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="Write nothing.")
    sys.exit(main(parser.parse_args().check))
