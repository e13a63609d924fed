"""Runs that have kept their networks, made once for all tests."""

import functools
from pathlib import Path

import kept_runs
import pytest
from conftest import Once

from clbench.results.stored_run import StoredRun


@pytest.fixture(scope="session")
def kept(once: Once, data: Path) -> StoredRun:
    """A run of lwf that kept the network of each of its five experiences."""
    return kept_runs.stored(once("every-network", functools.partial(kept_runs.every_network, data=data)))


@pytest.fixture(scope="session")
def strangers(once: Once, data: Path) -> StoredRun:
    """A run with a network of a user's file, networks/stranger.py next to its results, on images of 12 pixels."""
    return kept_runs.stored(once("strangers-network", functools.partial(kept_runs.strangers, data=data)))
