"""The description of where a run was made, in cases that are hard to find out."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from clbench.results import environment


@pytest.fixture
def checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The checkout that clbench appears to run from."""
    (tmp_path / ".git").mkdir()
    monkeypatch.setattr(environment, "__file__", str(tmp_path / "clbench" / "results" / "environment.py"))
    environment._commit.cache_clear()
    yield tmp_path
    environment._commit.cache_clear()


def test_without_git_the_commit_of_a_checkout_is_not_known(checkout: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(checkout))
    assert environment.describe("cpu")["source"] is None


def test_asking_for_the_commit_writes_nothing_to_the_checkout(checkout: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    git = checkout / "git"
    git.write_text("#!/bin/sh\necho locks $GIT_OPTIONAL_LOCKS\n")
    git.chmod(0o700)
    monkeypatch.setenv("PATH", str(checkout))
    assert environment.describe("cpu")["source"] == "locks 0"
