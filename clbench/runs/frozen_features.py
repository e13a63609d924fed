"""The features of a frozen trunk, which a run gets instead of images if only the head trains."""

from __future__ import annotations

import hashlib
from typing import Any

import torch

from clbench.data.batches import Images, MappedImages
from clbench.data.feature_cache import open_features
from clbench.data.feature_extraction import Features
from clbench.data.feature_extraction import Images as StoredImages
from clbench.networks.trunk import Blocks
from clbench.networks.weights import weights_sha256
from clbench.results.run_spec import RunSpec
from clbench.runs.context import RunContext
from clbench.streams.stream import Stream


def frozen_features(spec: RunSpec, stream: Stream, trunk: Blocks, around: RunContext) -> tuple[Features, Features]:
    """Return the features of all training and of all test images of the stream, (n, f) each, from the cache.

    Missing ones are computed, on all cores, and stored for other runs with the same trunk and images.
    """
    images = {"train": _stored(stream.images), "test": _stored(stream.test_set.images)}
    features = open_features(
        _key(spec, stream, trunk),
        images,
        trunk,
        stream.scaling,
        stream.images.device,
        around.data,
        around.notify,
        around.interruption,
    )
    return features["train"], features["test"]


def _stored(images: Images) -> StoredImages:
    """Return the images as they are stored, or in every domain that is made of them."""
    return images if isinstance(images, MappedImages) else images.pixels.cpu().numpy()


def _key(spec: RunSpec, stream: Stream, trunk: Blocks) -> dict[str, Any]:
    """Return everything that the features depend on."""
    network, scaling = spec.network, stream.scaling
    domains = {}
    if isinstance(stream.images, MappedImages):
        domains["pixel_maps"] = hashlib.sha256(stream.images.maps.cpu().numpy().tobytes()).hexdigest()
    return domains | {
        "network": network.name,
        "source": network.sha256 or network.package,
        "engine": spec.engine,
        "config": network.config,
        "weights": weights_sha256(trunk.state_dict()),
        "size": scaling.size or stream.shape[0],
        "channels": scaling.channels or stream.shape[2],
        "factor": scaling.factor.tolist(),
        "offset": scaling.offset.tolist(),
        "padding": spec.recipe.config.padding,
        "dataset": spec.scenario.dataset,
        "dataset_sha256": spec.scenario.dataset_sha256,
        "held_out": spec.scenario.held_out,
        "device": spec.device,
        "torch": torch.__version__,
    }
