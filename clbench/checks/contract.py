"""The contract of a strategy as named checks: `clbench check`, and clbench.testing for a plug-in's own tests.

Each check runs the strategy for real, on scikit-learn's handwritten digits, and says what it found and how to mend it.
Together they take about a minute. They find mistakes; they cannot prove that there are none.
"""

from __future__ import annotations

import ast
import contextlib
import dataclasses
import functools
import inspect
import io
import re
import shutil
import subprocess
import sys
import tempfile
import typing
import weakref
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from rich.console import Console

from clbench.api import run_request, stored
from clbench.base.config import configure, plain
from clbench.base.strategy import config_class
from clbench.data.datasets import fetch
from clbench.errors import ClbenchError, UsageError
from clbench.plugins.discovery import Plugin
from clbench.results.stored_runs import StoredRun
from clbench.runs.request import Request
from clbench.runs.selection import load_class

_SCENARIO = '''"""The digits, small: what `clbench check` runs strategies on."""

import clbench
from clbench import Augmentation, Recipe

MLP = {"network": "mlp", "optimizer": "adam", "lr": 1e-3}
CNN = {"network": "cnn", "optimizer": "sgd", "lr": 0.05, "momentum": 0.9}


class Contract(clbench.Scenario):
    dataset = "digits"
    split = "5"
    recipes = {
        f"{name}{suffix}": Recipe(**values, head=head)
        for suffix, head in (("", "growing"), ("-fixed", "fixed"))
        for name, values in {
            "mlp": {**MLP, "batch_size": 40, "epochs": 2},
            "cnn": {**CNN, "batch_size": 40, "epochs": 1},
            "augmented": {**CNN, "batch_size": 40, "epochs": 1, "augmentation": Augmentation(crop=1, flip=True)},
            "single": {**MLP, "batch_size": 1, "iterations": 6},
        }.items()
    }
'''


class Broken(Exception):
    """A check found a fault: what, and how to mend it."""

    def __init__(self, found: str, mend: str) -> None:
        super().__init__(f"{found}\n{mend}")
        self.found, self.mend = found, mend


class Skipped(Exception):
    """A check does not apply, and why."""


class Bench:
    """A strategy with what it is checked on; a run that several checks look at is made once."""

    def __init__(self, plugin: Plugin) -> None:
        self.plugin = plugin
        self.folder = Path(tempfile.mkdtemp(prefix="clbench-check-"))
        weakref.finalize(self, shutil.rmtree, self.folder, ignore_errors=True)
        self.scenario = self.folder / "contract.py"
        self.scenario.write_text(_SCENARIO)
        self.data = self.folder / "data"
        fetch("digits", self.data)
        self._runs: dict[tuple[str, str, str, int], StoredRun] = {}
        self._failed: dict[tuple[str, str, str, int], str] = {}
        self.check = ""
        """The check that is being made."""

        self.recipe_suffix = ""
        """`-fixed` where the strategy refuses a growing head."""

    def run(self, recipe: str = "mlp", split: str = "5", out: str = "runs", jobs: int = 1) -> StoredRun:
        """Return the run of this recipe and split, with a fixed head where the strategy refuses a growing one.

        Raises Broken if it fails, and Skipped where it is refused or has failed in an earlier check.
        """
        key = (recipe, split, out, jobs)
        if key in self._failed:
            raise Skipped(f"its run fails; see {self._failed[key]}")
        if key not in self._runs:
            try:
                self._runs[key] = self._headed(recipe, split, out, jobs)
            except Broken:
                self._failed[key] = self.check
                raise
        return self._runs[key]

    def _headed(self, recipe: str, split: str, out: str, jobs: int) -> StoredRun:
        with contextlib.suppress(Skipped):
            return self._made(recipe, split, out, jobs)
        self.recipe_suffix = "-fixed"
        return self._made(f"{recipe.removesuffix('-fixed')}-fixed", split, out, jobs)

    def _made(self, recipe: str, split: str, out: str, jobs: int) -> StoredRun:
        request = Request(
            strategy=[str(self.plugin.path)],
            scenario=[str(self.scenario)],
            recipe=recipe,
            split=split,
            seeds=(0, 1) if jobs > 1 else (0,),
            device="cpu",
            threads=1,
            jobs=jobs,
            out=self.folder / out,
            data=self.data,
        )
        try:
            outcomes = run_request(request, Console(file=io.StringIO()))
        except UsageError as refusal:
            raise Skipped(f"the strategy refuses recipe {recipe}: {refusal.message}") from None
        if outcomes[0].failed:
            trace = (outcomes[0].path / "traceback.txt").read_text().strip() if outcomes[0].path else ""
            raise Broken(f"{outcomes[0].message}\n{trace}", f"It must run with recipe {recipe} and split {split}.")
        run: StoredRun = stored(outcomes)[0]
        return run

    def command(self, out: str) -> list[str]:
        """Return the command that does the plain run in a process of its own."""
        command = [sys.executable, "-m", "clbench", "run", "-s", str(self.plugin.path), "-S", str(self.scenario)]
        command += ["--recipe", f"mlp{self.recipe_suffix}", "--threads", "1", "--device", "cpu"]
        return [*command, "--out", str(self.folder / out), "--data", str(self.data)]


# -- the file ---------------------------------------------------------------------------------------------------------


def one_strategy_that_loads(bench: Bench) -> None:
    """The file defines exactly one Strategy, under the name of the file."""
    cls = load_class(bench.plugin)
    if bench.plugin.problem:
        raise Broken(bench.plugin.problem, "One file is one strategy; its name is the file's stem.")
    letters = re.sub(r"[^a-z0-9]", "", bench.plugin.name.lower())
    if re.sub(r"[^a-z0-9]", "", cls.__name__.lower()) not in (letters, letters.replace("pp", "plusplus")):
        raise Broken(
            f"the class is called {cls.__name__} and the file {bench.plugin.name}.py",
            "Readers look for one under the name of the other: call them alike.",
        )


def docstring_names_source_equation_and_variant(bench: Bench) -> None:
    """The file's docstring has the equation on an indented line, `Source:` and `Variant:`."""
    doc = bench.plugin.doc
    missing = [word for word in ("Source:", "Variant:") if word not in doc]
    if not re.search(r"^ {4}.*[=←:]", doc, re.MULTILINE):
        missing.append("an equation, on a line indented by four spaces")
    if missing:
        raise Broken(
            f"the docstring lacks {' and '.join(missing)}",
            "Say where the method is from, what it minimises, and which variant this is: every codebase has another.",
        )


def hyper_parameters_are_described_bounded_and_survive_json(bench: Bench) -> None:
    """Every hyper-parameter has a default, a description, and a range or choices; the config is frozen and is JSON."""
    cls = config_class(load_class(bench.plugin))
    described = {field.name: field.doc for field in bench.plugin.fields}
    hints = typing.get_type_hints(cls, include_extras=True)
    for field in dataclasses.fields(cls):
        if not described.get(field.name):
            raise Broken(
                f"{field.name} has no description", "Put a string under it: what it is, its unit, the paper's value."
            )
        if not _bounded(hints[field.name]):
            raise Broken(
                f"{field.name} is any number",
                "Say its range: Annotated[float, Ge(0)], from the package annotated_types.",
            )
    made = cls()
    if configure(cls, plain(made), bench.plugin.name) != made:
        raise Broken(
            "the config is another after a round trip through JSON", "Use plain types: numbers, texts, tuples."
        )
    for field in dataclasses.fields(cls)[:1]:
        try:
            setattr(made, field.name, getattr(made, field.name))
        except dataclasses.FrozenInstanceError:
            return
        raise Broken("the config can be changed", "Decorate it with @clbench.config.")


def _bounded(hint: Any) -> bool:
    if typing.get_origin(hint) is typing.Annotated:
        return True
    if typing.get_origin(hint) is Literal or hint in (bool, str, type(None)):
        return True
    parts = typing.get_args(hint)
    return bool(parts) and all(_bounded(part) for part in parts)


def imports_nothing_of_other_strategies(bench: Bench) -> None:
    """The file imports clbench and libraries, never another strategy."""
    for node in ast.walk(ast.parse(bench.plugin.path.read_bytes())):
        names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        names += [node.module or "."] if isinstance(node, ast.ImportFrom) else []
        for name in names:
            if name.split(".")[0] in ("strategies", "scenarios", "") or name.startswith("clbench.plugins.importing"):
                raise Broken(
                    f"it imports {name}", "Shared mathematics lives in clbench.losses; a strategy is one file."
                )


# -- training ---------------------------------------------------------------------------------------------------------


def trains_in_the_first_and_in_later_experiences(bench: Bench) -> None:
    """A whole stream: the loss is a finite scalar that can be differentiated, and something is learned."""
    entries = bench.run().result.experiences
    if not any(entry.trained for entry in entries):
        raise Broken("no experience was learned", "training_data returned None every time.")
    first = bench.run().metric("new_accuracy")[0]
    if first is not None and first < 0.6:
        raise Broken(
            f"two digits are told apart with {100 * first:.0f} % after the first experience; guessing gives 50 %",
            "Is the loss the right way round, does its gradient reach the network?",
        )


def trains_a_network_with_batch_normalisation(bench: Bench) -> None:
    """The same with a convolutional network."""
    bench.run("cnn")


def trains_where_images_are_augmented(bench: Bench) -> None:
    """The same with augmentation, where the old network answers batch by batch."""
    bench.run("augmented")


def trains_with_a_fixed_head(bench: Bench) -> None:
    """The same where the head has all rows from the start."""
    bench.run("mlp-fixed")


def trains_on_batches_of_one(bench: Bench) -> None:
    """The same with batches of a single sample."""
    bench.run("single")


def trains_on_an_experience_of_one_class(bench: Bench) -> None:
    """The same where an experience brings one class only."""
    bench.run(split="3,1,6")


def trains_on_an_uneven_split(bench: Bench) -> None:
    """The same where experiences bring different numbers of classes."""
    bench.run(split="1,2,3,4")


# -- reproducibility --------------------------------------------------------------------------------------------------


def the_same_seed_gives_the_same_weights(bench: Bench) -> None:
    """Two runs in one process agree bit for bit."""
    _agree(bench.run(), bench.run(out="again"), "a second run of the same seed", "Draw random numbers from torch only.")


def a_worker_process_gives_the_same_weights(bench: Bench) -> None:
    """A run in a spawned process agrees bit for bit."""
    _agree(bench.run(), bench.run(out="spawned", jobs=2), "a run in another process", "Keep no state in the file.")


def killed_and_continued_it_ends_the_same(bench: Bench) -> None:
    """A run that is killed after its second experience and continued agrees bit for bit with one that was not."""
    whole, command = bench.run(), bench.command("killed")
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        for line in process.stderr:
            if "experience 1:" in line:
                process.kill()
                break
    finished = subprocess.run(command, capture_output=True, text=True, check=False)
    if finished.returncode:
        raise Broken(
            f"it does not continue: {finished.stderr.strip()[-500:]}", "What is set on self must be picklable."
        )
    _agree(
        whole,
        bench.run(out="killed"),
        "a run that was killed and continued",
        "Carry state on self, not in globals or on classes; only that is saved at the end of an experience.",
    )


def _agree(one: StoredRun, other: StoredRun, what: str, mend: str) -> None:
    for ours, theirs in zip(one.result.experiences, other.result.experiences, strict=True):
        if ours.weights_sha256 != theirs.weights_sha256:
            raise Broken(f"{what} has other weights after experience {ours.index}", mend)
    if one.result.counts != other.result.counts:
        raise Broken(f"{what} has the same weights and other predictions", mend)


def leaves_global_state_alone(bench: Bench) -> None:
    """Seeds, default types, threads, the working folder and signal handlers are as they were."""
    if notes := bench.run().result.notes:
        raise Broken("; ".join(notes), "Put back what you change, or do not change it.")


# -- what it may read, keep and do ------------------------------------------------------------------------------------


def _not_found(bench: Bench, names: tuple[str, ...], mend: str) -> None:
    reason = None
    for recipe in ("mlp", "cnn"):
        try:
            audit = bench.run(recipe).result.audit
        except Skipped as skipped:
            reason = skipped
            continue
        for finding in audit.findings:
            if finding.name in names:
                raise Broken(f"{finding.name}: in experience {finding.experience} it {finding.what}", mend)
    if reason is not None:
        raise reason


def reads_the_data_of_the_current_experience_only(bench: Bench) -> None:
    """No earlier, later or test sample is read, and no file of the data folder."""
    mend = "What may be kept of earlier data goes into an ExemplarMemory, of the size that the config's `memory` says."
    _not_found(bench, ("old data", "future data", "test data", "data files"), mend)


def keeps_no_more_than_it_declares(bench: Bench) -> None:
    """The images it carries, wherever they are, are no more than its config's field `memory`."""
    _not_found(bench, ("memory",), "Declare `memory: Annotated[int, Ge(1)] = 200` in the config, and keep to it.")


def frozen_copies_do_not_move(bench: Bench) -> None:
    """Networks that it keeps on itself, as teachers, have the same weights and buffers before and after training."""
    _not_found(
        bench, ("moving copy",), "copy.deepcopy(model).eval().requires_grad_(False), and never call .train() on it."
    )


def evaluation_leaves_no_trace(bench: Bench) -> None:
    """Neither the network nor the strategy is another after it was evaluated."""
    _not_found(bench, ("learning in evaluation",), "`predict` may set nothing on self.")


def prediction_is_independent_of_batch_mates(bench: Bench) -> None:
    """A sample's answer is the same alone and among others, and does not follow from its label."""
    names = ("batch mates", "training mode at test", "task label")
    _not_found(bench, names, "`predict` gets a network in evaluation mode; answer for each sample by itself.")


CHECKS: tuple[Callable[[Bench], None], ...] = (
    one_strategy_that_loads,
    docstring_names_source_equation_and_variant,
    hyper_parameters_are_described_bounded_and_survive_json,
    imports_nothing_of_other_strategies,
    trains_in_the_first_and_in_later_experiences,
    trains_a_network_with_batch_normalisation,
    trains_where_images_are_augmented,
    trains_with_a_fixed_head,
    trains_on_batches_of_one,
    trains_on_an_experience_of_one_class,
    trains_on_an_uneven_split,
    the_same_seed_gives_the_same_weights,
    a_worker_process_gives_the_same_weights,
    killed_and_continued_it_ends_the_same,
    leaves_global_state_alone,
    reads_the_data_of_the_current_experience_only,
    keeps_no_more_than_it_declares,
    frozen_copies_do_not_move,
    evaluation_leaves_no_trace,
    prediction_is_independent_of_batch_mates,
)


@dataclass(frozen=True)
class Result:
    """What became of one check."""

    check: str
    status: Literal["passed", "failed", "skipped"]
    found: str = ""
    """What is wrong, or why the check was skipped."""

    mend: str = ""

    @property
    def doc(self) -> str:
        """What the check checks, in a sentence."""
        return description(self.check)


def description(name: str) -> str:
    """Return what the check of this name checks, in a sentence."""
    return inspect.getdoc(_named()[name]) or ""


@functools.cache
def _named() -> Mapping[str, Callable[[Bench], None]]:
    return {check.__name__: check for check in CHECKS}


def perform(name: str, bench: Bench) -> Result:
    """Do one check; whatever the strategy raises is its result."""
    bench.check = name
    try:
        _named()[name](bench)
    except Skipped as reason:
        return Result(name, "skipped", str(reason))
    except Broken as fault:
        return Result(name, "failed", fault.found, fault.mend)
    except ClbenchError as error:
        return Result(name, "failed", error.message, error.hint or "")
    return Result(name, "passed")


def examine(plugin: Plugin) -> Iterator[Result]:
    """Do every check, in order, and yield its result as it is known."""
    bench = Bench(plugin)
    for name in _named():
        yield perform(name, bench)
