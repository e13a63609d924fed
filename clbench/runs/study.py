"""Reads a study: a TOML file that says what `clbench run` is to run.

Its keys are the names of a run's options, and `set` has what `--set` gives: `set.lwf.alpha = 2`. A `[[grid]]` is a
table of its own that inherits everything above the first of them, except for what it sets itself. docs/studies.md
explains studies to users.
"""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from clbench.base.config import typed
from clbench.base.recipe import Recipe
from clbench.errors import DataError, PluginError, UsageError
from clbench.runs.option import accepted
from clbench.runs.request import Request, options
from clbench.runs.study_faults import blame
from clbench.system.files import found_at
from clbench.system.suggestions import did_you_mean
from clbench.system.toml import Keys, TOMLDecodeError, line_of, parse

GRID = "grid"
_LARGEST = 2**20
"""Bytes. A study is written by people, or names the runs of a report."""

_DEEPEST = 20


@dataclass(frozen=True)
class Value:
    """What a study sets an option or, under `set`, a hyper-parameter to."""

    value: Any
    keys: Keys
    """Its place in the file."""


@dataclass(frozen=True)
class Section:
    """Runs that are requested together: by a command, or by a table of a study."""

    request: Request
    file: StudyFile | None = None
    given: Mapping[str, Value] = field(default_factory=dict)
    """What the study says here, by option, or by `set.NAME` for what is under `set`."""

    keys: Keys = ()
    """The section's place in the file."""

    def explaining(self) -> contextlib.AbstractContextManager[None]:
        """Within this context, an error in what a study asks for is raised with the line that asks for it."""
        return self.file.explaining(self.given, self.keys) if self.file else contextlib.nullcontext()


@dataclass(frozen=True)
class StudyFile:
    """A study as text."""

    path: Path
    text: str

    @staticmethod
    def read(path: Path) -> StudyFile:
        """Read the file. Raises UsageError if it cannot be a study."""
        if found_at(path) == "folder":
            raise UsageError(f"{path} is a folder, but a study is a file", f"To write one: clbench init {path}.toml")
        if found_at(path) is None:
            raise UsageError(f"there is no file {path}", f"To write a study: clbench init {path}")
        try:
            with path.open("rb") as file:
                content = file.read(_LARGEST + 1)
            if len(content) > _LARGEST:
                raise UsageError(f"{path} is larger than {_LARGEST:,} bytes, too large for a study")
            return StudyFile(path, content.decode("utf-8-sig"))
        except UnicodeDecodeError as error:
            line = content[: error.start].count(b"\n") + 1
            raise UsageError(f"{path}, line {line}: this is not UTF-8", "Save the file as UTF-8 text.") from None
        except OSError as error:
            raise UsageError(f"cannot read {path}: {error.strerror}") from None

    def parsed(self) -> dict[str, Any]:
        """Return what it says. Raises UsageError if it is not TOML."""
        try:
            return parse(self.text)
        except TOMLDecodeError as error:
            found = re.fullmatch(r"(.*) \(at (?:line (\d+), column \d+|end of document)\)", str(error), re.DOTALL)
            message, line = (found[1], found[2]) if found else (str(error), None)
            message = message if message[:2].isupper() else message[:1].lower() + message[1:]
            place = f"line {line or len(self.text.splitlines())}"
            raise UsageError(
                f"{self.path}, {place}: this is not TOML: {message}",
                "A key may be given once in each section."
                if "overwrite" in message
                else 'Put text in quotes (recipe = "quick") and lists in brackets (seeds = [0, 3]).',
            ) from None

    def told(self, keys: Keys, message: str) -> str:
        """Return a message preceded by the file and the line of `keys`."""
        place = f"{self.path}, line {line_of(self.text, keys)}" if keys else str(self.path)
        return f"{place}: {message}"

    @contextlib.contextmanager
    def explaining(self, given: Mapping[str, Value], keys: Keys) -> Iterator[None]:
        """Within this context, raise an error in what is `given` with its line; if that is unknown, with the line of
        the section at `keys`."""
        try:
            yield
        except (UsageError, PluginError, DataError) as error:
            values = {name: each.value for name, each in given.items()}
            blamed = blame(error.message, error.hint or "", values)
            place, hint = given[blamed].keys if blamed else keys, error.hint
            if blamed and (option := blamed.removeprefix("set.")) != blamed and option in options():
                hint = f"What is below [set] belongs to it; put the option {option} above."
            raise type(error)(self.told(place, error.message), hint) from error

    def fault(self, keys: Keys, message: str, hint: str | None = None) -> UsageError:
        """Return the error that says what is wrong at `keys`."""
        return UsageError(self.told(keys, message), hint)


def read_study(path: Path, said: Mapping[str, Any]) -> list[Section]:
    """Return the sections of the study in the file `path`.

    `said` are fields of the requests that the study cannot set, or that the user overrides. Raises UsageError with the
    line of what is wrong.
    """
    file = StudyFile.read(path)
    document = file.parsed()
    grids = document.pop(GRID, None)
    if grids is not None and not (isinstance(grids, list) and grids and all(isinstance(each, dict) for each in grids)):
        raise file.fault(
            (GRID,), "a grid must be a table of its own", "Write [[grid]] on a line, and its keys below it."
        )
    common = _given(file, document, ())
    if grids is None:
        return [_section(file, common, (), said)]
    sections = []
    for position, table in enumerate(grids):
        own = _given(file, table, (GRID, position))
        inherited = {name: value for name, value in common.items() if not own.keys() & _OTHERWISE.get(name, set())}
        sections.append(_section(file, {**inherited, **own}, (GRID, position), said))
    return sections


_OTHERWISE: Mapping[str, set[str]] = {
    "seeds": {"seed"},
    "seed": {"seeds"},
    "epochs": {"set.recipe.epochs"},
    "set.recipe.epochs": {"epochs"},
    "network": {"set.recipe.network"},
    "set.recipe.network": {"network"},
}
"""Keys that set the same thing: a grid's own replaces the one that it would inherit."""


_EXAMPLE = {
    "strategy": 'For example: strategy = ["naive", "lwf"]',
    "scenario": 'For example: scenario = "splitdigits"',
}


def _section(file: StudyFile, given: Mapping[str, Value], keys: Keys, said: Mapping[str, Any]) -> Section:
    """Return the section of these values, which begins at `keys`."""
    missing = [name for name in ("strategy", "scenario") if name not in given]
    if missing:
        where = "this grid" if keys else "the study"
        raise file.fault(keys, f"{where} does not say which {' and which '.join(missing)}", _EXAMPLE[missing[0]])
    asked = {name: each.value for name, each in given.items() if not name.startswith("set.")}
    asked["set"] = {name.removeprefix("set."): each.value for name, each in given.items() if name.startswith("set.")}
    with file.explaining(given, keys):
        return Section(Request(**{**asked, **said}), file, given, keys)


def _given(file: StudyFile, table: Mapping[str, Any], keys: Keys) -> dict[str, Value]:
    """Return what a table of the study says, by option or `set.NAME`. Raises UsageError for what no study can have."""
    given: dict[str, Value] = {}
    for name, value in table.items():
        at = (*keys, name)
        if name == "set":
            given |= _set(file, value, at)
            continue
        declared = options().get(name)
        if declared is None:
            raise file.fault(at, f"there is no option '{name}'{_meant(name)}", _remedy(name, value))
        if declared.option.belongs_to == "machine":
            flag = (declared.option.flags or (f"--{name.replace('_', '-')}",))[0]
            raise file.fault(
                at, f"'{name}' is not part of a study but of how it is run", f"Use the command line: {flag}"
            )
        try:
            read = accepted(options(), name, value)
        except UsageError as error:
            raise file.fault(at, error.message, _remedy(name, value)) from None
        _refuse_one_string(file, at, value)
        given[name] = Value(_located(name, read, file.path.parent), at)
    return given


def _meant(name: str) -> str:
    known = [known for known, each in options().items() if each.option.belongs_to != "machine"]
    return did_you_mean(name.replace("-", "_"), [*known, GRID]) or f" (known: {', '.join([*known, GRID])})"


def _remedy(name: str, value: Any) -> str | None:
    """Return how to write what seems to be meant."""
    if isinstance(value, dict):
        return f"Values for --set go under `set`: set.{name}.NAME = VALUE"
    if name in Recipe.__dataclass_fields__ and name not in options():
        return f"It is a field of the recipe: set.recipe.{name} = …"
    return None


def _refuse_one_string(file: StudyFile, at: Keys, value: Any) -> None:
    """Raise UsageError for several names in one string, as the command line takes them."""
    if at[-1] in ("strategy", "scenario"):
        for name in [value] if isinstance(value, str) else value:
            if "," in name and found_at(file.path.parent / name) is None:
                listed = ", ".join(f'"{each.strip()}"' for each in name.split(","))
                raise file.fault(at, f"'{name}' is one name", f"Write several as a list: {at[-1]} = [{listed}]")


def _set(file: StudyFile, table: Any, keys: Keys) -> dict[str, Value]:
    """Return what `set` gives, by `set.NAME`, each value as the command line's text, or as a list of such texts."""
    if not isinstance(table, dict):
        raise file.fault(keys, "set must be a table", "For example: set.lwf.alpha = 2")
    if len(keys) > _DEEPEST:
        raise file.fault(keys, "no value has a name of so many parts")
    found: dict[str, Value] = {}
    for name, value in table.items():
        at = (*keys, name)
        if isinstance(value, dict):
            found |= {f"set.{name}.{key.removeprefix('set.')}": each for key, each in _set(file, value, at).items()}
            continue
        values = value if isinstance(value, list) else [value]
        if not all(isinstance(each, str | int | float | bool) for each in values):
            raise file.fault(at, "a value must be a number, a string, true, false, or a list of them")
        texts = [typed(each) for each in values]
        found[f"set.{name}"] = Value(texts if isinstance(value, list) else texts[0], at)
    return found


# -- paths ------------------------------------------------------------------------------------------------------------


def _located(name: str, value: Any, folder: Path) -> Any:
    """Return the value of an option with paths, which are relative to the study's folder, as paths from here."""
    if name in ("strategy", "scenario"):
        return [_from_here(each, folder) for each in value]
    if name in ("network", "weights") and value is not None:
        return _from_here(value, folder)
    if name == "class_order" and value is not None and found_at(folder / value) == "file":
        return _joined(value, folder)
    return value


def is_path(name: str) -> bool:
    """Return whether a name of a plug-in, of images or of weights is a path rather than a name."""
    return not re.match(r"[^/.]*:", name) and ("/" in name or "." in name)  # not avalanche:NAME or lwf:PRESET


def _from_here(name: str, folder: Path) -> str:
    return _joined(name, folder) if is_path(name) else name


def _joined(path: str, folder: Path) -> str:
    return path if folder == Path() else os.path.join(folder, path)  # noqa: PTH118 - `./photos` keeps its dot
