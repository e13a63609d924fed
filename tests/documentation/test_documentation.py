"""README and docs/: every command and Python block runs as it stands, and every relative link leads somewhere.

A page's blocks run in order, in one empty folder, on the bundled digits, and with one epoch per experience unless they
say otherwise. ```sh and ```python blocks are run. Blocks of commands that take too long are ```console blocks under a
line that says so to the reader; their commands are parsed by the real command line. ```text blocks are output.
"""

from __future__ import annotations

import functools
import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import PIL.ImageOps
import pytest
import typer
from hypothesis import example, given
from hypothesis import strategies as st

import clbench
from clbench.cli.app import application
from clbench.data.image_files import fitted_pixels
from clbench.data.image_fit import FITS, Fit
from clbench.diagnostics import doctor
from clbench.errors import ClbenchError

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
NOT_RUN = re.compile(r"\*Checked, not run by the tests: .+\.\*")
RUN_BY_DOCTOR = functools.cache(doctor._python)
"""What a process of its own says of the installation, which is the same for each page."""

RUN_BY_CI = ("pip install", "pytest")
"""Parts of the set-up commands that .ci/run runs, in an environment of their own."""


@dataclass(frozen=True)
class Block:
    language: str
    text: str
    before: str
    """The line of prose above the block."""

    @property
    def file(self) -> str | None:
        """The path that the prose above gives the block, if it is a file."""
        found = re.search(r"`((?:strategies|scenarios|networks)/\w+\.py)`[^`]*:$", self.before)
        return found.group(1) if found and self.language == "python" else None

    @property
    def commands(self) -> list[list[str]]:
        """The clbench commands of the block, without `clbench`."""
        parts = [part.strip() for line in self.text.splitlines() for part in line.split(" && ")]
        words = [shlex.split(part, comments=True) for part in parts if part and not part.startswith(RUN_BY_CI)]
        assert all(command[0] == "clbench" for command in words), f"not a clbench command: {self.text}"
        return [command[1:] for command in words]


def blocks(page: str) -> Iterator[Block]:
    for found in re.finditer(r"^```(\w*)\n(.*?)^```$", page, re.DOTALL | re.MULTILINE):
        prose = page[: found.start()].rstrip().rpartition("\n\n")[2].replace("\n", " ")
        yield Block(found.group(1), found.group(2), prose)


def name(page: Path) -> str:
    return page.relative_to(ROOT).as_posix()


def run_command(words: list[str]) -> None:
    says_how_long = {"--epochs", "online"} & set(words) or any(word.endswith(".toml") for word in words)
    if words[0] == "run" and not says_how_long:
        words = [*words, "--epochs", "1"]
    try:
        application()(words, prog_name="clbench")
    except SystemExit as ended:
        assert not ended.code, f"exit code {ended.code} of clbench {shlex.join(words)}"
    except ClbenchError as error:
        pytest.fail(f"clbench {shlex.join(words)}: {error}")


def parse_command(words: list[str]) -> None:
    """Parse a command as the command line does, without running it; a usage error is raised."""
    command, context, rest, called = typer.main.get_command(application()), None, words, "clbench"
    while True:
        context = command.make_context(called, list(rest), parent=context)
        if not hasattr(command, "resolve_command"):
            return
        called, command, rest = command.resolve_command(context, [*context._protected_args, *context.args])


def with_doctor_together(page: Path) -> Any:
    group = [pytest.mark.xdist_group("doctor")] if "\nclbench doctor" in page.read_text() else []
    return pytest.param(page, marks=group, id=name(page))


@pytest.mark.slow
@pytest.mark.parametrize("page", map(with_doctor_together, PAGES))
def test_the_blocks_of_a_page_run_as_they_stand(
    page: Path, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CLBENCH_DATA", str(data))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(clbench, "run", functools.partial(clbench.run, epochs=1))
    monkeypatch.setattr(doctor, "_python", RUN_BY_DOCTOR)
    variables: dict[str, object] = {"__name__": "page"}
    for block in blocks(page.read_text()):
        if block.language == "sh":
            for words in block.commands:
                run_command(words)
        elif block.file:
            Path(block.file).parent.mkdir(exist_ok=True)
            Path(block.file).write_text(block.text)
        elif block.language == "python":
            exec(compile(block.text, str(page), "exec"), variables)


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_a_block_that_is_not_run_says_so_and_its_commands_exist(page: Path) -> None:
    for block in blocks(page.read_text()):
        assert block.language in ("sh", "python", "console", "text"), f"a block of {block.language or 'no language'}"
        if block.language == "console":
            assert NOT_RUN.fullmatch(block.before), f"above a console block: {block.before!r}"
            for words in block.commands:
                parse_command(words)
        elif block.language == "text":
            assert not re.search(r"^(clbench|python|pip) ", block.text, re.MULTILINE), "a command in a text block"


@pytest.mark.parametrize(
    "words", [["run", "-s", "lwf", "-S", "splitdigits", "--no-such-option"], ["data", "improt", "flowers"]]
)
def test_an_option_or_a_command_that_does_not_exist_would_be_found(words: list[str]) -> None:
    with pytest.raises(Exception, match="No such"):
        parse_command(words)


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_every_relative_link_leads_somewhere(page: Path) -> None:
    prose = re.sub(r"^```.*?^```$", "", page.read_text(), flags=re.DOTALL | re.MULTILINE)
    for target in re.findall(r"\]\(([^)\s]+)\)", prose):
        if not target.startswith(("https://", "http://")):
            assert (page.parent / target.partition("#")[0]).exists(), f"{name(page)} links to {target}"


def test_the_index_links_to_every_page() -> None:
    index = (ROOT / "docs" / "README.md").read_text()
    front = (ROOT / "README.md").read_text()
    for page in PAGES[1:]:
        if page.name != "README.md":
            assert f"]({page.name})" in index
            assert f"](docs/{page.name})" in front


def test_the_readme_can_be_read_in_a_few_minutes() -> None:
    assert len((ROOT / "README.md").read_text().splitlines()) <= 150


def test_the_set_up_commands_are_the_first_two_sh_lines_of_the_readme() -> None:
    lines = [
        line
        for block in blocks((ROOT / "README.md").read_text())
        if block.language == "sh"
        for line in block.text.splitlines()
    ]
    assert lines[0].startswith("pip install . && clbench run ")
    assert lines[1] == "pip install '.[test]' && pytest"


def test_the_layers_of_the_architecture_page_are_those_of_the_contract() -> None:
    layers = (ROOT / "pyproject.toml").read_text().split("layers = [")[1].split("]")[0]
    written = [line.strip().strip('",') for line in layers.strip().splitlines()]
    text = [block for block in blocks((ROOT / "docs" / "architecture.md").read_text()) if block.language == "text"]
    assert text[0].text.splitlines() == written


def test_the_architecture_page_has_every_package() -> None:
    page = (ROOT / "docs" / "architecture.md").read_text()
    for package in (path.parent.name for path in (ROOT / "clbench").glob("*/__init__.py")):
        assert f"| `{package}/` |" in page


def test_the_metrics_page_has_every_stored_metric() -> None:
    from clbench.evaluation.metrics import METRICS

    page = (ROOT / "docs" / "metrics.md").read_text()
    for metric in METRICS:
        assert re.search(rf"^\| `{metric.__name__}[`\[]", page, re.MULTILINE), metric.__name__


@example(width=1, height=18, kind="L", fit="pad")
@given(
    width=st.integers(1, 90), height=st.integers(1, 90), kind=st.sampled_from(["L", "RGB"]), fit=st.sampled_from(FITS)
)
def test_the_function_that_prepares_photos_for_an_exported_file_does_what_clbench_does(
    width: int, height: int, kind: str, fit: Fit
) -> None:
    page = (ROOT / "docs" / "networks.md").read_text()
    (function,) = re.findall(r"^def prepared\(photo\):\n(?: .*\n)+", page, re.MULTILINE)
    shape = {"width": 12, "height": 9, "channels": len(kind), "fit": fit}
    known = {"np": np, "Image": PIL.Image, "ImageOps": PIL.ImageOps, "expected": shape, "size": (12, 9), "kind": kind}
    exec(function, known)
    pixels = np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)
    photo = PIL.Image.fromarray(pixels)
    assert (known["prepared"](photo) == fitted_pixels(photo, (9, 12, len(kind)), fit)).all()  # type: ignore[operator]
