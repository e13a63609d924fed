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
    monkeypatch.setattr(doctor, "_machine", list)
    found = [each for each in doctor.examine([tmp_path / "networks"], tmp_path / "data") if "network" in each.what]
    assert [(each.what, each.exit_code) for each in found if "networks in" not in each.what and "/" in each.what] == [
        (f"network {damaged}: network.safetensors is not what MANIFEST.json says", 1),
        (f"network {whole}: as published", 0),
    ]
    assert "Remove" not in found[-1].fix + found[-2].fix
    assert list(store.published_runs(tmp_path / "networks")) == []
