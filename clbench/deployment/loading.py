"""Loads kept networks. Stored files are data and never run: a network's code comes from where plug-ins do."""

from __future__ import annotations

from importlib.metadata import version
from pathlib import Path

import torch
from pydantic import ValidationError
from pydantic_core import from_json
from torch import Tensor, nn

from clbench.deployment.trained_network import TrainedNetwork, own_module
from clbench.errors import ClbenchError, DataError, PluginError, UsageError
from clbench.networks import classifiers, libraries
from clbench.networks.head import linear_layer
from clbench.networks.weights import fitted, weights_sha256
from clbench.plugins.discovery import NAME, builtin_folder, describe, discover
from clbench.plugins.networks import NetworkSource, network_source
from clbench.results import manifests, store
from clbench.results.network_record import FORMAT, STEM, NetworkRecord
from clbench.system.files import found_at, from_home, read_plain
from clbench.system.suggestions import did_you_mean_path

_TOLERANCE = 1e-3
"""Share of the probe's largest score. Other processors and versions of torch round differently, by far less."""

_SHOWN = 10
"""Most runs that an error names."""


def load_network(path: str | Path, network: str | Path | None = None) -> TrainedNetwork:
    """Return a network that was kept, in evaluation mode, with `.classes` and `.transform`.

    `path` is the folder of a run that was made with `--keep-networks`, or a folder above it with no other such run; any
    folder with network.json and network.safetensors; or the .json file itself, if a run has kept the networks of
    several experiences. `network` is the user's file that defines the architecture, if it is not found automatically.

    No stored code is run. Raises UsageError if no network is kept there, DataError for damaged files, and PluginError
    if the architecture is missing or is not the one that was trained.
    """
    file = _record_file(Path(from_home(path)))
    record = read_record(file)
    return _built(record, _tensors(file, record), _source(record, None if network is None else from_home(network)))


def read_record(file: Path) -> NetworkRecord:
    """Return the record in a network.json. Raises DataError if it is damaged or of another format."""
    try:
        content = read_plain(file, manifests.LARGEST_JSON)
        found = from_json(content)
        schema = found.get("schema") if isinstance(found, dict) else None
        if isinstance(schema, int) and schema > FORMAT:
            raise DataError(
                f"{file} has format {schema}, and this version of clbench reads {FORMAT}", "Update clbench."
            )
        return NetworkRecord.model_validate_json(content)
    except ValidationError as error:
        (first, *_) = error.errors(include_url=False)
        place = ".".join(map(str, first["loc"]))
        raise DataError(f"{file} is damaged: {place}{': ' if place else ''}{first['msg']}") from None
    except (OSError, ValueError) as error:
        raise DataError(f"{file} cannot be read: {error}") from None


def _record_file(path: Path) -> Path:
    if path.suffix == ".json" and found_at(path) == "file":
        return path
    what = "Give the folder that train or extend wrote, the folder of a run with --keep-networks, or a folder above it."
    if found_at(path) != "folder":
        raise UsageError(f"there is no folder {path}{did_you_mean_path(path)}", what)
    if (path / f"{STEM}.json").is_file():
        return path / f"{STEM}.json"
    runs = list(store.published_runs(path))
    found = [run for run in runs if (run / f"{STEM}.json").is_file()]
    if len(found) > 1:
        shown = "\n".join(f"  {run}" for run in found[:_SHOWN]) + ("\n  …" if len(found) > _SHOWN else "")
        raise UsageError(f"{len(found)} runs in {path} have kept a network; name one of them:\n{shown}")
    if found:
        return found[0] / f"{STEM}.json"
    if runs:
        raise UsageError(
            f"the run in {path} has kept no network" if len(runs) == 1 else f"no run in {path} has kept a network",
            "A finished run is never changed. To get its network, repeat the command that made it with --keep-networks "
            "last and another results folder, --out DIR.",
        )
    raise UsageError(f"{path} has no {STEM}.json", what)


def _tensors(file: Path, record: NetworkRecord) -> dict[str, Tensor]:
    """Return the tensors next to a record, after checking their hash."""
    from safetensors import SafetensorError
    from safetensors.torch import load

    path = file.with_suffix(".safetensors")
    try:
        found: dict[str, Tensor] = load(read_plain(path, manifests.LARGEST_RUN))
    except (OSError, SafetensorError, ValueError, KeyError, RuntimeError) as error:
        raise DataError(f"{path} is missing, damaged or cut off: {error}") from None
    if weights_sha256(found) != record.weights_sha256:
        raise DataError(f"{path} is damaged: its content does not match {file.name}")
    return found


def _source(record: NetworkRecord, given: str | Path | None) -> NetworkSource:
    """Return the architecture of a record; a file with it must have the recorded hash."""
    name, sha256 = record.network.name, record.network.sha256
    if sha256 is None and given is not None:
        raise UsageError(f"the network is {name}, which needs no file (got {given})")
    if libraries.is_librarys(name):
        return network_source(name, record.network.weights)
    if not NAME.fullmatch(name):  # any other name could point to an arbitrary file
        raise DataError(f"invalid name of a network: {name!r}")
    if sha256 is None:
        file = builtin_folder("network") / f"{name}.py"
        if not file.is_file():
            raise PluginError(
                f"this version of clbench has no network {name}", f"It was made with clbench {record.versions.clbench}."
            )
        return network_source(name, record.network.weights, file)
    return network_source(name, record.network.weights, _users_file(name, sha256, given))


def _users_file(name: str, sha256: str, given: str | Path | None) -> Path:
    wanted = f"the network was made by a file {name}.py with SHA-256 {sha256}"
    hint = "Give that file, unchanged: network=FILE, or --network FILE on the command line."
    if given is not None:
        if found_at(Path(given)) != "file":
            raise UsageError(f"there is no network file {given}")
        found = describe("network", Path(given).resolve(), "path")
        if found.sha256 != sha256:
            raise PluginError(f"{given} has changed since: {wanted}, but it has {found.sha256}", hint)
        return found.path
    named = [plugin for plugin in discover("network") if plugin.name == name]
    for plugin in named:
        if plugin.sha256 == sha256:
            return plugin.path
    if named:
        raise PluginError(f"{named[0].path} is a different file: {wanted}, but it has {named[0].sha256}", hint)
    raise PluginError(f"{wanted}, which is not in ./networks", hint)


def _built(record: NetworkRecord, tensors: dict[str, Tensor], source: NetworkSource) -> TrainedNetwork:
    """Return the network in evaluation mode. Raises DataError and PluginError if record and tensors do not fit."""
    expected = record.input
    shape = (expected.height, expected.width, expected.channels)
    if record.head is not None:
        source = source.with_head(record.head)
    trunk, features, head = source.trunk(shape, record.network.config, record.network_seed, "architecture")
    module = own_module(trunk)
    own = fitted(_part(tensors, "trunk"), module, source.traits.auxiliary, "the stored tensors")
    module.load_state_dict(own)
    try:
        classifier = _classifier(record, _part(tensors, "classifier"), features)
    except (ValueError, TypeError, RuntimeError, KeyError) as error:
        raise DataError(f"the stored classifier does not fit the network: {error}") from None
    # In the memory format of training, so that the same kernels are used.
    network = TrainedNetwork(trunk.to(memory_format=torch.channels_last), classifier, record, head).eval()
    _check(network)
    return network


def _part(tensors: dict[str, Tensor], name: str) -> dict[str, Tensor]:
    return {key.removeprefix(f"{name}."): value for key, value in tensors.items() if key.startswith(f"{name}.")}


def _classifier(record: NetworkRecord, state: dict[str, Tensor], features: int) -> nn.Module:
    if record.classifier.name != "Linear":
        return classifiers.rebuild(record.classifier.name, record.classifier.settings, state)
    layer = linear_layer(state["weight"], state["bias"])
    if (layer.in_features, layer.out_features) != (features, len(record.classes)):
        raise ValueError(f"it has {layer.in_features} features and {layer.out_features} classes")
    return layer


def _check(network: TrainedNetwork) -> None:
    """Raise PluginError if the network's scores differ from those when it was stored."""
    record = network.record
    try:
        scores = torch.tensor(network.probe())
    except ClbenchError:
        raise
    except Exception as error:
        raise DataError(f"the stored tensors do not fit the network: {error}") from None
    stored = torch.tensor(record.probe)
    bound = _TOLERANCE * max(1.0, float(stored.abs().max()))
    if scores.shape == stored.shape and bool((scores - stored).abs().max() <= bound):
        return
    made = [f"clbench {record.versions.clbench}", f"torch {record.versions.torch}"]
    here = f"clbench {version('clbench')}, torch {torch.__version__}"
    raise PluginError(
        f"the network {record.network.name} that is installed here gives different scores from the one that was kept",
        f"Install what it was made with: {', '.join([*made, *filter(None, [record.network.package])])} (here: {here}).",
    )
