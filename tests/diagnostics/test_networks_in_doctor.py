"""What `clbench doctor` says of networks of `train` and `extend`, which are no runs."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from digit_photos import write_digits

import clbench
from clbench.diagnostics import doctor
from clbench.results import store


@pytest.mark.slow
def test_a_network_is_as_published_or_named_with_what_is_wrong_and_is_no_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_digits(tmp_path / "photos", range(3), 0, 10)
    whole, damaged = tmp_path / "networks" / "whole", tmp_path / "networks" / "damaged"
    clbench.train(tmp_path / "photos", network="mlp", size=16, epochs=1, threads=1, out=whole)
    shutil.copytree(whole, damaged)
    with (damaged / "network.safetensors").open("ab") as file:
        file.write(b"more")
    monkeypatch.setattr(doctor, "_installation", list)
    monkeypatch.setattr(doctor, "_disk", list)
    examined = list(doctor.examine([tmp_path / "networks"], tmp_path / "data"))
    found = [each for each in examined if each.what.startswith("network ")]
    assert [(each.what, each.exit_code) for each in found] == [
        (f"network {damaged}: network.safetensors does not match MANIFEST.json", 1),
        (f"network {whole}: as published", 0),
    ]
    assert not any("run" in each.what or "Remove" in each.fix for each in examined)
    assert list(store.published_runs(tmp_path / "networks")) == []
