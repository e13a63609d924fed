"""Networks that `clbench run --keep-networks` has kept are extended like those of `clbench train`."""

from __future__ import annotations

import kept_runs
import pytest
from digit_photos import write_digits

import clbench
from clbench.errors import UsageError


@pytest.fixture
def further(tmp_path):
    write_digits(tmp_path / "photos", [7, 8, 9], 0, 10)
    for place in (tmp_path / "photos").iterdir():
        place.rename(place.with_name(place.name.replace("digit", "further")))
    return tmp_path / "photos"


@pytest.mark.slow
@pytest.mark.parametrize("setting", ["class_incremental", "domain_incremental"])
def test_a_runs_network_is_extended_and_its_page_names_the_run(further, tmp_path, data, setting):
    run = kept_runs.run("naive", tmp_path / "results", data, keep_networks="last", setting=setting)
    out = clbench.extend(run.path, further, out=tmp_path / "out", threads=1)
    assert len(out.classes) == len(clbench.load_network(run.path).classes) + 3
    assert "clbench run" in out.page.read_text()


@pytest.mark.slow
def test_a_task_incremental_network_is_refused(further, tmp_path, data):
    run = kept_runs.run("naive", tmp_path / "results", data, keep_networks="last", setting="task_incremental")
    with pytest.raises(UsageError, match="task-incrementally"):
        clbench.extend(run.path, further, out=tmp_path / "out", threads=1)


@pytest.mark.slow
def test_without_rows_in_its_head_a_network_is_extended_only_by_what_needs_none(further, tmp_path, data):
    run = kept_runs.run("ncm", tmp_path / "results", data, keep_networks="last")
    with pytest.raises(UsageError, match="imprint, naive: the network classifies by NearestMean") as refused:
        clbench.extend(run.path, further, strategy="imprint,naive,ncm", out=tmp_path / "out", threads=1)
    assert "ncm: it needs data of the old classes" in str(refused.value)
