"""What is suggested for a mistyped path exists, and only the part that is wrong is compared."""

from __future__ import annotations

from pathlib import Path

import pytest

from clbench.system.suggestions import did_you_mean_path


@pytest.mark.parametrize(
    "typed, meant",
    [
        ("phots", "photos"),
        ("Photos/base", "photos/base"),
        ("phots/base", "photos/base"),
        ("photos/bse", "photos/base"),
        ("phots/bse", None),  # one slip is found, two are not
        ("results", None),
        ("a_long_folder_name/x", None),  # that the paths begin alike says nothing
    ],
)
def test_a_path_with_one_wrong_part_is_suggested(
    typed: str, meant: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for folder in ("photos/base", "a_long_folder_name/train"):
        (tmp_path / folder).mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    for start in (Path(), tmp_path):
        suggestion = f"; did you mean '{start / meant}'?" if meant else ""
        assert did_you_mean_path(start / typed) == suggestion
