"""The options of `train` and `extend`: one declaration, which the command line and Python follow."""

from __future__ import annotations

import inspect
from dataclasses import MISSING
from pathlib import Path
from typing import Any

import pytest
import typer

import clbench
from clbench.api.extending import command_of
from clbench.cli.app import application
from clbench.errors import UsageError
from clbench.extension import requests
from clbench.extension.requests import ExtendRequest, TrainRequest
from clbench.runs.option import options_of, parsed

BOTH = pytest.mark.parametrize(
    ("request_type", "function"), [(TrainRequest, clbench.train), (ExtendRequest, clbench.extend)]
)


def on_the_command_line(name: str) -> dict[str, Any]:
    command = typer.main.get_command(application()).commands[name]  # type: ignore[attr-defined]
    return {parameter.name: parameter for parameter in command.params}


@BOTH
def test_python_takes_the_options_that_are_declared(request_type: Any, function: Any) -> None:
    parameters = inspect.signature(function).parameters
    declared = options_of(request_type)
    assert set(parameters) - {"source"} == set(declared)
    needed = {"images": Path("new"), "out": Path("model")} | ({"network": "mlp"} if function is clbench.train else {})
    given = {name: each.default for name, each in parameters.items() if name not in {*needed, "source"}}
    assert request_type.from_python({**needed, **given}) == request_type(**needed)
    for name, each in declared.items():
        assert f"    {name}: {each.option.help}" in (inspect.getdoc(function) or "")


@BOTH
def test_the_command_line_takes_them_and_asks_for_those_that_are_needed(request_type: Any, function: Any) -> None:
    parameters, declared = on_the_command_line(function.__name__), options_of(request_type)
    assert {*parameters} - {*declared} - {"help"} - {"source"} == {"dry_run", "as_json"}
    for name, each in declared.items():
        assert parameters[name].required == (each.default is MISSING), name
        assert parameters[name].help.startswith(each.option.help)


def test_command_line_and_python_ask_for_the_same_request() -> None:
    typed = {
        "images": Path("new"),
        "out": Path("m"),
        "strategy": ["lwf, ncm", "er"],
        "mean": "0.5,0.25,0",
        "fit": "pad",
    }
    given = {"images": "new", "out": "m", "strategy": "lwf,ncm,er", "mean": [0.5, 0.25, 0], "fit": "pad", "std": None}
    request = ExtendRequest(**parsed(options_of(ExtendRequest), {**typed, "set": ["lwf.alpha=2"]}))
    assert request == ExtendRequest.from_python({**given, "set": {"lwf.alpha": "2"}})
    assert request.strategy == ("lwf", "ncm", "er") and request.mean == (0.5, 0.25, 0.0)


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({"prepare": []}, "--prepare none"),
        ({"prepare": ["ncm", "ewc"]}, "--prepare ncm,ewc"),
        ({"set": {"recipe.milestones": [5, 8]}}, "--set recipe.milestones=5,8"),
        ({"set": {"recipe.nesterov": True}}, "--set recipe.nesterov=true"),
    ],
)
def test_what_python_was_given_is_a_command_that_asks_for_the_same(given: dict[str, Any], expected: str) -> None:
    request = TrainRequest.from_python({"images": "new", "out": "m", "network": "mlp", **given})
    assert f" {expected} " in f"{command_of(request, 1)} "


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"fit": "padd"}, "--fit must be crop, pad or stretch .*did you mean 'pad'"),
        ({"mean": "0.5"}, r"mean must be a sequence of numbers, one for each channel \(got '0.5'\)"),
        ({"epochs": 1.5}, r"epochs must be an integer \(got 1.5\)"),
        ({"old_test": 3}, r"old_test must be a path \(got 3\)"),
    ],
)
def test_an_argument_of_the_wrong_type_is_refused(given: dict[str, Any], said: str) -> None:
    with pytest.raises(UsageError, match=said):
        clbench.extend("model", "new", out="model-2", **given)


def test_threads_are_the_cores_only_for_images_that_keep_them_busy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(requests, "available_cores", lambda: 8)
    usual = TrainRequest(images=Path("new"), out=Path("m"), network="mlp")
    assert [usual.threads_at(size) for size in (16, 32, 64, 224)] == [1, 1, 8, 8]
    assert TrainRequest(images=Path("new"), out=Path("m"), network="mlp", threads=3).threads_at(16) == 3


def test_a_first_network_of_small_images_is_trained_by_one_thread(photos: Any, tmp_path: Path) -> None:
    made = clbench.train(photos.base, network="mlp", size=16, epochs=1, prepare="none", out=tmp_path / "model")
    assert made.result.threads == 1
    assert "--threads 1" in made.page.read_text()
