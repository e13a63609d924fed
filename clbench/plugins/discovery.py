"""Finds strategy, scenario and network files, and describes them without running them.

They come from an explicit path, `./strategies`, `./scenarios` or `./networks` in the working folder, the entry-point
groups `clbench.strategies` and so on, and the built-ins. Looking only reads a file's syntax tree, so a broken or
hostile file does no harm until it is selected by name.
"""

from __future__ import annotations

import ast
import hashlib
import re
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from importlib.metadata import EntryPoint, entry_points
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal

from clbench.avalanche import benchmark_catalogue, catalogue
from clbench.errors import PluginError, UsageError
from clbench.plugins.syntax import Field, base_name, hyper_parameters, literals, network_in, recipes
from clbench.system.files import found_at, working_folder
from clbench.system.suggestions import did_you_mean

Kind = Literal["strategy", "scenario", "network"]
FOLDERS: dict[Kind, str] = {"strategy": "strategies", "scenario": "scenarios", "network": "networks"}
BASES: dict[Kind, tuple[str, ...]] = {
    "strategy": ("Strategy", "FeatureStrategy", "AvalancheStrategy"),
    "scenario": ("Scenario",),
}
"""Base classes of a plug-in's class, the usual one first. A network's file may define any function or class."""

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}")


@dataclass(frozen=True)
class Plugin:
    """A plug-in file, described without running it."""

    kind: Kind
    name: str
    path: Path
    source: str
    """Where it was found: `built-in`, `working folder`, `path`, or the entry point's package."""

    sha256: str
    doc: str = ""
    class_name: str = ""
    """The class that it defines; for a network it may be a function."""

    fields: tuple[Field, ...] = ()
    renamed: dict[str, str] = field(default_factory=dict)
    """New names of hyper-parameters that were renamed since earlier versions, by the old ones."""

    attributes: dict[str, Any] = field(default_factory=dict)
    """The class's own attributes that are plain literals: a scenario's dataset, split and aliases, for example."""

    recipes: dict[str, str] = field(default_factory=dict)
    """A scenario's recipes as source text by name, the default first."""

    problem: str | None = None
    """Why the file cannot be a plug-in, or None."""

    dialects: tuple[Plugin, ...] = ()
    """The files with further presets of this strategy: those whose class has `dialects_of = "NAME"`."""

    @property
    def dialects_of(self) -> str | None:
        """The strategy for which this file has further presets, if it is such a file."""
        name = self.attributes.get("dialects_of")
        return name if isinstance(name, str) else None

    @property
    def presets(self) -> dict[str, dict[str, Any]]:
        """A strategy's published variants by name, as far as they are plain literals in its file."""
        presets = self.attributes.get("presets", {})
        return (
            {name: preset for name, preset in presets.items() if isinstance(preset, dict)}
            if isinstance(presets, dict)
            else {}
        )

    @property
    def all_presets(self) -> dict[str, dict[str, Any]]:
        """The presets of this file and of the files of its dialects."""
        return {name: preset for file in (self, *self.dialects) for name, preset in file.presets.items()}

    @property
    def summary(self) -> str:
        """The docstring's first line."""
        return self.doc.strip().partition("\n")[0]


def builtin_folder(kind: Kind) -> Path:
    """Return the folder of the built-in plug-ins: inside an installed wheel, or next to clbench/ in a checkout."""
    package = Path(__file__).parent.parent
    inside = package / "_builtin" / FOLDERS[kind]
    return inside if inside.is_dir() else package.parent / FOLDERS[kind]


def discover(kind: Kind) -> list[Plugin]:
    """Return every plug-in of this kind, sorted by name; two different files of one name both appear."""
    found: dict[tuple[str, str], Plugin] = {}
    for plugin in _everywhere(kind):
        # The same file found in two places, or a copy with the same bytes, counts as one plug-in.
        found.setdefault((plugin.name, plugin.sha256), plugin)
    dialects: dict[str, list[Plugin]] = {}
    for plugin in found.values():
        if plugin.dialects_of:
            dialects.setdefault(plugin.dialects_of, []).append(plugin)
    plugins = [replace(plugin, dialects=tuple(dialects.get(plugin.name, ()))) for plugin in found.values()]
    return sorted(plugins, key=lambda plugin: plugin.name)


def without_dialects(plugins: Sequence[Plugin]) -> list[Plugin]:
    """Return the plug-ins that are not merely further presets of another one among them."""
    names = {plugin.name for plugin in plugins}
    return [plugin for plugin in plugins if plugin.dialects_of not in names]


def _everywhere(kind: Kind) -> Iterator[Plugin]:
    here = working_folder() / FOLDERS[kind]
    if here.resolve() != builtin_folder(kind).resolve():
        for path in _plugin_files(here):
            yield describe(kind, path, "working folder")
    for point in _entry_points(_import_path()).select(group=f"clbench.{FOLDERS[kind]}"):
        source = f"package {point.dist.name if point.dist else point.value}"
        if path_of := _entry_point_file(point):
            yield describe(kind, path_of, source)
        else:
            nowhere = Path(point.value)
            yield Plugin(kind, point.name, nowhere, source, "", problem=f"there is no module {point.value}")
    for path in _plugin_files(builtin_folder(kind)):
        yield describe(kind, path, "built-in")


def _import_path() -> tuple[tuple[str, int], ...]:
    """Return the folders that are searched for packages, each with the time of its last change."""
    folders = (Path(place) for place in sys.path)
    return tuple((str(folder), folder.stat().st_mtime_ns) for folder in folders if folder.is_dir())


@lru_cache(maxsize=1)
def _entry_points(import_path: tuple[tuple[str, int], ...]) -> Any:  # EntryPoints; SelectableGroups before Python 3.12
    """Return the entry points of all installed packages, read again only if `import_path` has changed."""
    return entry_points()


def _plugin_files(folder: Path) -> list[Path]:
    files = folder.glob("*.py") if folder.is_dir() else ()
    return sorted(path for path in files if path.is_file() and not path.name.startswith(("_", "test_")))


def _entry_point_file(point: EntryPoint) -> Path | None:
    """Return the file of an entry point's module without importing its package."""
    top, *rest = point.value.partition(":")[0].strip().split(".")
    spec = find_spec(top)
    if spec is None:
        return None
    if not rest:
        return Path(spec.origin) if spec.origin else None
    for location in spec.submodule_search_locations or ():
        path = Path(location, *rest).with_suffix(".py")
        if path.is_file():
            return path
    return None


def describe(kind: Kind, path: Path, source: str) -> Plugin:
    """Describe the file at `path` from its syntax tree; `problem` has the reason if it cannot be a plug-in."""
    try:
        content = path.read_bytes()
    except OSError as error:
        return Plugin(kind, path.stem, path, source, "", problem=f"cannot be read: {error.strerror}")
    return describe_content(kind, path.stem, content, path, source)


@lru_cache(maxsize=1024)
def describe_content(kind: Kind, name: str, content: bytes, path: Path = Path(), source: str = "stored") -> Plugin:
    """Describe a plug-in from the bytes of its file, which may be the copy that a stored run carries."""
    sha256 = hashlib.sha256(content).hexdigest()
    if is_avalanches(name):
        own = _avalanches_strategy if kind == "strategy" else _avalanches_benchmark
        return own(name, content, path, sha256)
    if not NAME.fullmatch(name):
        return Plugin(kind, name, path, source, sha256, problem="the name may contain only letters, digits, _ and -")
    try:
        return _described(Plugin(kind, name, path, source, sha256), ast.parse(content, filename=str(path)))
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        line = f" in line {error.lineno}" if isinstance(error, SyntaxError) else ""
        reason = error.msg if isinstance(error, SyntaxError) else str(error)
        problem = f"{type(error).__name__}{line}: {reason or 'it is too deeply nested'}"
        return Plugin(kind, name, path, source, sha256, problem=problem)


def _avalanches_benchmark(name: str, content: bytes, path: Path, sha256: str) -> Plugin:
    """Describe one of Avalanche's own benchmarks, `avalanche:SplitMNIST`, from the file that defines it."""
    function = name.removeprefix(catalogue.PREFIX)
    plugin = Plugin("scenario", name, path, catalogue.PACKAGE, sha256, class_name=function)
    try:
        found = benchmark_catalogue.described(function, content)
    except (PluginError, SyntaxError, ValueError, RecursionError, MemoryError) as error:
        return replace(plugin, problem=str(error))
    attributes = {
        "dataset": "Avalanche's",
        "split": "the benchmark's" if found.experiences is None else str(found.experiences),
    }
    return replace(plugin, doc=found.doc, attributes=attributes)


def _avalanches_strategy(name: str, content: bytes, path: Path, sha256: str) -> Plugin:
    """Describe one of Avalanche's own strategies, `avalanche:Replay`, from the file that defines it."""
    class_name = name.removeprefix(catalogue.PREFIX)
    plugin = Plugin("strategy", name, path, catalogue.PACKAGE, sha256, class_name=class_name)
    try:
        found = catalogue.described(class_name, content)
    except (PluginError, SyntaxError, ValueError, RecursionError, MemoryError) as error:
        return replace(plugin, problem=str(error))
    if found.out_of_reach:
        return replace(
            plugin, doc=found.doc, problem=f"it needs {', '.join(found.out_of_reach)}, which cannot be given as values"
        )
    fields = [Field(each.name, each.annotation, repr(each.default), each.doc) for each in found.parameters]
    return replace(plugin, doc=found.doc, fields=tuple(fields))


def _described(plugin: Plugin, tree: ast.Module) -> Plugin:
    classes = [node for node in tree.body if isinstance(node, ast.ClassDef)]
    if plugin.kind == "network":
        return _described_network(plugin, tree, classes)
    bases = BASES[plugin.kind]
    subclasses = [node for node in classes if any(base_name(own) in bases for own in node.bases)]
    doc = ast.get_docstring(tree) or ""
    if len(subclasses) != 1:
        problem = f"defines {len(subclasses)} subclasses of clbench.{bases[0]}, but needs exactly one"
        return replace(plugin, doc=doc, problem=problem)
    main, configs = subclasses[0], _configs(classes)
    attributes = literals(main)
    aliases = attributes.get("aliases", ())
    if not isinstance(aliases, (tuple, list)) or not all(isinstance(alias, str) for alias in aliases):
        return replace(plugin, doc=doc, problem="its aliases are not a tuple of names")
    if not isinstance(attributes.get("dialects_of", ""), str):
        return replace(plugin, doc=doc, problem="its dialects_of is not the name of a strategy")
    return replace(
        plugin,
        doc=doc,
        class_name=main.name,
        fields=tuple(hyper_parameters(configs[0])) if configs else (),
        renamed=literals(configs[0]).get("renamed", {}) if configs else {},
        attributes=attributes,
        recipes=recipes(main),
    )


def _configs(classes: Sequence[ast.ClassDef]) -> list[ast.ClassDef]:
    return [node for node in classes if any(base_name(own) == "config" for own in node.decorator_list)]


def _described_network(plugin: Plugin, tree: ast.Module, classes: Sequence[ast.ClassDef]) -> Plugin:
    plugin = replace(plugin, doc=ast.get_docstring(tree) or "")
    try:
        name = network_in(tree, plugin.name)
    except ValueError as error:
        return replace(plugin, problem=str(error))
    configs = _configs(classes)
    return replace(plugin, class_name=name, fields=tuple(hyper_parameters(configs[0])) if configs else ())


def select(kind: Kind, wanted: str, preset: str | None = None) -> Plugin:
    """Return the plug-in that `wanted` names: a name, an alias, or a path to a file.

    With a `preset`, return the file that has this preset, under the strategy's name: `lwf` with `pycil` is the file
    lwf_dialects.py as strategy `lwf`.

    Raises UsageError if there is none or if the name is not unique, PluginError if the file cannot be a plug-in.
    """
    if is_avalanches(wanted):
        files = catalogue if kind == "strategy" else benchmark_catalogue
        path = files.source_file(wanted.removeprefix(catalogue.PREFIX))
        plugin = describe_content(kind, wanted, path.read_bytes(), path)
    else:
        plugin = _at(kind, Path(wanted)) if wanted.endswith(".py") or "/" in wanted else _named(kind, wanted)
    if preset:
        plugin = _with_preset(plugin, preset)
    if plugin.problem:
        raise PluginError(f"{kind} {plugin.name} ({plugin.path}) is broken: {plugin.problem}")
    return plugin


def is_avalanches(name: str) -> bool:
    """Return whether this is the name of one of Avalanche's own: `avalanche:Replay`, `avalanche:SplitMNIST`."""
    return name.startswith(catalogue.PREFIX)


def _at(kind: Kind, path: Path) -> Plugin:
    if found_at(path) != "file":
        raise UsageError(f"there is no {kind} file {path}")
    plugin = describe(kind, path.resolve(), "path")
    if kind != "strategy":
        return plugin
    same = (known for known in discover(kind) if (known.name, known.sha256) == (plugin.name, plugin.sha256))
    return replace(plugin, dialects=next((known.dialects for known in same), ()))


def _named(kind: Kind, wanted: str) -> Plugin:
    known = discover(kind)
    matches = [plugin for plugin in known if plugin.name == wanted]
    matches = matches or [plugin for plugin in known if wanted in plugin.attributes.get("aliases", ())]
    if not matches:
        names = [plugin.name for plugin in without_dialects(known)]
        aliases = [alias for plugin in known for alias in plugin.attributes.get("aliases", ())]
        hint = f"Known: {', '.join(names)}. A file of your own: --{kind} path/to/mine.py"
        raise UsageError(f"no {kind} '{wanted}'{did_you_mean(wanted, names + aliases)}", hint)
    return _the_one(matches, f"two different files are called '{wanted}'")


def _with_preset(plugin: Plugin, preset: str) -> Plugin:
    """Return the file that has the preset; for a file without dialects, its class checks the preset when loaded."""
    if plugin.dialects_of and preset in plugin.presets:
        return replace(plugin, name=plugin.dialects_of)
    if preset in plugin.presets or not plugin.dialects:
        return plugin
    matches = [dialect for dialect in plugin.dialects if preset in dialect.presets]
    if not matches:
        known = plugin.all_presets
        raise UsageError(
            f"strategy {plugin.name} has no preset '{preset}'{did_you_mean(preset, known)} (known: {', '.join(known)})"
        )
    return replace(_the_one(matches, f"two different files have a preset '{preset}'"), name=plugin.name)


def _the_one(matches: Sequence[Plugin], problem: str) -> Plugin:
    if len(matches) > 1:
        places = "\n".join(f"  --{plugin.kind} {plugin.path}    ({plugin.source})" for plugin in matches)
        raise UsageError(f"{problem}; choose one by its path:\n{places}")
    return matches[0]
