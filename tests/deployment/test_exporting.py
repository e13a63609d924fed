"""Exported files: what they answer and say of themselves, and what is refused with nothing written."""

from __future__ import annotations

import errno
import functools
import importlib.util
import json
import struct
import sys
from pathlib import Path
from typing import Any

import kept_runs
import numpy as np
import pytest
import torch
from conftest import Once
from safetensors import safe_open
from safetensors.torch import load_file
from torch import Tensor, nn

import clbench
from clbench.data.datasets import open_dataset
from clbench.deployment import exporting
from clbench.deployment.export_formats import FORMATS, metadata
from clbench.deployment.exporting import Differs, export
from clbench.deployment.preprocessing import Preprocessing
from clbench.deployment.trained_network import TrainedNetwork
from clbench.errors import MachineError, PluginError, UsageError
from clbench.results.stored_run import StoredRun

HAS_ONNX = all(importlib.util.find_spec(name) for name in ("onnx", "onnxscript", "onnxruntime"))
needs_onnx = pytest.mark.skipif(
    not HAS_ONNX, reason="the extra `export` (onnx, onnxscript, onnxruntime) is not installed"
)
EVERY_FORMAT = [pytest.param(name, marks=needs_onnx if name == "onnx" else ()) for name in FORMATS]


@pytest.fixture(scope="session")
def network(strangers: StoredRun) -> TrainedNetwork:
    return clbench.load_network(strangers.path, network=strangers.path.parents[3] / "networks" / "stranger.py")


@pytest.fixture(scope="session")
def exported(once: Once, network: TrainedNetwork, data: Path) -> Any:
    """The stranger's network in a format, exported once for all tests."""

    def make(name: str, folder: Path) -> None:
        export(network, name, folder / "network", data)

    return lambda name: once(f"exported-{name}", functools.partial(make, name)) / "network"


def images(data: Path) -> np.ndarray[Any, Any]:
    """All test images of the digits, (n, 8, 8, 1)."""
    return np.ascontiguousarray(open_dataset("digits", data).x_test)


def classes_in(name: str, file: Path) -> Any:
    """The classes that a file names in its metadata, read as the format's users read it."""
    if name == "onnx":
        import onnxruntime

        found = onnxruntime.InferenceSession(str(file)).get_modelmeta().custom_metadata_map
    elif name == "safetensors":
        with safe_open(file, "pt") as opened:
            found = opened.metadata()
    else:
        found = {"classes": ""}
        if name == "pt2":
            torch.export.load(str(file), extra_files=found)
        else:
            torch.jit.load(str(file), _extra_files=found)
    return json.loads(found["classes"])


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # torch's own, of what it will do in other versions
@pytest.mark.parametrize("name", EVERY_FORMAT)
def test_a_file_answers_every_test_image_as_the_network_did_in_its_run(
    name: str, exported: Any, network: TrainedNetwork, strangers: StoredRun, data: Path
) -> None:
    file = exported(name)
    scores = FORMATS[name].read(network, file)(images(data))
    answers = np.array(classes_in(name, file)).astype(int)[scores.argmax(axis=1)]
    assert (answers == kept_runs.predicted(strangers, 4)).all()
    assert list(file.parent.iterdir()) == [file]


def test_safetensors_fit_the_authors_own_module_with_its_head(exported: Any, strangers: StoredRun, data: Path) -> None:
    class Stranger(nn.Module):
        """As in the author's file, without clbench."""

        def __init__(self) -> None:
            super().__init__()
            self.body = nn.Sequential(nn.Conv2d(3, 16, 3, padding=1), nn.BatchNorm2d(16), nn.ReLU(), nn.MaxPool2d(2))
            self.fc = nn.Linear(16 * 6 * 6, 10)

        def forward(self, x: Tensor) -> Tensor:
            scores: Tensor = self.fc(self.body(x).flatten(1))
            return scores

    module, file = Stranger().eval(), exported("safetensors")
    module.load_state_dict(load_file(file), strict=True)
    pixels = torch.from_numpy(images(data)).permute(0, 3, 1, 2).float() / 255
    padded = torch.nn.functional.pad(pixels, (1, 1, 1, 1)).expand(-1, 3, -1, -1)
    mean, std = (torch.tensor(values).view(3, 1, 1) for values in ((0.5, 0.4, 0.3), (0.1, 0.2, 0.4)))
    x = torch.nn.functional.interpolate((padded - mean) / std, (12, 12), mode="bilinear", antialias=True)
    with torch.no_grad():
        answers = np.array(classes_in("safetensors", file)).astype(int)[module(x).argmax(dim=1)]
    assert (answers == kept_runs.predicted(strangers, 4)).all()


@pytest.mark.slow
def test_the_comparison_is_on_test_images_if_their_dataset_is_there(
    network: TrainedNetwork, data: Path, tmp_path: Path
) -> None:
    there = export(network, "safetensors", tmp_path / "there", data)
    assert there.compared_on == "64 test images of digits" and there.same_answers == there.images == 64
    assert there.largest_difference <= 1e-5 * there.largest_score
    elsewhere = export(network, "safetensors", tmp_path / "elsewhere", tmp_path / "empty")
    assert elsewhere.compared_on.startswith("64 images of noise, since digits is not in")


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_exporters_say_nothing(
    network: TrainedNetwork, data: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    for name in FORMATS:
        if name != "onnx":  # which takes longer, and is seen end to end
            export(network, name, tmp_path / name, data)
    assert capfd.readouterr() == ("", "")


# -- what is refused --------------------------------------------------------------------------------------------------


def test_a_file_that_exists_is_not_replaced(network: TrainedNetwork, data: Path, tmp_path: Path) -> None:
    (tmp_path / "mine.pt").write_text("precious")
    with pytest.raises(UsageError, match="exists, and is not replaced"):
        export(network, "torchscript", tmp_path / "mine.pt", data)
    assert [path.read_text() for path in tmp_path.iterdir()] == ["precious"]


def test_a_file_that_appears_meanwhile_is_not_replaced(
    network: TrainedNetwork, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out, compare = tmp_path / "mine", exporting._compared

    def compared(*given: Any) -> Any:
        out.write_text("precious")
        return compare(*given)

    monkeypatch.setattr(exporting, "_compared", compared)
    with pytest.raises(UsageError, match="exists, and is not replaced"):
        export(network, "safetensors", out, data)
    assert [path.read_text() for path in tmp_path.iterdir()] == ["precious"]


def test_nothing_is_written_into_a_finished_run(network: TrainedNetwork, strangers: StoredRun, data: Path) -> None:
    with pytest.raises(UsageError, match="is a finished run, which is never changed"):
        export(network, "safetensors", strangers.path / "network.st", data)


@pytest.mark.parametrize(("name", "problem"), [("onx", "did you mean 'onnx'"), ("h5", "must be one of onnx,")])
def test_an_unknown_format_is_refused(
    name: str, problem: str, network: TrainedNetwork, data: Path, tmp_path: Path
) -> None:
    with pytest.raises(UsageError, match=problem):
        export(network, name, tmp_path / "network", data)


@pytest.mark.parametrize(("to", "name"), [("onnx", "network.pt2"), ("safetensors", "network.onnx")])
def test_the_suffix_of_another_format_is_refused(
    to: str, name: str, network: TrainedNetwork, data: Path, tmp_path: Path
) -> None:
    with pytest.raises(UsageError, match=rf"{name} has the name of a {name[8:]} file, but --to is {to}"):
        export(network, to, tmp_path / name, data)


def test_a_missing_package_is_named_with_what_installs_it(
    network: TrainedNetwork, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "onnx", None)  # an import then fails as if it were not there
    with pytest.raises(MachineError, match="--to onnx needs the package onnx") as refused:
        export(network, "onnx", tmp_path / "network.onnx", data)
    assert refused.value.hint == "pip install 'clbench[export]'"
    assert not list(tmp_path.iterdir())


def test_torchscript_is_refused_once_torch_does_not_offer_it(
    network: TrainedNetwork, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delattr(torch.jit, "trace")
    with pytest.raises(MachineError, match="no longer offers torchscript"):
        export(network, "torchscript", tmp_path / "network.pt", data)
    assert not list(tmp_path.iterdir())


def test_a_full_disk_leaves_nothing_behind(
    network: TrainedNetwork, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(path: Path, content: bytes) -> None:
        path.write_bytes(content[:10])
        raise OSError(errno.ENOSPC, "No space left on device", str(path))

    monkeypatch.setattr(exporting, "write_synced", full)
    with pytest.raises(MachineError, match=r"cannot write .*: No space left on device"):
        export(network, "safetensors", tmp_path / "network", data)
    assert not list(tmp_path.iterdir())


def with_trunk(network: TrainedNetwork, trunk: nn.Module) -> TrainedNetwork:
    """The same network with a layer behind its trunk."""
    return TrainedNetwork(nn.Sequential(network.trunk, trunk), network.classifier, network.record).eval()


class NoOperator(nn.Module):
    """ONNX has no operator for the eigenvalues of a matrix."""

    def forward(self, features: Tensor) -> Tensor:
        square = features[:, :16].unflatten(1, (4, 4))
        return features + torch.linalg.eigvalsh(square @ square.mT).sum(dim=1, keepdim=True)


class OnlyForTwo(nn.Module):
    """What tracing on two images takes for a constant."""

    def forward(self, features: Tensor) -> Tensor:
        return features * float(features.shape[0])


@pytest.mark.slow
@needs_onnx
@pytest.mark.filterwarnings("ignore")
def test_an_operator_that_onnx_lacks_is_named(network: TrainedNetwork, data: Path, tmp_path: Path) -> None:
    with pytest.raises(PluginError, match=r"cannot be exported as onnx: ONNX has no operator for aten\._linalg_eigh"):
        export(with_trunk(network, NoOperator()), "onnx", tmp_path / "network.onnx", data)
    assert not list(tmp_path.iterdir())


@pytest.mark.filterwarnings("ignore")
def test_a_network_that_asks_for_values_cannot_be_expressed_as_pt2(
    network: TrainedNetwork, data: Path, tmp_path: Path
) -> None:
    class Asking(nn.Module):
        def forward(self, features: Tensor) -> Tensor:
            return features if float(features.sum()) > 0 else -features

    with pytest.raises(PluginError, match=r"network stranger cannot be exported as pt2: .*data-dependent"):
        export(with_trunk(network, Asking()), "pt2", tmp_path / "network.pt2", data)
    assert not list(tmp_path.iterdir())


@pytest.mark.filterwarnings("ignore")
def test_a_file_that_answers_differently_is_removed(network: TrainedNetwork, data: Path, tmp_path: Path) -> None:
    with pytest.raises(Differs, match="the file's scores differ from the network's: on 64 test images") as refused:
        export(with_trunk(network, OnlyForTwo()), "torchscript", tmp_path / "network.pt", data)
    assert refused.value.exit_code == 1
    assert not list(tmp_path.iterdir())


def test_metadata_says_what_is_inside_and_what_is_left_to_do(exported: Any) -> None:
    with (exported("safetensors")).open("rb") as file:
        (length,) = struct.unpack("<Q", file.read(8))
        found = json.loads(file.read(length))["__metadata__"]
    assert "float32 (n, 3, 12, 12)" in found["input"] and "logits" in found["output"]
    assert json.loads(found["network"])["input"]["mean"] == [0.5, 0.4, 0.3]


@pytest.mark.parametrize(
    ("fit", "said"),
    [
        ("crop", "of its middle, as large as it can be cut out in these proportions"),
        ("pad", "in its own proportions, and then black on two sides of it"),
        ("stretch", "whatever its proportions"),
    ],
)
def test_metadata_says_how_an_image_of_other_proportions_is_brought_to_size(
    network: TrainedNetwork, fit: str, said: str
) -> None:
    record = network.record
    image = record.input.image.model_copy(update={"fit": fit})
    photographs = record.model_copy(update={"input": record.input.model_copy(update={"image": image})})
    assert said in metadata(photographs, graph=True)["input"]


@pytest.mark.parametrize(("std", "said"), [((0.0,), " / std, with 1 in place of an std of 0; "), ((0.5,), " / std; ")])
def test_metadata_of_tensors_say_what_a_constant_channel_is_divided_by(
    network: TrainedNetwork, std: tuple[float, ...], said: str
) -> None:
    expected = network.record.input.model_copy(update={"std": std})
    record = network.record.model_copy(update={"input": expected})
    assert said in metadata(record, graph=False)["input"]
    if 0 in std:
        assert Preprocessing(expected).scaling.std == (1.0,)
