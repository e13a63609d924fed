"""The options of a run: one declaration, which the command line and `clbench.run` follow."""

from __future__ import annotations

import inspect
from dataclasses import MISSING, replace
from pathlib import Path
from typing import Any

import pytest
import typer

import clbench
from clbench.cli.app import application
from clbench.errors import UsageError
from clbench.runs.request import Request, options


def on_the_command_line() -> dict[str, Any]:
    command = typer.main.get_command(application()).commands["run"]  # type: ignore[attr-defined]
    return {parameter.name: parameter for parameter in command.params}


def test_python_takes_the_options_that_are_declared_in_their_order_and_with_their_defaults() -> None:
    parameters = inspect.signature(clbench.run).parameters
    assert list(parameters) == list(options())
    for name, declared in options().items():
        if declared.default is MISSING:
            assert parameters[name].default is inspect.Parameter.empty
        else:
            assert declared.accept(parameters[name].default) == declared.accept(declared.default)


def test_the_command_line_takes_them_too_and_a_few_of_its_own() -> None:
    parameters = on_the_command_line()
    own = {name for name in parameters if name not in options()} - {"help"}
    assert own == {"study", "wide", "as_json", "dry_run", "save_study"}
    assert [name for name in parameters if name in options()] == list(options())
    for name, declared in options().items():
        assert not parameters[name].required  # strategies and scenarios may be those of a study
        assert parameters[name].help.startswith(declared.option.help)


def test_leaving_an_option_out_means_the_same_everywhere() -> None:
    needed: dict[str, Any] = {"strategy": ["naive"], "scenario": ["splitdigits"]}
    parameters = inspect.signature(clbench.run).parameters
    given = {name: each.default for name, each in parameters.items() if name not in needed}
    typed = {name: each.default for name, each in on_the_command_line().items() if name in given}
    assert Request.from_python({**needed, **given}) == Request(**needed)
    assert Request.from_command_line({**needed, **typed}) == Request(**needed)


def test_the_help_of_the_function_tells_every_option() -> None:
    text = inspect.getdoc(clbench.run) or ""
    assert text.startswith("Run strategies on scenarios")
    for name, declared in options().items():
        assert f"    {name}: {declared.option.help}" in text


def test_command_line_and_python_ask_for_the_same_request() -> None:
    typed = {"strategy": ["naive,lwf:pycil"], "scenario": ["splitdigits"], "seeds": "0,3", "set": ["lwf.alpha=2"]}
    given = {"strategy": ["naive", "lwf:pycil"], "scenario": "splitdigits", "seeds": [0, 3], "set": {"lwf.alpha": "2"}}
    places = {"out": "runs", "data": "pixels"}
    request = Request.from_python({**given, **places})
    assert Request.from_command_line({**typed, **{name: Path(path) for name, path in places.items()}}) == request
    assert (request.out, request.data) == (Path("runs"), Path("pixels"))


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("jobs", "0", r"--jobs must be 'auto' or an integer from 1 to 10000 \(got 0\)"),
        ("seeds", "many", r"--seeds must be a number of seeds .* \(got many\)"),
        ("seeds", "0,x", r"--seeds: every seed must be an integer .* \(got 0,x\)"),
        ("set", ["alpha"], r"--set must have the form STRATEGY.NAME=VALUE, .* \(got alpha\)"),
    ],
)
def test_an_error_says_what_an_option_must_be_and_what_it_got(name: str, text: Any, said: str) -> None:
    with pytest.raises(UsageError, match=said):
        Request.from_command_line({name: text})


@pytest.mark.parametrize("seeds", ["1", "0,", "5", "5,"])
def test_seeds_beside_a_seed_are_refused_whatever_they_are(seeds: str) -> None:
    with pytest.raises(UsageError, match="--seed and --seeds are both given"):
        Request.from_command_line({"seeds": seeds, "seed": 5})
    number = [int(seeds[:-1])] if seeds.endswith(",") else int(seeds)
    with pytest.raises(UsageError, match="--seed and --seeds are both given"):
        clbench.run("naive", "splitdigits", seeds=number, seed=5)


def test_no_seed_at_all_is_refused_and_a_copy_of_a_request_may_have_others() -> None:
    with pytest.raises(UsageError, match="at least one seed"):
        clbench.run("naive", "splitdigits", seeds=[])
    one = Request(["naive"], ["splitdigits"], seed=5)
    assert (one.seeds, replace(one, seeds=(7,)).seeds, Request([], []).seeds) == ((5,), (7,), (0,))


@pytest.mark.parametrize(("jobs", "asked"), [("2", 2), (2, 2), ("auto", "auto"), (None, None)])
def test_python_may_give_jobs_as_text(jobs: Any, asked: Any) -> None:
    given = {"strategy": "naive", "scenario": "splitdigits", "jobs": jobs}
    assert Request.from_python(given).jobs == asked
    for wrong in ("two", 0, 1.5, True):
        with pytest.raises(UsageError, match=r"jobs must be"):
            Request.from_python({**given, "jobs": wrong})
