"""Plug-ins: where they are found, that looking at one never runs it, and what happens to one that is selected."""

import json
import os
import pickle
import signal
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from clbench.errors import PluginError, UsageError
from clbench.plugins import discovery
from clbench.plugins.discovery import FOLDERS, Kind, Plugin, builtin_folder, describe, discover, select
from clbench.plugins.loading import load
from clbench.plugins.module_loading import module_name
from clbench.system.signals import Interrupted, Interruption

# Neither imports torch, so that loading one costs nothing.
STRATEGY = '''"""Mine: what it is.

    L = CE
"""

from __future__ import annotations

from typing import Annotated

from annotated_types import Ge

import clbench


@clbench.config
class Config:
    alpha: Annotated[float, Ge(0)] = 1.0
    """λ, a weight; dimensionless."""

    steps: int = 3


class Mine(clbench.Strategy[Config]):
    pass
'''
SCENARIO = '''"""A stream of the test's own."""

import clbench


class Tiny(clbench.Scenario):
    dataset = "digits"
    split = "5"
    aliases = ("little", "smallest")
    recipes = {"quick": clbench.Recipe(epochs=1), "slow": clbench.Recipe(epochs=9)}
'''


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The strategies folder of an otherwise empty working folder."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "strategies").mkdir()
    (tmp_path / "scenarios").mkdir()
    before = loaded_modules()
    yield tmp_path / "strategies"
    for name in loaded_modules() - before:
        del sys.modules[name]


def loaded_modules() -> set[str]:
    return {name for name in sys.modules if name.startswith("clbench.plugins.module_loading.")}


def write(path: Path, text: str = STRATEGY) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(textwrap.dedent(text))
    return path


def named(name: str, kind: discovery.Kind = "strategy") -> list[Plugin]:
    return [plugin for plugin in discover(kind) if plugin.name == name]


# -- discovery --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["strategy", "scenario"])
def test_every_file_of_the_builtin_folder_is_found_and_none_is_broken(kind: discovery.Kind) -> None:
    stems = {path.stem for path in builtin_folder(kind).glob("*.py")}
    found = [plugin for plugin in discover(kind) if plugin.source == "built-in"]
    assert {plugin.name for plugin in found} == stems and stems
    assert [plugin.problem for plugin in found] == [None] * len(stems)


def test_a_file_in_the_working_folder_is_found_by_its_stem(folder: Path) -> None:
    path = write(folder / "mine.py")
    (plugin,) = named("mine")
    assert (plugin.source, plugin.problem, plugin.class_name) == ("working folder", None, "Mine")
    assert plugin.path == path
    assert select("strategy", "mine") == plugin


def test_a_file_anywhere_is_found_by_its_path(tmp_path: Path) -> None:
    path = write(tmp_path / "elsewhere" / "mine.py")
    for form in (str(path), "elsewhere/mine.py", "./elsewhere/mine.py"):
        plugin = select("strategy", form)
        assert (plugin.name, plugin.source, plugin.path) == ("mine", "path", path.resolve())
    assert named("mine") == []


@pytest.mark.parametrize("name", ["_mine.py", "test_mine.py", "__init__.py", "mine.txt", "mine.py.bak"])
def test_private_files_tests_and_other_files_are_skipped(folder: Path, name: str) -> None:
    before = discover("strategy")
    write(folder / name)
    assert discover("strategy") == before


def test_scenarios_are_no_strategies(tmp_path: Path) -> None:
    write(tmp_path / "scenarios" / "tiny.py", SCENARIO)
    assert named("tiny") == []
    assert [plugin.problem for plugin in named("tiny", "scenario")] == [None]


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An installed distribution whose package must not be imported to find its strategy."""
    site = tmp_path / "site"
    write(site / "rudepackage" / "__init__.py", f"open({str(tmp_path / 'imported')!r}, 'w')\nraise SystemExit(3)\n")
    path = write(site / "rudepackage" / "inside.py")
    information = site / "rude_dist-1.0.dist-info"
    write(information / "METADATA", "Metadata-Version: 2.1\nName: rude-dist\nVersion: 1.0\n")
    write(information / "entry_points.txt", "[clbench.strategies]\ninside = rudepackage.inside:Mine\n")
    monkeypatch.syspath_prepend(site)
    return path


def test_an_entry_point_is_found_without_importing_its_package(package: Path, tmp_path: Path) -> None:
    (plugin,) = named("inside")
    assert (plugin.source, plugin.path, plugin.problem) == ("package rude-dist", package, None)
    assert "rudepackage" not in sys.modules
    assert not (tmp_path / "imported").exists()


def test_a_strategy_of_a_package_loads_from_its_file(package: Path) -> None:
    assert load(select("strategy", "inside")).__name__ == "Mine"


def test_an_entry_point_to_nowhere_is_listed_as_broken(package: Path) -> None:
    package.unlink()
    (plugin,) = named("inside")
    assert plugin.problem
    with pytest.raises(PluginError, match="broken"):
        select("strategy", "inside")


def test_an_entry_point_to_nowhere_is_not_taken_for_a_file_of_that_name_in_the_working_folder(
    package: Path, tmp_path: Path
) -> None:
    package.unlink()
    write(tmp_path / "inside.py")
    (plugin,) = named("inside")
    assert plugin.problem


def test_the_same_bytes_found_twice_are_one_plugin(folder: Path) -> None:
    (folder / "naive.py").write_bytes((builtin_folder("strategy") / "naive.py").read_bytes())
    assert len(named("naive")) == 1
    assert select("strategy", "naive").name == "naive"


def test_the_same_file_found_through_a_link_is_one_plugin(folder: Path) -> None:
    (folder / "naive.py").symlink_to(builtin_folder("strategy") / "naive.py")
    assert len(named("naive")) == 1


def test_used_inside_its_checkout_the_builtins_are_still_builtins(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(builtin_folder("strategy").parent)
    assert {plugin.source for plugin in named("naive")} == {"built-in"}


def test_two_different_files_of_one_name_are_an_error_that_names_both(folder: Path) -> None:
    own, builtin = write(folder / "naive.py"), builtin_folder("strategy") / "naive.py"
    with pytest.raises(UsageError) as raised:
        select("strategy", "naive")
    assert f"--strategy {own}" in raised.value.message and f"--strategy {builtin}" in raised.value.message
    assert select("strategy", str(own)).path == own


def test_an_alias_means_its_scenario() -> None:
    assert select("scenario", "splitcifar").name == select("scenario", "splitcifar10").name == "splitcifar10"


def test_every_alias_of_a_scenario_of_ones_own_counts(tmp_path: Path) -> None:
    write(tmp_path / "scenarios" / "tiny.py", SCENARIO)
    assert [select("scenario", name).name for name in ("tiny", "little", "smallest")] == ["tiny"] * 3


def test_a_name_wins_over_an_alias_of_another(tmp_path: Path) -> None:
    write(tmp_path / "scenarios" / "tiny.py", SCENARIO)
    write(tmp_path / "scenarios" / "little.py", SCENARIO.replace('"little", ', '"least", '))
    assert select("scenario", "little").name == "little"


@pytest.mark.parametrize("annotation", ["", ": ClassVar[dict[str, str]]"])
def test_the_old_names_of_hyper_parameters_are_read_and_are_none_themselves(folder: Path, annotation: str) -> None:
    renamed = f'class Config:\n    renamed{annotation} = {{"a": "alpha"}}\n\n'
    plugin = describe("strategy", write(folder / "mine.py", STRATEGY.replace("class Config:\n", renamed)), "")
    assert plugin.renamed == {"a": "alpha"}
    assert [field.name for field in plugin.fields] == ["alpha", "steps"]


@pytest.mark.parametrize(
    ("kind", "typed", "meant"),
    [("strategy", "niave", "naive"), ("strategy", "LwF", "lwf"), ("scenario", "splitcfar", "splitcifar")],
)
def test_an_unknown_name_is_a_usage_error_with_the_nearest_and_all_known(
    kind: discovery.Kind, typed: str, meant: str
) -> None:
    with pytest.raises(UsageError) as raised:
        select(kind, typed)
    assert f"did you mean '{meant}'?" in raised.value.message
    assert raised.value.hint and all(
        plugin.name in raised.value.hint for plugin in discovery.without_dialects(discover(kind))
    )
    assert "dialects" not in raised.value.hint  # which are further presets of a strategy


def test_a_name_near_to_none_gets_no_proposal() -> None:
    with pytest.raises(UsageError) as raised:
        select("strategy", "zzzzzzzz")
    assert "did you mean" not in raised.value.message


def test_a_path_to_no_file_is_a_usage_error(tmp_path: Path) -> None:
    for wanted in ("nowhere/mine.py", "mine.py", f"{tmp_path}/"):
        with pytest.raises(UsageError, match="no strategy file"):
            select("strategy", wanted)


# -- describing without running ---------------------------------------------------------------------------------------


def test_a_description_has_the_docstring_class_and_every_hyper_parameter(folder: Path) -> None:
    plugin = describe("strategy", write(folder / "mine.py"), "path")
    assert plugin.summary == "Mine: what it is."
    assert "L = CE" in plugin.doc
    alpha, steps = plugin.fields
    assert (alpha.name, alpha.type, alpha.default) == ("alpha", "float ≥ 0", "1.0")
    assert alpha.doc == "λ, a weight; dimensionless."
    assert (steps.name, steps.type, steps.default, steps.doc) == ("steps", "int", "3", "")


def test_a_description_of_a_scenario_has_its_attributes_and_recipes_the_default_first(tmp_path: Path) -> None:
    plugin = describe("scenario", write(tmp_path / "tiny.py", SCENARIO), "path")
    assert plugin.attributes["dataset"] == "digits" and plugin.attributes["split"] == "5"
    assert plugin.attributes["aliases"] == ("little", "smallest")
    assert list(plugin.recipes) == ["quick", "slow"]
    assert plugin.recipes["slow"] == "clbench.Recipe(epochs=9)"


@pytest.mark.slow
def test_listing_and_showing_never_run_a_file(folder: Path, tmp_path: Path) -> None:
    marker = tmp_path / "was run"
    write(
        folder / "marks.py",
        f"open({str(marker)!r}, 'w')\n" + STRATEGY.replace("from __future__ import annotations", ""),
    )
    write(folder / "ends.py", "import sys\nsys.exit(7)\n" + STRATEGY.replace("from __future__ import annotations", ""))
    write(folder / "hangs.py", "while True:\n    pass\n" + STRATEGY.replace("from __future__ import annotations", ""))
    # In a process of its own: the second file would end this one, and the third never return.
    for arguments in (["list", "--json"], ["show", "marks"], ["show", "ends"], ["show", "hangs"]):
        command = [sys.executable, "-m", "clbench", *arguments]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
        assert done.returncode == 0, done.stderr
        if arguments[0] == "list":
            assert {"marks", "ends", "hangs"} <= {row["name"] for row in json.loads(done.stdout)["strategies"]}
    assert not marker.exists()


BROKEN = {
    "syntax": "def broken(:\n",
    "empty": "",
    "no_class": "x = 1\n",
    "two_classes": STRATEGY + "\n\nclass Other(clbench.Strategy):\n    pass\n",
    "scenario_instead": SCENARIO,
    "no_text": b"\xff\xfe\x00\x01",
    "null_byte": b"x = 1\x00\n",
    "unknown_encoding": b"# -*- coding: klingon -*-\n",
    "na me": STRATEGY,
    "deep_brackets": "x = " + "(" * 5000 + ")" * 5000,
    "deep_minus": "x = " + "-" * 100_000 + "1",
    "n" * 65: STRATEGY,
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_file_is_listed_as_broken_and_the_others_still_list(folder: Path, name: str) -> None:
    content = BROKEN[name]
    (folder / f"{name}.py").write_bytes(content if isinstance(content, bytes) else content.encode())
    write(folder / "mine.py")
    (plugin,) = named(name)
    assert plugin.problem
    assert [plugin.problem for plugin in (*named("mine"), *named("naive"))] == [None, None]
    with pytest.raises(PluginError, match="broken"):
        select("strategy", name)


ODD = {
    "long default": STRATEGY.replace("= 1.0", "= " + " + ".join(["1.0"] * 900)),
    "deep annotation": STRATEGY.replace("steps: int", "steps: " + "-" * 900 + "1"),
    "deep base": STRATEGY.replace("clbench.Strategy[Config]", "clbench.Strategy[" + "-" * 900 + "1]"),
}


@pytest.mark.parametrize("text", ODD.values(), ids=list(ODD))
def test_a_file_with_a_very_long_expression_does_not_keep_the_others_from_being_listed(folder: Path, text: str) -> None:
    write(folder / "odd.py", text)
    assert len(named("odd")) == 1
    assert [plugin.problem for plugin in named("naive")] == [None]


@pytest.mark.parametrize(
    "line",
    [
        "aliases = 5",
        "aliases = (1, 2)",
        "aliases = None",
        "recipes = {1: clbench.Recipe()}",
        "extra = {1, 2}",
        "raw = b'x'",
    ],
)
def test_a_scenario_with_odd_attributes_breaks_neither_names_nor_lists(
    tmp_path: Path, line: str, capsys: pytest.CaptureFixture[str]
) -> None:
    from clbench.cli.plugins import list_
    from clbench.plugins.description import describe_in_full

    text = SCENARIO + f"    {line}\n"
    if "recipes" in line:
        text = text.replace('    recipes = {"quick": clbench.Recipe(epochs=1), "slow": clbench.Recipe(epochs=9)}\n', "")
    write(tmp_path / "scenarios" / "odd.py", text)
    with pytest.raises(UsageError, match="no scenario 'nothing like it'"):
        select("scenario", "nothing like it")
    list_("scenarios")
    assert "splitdigits" in capsys.readouterr().out
    json.dumps([describe_in_full(plugin) for plugin in discover("scenario")])


def test_an_alias_that_is_a_single_text_is_not_taken_letter_by_letter(tmp_path: Path) -> None:
    write(tmp_path / "scenarios" / "tiny.py", SCENARIO.replace('("little", "smallest")', '"little"'))
    with pytest.raises(UsageError):
        select("scenario", "lit")


# -- loading ----------------------------------------------------------------------------------------------------------


def loading(path: Path) -> type[Any]:
    return load(select("strategy", str(path)))


def test_a_loaded_file_is_a_private_module_named_after_it(tmp_path: Path) -> None:
    cls = loading(write(tmp_path / "my-own.py"))
    assert cls.__module__.startswith("clbench.plugins.module_loading.my_own_")
    assert sys.modules[cls.__module__].Mine is cls
    assert "my-own" not in sys.modules and "mine" not in sys.modules


def test_files_of_one_name_in_two_places_do_not_replace_each_other(tmp_path: Path) -> None:
    first = loading(write(tmp_path / "a" / "mine.py"))
    second = loading(write(tmp_path / "b" / "mine.py", STRATEGY + "\n    second = True\n"))
    assert first.__module__ != second.__module__
    assert sys.modules[first.__module__].Mine is first and not hasattr(first, "second")


def test_the_module_is_registered_before_it_runs_as_postponed_annotations_need(tmp_path: Path) -> None:
    # dataclasses look a name like `ClassVar` up in sys.modules[cls.__module__] while the file still runs.
    cls = loading(write(tmp_path / "mine.py", STRATEGY + "    import sys\n    registered = __name__ in sys.modules\n"))
    assert cls.registered


def test_an_edited_file_is_loaded_as_it_now_is(tmp_path: Path) -> None:
    path = write(tmp_path / "mine.py", STRATEGY + "    value = 1\n")
    assert loading(path).value == 1
    status = path.stat()
    write(path, STRATEGY + "    value = 2\n")
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))  # same size and time: only the bytes tell
    assert loading(path).value == 2


def test_a_file_that_changed_since_it_was_described_is_refused(tmp_path: Path) -> None:
    path = write(tmp_path / "mine.py")
    plugin = select("strategy", str(path))
    write(path, STRATEGY + "\n# another experiment\n")
    with pytest.raises(PluginError, match="changed after the run was planned"):
        load(plugin)
    assert module_name(path) not in sys.modules


def test_a_file_that_is_gone_is_refused(tmp_path: Path) -> None:
    plugin = select("strategy", str(write(tmp_path / "mine.py")))
    plugin.path.unlink()
    with pytest.raises(PluginError):
        load(plugin)


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("import no_such_package_at_all", "ModuleNotFoundError: No module named 'no_such_package_at_all'"),
        ("1 / 0", "ZeroDivisionError"),
        ("raise SystemExit(3)", "SystemExit: 3"),
        ("exit()", "SystemExit"),
        ("raise BaseException('base')", "BaseException: base"),
    ],
)
def test_a_file_that_fails_to_run_is_a_plugin_error_with_its_line_and_leaves_no_module(
    tmp_path: Path, line: str, reason: str
) -> None:
    path = write(tmp_path / "mine.py", STRATEGY + f"\n\n{line}\n")
    number = len(path.read_text().splitlines())
    with pytest.raises(PluginError) as raised:
        loading(path)
    assert f"{path}, line {number}, fails to load" in raised.value.message and reason in raised.value.message
    assert module_name(path) not in sys.modules


@pytest.mark.parametrize("found", ["layers.py", "layers/__init__.py"])
def test_a_module_next_to_a_plugin_is_not_searched_for_and_the_message_says_what_to_do(
    tmp_path: Path, found: str
) -> None:
    folder = tmp_path / "my networks"
    folder.mkdir()
    path = write(folder / "mine.py", STRATEGY + "\n\nfrom layers.blocks import Block\n")
    with pytest.raises(PluginError) as raised:
        loading(path)
    assert raised.value.hint is None
    (folder / found).parent.mkdir(exist_ok=True)
    (folder / found).write_text("")
    with pytest.raises(PluginError) as raised:
        loading(path)
    assert raised.value.hint and raised.value.hint.endswith(f"PYTHONPATH='{folder}'")


def test_an_error_inside_a_library_names_the_line_of_the_plugin_that_led_there(tmp_path: Path) -> None:
    path = write(
        tmp_path / "mine.py",
        'import json\njson.loads("{")\n' + STRATEGY.replace("from __future__ import annotations", ""),
    )
    with pytest.raises(PluginError, match=r"mine\.py, line 2, fails to load: JSONDecodeError"):
        loading(path)


def test_a_syntax_error_is_reported_with_its_line_before_anything_runs(tmp_path: Path) -> None:
    path = write(tmp_path / "mine.py", "x = 1\ny = = 2\n")
    with pytest.raises(PluginError, match=r"mine\.py.*SyntaxError in line 2"):
        loading(path)


def test_a_signal_while_a_file_loads_interrupts_the_command_and_is_not_blamed_on_the_file(tmp_path: Path) -> None:
    path = write(
        tmp_path / "mine.py",
        STRATEGY + "\n\nimport os, signal, time\nos.kill(os.getpid(), signal.SIGINT)\ntime.sleep(5)\n",
    )
    before = signal.getsignal(signal.SIGINT)
    with pytest.raises(Interrupted), Interruption():
        loading(path)
    assert signal.getsignal(signal.SIGINT) is before


def test_a_second_subclass_made_while_running_is_refused(tmp_path: Path) -> None:
    path = write(tmp_path / "mine.py", STRATEGY + "\n\nclass Other(Mine):\n    pass\n")
    with pytest.raises(PluginError, match="defines 2 subclasses"):
        loading(path)


def test_a_second_name_for_the_one_subclass_is_no_second_subclass(tmp_path: Path) -> None:
    assert loading(write(tmp_path / "mine.py", STRATEGY + "\n\nAnotherName = Mine\n")).__name__ == "Mine"


def test_a_class_only_called_strategy_is_refused(tmp_path: Path) -> None:
    path = write(tmp_path / "mine.py", "class Strategy:\n    pass\n\n\nclass Mine(Strategy):\n    pass\n")
    with pytest.raises(PluginError, match="defines 0 subclasses"):
        loading(path)


def test_an_imported_strategy_is_not_one_that_the_file_defines(tmp_path: Path) -> None:
    assert loading(write(tmp_path / "mine.py", STRATEGY + "\n\nfrom clbench import Strategy\n")).__name__ == "Mine"


def test_an_instance_of_a_plugins_class_is_unpickled_in_a_process_that_loaded_the_file(tmp_path: Path) -> None:
    path = write(tmp_path / "mine.py")
    cls = loading(path)
    stored = pickle.dumps(cls(sys.modules[cls.__module__].Config(alpha=2.5)))
    loads = "from pathlib import Path; from clbench.plugins.module_loading import import_file; "
    loads += f"import_file(Path({str(path)!r}))"
    code = f"{loads}; import pickle, sys; it = pickle.load(sys.stdin.buffer); print(type(it).__name__, it.config.alpha)"
    done = subprocess.run([sys.executable, "-c", code], input=stored, capture_output=True, check=False, timeout=300)
    assert (done.stdout.split(), done.stderr) == ([b"Mine", b"2.5"], b"")


def test_nothing_is_left_in_the_folder_of_a_loaded_file(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "dont_write_bytecode", False)
    path = write(folder / "mine.py")
    loading(path)
    assert list(folder.iterdir()) == [path]


@pytest.mark.parametrize("kind", ["strategy", "scenario", "network"])
def test_a_broken_file_is_of_the_kind_that_its_folder_is_for(kind: Kind, tmp_path: Path) -> None:
    from clbench.plugins.description import find

    (tmp_path / FOLDERS[kind]).mkdir(exist_ok=True)
    path = tmp_path / FOLDERS[kind] / "mine.py"
    path.write_text("class One: ...\nclass Two: ...\n")
    with pytest.raises(PluginError, match=f"^{kind} mine"):
        find(str(path))


# -- attributes of the class ------------------------------------------------------------------------------------------


def _with(attribute: str, base: str, folder: Path) -> Path:
    path = folder / "mine.py"
    path.write_text(f"import clbench\nclass Mine(clbench.{base}):\n    {attribute}\n    def loss(self, batch): ...\n")
    return path


@pytest.mark.parametrize(
    ("kind", "attribute", "said"),
    [
        ("scenario", "dataset, split = 'digits', '5'", "recipes is missing, and must be a dictionary of recipes"),
        ("scenario", "dataset, recipes = 'digits', {}", "recipes must be a dictionary of recipes by name"),
        ("scenario", "dataset, recipes = 'digits', {'quick': {'lr': 1}}", "recipes must be"),
        ("scenario", "recipes = {'quick': clbench.Recipe()}", "dataset is missing, and must be the name of a dataset"),
        ("scenario", "dataset, recipes = 3, {'quick': clbench.Recipe()}", "dataset must be the name"),
        ("strategy", "in_recipe = ['a']", "in_recipe must be a dictionary of hyper-parameters by recipe"),
        ("strategy", "in_recipe = {'quick': 3}", "in_recipe must be"),
        ("strategy", "presets = ['p']", "presets must be a dictionary of variants by name"),
        ("strategy", "presets = {'p': {'set': ['x']}}", r"presets must be .* \(got {'p': {'set': \['x'\]}}\)"),
        ("strategy", "presets = {'p': {'in_setting': {'class': 2}}}", "presets must be"),
        ("strategy", "stability = 'alpha'", "stability must be the name of a hyper-parameter and a number"),
    ],
)
def test_an_attribute_that_is_missing_or_of_another_form_is_told_with_its_file(
    kind: Kind, attribute: str, said: str, tmp_path: Path
) -> None:
    path = _with(attribute, kind.title(), tmp_path)
    with pytest.raises(PluginError, match=rf"^{path}: {said}"):
        load(select(kind, str(path)))


@pytest.mark.parametrize("attribute", ["in_recipe = ['a']", "presets = {'p': {'set': ['x']}}"])
def test_show_and_check_tell_of_an_attribute_of_another_form(attribute: str, tmp_path: Path) -> None:
    path = _with(attribute, "Strategy", tmp_path)
    for command, code in (("show", 5), ("check", 1)):
        arguments = [sys.executable, "-m", "clbench", command, str(path)]
        done = subprocess.run(arguments, capture_output=True, text=True, timeout=120, check=False)
        name = attribute.partition(" ")[0]
        assert done.returncode == code and "Traceback" not in done.stderr
        assert f"{path}: {name} must be a dictionary" in done.stdout + done.stderr
