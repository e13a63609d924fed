"""What several test files need."""

import functools
from collections.abc import Callable
from pathlib import Path

import pytest
from stored_runs import RESULTS

from clbench.data.datasets import fetch
from clbench.reporting.publication import Report, Selection, write_report


@pytest.fixture(scope="session")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data folder in which the bundled digits are ready."""
    folder = tmp_path_factory.mktemp("data")
    fetch("digits", folder)
    return folder


@pytest.fixture(scope="session")
def report_of(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Report]:
    """The report of some results of stored_runs.RESULTS by name, made once; the results lie beside it."""

    @functools.cache
    def made(name: str) -> Report:
        folder = tmp_path_factory.mktemp(name)
        RESULTS[name](folder / "results")
        return write_report([folder / "results"], folder / "report", Selection())

    return made
