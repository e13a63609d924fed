"""A command whose working folder was removed."""

import os
from pathlib import Path

import pytest

from clbench.errors import MachineError
from clbench.system.global_state import GlobalState


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "here"
    folder.mkdir()
    monkeypatch.chdir(folder)
    return folder


def test_where_there_is_no_working_folder_none_is_put_back(here: Path) -> None:
    here.rmdir()
    state = GlobalState()
    assert state.restore() == []
    os.chdir("/")
    assert state.restore() == ["working folder"]


def test_a_working_folder_that_is_removed_meanwhile_is_noted(here: Path) -> None:
    state = GlobalState()
    here.rmdir()
    assert state.restore() == ["working folder"]


def test_there_is_no_going_on_elsewhere_where_the_working_folder_was_removed(here: Path) -> None:
    state = GlobalState()
    here.rmdir()
    os.chdir("/")
    with pytest.raises(MachineError, match=f"the working folder {here} was removed"):
        state.restore()
