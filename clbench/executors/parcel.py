"""Packs a run with all that it needs on a machine that shares no files with this one, and opens it there.

Files are sent by the hash of their content, so that what many runs have in common is sent once.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from clbench.base.events import Track
from clbench.data.weights import weights_file
from clbench.errors import PluginError
from clbench.plugins.discovery import Plugin, is_avalanches, select
from clbench.results.record_model import to_json
from clbench.results.run_spec import RunSpec
from clbench.runs.kept_networks import Keep
from clbench.runs.planned_runs import Planned
from clbench.system.files import replace_file


@dataclass(frozen=True)
class Parcel:
    """A run, without the content of the files that it needs."""

    spec: Mapping[str, object]
    """As JSON."""

    strategy: str
    """Name of the strategy; its file has the hash that the spec states."""

    strategy_file: str | None
    """Name of the strategy's file; None for one of Avalanche's own, which comes with Avalanche."""

    network_file: tuple[str, str] | None
    """Name and hash of the network's file if it is a user's."""

    keep: Keep | None
    track: Track | None


def packed(run: Planned) -> Parcel:
    """Return the parcel of a run."""
    own = is_avalanches(run.plugin.name)
    network = run.network and (run.network.name, hashlib.sha256(run.network.read_bytes()).hexdigest())
    strategy = None if own else run.plugin.path.name
    return Parcel(to_json(run.spec), run.plugin.name, strategy, network or None, run.keep, run.track)


def source_of(plugin: Plugin) -> bytes:
    """Return the content of a strategy's file. Raises PluginError if it changed after the run was planned."""
    content = plugin.path.read_bytes() if plugin.path.is_file() else b""
    if hashlib.sha256(content).hexdigest() != plugin.sha256:
        raise PluginError(f"{plugin.path} changed after the run was planned", "Start the command again.")
    return content


def files_of(run: Planned, data: Path) -> dict[str, Path]:
    """Return the files that a run needs, by the hash that identifies them: plug-ins, and weights from `data`."""
    files = {} if is_avalanches(run.plugin.name) else {run.plugin.sha256: run.plugin.path}
    if run.network:
        files[hashlib.sha256(run.network.read_bytes()).hexdigest()] = run.network
    if (digest := run.spec.network.weights_sha256) is not None:
        files[digest] = weights_file(digest, data)
    return files


def opened(parcel: Parcel, place: Path, data: Path, content: Callable[[str], bytes]) -> Planned:
    """Return the run with its files in the folder `place`, and its weights in the `data` folder.

    `content` returns a file by its hash; it is called for files that are not there yet.
    """
    spec = RunSpec.model_validate(parcel.spec)
    if parcel.strategy_file is None:
        plugin = select("strategy", parcel.strategy)
    else:
        digest = spec.strategy.sha256
        path = _laid(place / digest / parcel.strategy_file, digest, content)
        plugin = Plugin("strategy", parcel.strategy, path, "path", digest)
    network = None
    if parcel.network_file is not None:
        name, digest = parcel.network_file
        network = _laid(place / digest / name, digest, content)
    if (weights := spec.network.weights_sha256) is not None:
        _laid(weights_file(weights, data), weights, content)
    return Planned(spec, plugin, network, parcel.keep, parcel.track)


def _laid(path: Path, digest: str, content: Callable[[str], bytes]) -> Path:
    if not path.is_file():
        path.parent.mkdir(parents=True, exist_ok=True)
        replace_file(path, content(digest))
    return path
