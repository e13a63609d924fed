"""The formats of exported networks: how each is written, and how a written file is run on images.

ONNX, pt2 and torchscript files include the preprocessing of images with the size and channels of the training images.
A safetensors file holds only tensors, under the names that the network's author gave them.
"""

from __future__ import annotations

import copy
import io
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from clbench.deployment.preprocessing import Preprocessing
from clbench.deployment.trained_network import TrainedNetwork, own_module
from clbench.errors import MachineError, UsageError
from clbench.results.network_record import NetworkRecord
from clbench.results.record_model import to_json

Images = npt.NDArray[np.uint8]
Answering = Callable[[Images], npt.NDArray[np.float32]]
"""Returns the scores (n, classes) for images (n, height, width, channels)."""

_LARGEST_ONNX = 2**31 - 2**20
"""Bytes of tensors that one ONNX file can hold."""


@dataclass(frozen=True)
class Format:
    """A format of exported networks."""

    suffix: str
    """Suffix of its files."""

    write: Callable[[TrainedNetwork], bytes]
    """Returns the content of a file."""

    read: Callable[[TrainedNetwork, Path], Answering]
    """Returns a function that runs the file on images; from the network it takes only code that the file lacks."""

    packages: tuple[str, ...] = ()
    """Packages that it needs, from the extra `export`."""

    has_graph: bool = True
    """Whether the file holds the network's operations, with the preprocessing, and not only its tensors."""


class OnImages(nn.Module):
    """A network with its preprocessing in front."""

    def __init__(self, network: TrainedNetwork) -> None:
        super().__init__()
        self.preprocessing, self.network = Preprocessing(network.record.input), network
        self.eval()

    def forward(self, images: Tensor) -> Tensor:
        """(n, height, width, channels) of uint8 -> (n, classes) of float32."""
        scores: Tensor = self.network(self.preprocessing(images)).float()
        return scores

    def example(self) -> Tensor:
        """Return two different images to trace the operations with."""
        shape = self.network.record.input.image
        generator = torch.Generator().manual_seed(0)
        return torch.randint(
            0, 256, (2, shape.height, shape.width, shape.channels), dtype=torch.uint8, generator=generator
        )


def steps_inside(record: NetworkRecord) -> list[str]:
    """Return the steps that a graph applies to an image before the network."""
    expected = record.input
    steps = [f"padding by {expected.padding} pixels"] if expected.padding else []
    if expected.channels != expected.image.channels:
        steps.append(f"repeating grey as {expected.channels} channels")
    steps.append("normalization")
    if expected.resizing:
        steps.append(f"resizing to {expected.height}×{expected.width} ({expected.resizing})")
    return steps


def step_outside(record: NetworkRecord) -> str:
    """Return what must be done to an image of any size and kind before the graph."""
    shape = record.input.image
    kind = "grey" if shape.channels == 1 else "RGB"
    resizing = f"resizing to {shape.height}×{shape.width} (bilinear, antialiased)"
    fitted = {
        "crop": f"{resizing} of its middle, as large as it can be cut out in these proportions",
        "pad": f"{resizing} in its own proportions, and then black on two sides of it",
        "stretch": f"{resizing}, whatever its proportions",
    }
    return f"conversion to {kind} and {fitted[shape.fit]}"


def metadata(record: NetworkRecord, graph: bool) -> dict[str, str]:
    """Return the metadata of a file; `graph` is whether it includes the preprocessing."""
    shape, expected = record.input.image, record.input
    if graph:
        takes = (
            f"images: uint8 (n, {shape.height}, {shape.width}, {shape.channels}), pixels from 0 to 255. Inside: "
            f"{', '.join(steps_inside(record))}. Before it: {step_outside(record)}."
        )
    else:
        takes = (
            f"float32 (n, {expected.channels}, {expected.height}, {expected.width}), normalized: (pixels / 255 - mean) "
            f"/ std{', with 1 in place of an std of 0' if 0 in expected.std else ''}; see `network`"
        )
    return {
        "classes": json.dumps(record.classes, ensure_ascii=False),
        "input": takes,
        "output": "scores: float32 (n, classes)" + (", logits" if record.classifier.name == "Linear" else ""),
        "network": json.dumps(to_json(record), ensure_ascii=False),
    }


def _batch() -> Any:
    return ({0: torch.export.Dim("batch", min=1)},)


# -- ONNX -------------------------------------------------------------------------------------------------------------


def _write_onnx(network: TrainedNetwork) -> bytes:
    if sum(value.nbytes for value in network.state_dict().values()) > _LARGEST_ONNX:
        raise UsageError(
            "the network is larger than 2 GiB, the most that one ONNX file can hold",
            "The format pt2 has no such limit.",
        )
    whole = OnImages(network)
    program = torch.onnx.export(
        whole,
        (whole.example(),),
        dynamo=True,
        dynamic_shapes=_batch(),
        input_names=["images"],
        output_names=["scores"],
        verbose=False,
    )
    assert program is not None
    program.model.metadata_props.update(metadata(network.record, graph=True))
    content: bytes = program.model_proto.SerializeToString()
    return content


def _read_onnx(network: TrainedNetwork, path: Path) -> Answering:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])

    def answers(images: Images) -> npt.NDArray[np.float32]:
        (scores,) = session.run(["scores"], {"images": images})
        return np.asarray(scores, dtype=np.float32)

    return answers


# -- of torch itself --------------------------------------------------------------------------------------------------


def _write_torchscript(network: TrainedNetwork) -> bytes:
    if not hasattr(torch, "jit") or not hasattr(torch.jit, "trace"):
        raise MachineError(f"torch {torch.__version__} no longer offers torchscript", "Its replacement is pt2.")
    whole, buffer = OnImages(network), io.BytesIO()
    with torch.no_grad():
        traced = torch.jit.trace(whole, (whole.example(),))
    torch.jit.save(traced, buffer, _extra_files=_as_bytes(metadata(network.record, graph=True)))
    return buffer.getvalue()


def _as_bytes(values: dict[str, str]) -> dict[str, bytes]:
    return {name: value.encode() for name, value in values.items()}


def _read_torchscript(network: TrainedNetwork, path: Path) -> Answering:
    return _torchs(torch.jit.load(str(path)))


def _write_pt2(network: TrainedNetwork) -> bytes:
    whole, buffer = OnImages(network), io.BytesIO()
    program = torch.export.export(whole, (whole.example(),), dynamic_shapes=_batch())
    torch.export.save(program, buffer, extra_files=metadata(network.record, graph=True))
    return buffer.getvalue()


def _read_pt2(network: TrainedNetwork, path: Path) -> Answering:
    return _torchs(torch.export.load(str(path)).module())


def _torchs(module: Callable[[Tensor], Tensor]) -> Answering:
    def answers(images: Images) -> npt.NDArray[np.float32]:
        with torch.no_grad():
            scores: npt.NDArray[np.float32] = module(torch.from_numpy(images)).numpy()
        return scores

    return answers


# -- safetensors ------------------------------------------------------------------------------------------------------


def _write_safetensors(network: TrainedNetwork) -> bytes:
    from safetensors.torch import save

    module = _with_classifier(network)
    own = {name: value.clone(memory_format=torch.contiguous_format) for name, value in module.state_dict().items()}
    return save(own, metadata(network.record, graph=False))


def _read_safetensors(network: TrainedNetwork, path: Path) -> Answering:
    from safetensors.torch import load_file

    module = _with_classifier(network)
    with torch.no_grad():
        for value in module.state_dict().values():
            value.zero_()  # so that only the code of the network is left
    module.load_state_dict(load_file(path))
    preprocessing = Preprocessing(network.record.input)
    return _torchs(lambda images: module(preprocessing(images)))


def _with_classifier(network: TrainedNetwork) -> nn.Module:
    """Return the author's original module, with the classifier instead of the layer that was cut off.

    If there is no such layer, or the classifier is not linear, it follows the module, as `classifier`.
    """
    module = copy.deepcopy(own_module(network.trunk))
    if network.head is None or not isinstance(network.classifier, nn.Linear):
        return _Followed(module, network.classifier)
    parent, _, name = network.head.rpartition(".")
    setattr(module.get_submodule(parent), name, copy.deepcopy(network.classifier))
    return module


class _Followed(nn.Module):
    """The author's module, with the names of its tensors, followed by a classifier."""

    def __init__(self, module: nn.Module, classifier: nn.Module) -> None:
        super().__init__()
        self.module, self.classifier = module, copy.deepcopy(classifier)

    def forward(self, x: Tensor) -> Tensor:
        scores: Tensor = self.classifier(self.module(x))
        return scores


FORMATS = {
    "onnx": Format(".onnx", _write_onnx, _read_onnx, ("onnx", "onnxscript", "onnxruntime")),
    "torchscript": Format(".pt", _write_torchscript, _read_torchscript),
    "pt2": Format(".pt2", _write_pt2, _read_pt2),
    "safetensors": Format(".safetensors", _write_safetensors, _read_safetensors, has_graph=False),
}
"""The formats by name."""
