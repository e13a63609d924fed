"""Runs the checks of clbench/checks/strategy_contract.py in a plug-in's own pytest tests.

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

from clbench.checks.check import perform
from clbench.checks.small_scenario import Bench
from clbench.checks.strategy_contract import CHECKS
from clbench.plugins.discovery import select


def parametrize_with_checks(
    *strategies: str | Path, expected_failures: Mapping[str, str] | None = None
) -> pytest.MarkDecorator:
    """Return a decorator that runs a test once per check and strategy; the test calls its argument `check`.

    `strategies` are names or paths. `expected_failures` maps checks that must fail to the reason; if one passes, the
    test fails. Test ids are `strategy-check`. Raises UsageError for an unknown strategy and ValueError for an unknown
    check.
    """
    expected = dict(expected_failures or {})
    known = {check.__name__: check for check in CHECKS}
    names = list(known)
    if unknown := sorted(set(expected) - set(names)):
        raise ValueError(f"unknown check {', '.join(unknown)} (known: {', '.join(names)})")
    parameters = []
    for strategy in map(str, strategies):
        for name in names:
            marks = [pytest.mark.xfail(reason=expected[name], strict=True)] if name in expected else []
            parameters.append(
                pytest.param(_call(strategy, known[name]), id=f"{Path(strategy).stem}-{name}", marks=marks)
            )
    return pytest.mark.parametrize("check", parameters)


def _call(strategy: str, of_contract: Callable[[Bench], None]) -> Callable[[], None]:
    def check() -> None:
        result = perform(of_contract, _bench(strategy))
        if result.status == "skipped":
            pytest.skip(result.found)
        if result.status == "failed":
            pytest.fail(f"{result.doc}\n{result.found}\n{result.fix}", pytrace=False)

    return check


@functools.cache
def _bench(strategy: str) -> Bench:
    return Bench(select("strategy", strategy))
