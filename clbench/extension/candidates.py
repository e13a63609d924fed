"""Stores the network that each strategy makes in the work folder, until one of them is chosen."""

from __future__ import annotations

import copy
import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from torch import nn

from clbench.base.config import typed
from clbench.deployment.storing import network_files, storable
from clbench.deployment.strategy_states import NotStorable, StrategyState, file_name, state_file, state_of
from clbench.errors import DataError, UsageError
from clbench.extension.folder import OutputFolder
from clbench.extension.learner import Learned
from clbench.networks.weights import weights_sha256
from clbench.results import manifests
from clbench.results.extension_result import Candidate
from clbench.results.network_record import STEM, LineageStep, NetworkRecord, NoneBelow, Versions
from clbench.results.record_model import as_json, to_json
from clbench.results.run_spec import StrategySpec
from clbench.results.spec_building import ENGINE, Method
from clbench.system.files import read_plain

CANDIDATE = "candidate.json"


@dataclass(frozen=True)
class Entry:
    """A strategy that is tried."""

    method: Method
    spec: StrategySpec
    state: StrategyState | None
    """The state that was kept with the network, about the old classes, if any."""

    identity: str
    """SHA-256 of everything that its numbers depend on."""

    @property
    def name(self) -> str:
        """Its name on the command line."""
        return self.spec.selector


@dataclass(frozen=True)
class Made:
    """The result of a strategy, and the folder with its files."""

    candidate: Candidate
    folder: Path


def strategy_spec(method: Method, recipe: str, state: StrategyState | None) -> StrategySpec:
    """Return the spec of a strategy: with the configuration of its kept `state`, if any, and what the user sets.

    Raises UsageError for a value other than the one that the state was made with.
    """
    config = method.values("class_incremental", recipe)
    if state is not None:
        config = _with_state(method, config, state)
    return StrategySpec(name=method.plugin.name, preset=method.preset, sha256=method.plugin.sha256, config=config)


def _with_state(method: Method, values: Mapping[str, Any], state: StrategyState) -> dict[str, Any]:
    preset = method.strategy.presets[method.preset] if method.preset else {}
    # Tuning changes the weight of its penalty from one experience to the next, so that no state depends on it.
    free = method.strategy.stability[0] if method.strategy.stability else None
    config = dict(state.config)
    for name in {**preset.get("set", {}), **method.given}:
        if name != free and values[name] != config[name]:
            field, value = f"{method.plugin.name}.{name}", typed(values[name])
            raise UsageError(
                f"{field} = {value}, but what is kept with the network was made with {field} = {typed(config[name])}",
                "Leave it out, or prepare again with it: "
                f"clbench train --prepare {method.selector} --set {field}={value}",
            )
        config[name] = values[name]
    return config


def identity_of(**values: Any) -> str:
    """Return the SHA-256 of values as canonical JSON."""
    text = json.dumps(to_json(values), sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()


def read_made(folder: Path) -> Made:
    """Return what a strategy had made before the command was stopped. Raises DataError if it is damaged."""
    path = folder / CANDIDATE
    try:
        return Made(Candidate.model_validate_json(read_plain(path, manifests.LARGEST_JSON)), folder)
    except (OSError, ValueError) as error:
        raise DataError(f"{path} is damaged: {error}", f"Remove {folder.parent}.") from None


@dataclass(frozen=True)
class Template:
    """The network's record without what a strategy adds to it."""

    record: NetworkRecord
    """Record of the network before; for a first network, with the classes that it is to learn."""

    command: str
    classes: tuple[str, ...]
    """All classes, old and new."""

    new: int
    images: int
    """Number of training images."""

    seed: int
    trunk: nn.Module | None
    """The trunk, if it is permanently frozen and the network in training has none."""

    none_below: NoneBelow | None
    """The score below which an image is taken to show none of the classes."""

    def files(self, learned: Learned, entry: Entry, states: Mapping[str, StrategyState]) -> dict[str, bytes]:
        """Return the files of the network that a strategy has made, and of the states kept with it."""
        classifier, classifier_record = storable(learned.classifier(), len(self.classes))
        trunk = copy.deepcopy(learned.network.blocks if self.trunk is None else self.trunk).cpu().eval()
        step = LineageStep.model_validate(
            {
                "command": self.command,
                "id": entry.identity,
                "classes": self.classes[len(self.classes) - self.new :],
                "images": self.images,
                "strategy": entry.name,
                "seed": self.seed,
            }
        )
        record = self.record.model_copy(
            update={
                "origin": None,
                "lineage": (*self.record.lineage, step),
                "setting": "class_incremental",
                "classes": self.classes,
                "classifier": classifier_record,
                "none_below": self.none_below,
                "versions": Versions(clbench=version("clbench"), engine=ENGINE, torch=torch.__version__),
            }
        )
        files = network_files(trunk, classifier, record, STEM)
        return files | {file_name(name): state_file(state) for name, state in states.items()}


def continued_state(learned: Learned, entry: Entry, trunk_sha256: str) -> dict[str, StrategyState]:
    """Return what a strategy based on statistics keeps for the next classes, by its name; nothing for any other."""
    if entry.method.strategy.statistics is None:
        return {}
    try:
        found = state_of(learned.strategy, entry.spec.name, entry.spec.sha256, entry.spec.config, trunk_sha256)
    except NotStorable:
        return {}
    return {entry.spec.name: found}


def trunk_sha256(trunk: nn.Module) -> str:
    """Return the hash of a trunk's tensors."""
    return weights_sha256(trunk.state_dict())


def keep(output: OutputFolder, entry: Entry, candidate: Candidate, files: Mapping[str, bytes]) -> Made:
    """Store what a strategy has made in the work folder."""
    return Made(candidate, output.keep(entry.identity, {**files, CANDIDATE: as_json(candidate)}))
