"""The short table for LaTeX: what is in it, the best in bold, and names that are nothing but text."""

import re
from pathlib import Path

import pytest
from stored_runs import HOSTILE, publish

from clbench.comparison.grouping import compare
from clbench.comparison.rows import Comparison
from clbench.reporting import exports
from clbench.results.stored_runs import read_all


def comparison(folder: Path) -> Comparison:
    (only,) = compare(read_all([folder])[0])
    return only


def test_the_short_latex_has_the_best_of_each_column_in_bold_and_the_upper_reference_in_none(tmp_path: Path) -> None:
    # final: (2 old + 2 new) / 4 classes; forgetting: what was new in the first of two experiences less what is left.
    publish(tmp_path, "naive", old=0.0, new=1.0)
    publish(tmp_path, "a_b", old=0.6, new=0.8)
    publish(tmp_path, "c", old=0.5, new=0.9)
    publish(tmp_path, "joint", old=1.0, new=1.0)
    lines = exports.as_short_latex(comparison(tmp_path)).splitlines()
    assert lines[0] == r"{\small\setlength{\tabcolsep}{4pt}%"
    assert lines[2:6] == [
        r"\begin{tabular}{@{}p{0.24\linewidth}rrrr@{}}",
        r"\toprule",
        r"strategy & final & old classes & new classes & forgetting \\",
        r"\midrule",
    ]
    assert sorted(lines[6:10]) == [
        r"a\_\allowbreak{}b & \textbf{70.0} & \textbf{60.0} & 80.0 & \textbf{20.0} \\",
        r"c & \textbf{70.0} & 50.0 & 90.0 & 40.0 \\",
        r"joint & 100.0 & 100.0 & 100.0 & 0.0 \\",
        r"naive & 50.0 & 0.0 & \textbf{100.0} & 100.0 \\",
    ]
    assert lines[10:] == [r"\bottomrule", r"\end{tabular}", "}"]


@pytest.mark.parametrize("name", HOSTILE)
def test_a_name_in_the_short_latex_is_text_and_short_enough_for_its_column(tmp_path: Path, name: str) -> None:
    publish(tmp_path, "naive")
    publish(tmp_path, name, old=0.3)
    lines = exports.as_short_latex(comparison(tmp_path)).splitlines()
    (line,) = [line for line in lines[6:8] if not line.startswith("naive")]
    cell, *numbers = line.split(" & ") if r"\&" not in line else line.replace(r"\&", "and").split(" & ")
    assert len(numbers) == 4
    assert not re.search(r"(?<!\\)[&%$#_]|\\(?!text|dots|allowbreak|[&%$#_{}])", cell)
    assert max(map(len, re.sub(r"\\text[a-z]+\{\}|\\dots\{\}", "x", cell).replace(r"\allowbreak{}", " ").split())) <= 24
