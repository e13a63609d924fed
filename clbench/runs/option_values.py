"""Reads the values that users give to options: text from the command line, or arguments of `clbench.run`.

An argument of a wrong type raises a TypeError that says what it must be.
"""

from __future__ import annotations

import operator
import os
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from clbench.errors import UsageError
from clbench.runs.parallelism import Jobs, jobs_from
from clbench.system.files import from_home
from clbench.system.seeds import LARGEST

# As many digits as the largest seed has; Python refuses to convert thousands of them.
_NUMBER = re.compile(r"[0-9]{1,10}")


def seeds_from(text: str) -> tuple[int, ...]:
    """Return the seeds that `text` asks for: with `5` the first five (0 to 4), with `0,3` these, with `7,` this one.

    Raises UsageError.
    """
    parts = [part.strip() for part in text.split(",")]
    if parts[-1] == "" and len(parts) > 1:
        parts.pop()
    elif len(parts) == 1:
        if not _NUMBER.fullmatch(parts[0]) or not 1 <= int(parts[0]) <= 10_000:
            raise UsageError(
                f"--seeds must be a number of seeds from 1 to 10000 or a list like 0,3 (got {text})",
                f"For seed {parts[0]} alone: --seeds {parts[0]}," if _NUMBER.fullmatch(parts[0]) else "",
            )
        return tuple(range(int(parts[0])))
    if not all(_NUMBER.fullmatch(part) for part in parts):
        raise UsageError(f"--seeds: every seed must be an integer from 0 to {LARGEST} (got {text})")
    return tuple(int(part) for part in parts)


def seeds_in(text: str | None) -> tuple[int, ...]:
    """Return the seeds that the text asks for, none if it is not given. Raises UsageError."""
    return () if text is None else seeds_from(text)


def seeds_of(seeds: int | Sequence[int] | None) -> tuple[int, ...]:
    """Return the seeds that Python's argument asks for, a number or a list; none if it is None. Raises UsageError."""
    if seeds is None:
        return ()
    try:
        if isinstance(seeds, bool):
            raise TypeError
        if hasattr(seeds, "__iter__"):
            given = tuple(operator.index(seed) for seed in seeds)
            if not given:
                raise UsageError("--seeds needs at least one seed (got none)")
            return given
        return seeds_from(str(operator.index(seeds)))
    except TypeError:
        raise UsageError(f"seeds must be an integer or a sequence of integers (got {seeds!r})") from None


def assignments(texts: Sequence[str] | None) -> dict[str, str]:
    """Return the values of `--set NAME=VALUE` by name. Raises UsageError."""
    values: dict[str, str] = {}
    for text in texts or ():
        name, equals, value = text.partition("=")
        if not equals or not name:
            raise UsageError(f"--set must have the form STRATEGY.NAME=VALUE, for example lwf.alpha=2 (got {text})")
        if name in values:
            raise UsageError(f"--set {name} is given twice")
        values[name] = value
    return values


def values_of(values: Any) -> dict[str, Any]:
    """Return the values of `set` by name."""
    if values is not None and not isinstance(values, Mapping):
        raise TypeError("a mapping of names to values")
    return dict(values or {})


def names_in(texts: Sequence[str] | None) -> list[str]:
    """Return the names that the texts list, separated by commas or one by one."""
    return [from_home(name.strip()) for text in texts or () for name in text.split(",")]


def names_of(names: Any) -> list[str]:
    """Return the names or paths that Python's argument lists, as text."""
    given = [names] if isinstance(names, str | Path) else names
    if not isinstance(given, Sequence) or not all(isinstance(name, str | Path) for name in given):
        raise TypeError("a name, a path, or a list of them")
    return [from_home(name) for name in given]


def trackers_in(texts: Sequence[str] | None) -> tuple[str, ...]:
    """Return the names of trackers that the texts list."""
    return tuple(names_in(texts or ()))


def trackers_of(names: Any) -> tuple[str, ...]:
    """Return the names of trackers that Python's argument lists."""
    given = [names] if isinstance(names, str) else names or ()
    if not isinstance(given, Sequence) or not all(isinstance(name, str) for name in given):
        raise TypeError("a name or a list of names")
    return tuple(given)


def path_of(path: Any) -> Path | None:
    """Return the path, or None."""
    if path is not None and not isinstance(path, str | os.PathLike):
        raise TypeError("a path")
    return None if path is None else Path(from_home(path))


def name_or_path(value: Any) -> str | None:
    """Return the name or path as text, or None."""
    if value is not None and not isinstance(value, str | os.PathLike):
        raise TypeError("a name or a path")
    return None if value is None else from_home(value)


def text_of(value: Any) -> str | None:
    """Return the text, or None."""
    if value is not None and not isinstance(value, str):
        raise TypeError("a string")
    return value


def integer_of(value: Any) -> int | None:
    """Return the integer, or None."""
    if value is None:
        return None
    try:
        if isinstance(value, bool):
            raise TypeError
        return operator.index(value)
    except TypeError:
        raise TypeError("an integer") from None


def truth_of(value: Any) -> bool:
    """Return True or False."""
    if not isinstance(value, bool):
        raise TypeError("True or False")
    return value


def jobs_in(text: str | None) -> Jobs | None:
    """Return the number of runs at once that the text asks for, or None."""
    return None if text is None else jobs_from(text)


def jobs_of(value: Any) -> Jobs | None:
    """Return the number of runs at once that Python's argument asks for, or None. Raises UsageError."""
    return None if value is None else jobs_from(value if isinstance(value, str) else str(integer_of(value)))


def number_of(value: Any) -> float | None:
    """Return the number, or None."""
    if value is not None and (isinstance(value, bool) or not isinstance(value, int | float)):
        raise TypeError("a number")
    return None if value is None else float(value)


def as_it_is(value: Any) -> Any:
    """Return the value."""
    return value


OF_TYPE: Mapping[Any, Callable[[Any], Any]] = {
    str: text_of,
    str | None: text_of,
    int: integer_of,
    int | None: integer_of,
    float | None: number_of,
    bool: truth_of,
    Path: path_of,
    Path | None: path_of,
}
"""How an argument from Python is read if its option does not specify it."""
