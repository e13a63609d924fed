"""What several test files need."""

from pathlib import Path

import pytest

from clbench.datasets import fetch


@pytest.fixture(scope="session")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data folder in which the bundled digits are ready."""
    folder = tmp_path_factory.mktemp("data")
    fetch("digits", folder)
    return folder
