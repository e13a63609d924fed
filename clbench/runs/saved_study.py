"""Writes studies: that of a command line, and the commented example of `clbench init`."""

from __future__ import annotations

import os
import re
import shlex
import textwrap
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from clbench.errors import MachineError, UsageError
from clbench.results.study_text import study_text
from clbench.runs.own_images import are_images
from clbench.runs.request import options
from clbench.runs.study import is_path
from clbench.system.files import found_at, replace_file


def save(file: Path, asked: Mapping[str, Any]) -> None:
    """Write options of a run, as fields of a request, as a study to a `file` that is new or has the same content.

    Paths in it are relative to its folder; what belongs to the machine is left out. Raises UsageError and MachineError.
    """
    if file.suffix != ".toml":
        raise UsageError(f"--save-study: the name of a study must end in .toml (got {file})")
    said = {
        name: _written(name, asked[name], file.parent)
        for name, each in options().items()
        if name in asked and each.option.belongs_to != "machine"
    }
    _write(file, study_text([said]), "--save-study")


def write_example(file: Path) -> None:
    """Write a commented study that runs as is. Raises UsageError if the file exists, and MachineError."""
    if file.suffix != ".toml":
        raise UsageError(
            f"the name of a study must end in .toml (got {file})", f"For example: clbench init {file}.toml"
        )
    if found_at(file) is not None:
        raise UsageError(f"{file} exists already", "Choose another name: clbench init mine.toml")
    _write(file, _EXAMPLE.replace("study.toml", shlex.quote(file.as_posix())), "init")


def _write(file: Path, text: str, by: str) -> None:
    content = text.encode("utf-8", errors="replace")
    try:
        if file.exists() and file.read_bytes() != content:
            raise UsageError(f"{by}: {file} exists already, with other content", "Choose another name.")
        file.parent.mkdir(parents=True, exist_ok=True)
        replace_file(file, content)
    except OSError as error:
        raise MachineError(f"cannot write {file}: {error.strerror}") from error


def _written(name: str, value: Any, folder: Path) -> Any:
    """Return the field of a request as it is written in a study."""
    return _WRITTEN.get(name, _as_it_is)(value, folder)


def _as_it_is(value: Any, folder: Path) -> Any:
    return value


def _strategies(names: Sequence[str], folder: Path) -> Any:
    found = [_from(folder, name) if is_path(name) else name for name in names]
    return found[0] if len(found) == 1 else found


def _scenarios(names: Sequence[str], folder: Path) -> Any:
    found = [_from(folder, name) if is_path(name) or are_images(name) else name for name in names]
    return found[0] if len(found) == 1 else found


def _file(value: str, folder: Path) -> str:
    return _from(folder, value) if is_path(value) else value


def _order(value: str, folder: Path) -> str:
    return _from(folder, value) if found_at(Path(value)) == "file" else value


def _split(text: str, folder: Path) -> Any:
    return int(text) if re.fullmatch("[1-9][0-9]*", text) else text


def _seeds(seeds: Sequence[int], folder: Path) -> Any:
    first_of_all = tuple(seeds) == tuple(range(len(seeds)))
    return len(seeds) if first_of_all else list(seeds)


def _values(values: Mapping[str, str], folder: Path) -> dict[str, Any]:
    return {name: _number(text) for name, text in values.items()}


def _number(text: str) -> Any:
    """Return the text as a number or truth value if a study reads that as the same text, otherwise the text."""
    for kind in (int, float):
        if re.fullmatch(r"-?\d[\d.e+-]*", text):
            try:
                number = kind(text)
            except ValueError:
                continue
            if str(number) == text:
                return number
    return {"true": True, "false": False}.get(text, text)


_WRITTEN: Mapping[str, Callable[[Any, Path], Any]] = {
    "strategy": _strategies,
    "scenario": _scenarios,
    "network": _file,
    "weights": _file,
    "class_order": _order,
    "seeds": _seeds,
    "split": _split,
    "set": _values,
}


def _from(folder: Path, path: str) -> str:
    """Return a path relative to a folder, recognizable as a path."""
    found = path if Path(path).is_absolute() else os.path.relpath(path, folder)
    return found if "/" in found else f"./{found}"


_EXAMPLE = textwrap.dedent("""\
    # A study: what `clbench run study.toml` runs. It runs as is, on the bundled digits, in about a minute.
    # List its runs:       clbench run study.toml --dry-run
    # Run it:              clbench run study.toml --jobs auto
    # Write a report:      clbench report
    #
    # Each key is the name of an option of `clbench run`; `clbench run --help` lists them. Options that are left out
    # have their defaults. What belongs to the machine, such as the folders of results and data and the number of runs
    # at once, is set on the command line: --out, --data, --jobs, --on.

    # Strategies, by name; a published variant follows a colon. For your own: the path of its file, relative to this
    # file's folder. To list all: clbench list strategies
    strategy = ["naive", "lwf", "joint"]

    # Streams of classes, by name; a folder of your own images as "./photos". To list all: clbench list scenarios
    scenario = "splitdigits"

    # How many seeds (3: seeds 0, 1 and 2), or which: [0, 7]. A single one: seed = 7
    seeds = 2

    # The training protocol; by default the scenario's first. To list a scenario's: clbench show splitdigits
    # recipe = "quick"

    # Epochs per experience, instead of the recipe's.
    # epochs = 5

    # How the classes are divided: the number of equal experiences, or classes per experience: [4, 3, 3] or "50+10x5".
    # split = 5

    # The order in which classes are learned: "seed" (drawn from it), "natural", a list of all, or a file of them.
    # class_order = "natural"

    # The kind of stream: by default the split above, or online, blurry, … To list all: clbench list streams
    # stream = "online"

    # class (no hint which experience a sample comes from), task or domain.
    # setting = "class"

    # The network, instead of the recipe's: by name, the path of a file, timm:NAME or torchvision:NAME.
    # network = "cnn"

    # Its initial weights: "pretrained", a file of weights, or "none", which draws them from the seed.
    # weights = "none"

    # Tune hyper-parameters: "grid" tries every combination of those that are lists under `set` on validation
    # streams, before the runs; "chf" searches in each experience.
    # tune = "grid"

    # Keep trained networks with the runs: the "last", or "all", one per experience.
    # keep_networks = "last"

    # The device to train on (auto, cpu, cuda), and threads per run. Both are part of what identifies a run.
    # device = "cpu"
    # threads = 1

    # Hyper-parameters of strategies and settings of the recipe and the network. To list them: clbench show lwf
    set.lwf.alpha = 2
    # set."lwf:pycil".alpha = 1
    # set.recipe.lr = 0.05
    # set.network.width = 2

    # Several tables in one study: each [[grid]] inherits all of the above, except for what it sets itself.
    # [[grid]]
    # split = 5
    #
    # [[grid]]
    # split = 2
    # set.lwf.alpha = 1
""")
