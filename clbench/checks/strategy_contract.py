"""The contract of a strategy as named checks, for `clbench check` and clbench.testing.

Most checks run the strategy on scikit-learn's handwritten digits; each says what it found and how to fix it. Together
they take about a minute. They find mistakes but cannot prove that there are none.
"""

from __future__ import annotations

import ast
import dataclasses
import difflib
import re
import subprocess
import typing
from collections.abc import Callable, Iterator
from typing import Any, Literal

from clbench.base.config import configure, plain
from clbench.base.strategy import config_class
from clbench.checks.check import CheckFailed, Result, Skipped, perform
from clbench.checks.small_scenario import Bench
from clbench.plugins.discovery import Plugin
from clbench.plugins.module_loading import require_room_for_torch
from clbench.results.stored_run import StoredRun
from clbench.runs.selection import load_class

# -- the file ---------------------------------------------------------------------------------------------------------


def one_strategy_that_loads(bench: Bench) -> None:
    """The file defines exactly one Strategy, named like the file."""
    cls = load_class(bench.plugin)
    if bench.plugin.problem:
        raise CheckFailed(bench.plugin.problem, "Define one strategy per file; its name is the file's stem.")
    letters = re.sub(r"[^a-z0-9]", "", bench.plugin.name.lower())
    if re.sub(r"[^a-z0-9]", "", cls.__name__.lower()) not in (letters, letters.replace("pp", "plusplus")):
        raise CheckFailed(
            f"the class is called {cls.__name__} and the file {bench.plugin.name}.py",
            "Give the class and the file the same name, so that readers find one from the other.",
        )


def docstring_names_source_equation_and_variant(bench: Bench) -> None:
    """The file's docstring has the equation on an indented line, `Source:` and `Variant:`."""
    doc = bench.plugin.doc
    missing = [word for word in ("Source:", "Variant:") if word not in doc]
    if not re.search(r"^ {4}.*[=←:]", doc, re.MULTILINE):
        missing.append("an equation, on a line indented by four spaces")
    if missing:
        raise CheckFailed(
            f"the docstring lacks {' and '.join(missing)}",
            "Name the source of the method, its loss, and which variant this is, since implementations differ.",
        )


def hyper_parameters_are_described_bounded_and_survive_json(bench: Bench) -> None:
    """Every hyper-parameter has a default, a description, and a range or choices; the config is frozen JSON data."""
    cls = config_class(load_class(bench.plugin))
    described = {field.name: field.doc for field in bench.plugin.fields}
    hints = typing.get_type_hints(cls, include_extras=True)
    for field in dataclasses.fields(cls):
        if not described.get(field.name):
            raise CheckFailed(
                f"{field.name} has no description", "Put a docstring under it: meaning, unit, the paper's value."
            )
        if not _bounded(hints[field.name]):
            raise CheckFailed(
                f"{field.name} has no range",
                "Annotate its range: Annotated[float, Ge(0)], from the package annotated_types.",
            )
    made = cls()
    if configure(cls, plain(made), bench.plugin.name) != made:
        raise CheckFailed(
            "the config changes in a round trip through JSON", "Use plain types: numbers, strings, tuples."
        )
    for field in dataclasses.fields(cls)[:1]:
        try:
            setattr(made, field.name, getattr(made, field.name))
        except dataclasses.FrozenInstanceError:
            return
        raise CheckFailed("the config is not frozen", "Decorate it with @clbench.config.")


def _bounded(hint: Any) -> bool:
    if typing.get_origin(hint) is typing.Annotated:
        return True
    if typing.get_origin(hint) is Literal or hint in (bool, str, type(None)):
        return True
    parts = typing.get_args(hint)
    return bool(parts) and all(_bounded(part) for part in parts)


def imports_no_other_strategy(bench: Bench) -> None:
    """The file imports clbench and libraries, never another strategy."""
    for node in ast.walk(ast.parse(bench.plugin.path.read_bytes())):
        names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        names += [node.module or "."] if isinstance(node, ast.ImportFrom) else []
        for name in names:
            if name.split(".")[0] in ("strategies", "scenarios", "networks", "") or name.startswith(
                "clbench.plugins.module_loading"
            ):
                raise CheckFailed(
                    f"it imports {name}", "A strategy is one file; shared mathematics belongs in clbench.losses."
                )


def its_hooks_are_spelled_as_the_contract_has_them(bench: Bench) -> None:
    """No method has nearly the name of a hook: it would never be called."""
    cls = load_class(bench.plugin)
    in_file = [each for each in cls.__mro__ if each.__module__ == cls.__module__]
    hooks = {name for each in cls.__mro__ if each not in in_file for name in vars(each) if not name.startswith("_")}
    for name in sorted({name for each in in_file for name in vars(each)} - hooks):
        near = difflib.get_close_matches(name, hooks, n=1, cutoff=0.88)
        if near and not name.startswith("_"):
            raise CheckFailed(
                f"{cls.__name__}.{name} is not called by anything; did you mean the hook {near[0]}?",
                "Rename it, or begin its name with _ if it is not meant to be a hook.",
            )


# -- training ---------------------------------------------------------------------------------------------------------


def trains_in_the_first_and_in_later_experiences(bench: Bench) -> None:
    """On a whole stream, the loss is a finite, differentiable scalar, and the network learns something."""
    entries = bench.run().result.experiences
    if not any(entry.trained for entry in entries):
        raise CheckFailed("no experience was learned", "training_data returned None in every experience.")
    first = bench.run().metric("new_accuracy")[0]
    if first is not None and first < 0.6:
        raise CheckFailed(
            f"accuracy on two digits is {100 * first:.0f} % after the first experience; chance level is 50 %",
            "Check the sign of the loss, and that its gradient reaches the network.",
        )


def trains_a_network_with_batch_normalisation(bench: Bench) -> None:
    """The strategy trains a convolutional network with batch normalisation."""
    bench.run("cnn")


def trains_on_augmented_images(bench: Bench) -> None:
    """The strategy trains with augmentation, for which a teacher's outputs are computed batch by batch."""
    bench.run("augmented")


def trains_with_a_fixed_head(bench: Bench) -> None:
    """The strategy trains with a head that has all rows from the start."""
    bench.run("mlp-fixed")


def trains_on_batches_of_one(bench: Bench) -> None:
    """The strategy trains on batches of a single sample."""
    bench.run("single")


def trains_on_an_experience_of_one_class(bench: Bench) -> None:
    """The strategy trains on an experience with a single class."""
    bench.run(split="3,1,6")


def trains_on_an_uneven_split(bench: Bench) -> None:
    """The strategy trains on experiences with different numbers of classes."""
    bench.run(split="1,2,3,4")


# -- reproducibility --------------------------------------------------------------------------------------------------


def the_same_seed_gives_the_same_weights(bench: Bench) -> None:
    """Two runs in one process are bit-identical."""
    _agree(bench.run(), bench.run(out="again"), "a second run of the same seed", "Draw random numbers from torch only.")


def a_worker_process_gives_the_same_weights(bench: Bench) -> None:
    """A run in a spawned process is bit-identical."""
    _agree(bench.run(), bench.run(out="spawned", jobs=2), "a run in another process", "Keep no state at module level.")


def a_killed_run_resumes_bit_identically(bench: Bench) -> None:
    """A run that is killed after its second experience and resumed is bit-identical to an uninterrupted one."""
    whole = bench.run()
    command = bench.command(whole, "killed")
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        for line in process.stderr:
            if "experience 1:" in line:
                process.kill()
                break
    finished = subprocess.run(command, capture_output=True, text=True, check=False)
    if finished.returncode:
        raise CheckFailed(
            f"it does not resume: {finished.stderr.strip()[-500:]}", "Attributes set on self must be picklable."
        )
    _agree(
        whole,
        bench.run(out="killed"),
        "a run that was killed and resumed",
        "Keep state on self, not in globals or on classes; only attributes of self are saved between experiences.",
    )


def _agree(one: StoredRun, other: StoredRun, what: str, fix: str) -> None:
    for ours, theirs in zip(one.result.experiences, other.result.experiences, strict=True):
        if ours.weights_sha256 != theirs.weights_sha256:
            raise CheckFailed(f"{what} has different weights after experience {ours.index}", fix)
    if one.result.counts != other.result.counts:
        raise CheckFailed(f"{what} has the same weights but different predictions", fix)


def leaves_global_state_alone(bench: Bench) -> None:
    """Default types, threads, the working folder and signal handlers stay unchanged."""
    if notes := bench.run().result.notes:
        raise CheckFailed("; ".join(notes), "Do not change global state, or restore it.")


# -- what it may read, keep and do ------------------------------------------------------------------------------------


def _require_no_finding(bench: Bench, names: tuple[str, ...], fix: str) -> None:
    reason = None
    for recipe in ("mlp", "cnn"):
        try:
            audit = bench.run(recipe).result.audit
        except Skipped as skipped:
            reason = skipped
            continue
        for finding in audit.findings:
            if finding.name in names:
                raise CheckFailed(f"{finding.name}: in experience {finding.experience} it {finding.what}", fix)
    if reason is not None:
        raise reason


def reads_the_data_of_the_current_experience_only(bench: Bench) -> None:
    """No earlier, later or test sample is read, nor any file in the data folder."""
    fix = "Keep earlier data in an ExemplarMemory only, of the size given by the config's field `memory`."
    _require_no_finding(bench, ("old data", "future data", "test data", "data files"), fix)


def keeps_no_more_than_it_declares(bench: Bench) -> None:
    """It keeps no more images, anywhere, than its config's field `memory` declares."""
    _require_no_finding(
        bench, ("memory",), "Declare `memory: Annotated[int, Ge(1)] = 200` in the config, and keep no more than that."
    )


def frozen_copies_stay_unchanged(bench: Bench) -> None:
    """Copies of the network that it keeps, such as teachers, have the same weights and buffers after training."""
    _require_no_finding(
        bench, ("moving copy",), "Use copy.deepcopy(model).eval().requires_grad_(False), and never call .train() on it."
    )


def evaluation_changes_nothing(bench: Bench) -> None:
    """Evaluation changes neither the network nor the strategy."""
    _require_no_finding(bench, ("learning in evaluation",), "`predict` must not set attributes on self.")


def prediction_depends_on_its_own_sample_only(bench: Bench) -> None:
    """A sample's prediction does not depend on the other samples of its batch, nor on its label."""
    names = ("batch mates", "training mode at test", "task label")
    _require_no_finding(bench, names, "`predict` gets a network in evaluation mode; predict each sample by itself.")


CHECKS: tuple[Callable[[Bench], None], ...] = (
    one_strategy_that_loads,
    docstring_names_source_equation_and_variant,
    hyper_parameters_are_described_bounded_and_survive_json,
    imports_no_other_strategy,
    its_hooks_are_spelled_as_the_contract_has_them,
    trains_in_the_first_and_in_later_experiences,
    trains_a_network_with_batch_normalisation,
    trains_on_augmented_images,
    trains_with_a_fixed_head,
    trains_on_batches_of_one,
    trains_on_an_experience_of_one_class,
    trains_on_an_uneven_split,
    the_same_seed_gives_the_same_weights,
    a_worker_process_gives_the_same_weights,
    a_killed_run_resumes_bit_identically,
    leaves_global_state_alone,
    reads_the_data_of_the_current_experience_only,
    keeps_no_more_than_it_declares,
    frozen_copies_stay_unchanged,
    evaluation_changes_nothing,
    prediction_depends_on_its_own_sample_only,
)


def examine(plugin: Plugin) -> Iterator[Result]:
    """Perform every check in order and yield each result as soon as it is known."""
    require_room_for_torch()  # otherwise every check would fail for lack of memory
    bench = Bench(plugin)
    for check in CHECKS:
        yield perform(check, bench)
