"""What a notebook shows of a network that was trained or extended."""

import base64
import re
from pathlib import Path

import pytest
from extension_results import CASES

from clbench.api.extending import Extended
from clbench.results.record_model import as_json


@pytest.mark.parametrize(("case", "has_picture"), [("usual", True), ("train", True), ("nothing_known", False)])
def test_a_notebook_shows_the_main_figure_if_any_class_can_be_judged(
    case: str, has_picture: bool, tmp_path: Path
) -> None:
    (tmp_path / "result.json").write_bytes(as_json(CASES[case]()))
    pictures = re.findall(r'src="data:image/png;base64,([^"]*)"', Extended(tmp_path)._repr_html_())
    assert [base64.b64decode(each)[:4] for each in pictures] == [b"\x89PNG"] * has_picture
