"""Exports the table of a comparison: CSV with full precision, Markdown and LaTeX as displayed."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Sequence

from clbench.comparison.columns import COLUMNS, lowest, percent
from clbench.comparison.rows import Comparison, Row
from clbench.comparison.table import cells, headings
from clbench.reporting.labels import short
from clbench.system import output

_LATEX = {
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "±": r"$\pm$",
    "≈": r"$\approx$",
    "≥": r"$\geq$",
    "≤": r"$\leq$",
    "Δ": r"$\Delta$",
    "–": "--",
    "−": "$-$",
    "∞": r"$\infty$",
    "√": r"$\surd$",
    "∑": r"$\sum$",
    "|": r"\textbar{}",
    "…": r"\dots{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "[": "{[}",  # after a line break it would start an optional argument; a star would select a variant
    "*": "{*}",
    **{character: f"\\{character}" for character in "&%$#_{}"},
}
_PRINTED = "ÆØŁŒæøłœßıȷ‘’“”—·•¡¿£§¶©®°±²³¹½¼¾µ×÷ªº¬†‡€™→"
_ACCENTS = "\u0300\u0301\u0302\u0303\u0304\u0306\u0307\u0308\u030a\u030b\u030c\u0327"
"""Accents that pdflatex prints without a package, like `_PRINTED`; any other character stops it."""


def as_csv(comparison: Comparison) -> str:
    """Return a row per strategy: mean and half-width of the interval of each column, differences, p-values, seeds."""
    estimated = [name for column in (*COLUMNS, "intransigence") for name in (column, f"{column}_half_width")]
    differences = ["to_lower", "to_lower_half_width", "to_lower_p", "to_lower_p_holm"]
    differences += ["to_best", "to_best_half_width", "to_best_p"]
    names = ["strategy", "reference", "tuned", "audit", "standing", "n", "seeds", *estimated, *differences]
    lines: list[list[object]] = [[*names]]
    for row in comparison.rows:
        values: list[object] = [row.strategy, row.reference, row.tuned, row.audit, row.standing, len(row.seeds)]
        values.append(" ".join(map(str, row.seeds)))
        for made in (*(row.estimates[column] for column in COLUMNS), row.intransigence):
            values += [made.mean, made.half_width] if made else [None, None]
        lower, best = row.to_lower, row.to_best
        values += [lower.estimate.mean, lower.estimate.half_width, lower.p, lower.p_holm] if lower else [None] * 4
        values += [best.mean, best.half_width, row.p_best] if best else [None] * 3
        lines.append(values)
    return output.as_csv(lines)


def as_markdown(comparison: Comparison) -> str:
    """Return the table as displayed, with its warnings and notes, for a README."""
    columns = headings(comparison)
    lines = [[_markdown(text) for text in columns.values()], ["---"] * len(columns)]
    lines += [[_markdown(text) for text in cells(row, columns).values()] for row in comparison.rows]
    table = "\n".join(f"| {' | '.join(line)} |" for line in lines)
    said = "\n".join(f"- {_markdown(text)}" for text in (*comparison.warnings, *comparison.notes))
    return f"{_markdown(comparison.title)}\n\n{table}\n\n{said}\n"


def as_latex(comparison: Comparison) -> str:
    """Return the table as displayed, for the package booktabs."""
    columns = headings(comparison)
    lines = [[latex_text(text) for text in cells(row, columns).values()] for row in comparison.rows]
    return latex_table(comparison.title, f"l{'r' * (len(columns) - 1)}", list(columns.values()), lines)


_SHORT = {
    "final_accuracy": "final",
    "old_accuracy": "old classes",
    "new_accuracy": "new classes",
    "forgetting": "forgetting",
}


def as_short_latex(comparison: Comparison) -> str:
    """Return the columns that papers usually show, for the text width of an article; the best of each is in bold.

    The upper reference is not counted as best, nor is a strategy with a constant cross-entropy. Names are in a column
    of fixed width, in which they break at spaces and after signs; words that are too long for it are shortened.
    """
    contenders = [row for row in comparison.rows if row.may_be_best]
    best = {column: _best(contenders, column) for column in _SHORT}
    lines = []
    for row in comparison.rows:
        words = re.split(r"(?<=[ :=_-])", row.strategy)
        line = [r"\allowbreak{}".join(latex_text(short(word, 10)) for word in words)]
        for column in _SHORT:
            text = latex_text(percent(row.estimates[column], lowest(column)))
            bold = row in contenders and _rounded(row, column) == best[column] is not None
            line.append(rf"\textbf{{{text}}}" if bold else text)
        lines.append(line)
    table = latex_table(comparison.title, r"@{}p{0.24\linewidth}rrrr@{}", ["strategy", *_SHORT.values()], lines)
    return f"{{\\small\\setlength{{\\tabcolsep}}{{4pt}}%\n{table}}}\n"


def _best(rows: Sequence[Row], column: str) -> float | None:
    values = [value for row in rows if (value := _rounded(row, column)) is not None]
    return (min if column == "forgetting" else max)(values, default=None)


def _rounded(row: Row, column: str) -> float | None:
    """Return the mean as displayed, so that values that look equal are equal."""
    made = row.estimates[column]
    return round(100 * made.mean, 1) if made else None


def latex_table(title: str, columns: str, names: Iterable[str], lines: Iterable[Iterable[str]]) -> str:
    """Return a table for the package booktabs; the cells of `lines` are LaTeX, title and column names are not."""
    return "\n".join(
        [
            f"% {_one_line(title)}",
            rf"\begin{{tabular}}{{{columns}}}",
            r"\toprule",
            " & ".join(map(latex_text, names)) + r" \\",
            r"\midrule",
            *(" & ".join(line) + r" \\" for line in lines),
            r"\bottomrule",
            r"\end{tabular}",
            "",
        ]
    )


def latex_text(text: str) -> str:
    """Return the text with LaTeX's special characters escaped, and ? for characters that it cannot print."""
    return "".join(_LATEX.get(each) or _greek(each) or (each if _is_printed(each) else "?") for each in _one_line(text))


def _greek(character: str) -> str | None:
    """Return LaTeX's command for a Greek letter: for all small ones, and for the capitals that have one."""
    if character not in "ΓΘΛΞΠΣΥΦΨΩαβγδεζηθικλμνξπρστυφχψω":
        return None
    name = unicodedata.name(character).rpartition(" ")[2].replace("LAMDA", "LAMBDA").lower()
    return f"$\\{name.capitalize() if character < 'α' else name}$"


def _is_printed(character: str) -> bool:
    decomposed = unicodedata.normalize("NFD", character)
    accented = decomposed[0].isascii() and decomposed.isprintable() and all(each in _ACCENTS for each in decomposed[1:])
    return character in _PRINTED or (accented and character < "\u01d5")


def _one_line(text: str) -> str:
    return re.sub(r"\s+", " ", text)


def _markdown(text: str) -> str:
    return re.sub(r"([\\`*_\[\]<|&~$])", r"\\\1", _one_line(text))
