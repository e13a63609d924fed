"""One metric of stored runs, as `clbench compare --metric` shows it."""

from pathlib import Path

import pytest
from stored_runs import online, publish

from clbench.cli import stored_runs as reading
from clbench.comparison import one_metric
from clbench.errors import UsageError
from clbench.evaluation import metrics


def shown(results: Path, metric: str, capsys: pytest.CaptureFixture[str]) -> str:
    reading.compare([results], metric=metric, wide=True)
    return capsys.readouterr().out


def test_a_metric_is_a_column_beside_the_strategies(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    publish(tmp_path, "er", old=0.5)
    (line,) = [line for line in shown(tmp_path, "backward_transfer", capsys).splitlines() if line.startswith("er ")]
    assert line.split() == ["er", "-50.0", "1"]


def test_a_metric_of_each_experience_has_a_column_for_each(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    publish(tmp_path, "er", old=0.5, sizes=(2, 2, 2))
    (line,) = [line for line in shown(tmp_path, "old_accuracy", capsys).splitlines() if line.startswith("er ")]
    assert line.split() == ["er", "–", "50.0", "50.0", "1"]


def test_a_metric_within_experiences_is_shown_of_runs_that_have_a_curve(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    online(tmp_path)
    lines = shown(tmp_path, "minimum_accuracy", capsys).splitlines()
    # Both earlier experiences fall to 30, 40 and 50 % in the three seeds.
    assert next(line for line in lines if line.startswith("er ")).split()[1] == "40.0"


def test_where_no_run_has_a_curve_it_is_said_how_to_make_one(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    publish(tmp_path)
    said = " ".join(shown(tmp_path, "anytime_accuracy", capsys).split())
    assert "anytime_accuracy is undefined here." in said and "--set stream.evaluate_every=N" in said


def test_a_metric_that_does_not_exist_is_a_mistake_that_names_the_nearest(tmp_path: Path) -> None:
    publish(tmp_path)
    with pytest.raises(UsageError, match="did you mean 'anytime_accuracy'"):
        reading.compare([tmp_path], metric="anytime")
    with pytest.raises(UsageError, match="several values for each strategy and experience"):
        reading.compare([tmp_path], metric="per_class_accuracy")


@pytest.mark.slow
def test_every_metric_that_is_a_row_can_be_shown(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    online(tmp_path)
    for name in one_metric.NAMES:
        assert "er" in shown(tmp_path, name, capsys)
    assert {*metrics.BY_NAME, *metrics.BY_NAME_WITHIN, "forward_transfer"} == {
        *one_metric.NAMES,
        "accuracy_matrix",
        "per_class_accuracy",
    }
