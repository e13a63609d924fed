"""Writes a study as text: the TOML file that `clbench run` reads, from options by name."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from typing import Any

from clbench.system.toml import key_text, value_text

Asked = Mapping[str, Any]
"""Options of a run by name, each a string, number, boolean or list; `set` is a mapping by names such as `lwf.alpha`."""


def study_text(sections: Sequence[Asked], comment: str = "") -> str:
    """Return the study of these sections, under a comment.

    What all sections have in common comes first. If there are several, the rest of each is a `[[grid]]`.
    """
    common = _common(sections)
    parts = [_commented(comment)] if comment else []
    parts.append(_table(common))
    if len(sections) > 1:
        parts += [f"[[grid]]\n{_table(_without(section, common))}" for section in sections]
    return "\n".join(part for part in parts if part)


def _common(sections: Sequence[Asked]) -> dict[str, Any]:
    first, *others = sections
    common = {name: value for name, value in first.items() if name != "set"}
    common = {name: value for name, value in common.items() if all(each.get(name) == value for each in others)}
    values: Mapping[str, Any] = first.get("set", {})
    shared = {name: value for name, value in values.items() if all(_sets(each, name, value) for each in others)}
    return {**common, "set": shared}


def _sets(section: Asked, name: str, value: Any) -> bool:
    return bool(section.get("set", {}).get(name) == value)


def _without(section: Asked, common: Asked) -> dict[str, Any]:
    own = {name: value for name, value in section.items() if name != "set" and name not in common}
    return {**own, "set": {name: value for name, value in section.get("set", {}).items() if name not in common["set"]}}


def _commented(text: str) -> str:
    lines: list[str] = []
    for line in text.splitlines():
        listed = line.startswith(" ")
        lines += [line] if listed else textwrap.wrap(line, 100, break_on_hyphens=False) or [""]
    return "".join(f"# {line}".rstrip() + "\n" for line in lines)


def _table(asked: Asked) -> str:
    lines = [f"{name} = {value_text(value)}\n" for name, value in asked.items() if name != "set"]
    lines += [
        f"{key_text(['set', *name.split('.')])} = {value_text(value)}\n" for name, value in asked.get("set", {}).items()
    ]
    return "".join(lines)
