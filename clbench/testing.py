"""For the tests of a plug-in's author: the contract of clbench/checks/contract.py as pytest parameters.

from clbench.testing import parametrize_with_checks

@parametrize_with_checks("strategies/mine.py", expected_failures={"trains_on_batches_of_one": "needs pairs"})
def test_contract(check):
    check()
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from clbench.checks.contract import CHECKS, Bench, perform
from clbench.plugins.discovery import select


def parametrize_with_checks(
    *strategies: str | Path, expected_failures: Mapping[str, str] | None = None
) -> pytest.MarkDecorator:
    """Return a decorator that gives a test function its argument `check`, to be called, for every check and strategy.

    `strategies` are names or paths. A check named in `expected_failures`, with the reason, must fail; that it passes is
    a failure. Test ids are `strategy-check`. Raises UsageError for a strategy, ValueError for a check, that is unknown.
    """
    expected = dict(expected_failures or {})
    names = [check.__name__ for check in CHECKS]
    if unknown := sorted(set(expected) - set(names)):
        raise ValueError(f"no check is called {', '.join(unknown)}; there are {', '.join(names)}")
    parameters = []
    for strategy in map(str, strategies):
        for name in names:
            marks = [pytest.mark.xfail(reason=expected[name], strict=True)] if name in expected else []
            parameters.append(pytest.param(_call(strategy, name), id=f"{Path(strategy).stem}-{name}", marks=marks))
    return pytest.mark.parametrize("check", parameters)


def _call(strategy: str, name: str) -> Callable[[], None]:
    def check() -> None:
        result = perform(name, _bench(strategy))
        if result.status == "skipped":
            pytest.skip(result.found)
        if result.status == "failed":
            pytest.fail(f"{result.doc}\n{result.found}\n{result.mend}", pytrace=False)

    return check


@functools.cache
def _bench(strategy: str) -> Bench:
    return Bench(select("strategy", strategy))
