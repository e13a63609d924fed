"""Tables for other programs: no name that somebody gave becomes a formula or a command there."""

import csv
import io
import re
import shutil
import subprocess
from pathlib import Path

import pytest
from stored_runs import publish

from clbench.comparison.grouping import compare
from clbench.reporting.exports import as_csv, as_latex, latex_table, latex_text
from clbench.reporting.publication import Selection, write_report

FORMULAS = ("=1+1", "+1", "-2+3", "@SUM(A1)", "\t=1", "\r=1")


@pytest.mark.slow
def test_names_that_a_spreadsheet_would_run_are_quoted_and_numbers_are_not(tmp_path: Path) -> None:
    for name in FORMULAS:
        publish(tmp_path / "results", name, scenario="=scenario", recipe="+recipe", old=0.4)
    publish(tmp_path / "results", "naive", scenario="=scenario", recipe="+recipe", old=0.5)
    write_report([tmp_path / "results"], tmp_path / "report", Selection())
    written = [*(tmp_path / "report" / "tables").glob("*.csv"), tmp_path / "report" / "data.csv"]
    assert len(written) == 2
    for path in written:
        cells = [cell for row in csv.reader(io.StringIO(path.read_text(), newline="")) for cell in row]
        assert {"'=1+1", "'+1", "'-2+3", "'@SUM(A1)"} <= set(cells)
        running = [cell for cell in cells if re.match(r"[=+\-@\t\r]", cell)]
        assert all(re.fullmatch(r"-[0-9.e-]+", cell) for cell in running), running
    assert "'=scenario,2×2" in (tmp_path / "report" / "data.csv").read_text()
    (table,) = (tmp_path / "report" / "tables").glob("*.csv")
    rows = {row["strategy"]: row for row in csv.DictReader(io.StringIO(table.read_text(), newline=""))}
    assert float(rows["'=1+1"]["to_lower"]) < 0  # a negative number, not a text


def test_every_special_character_of_latex_is_escaped(tmp_path: Path) -> None:
    names = [r"\input{/etc/passwd}", "50 % & #1_2^3~$x$ {a} | \x1b", "[b] *c <d>"]
    runs = [publish(tmp_path, name) for name in names]
    (comparison,) = compare(runs)
    latex = as_latex(comparison)
    assert r"\textbackslash{}input\{/etc/passwd\} & " in latex
    assert r"50 \% \& \#1\_2\textasciicircum{}3\textasciitilde{}\$x\$ \{a\} \textbar{} ? & " in latex
    assert r"{[}b] {*}c \textless{}d\textgreater{} & " in latex
    assert as_csv(comparison).count("\n") == 4


def test_a_character_that_stops_pdflatex_is_written_otherwise_or_as_a_question_mark() -> None:
    assert latex_text("λ=2, β_1, Δ, Γ, ŷ é ß ½") == r"$\lambda$=2, $\beta$\_1, $\Delta$, $\Gamma$, ŷ é ß ½"
    assert latex_text("日本 😀 ą « \u202e \ud800") == "?? ? ? ? ? ?"


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("pdflatex") is None, reason="no pdflatex")
def test_pdflatex_prints_a_table_of_any_text(tmp_path: Path) -> None:
    every = [chr(code) for code in (*range(0x20, 0x250), *range(0x370, 0x400), *range(0x2010, 0x2265), 0x65E5, 0x1F600)]
    table = latex_table("".join(every), "l", ["".join(every)], [[latex_text(f"a {each} b")] for each in every])
    document = rf"\documentclass{{article}}\usepackage{{booktabs}}\begin{{document}}\tiny {table}\end{{document}}"
    (tmp_path / "table.tex").write_text(document, encoding="utf-8")
    command = ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "table.tex"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, check=False, timeout=300)
    assert done.returncode == 0, done.stdout.decode(errors="replace")[-2000:]
