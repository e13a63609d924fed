"""Hyper-parameters are coerced to their type, range-checked, never NaN, frozen, and never silently ignored."""

import dataclasses
import json
import math
from typing import Annotated, Any, Literal

import pytest
from annotated_types import Ge, Gt, Lt
from hypothesis import given
from hypothesis import strategies as st

import clbench
from clbench.base.config import NoConfig, config, configure, plain
from clbench.base.strategy import Strategy, config_class
from clbench.errors import UsageError


@config
class Config:
    alpha: Annotated[float, Ge(0)] = 1.0
    share: Annotated[float, Gt(0), Lt(1)] = 0.5
    steps: Annotated[int, Ge(1)] = 3
    warm: bool = False
    term: Literal["current", "seen"] = "current"
    blocks: Annotated[int, Ge(1)] | Literal["all"] = "all"
    limit: float | None = None


def test_without_values_the_defaults_hold() -> None:
    assert configure(Config, {}, "mine") == Config()
    assert Config().alpha == 1.0 and Config().blocks == "all" and Config().limit is None


@pytest.mark.parametrize(
    ("name", "text", "value"),
    [
        ("alpha", "2", 2.0),
        ("alpha", "5e-4", 0.0005),
        ("steps", "7", 7),
        ("warm", "true", True),
        ("warm", "false", False),
        ("term", "seen", "seen"),
        ("blocks", "2", 2),
        ("blocks", "all", "all"),
        ("limit", "0.5", 0.5),
    ],
)
def test_a_value_typed_on_the_command_line_becomes_one_of_the_fields_type(name: str, text: str, value: object) -> None:
    made = getattr(configure(Config, {name: text}, "mine"), name)
    assert made == value and type(made) is type(value)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("alpha", "-1"),
        ("alpha", -1e-9),
        ("alpha", "much"),
        ("alpha", ""),
        ("alpha", None),
        ("alpha", [1]),
        ("share", "0"),
        ("share", "1"),
        ("steps", "0"),
        ("steps", "2.5"),
        ("steps", 2.5),
        ("warm", "perhaps"),
        ("term", "Seen"),
        ("blocks", "0"),
        ("blocks", "some"),
    ],
)
def test_a_value_of_the_wrong_type_or_range_is_a_usage_error_that_names_it(name: str, value: Any) -> None:
    with pytest.raises(UsageError) as raised:
        configure(Config, {name: value}, "mine")
    assert f"mine.{name}" in raised.value.message and repr(value) in raised.value.message


@pytest.mark.parametrize("name", ["alpha", "limit"])
@pytest.mark.parametrize("value", ["nan", "inf", "-inf", "Infinity", math.nan, math.inf, "1e999"])
def test_nan_and_infinity_are_no_values(name: str, value: Any) -> None:
    with pytest.raises(UsageError, match=f"mine.{name}"):
        configure(Config, {name: value}, "mine")


@given(st.floats(0, 1e300))
def test_a_number_written_as_text_is_the_number(value: float) -> None:
    assert configure(Config, {"alpha": repr(value)}, "mine").alpha == value


def test_an_error_says_what_is_accepted() -> None:
    with pytest.raises(UsageError, match="greater than or equal to 0"):
        configure(Config, {"alpha": "-1"}, "mine")
    with pytest.raises(UsageError, match="'current' or 'seen'"):
        configure(Config, {"term": "both"}, "mine")


def test_every_wrong_value_is_named_not_only_the_first() -> None:
    with pytest.raises(UsageError) as raised:
        configure(Config, {"alpha": "-1", "steps": "0"}, "mine")
    assert "mine.alpha" in raised.value.message and "mine.steps" in raised.value.message


def test_an_unknown_name_is_a_usage_error_with_the_nearest_and_all_known_names() -> None:
    with pytest.raises(UsageError) as raised:
        configure(Config, {"alhpa": "1"}, "mine")
    message = raised.value.message
    assert "mine has no hyper-parameter 'alhpa'" in message and "did you mean 'alpha'?" in message
    assert all(field.name in message for field in dataclasses.fields(Config))  # type: ignore[arg-type]


def test_a_strategy_without_hyper_parameters_accepts_none() -> None:
    assert configure(NoConfig, {}, "naive") == NoConfig()
    with pytest.raises(UsageError, match="it has none"):
        configure(NoConfig, {"alpha": "1"}, "naive")


def test_a_config_is_frozen() -> None:
    made = Config()
    with pytest.raises(dataclasses.FrozenInstanceError):
        made.alpha = 2.0  # type: ignore[misc]
    assert made.alpha == 1.0


def test_values_are_given_by_name_only() -> None:
    with pytest.raises(Exception, match="positional"):
        Config(2.0)  # type: ignore[call-arg]


def test_a_field_without_a_default_is_a_type_error_that_names_it() -> None:
    with pytest.raises(TypeError, match=r"Needy\.alpha has no default"):

        @config
        class Needy:
            alpha: float


def test_a_default_given_again_as_a_value_is_the_same_configuration() -> None:
    # Otherwise the same experiment would have two run ids: `1` and `1.0` are different JSON.
    @config
    class Whole:
        alpha: float = 1

    written = [json.dumps(plain(configure(Whole, values, "mine"))) for values in ({}, {"alpha": "1"})]
    assert written[0] == written[1]


@pytest.mark.parametrize("default", [-1.0, math.nan, "much"])
def test_a_default_outside_its_own_range_is_refused(default: Any) -> None:
    with pytest.raises((TypeError, ValueError, clbench.ClbenchError)):

        @config
        class Wrong:
            alpha: Annotated[float, Ge(0)] = default

        configure(Wrong, {}, "mine")


def test_a_config_as_plain_values_is_json_with_nested_configs_as_objects() -> None:
    recipe = clbench.Recipe(lr=0.5, augmentation=clbench.Augmentation(crop=4))
    values = json.loads(json.dumps(plain(recipe)))
    assert values["lr"] == 0.5
    assert values["augmentation"] == {"crop": 4, "flip": False, "brightness": 0.0}


def test_plain_values_make_the_same_config_again() -> None:
    recipe = clbench.Recipe(lr=0.5, augmentation=clbench.Augmentation(crop=4, flip=True))
    assert configure(clbench.Recipe, plain(recipe), "recipe") == recipe


@pytest.mark.parametrize(
    ("name", "value"), [("lr", -1), ("lr", 0), ("epochs", 0), ("batch_size", 0), ("momentum", 1), ("model", "vgg")]
)
def test_a_recipe_has_ranges_too(name: str, value: Any) -> None:
    with pytest.raises(UsageError, match=rf"recipe quick\.{name}"):
        configure(clbench.Recipe, {name: value}, "recipe quick")


def test_the_config_of_a_strategy_is_the_class_in_its_brackets() -> None:
    class Plain(Strategy):  # type: ignore[type-arg]
        pass

    class Mine(Strategy[Config]):
        pass

    class Heir(Mine):
        pass

    assert config_class(Plain) is NoConfig
    assert config_class(Mine) is Config
    assert config_class(Heir) is Config


def test_a_value_that_is_none_of_several_kinds_is_refused_once_by_the_fields_own_name() -> None:
    @config
    class Either:
        train: Annotated[int, Ge(1)] | Literal["all", "head"] = "all"

    with pytest.raises(UsageError) as refused:
        configure(Either, {"train": "some"}, "network")
    said = refused.value.message
    assert said.startswith("network.train must be a valid integer") and said.endswith("(got 'some')")
    assert said.count("network.train") == 1 and "'all' or 'head'" in said
    assert "constrained" not in said and "literal" not in said
