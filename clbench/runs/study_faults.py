"""Finds which value of a study an error is about, so that its line can be reported.

A wrong value is detected where it is used, in a message that names it: a hyper-parameter as `lwf.alpha`, an option as
`--split`, or the value itself. These words lead back to the value.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any


def blame(message: str, hint: str, given: Mapping[str, Any]) -> str | None:
    """Return which of the `given` values an error is about, by option or `set.NAME`; None if it does not show."""
    message = re.split(r"; did you mean|\(known", message)[0]  # what could be meant is not what is wrong
    values = sorted((name for name in given if name.startswith("set.")), key=len, reverse=True)
    chosen = {name: value for name, value in given.items() if not name.startswith("set.")}
    for says in (_in_full, _by_its_last_name):
        for name in values:
            if says(name.removeprefix("set."), message):
                return name
    for text in (message, hint):
        for name in reversed(chosen):  # of two that exclude each other the second
            if _mentions(f"--{name.replace('_', '-')}", text):
                return name
    for name in reversed(chosen):  # a recipe that a scenario lacks: both are named, and only one is quoted
        if any(f"'{part}'" in message for part in _parts(chosen[name])):
            return name
    mentioned = {name: at for name, value in chosen.items() if (at := _first_mention(name, value, message)) is not None}
    return min(mentioned, key=lambda name: mentioned[name]) if mentioned else None


def _in_full(name: str, message: str) -> bool:
    owner, dot, last = name.rpartition(".")
    return bool(dot) and any(_mentions(text, message) for text in (name, f"{owner.partition(':')[0]}.{last}"))


def _by_its_last_name(name: str, message: str) -> bool:
    """Whether a message has the name in quotes, or after the name of a strategy's file: dialects have their own."""
    owner, _, last = name.rpartition(".")
    anywhere = "" if owner.startswith(("recipe", "network")) else rf"|\.{re.escape(last)}\b"
    return bool(re.search(rf"'{re.escape(last)}'{anywhere}", message))


def _mentions(name: str, text: str) -> bool:
    return bool(re.search(rf"(?<![\w.-]){re.escape(name)}(?![\w-])", text))


def _parts(value: Any) -> list[str]:
    """Return the names in a value: of `lwf:pycil` the whole, the strategy and the preset."""
    texts = [str(each) for each in value] if isinstance(value, list | tuple) else [str(value)]
    return [part for text in texts for part in (text, *re.split(r"[,:]", text)) if part]


def _first_mention(name: str, value: Any, message: str) -> int | None:
    """Return where a message first mentions an option, by its name or by a value that is not a number."""
    words = [name.replace("_", " "), *(part for part in _parts(value) if not part.replace(".", "").isdecimal())]
    found = [match.start() for word in words if (match := re.search(rf"(?<!\w){re.escape(word)}(?!\w)", message))]
    return min(found, default=None)
