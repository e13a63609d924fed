"""How the tests are divided among processes."""

import os

import pytest


@pytest.fixture(scope="module")
def made_once() -> str:
    return "by the tests of this module"


def test_tests_that_share_what_is_made_once_are_one_group(request: pytest.FixtureRequest, made_once: str) -> None:
    if "PYTEST_XDIST_WORKER" not in os.environ:
        pytest.skip("one process does all tests")
    assert request.node.nodeid.endswith("@tests/test_workers.py")
