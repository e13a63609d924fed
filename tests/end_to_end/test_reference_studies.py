"""The studies under examples/: each is planned, and those of the reference runs plan the runs that are stored."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from clbench.data.datasets import describe
from clbench.results.record_model import to_json
from clbench.results.stored_runs import read_all
from clbench.runs.planned_runs import Planned
from clbench.runs.planning import Planning
from clbench.runs.study import read_study

ROOT = Path(__file__).parents[2]
STUDIES = sorted((ROOT / "examples" / "studies").glob("*.toml"))


def planned(study: Path, data: Path) -> list[Planned]:
    return Planning(read_study(study, {"data": data}), lambda event: None, bring=False).known


def choices(spec: dict[str, Any]) -> str:
    """Every choice in a spec: all but what is the data's or of the version of a file that made the run."""
    del spec["engine"], spec["scenario"]["dataset_sha256"], spec["strategy"]["sha256"]
    spec["scenario"].pop("class_names", None)
    return json.dumps(spec, sort_keys=True)


@pytest.mark.slow
@pytest.mark.parametrize("study", STUDIES, ids=lambda path: path.stem)
def test_a_study_under_examples_is_planned(study: Path, data: Path) -> None:
    assert planned(study, data)


@pytest.mark.slow
@pytest.mark.parametrize("protocol", ["quick", "hsu2018", "vandeven2019"])
def test_a_reference_study_plans_the_stored_reference_runs(protocol: str, data: Path) -> None:
    runs, _ = read_all(sorted((ROOT / "results" / "reference").glob("*.zip")))
    stored = [to_json(run.spec) for run in runs]
    of_protocol = [spec for spec in stored if spec["recipe"]["name"].removesuffix("-sgd") == protocol]
    study = ROOT / "examples" / "studies" / f"reference-{protocol}.toml"
    specs = [to_json(run.spec) for run in planned(study, data)]
    assert of_protocol and sorted(map(choices, specs)) == sorted(map(choices, of_protocol))


@pytest.mark.slow
def test_the_first_comparison_is_small(data: Path) -> None:
    assert describe("digits", data)
    runs = planned(ROOT / "examples" / "studies" / "first-comparison.toml", data)
    assert len(runs) == 12 and {run.spec.scenario.dataset for run in runs} == {"digits"}
