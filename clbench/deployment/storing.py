"""Stores a trained network as two files: network.safetensors with its tensors, and network.json with its record."""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn

from clbench.deployment.trained_network import TrainedNetwork, own_module
from clbench.errors import PluginError
from clbench.networks.classifiers import CLASSIFIERS
from clbench.networks.head import Head, linear_layer
from clbench.networks.weights import weights_sha256
from clbench.results.network_record import ClassifierRecord, NetworkRecord
from clbench.results.record_model import as_json


def storable(classifier: nn.Module, outputs: int) -> tuple[nn.Module, ClassifierRecord]:
    """Return a copy of a classifier, on the CPU, that can be stored, and its record; of a head, its first `outputs`.

    Raises PluginError for one that is neither a head nor from clbench.networks.classifiers.
    """
    if isinstance(classifier, Head):
        layer = linear_layer(classifier.weight[:outputs], classifier.bias[:outputs])
        return layer.cpu().eval(), ClassifierRecord(name="Linear")
    name = type(classifier).__name__
    if CLASSIFIERS.get(name) is not type(classifier):
        raise PluginError(
            f"the strategy classifies by a {name}, which cannot be stored",
            "Its `classifier` must return the network's head or one of clbench.networks.classifiers: "
            f"{', '.join(CLASSIFIERS)}.",
        )
    record = ClassifierRecord(name=name, settings=classifier.settings())
    return copy.deepcopy(classifier).cpu().eval(), record


def tensors(network: TrainedNetwork) -> dict[str, Tensor]:
    """Return all tensors under the names that they are stored by: `trunk.…` as in the module itself, `classifier.…`.

    Each is a contiguous copy, since tensors in a safetensors file cannot share memory. Raises PluginError for a network
    whose state has anything but tensors.
    """
    found = {}
    for part, module in (("trunk", own_module(network.trunk)), ("classifier", network.classifier)):
        for name, value in module.state_dict().items():
            if not isinstance(value, Tensor):
                raise PluginError(
                    f"the network's state has {name}, a {type(value).__name__}, but may only have tensors"
                )
            found[f"{part}.{name}"] = value.detach().cpu().clone(memory_format=torch.contiguous_format)
    return found


def network_files(trunk: nn.Module, classifier: nn.Module, record: NetworkRecord, stem: str) -> dict[str, bytes]:
    """Return the content of the two files, whose names begin with `stem`, of a network in evaluation mode on the CPU.

    The hash of the tensors and the scores of the probe need not be in `record` yet.
    """
    from safetensors.torch import save

    network = TrainedNetwork(trunk, classifier, record).eval()
    own = tensors(network)
    complete = record.model_copy(update={"weights_sha256": weights_sha256(own), "probe": network.probe()})
    return {f"{stem}.safetensors": save(own), f"{stem}.json": as_json(complete)}
