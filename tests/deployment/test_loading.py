"""load_network: the same answers as in the run, the same preprocessing, and nothing stored that is ever executed."""

from __future__ import annotations

import json
import pickle
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import kept_runs
import numpy as np
import PIL.Image
import pytest
import torch
from safetensors.torch import load_file, save_file

import clbench
from clbench.data.datasets import open_dataset
from clbench.errors import DataError, PluginError, UsageError
from clbench.results.stored_run import StoredRun
from clbench.streams.stream import NetworkInput, open_stream


def answers(network: Any, data: Path) -> Any:
    """The classes that a network answers the digits' test images with."""
    with torch.no_grad():
        x = torch.stack([network.transform(image) for image in open_dataset("digits", data).x_test])
        return np.array(network.classes).astype(int)[network(x).argmax(dim=1)]


@pytest.fixture
def folder(kept: StoredRun, tmp_path: Path) -> Path:
    """A folder with a kept network alone, to damage."""
    for name in ("network.json", "network.safetensors"):
        shutil.copy(kept.path / name, tmp_path)
    return tmp_path


def changed(folder: Path, change: Callable[[dict[str, Any]], None]) -> None:
    file = folder / "network.json"
    record = json.loads(file.read_text())
    change(record)
    file.write_text(json.dumps(record))


# -- the same answers -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("experience", range(5))
def test_the_network_of_each_experience_answers_as_in_the_run(experience: int, kept: StoredRun, data: Path) -> None:
    stem = "network" if experience == 4 else f"network-experience-{experience}"
    network = clbench.load_network(kept.path / f"{stem}.json")
    expected = kept_runs.predicted(kept, experience)
    own = answers(network, data)
    assert (own == expected)[expected >= 0].all() and (expected >= 0).any()
    assert not network.training


def test_accuracy_is_that_of_the_result(kept: StoredRun, data: Path) -> None:
    labels = open_dataset("digits", data).y_test
    assert (answers(clbench.load_network(kept.path), data) == labels).mean() == kept.metric("final_accuracy")


def test_a_strangers_network_answers_as_in_the_run(
    strangers: StoredRun, data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(strangers.path.parents[3])
    assert (answers(clbench.load_network(strangers.path), data) == kept_runs.predicted(strangers, 4)).all()


def test_a_folder_that_holds_nothing_but_the_two_files_is_enough(folder: Path, kept: StoredRun, data: Path) -> None:
    assert (answers(clbench.load_network(folder), data) == kept_runs.predicted(kept, 4)).all()


def test_a_folder_above_the_run_will_do_if_there_is_no_other(kept: StoredRun, data: Path, tmp_path: Path) -> None:
    above = kept.path.parents[2]
    assert clbench.load_network(above).record == clbench.load_network(kept.path).record
    shutil.copytree(kept.path, tmp_path / "one")
    shutil.copytree(kept.path, tmp_path / "other")
    with pytest.raises(UsageError, match=r"2 runs in .* have kept a network; name one of them:\n.*one\n.*other"):
        clbench.load_network(tmp_path)


# -- the same preprocessing -------------------------------------------------------------------------------------------


def test_the_input_is_that_of_training_bit_for_bit(strangers: StoredRun, data: Path) -> None:
    scenario = strangers.spec.scenario
    stream = open_stream(
        "digits",
        scenario.dataset_sha256,
        data,
        scenario.classes_per_experience,
        scenario.class_order,
        "class_incremental",
        1,
        "standardized",
        "float32",
        "cpu",
        0.0,
        NetworkInput(12, 3, (0.5, 0.4, 0.3), (0.1, 0.2, 0.4)),
    )
    expected = stream.scaling(stream.test_set.images.read(torch.arange(20)))
    network = clbench.load_network(strangers.path, network=strangers.path.parents[3] / "networks" / "stranger.py")
    images = open_dataset("digits", data).x_test[:20]
    assert torch.equal(torch.stack([network.transform(image) for image in images]), expected)
    assert torch.equal(torch.stack([network.transform(PIL.Image.fromarray(i[:, :, 0])) for i in images]), expected)


def test_a_pixel_becomes_what_the_record_says(kept: StoredRun) -> None:
    network = clbench.load_network(kept.path)
    (mean,), (std,) = network.record.input.mean, network.record.input.std
    x = network.transform(np.full((8, 8), 51, dtype=np.uint8))
    assert x.shape == (1, 8, 8) and x.dtype == torch.float32
    assert torch.allclose(x, torch.full((1, 8, 8), (51 / 255 - mean) / std))


def test_images_of_any_size_and_kind_become_those_of_training(kept: StoredRun) -> None:
    transform = clbench.load_network(kept.path).transform
    grey = PIL.Image.new("L", (40, 20), 100)
    expected = transform(np.full((8, 8, 1), 100, dtype=np.uint8))
    for image in (grey, *(grey.convert(mode) for mode in ("RGB", "RGBA", "LA", "P"))):
        assert torch.allclose(transform(image), expected, atol=0.02)  # a palette has not every grey
    assert torch.equal(transform(np.full((40, 20, 3), 100, dtype=np.uint8)), expected)


def test_a_photograph_is_turned_as_the_camera_was_held(kept: StoredRun, tmp_path: Path) -> None:
    transform = clbench.load_network(kept.path).transform
    pixels = np.arange(64, dtype=np.uint8).reshape(8, 8)
    exif = PIL.Image.Exif()
    exif[0x0112] = 6  # the camera lay on its side: turn by 270 degrees
    PIL.Image.fromarray(pixels).save(tmp_path / "turned.png", exif=exif)
    with PIL.Image.open(tmp_path / "turned.png") as image:
        assert torch.equal(transform(image), transform(np.ascontiguousarray(np.rot90(pixels, 3))))


@pytest.mark.parametrize(
    ("image", "problem"),
    [
        (np.zeros((8, 8)), "must be uint8"),
        (np.zeros((8, 8, 4), dtype=np.uint8), "must be .height, width"),
        (PIL.Image.fromarray(np.full((8, 8), np.nan, dtype=np.float32)), "not finite"),
    ],
)
def test_what_would_be_another_image_is_refused(image: Any, problem: str, kept: StoredRun) -> None:
    with pytest.raises(ValueError, match=problem):
        clbench.load_network(kept.path).transform(image)


# -- damage and malice ------------------------------------------------------------------------------------------------


def test_without_a_kept_network_it_is_said_what_to_do(data: Path, tmp_path: Path) -> None:
    run = kept_runs.run("naive", tmp_path, data)
    with pytest.raises(UsageError, match="has kept no network") as refused:
        clbench.load_network(run.path)
    assert "--keep-networks last and another results folder, --out DIR" in str(refused.value)
    (tmp_path / "empty").mkdir()
    with pytest.raises(UsageError, match=r"has no network\.json"):
        clbench.load_network(tmp_path / "empty")
    with pytest.raises(UsageError, match="there is no folder"):
        clbench.load_network(tmp_path / "nowhere")


@pytest.mark.parametrize("harm", ["cut off", "a byte is another", "removed", "empty"])
def test_damaged_tensors_are_an_error(harm: str, folder: Path) -> None:
    file = folder / "network.safetensors"
    content = bytearray(file.read_bytes())
    if harm == "cut off":
        file.write_bytes(content[: len(content) // 2])
    elif harm == "a byte is another":
        content[-1] ^= 1
        file.write_bytes(content)
    elif harm == "empty":
        file.write_bytes(b"")
    else:
        file.unlink()
    with pytest.raises(DataError, match=r"network\.safetensors is (missing, )?damaged"):
        clbench.load_network(folder)


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"schema": 1}', "\x00", "null"])
def test_a_damaged_record_is_an_error(content: str, folder: Path) -> None:
    (folder / "network.json").write_text(content)
    with pytest.raises(DataError, match=r"network\.json"):
        clbench.load_network(folder)


def test_a_record_of_a_later_format_asks_for_an_update(folder: Path) -> None:
    changed(folder, lambda record: record.update(schema=2))
    with pytest.raises(DataError, match="has format 2, and this version of clbench reads 1"):
        clbench.load_network(folder)


@pytest.mark.parametrize("name", ["../evil", "evil.py", "/tmp/evil.py", "networks/evil"])
def test_a_record_cannot_name_a_file_to_run(name: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    marker = folder / "was-run"
    for place in (folder / "evil.py", folder / "networks" / "evil.py"):
        place.parent.mkdir(exist_ok=True)
        place.write_text(f"open({str(marker)!r}, 'w')\n\ndef evil(shape):\n    return None\n")
    monkeypatch.chdir(folder)
    changed(folder, lambda record: record["network"].update(name=name, sha256="0" * 64))
    with pytest.raises(DataError, match="invalid name of a network"):
        clbench.load_network(folder)
    assert not marker.exists()


def test_a_pickle_in_the_place_of_the_tensors_is_not_run(folder: Path) -> None:
    class Evil:
        def __reduce__(self) -> Any:
            return Path.touch, (folder / "was-run",)

    (folder / "network.safetensors").write_bytes(pickle.dumps(Evil()))
    with pytest.raises(DataError):
        clbench.load_network(folder)
    assert not (folder / "was-run").exists()


def test_tensors_of_another_network_do_not_fit(folder: Path, kept: StoredRun) -> None:
    shutil.copy(kept.path / "network-experience-1.safetensors", folder / "network.safetensors")
    with pytest.raises(DataError, match="is damaged: its content does not match"):
        clbench.load_network(folder)


def test_an_architecture_that_computes_something_else_is_found_out(folder: Path) -> None:
    """The file's hash tells a user's network; clbench's own and a library's may change with their version."""
    changed(folder, lambda record: record["probe"].__setitem__(0, record["probe"][0] + 1))
    with pytest.raises(PluginError, match="gives different scores from the one that was kept") as refused:
        clbench.load_network(folder)
    assert "Install what it was made with: clbench" in str(refused.value)


# -- the file of a user's network -------------------------------------------------------------------------------------


@pytest.fixture
def file(strangers: StoredRun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the stranger's file, in ./networks of the working folder."""
    (tmp_path / "networks").mkdir()
    monkeypatch.chdir(tmp_path)
    return Path(shutil.copy(strangers.path.parents[3] / "networks" / "stranger.py", tmp_path / "networks"))


def test_the_file_is_found_in_the_working_folder_or_given(file: Path, strangers: StoredRun, tmp_path: Path) -> None:
    found = clbench.load_network(strangers.path)
    elsewhere = file.rename(tmp_path / "elsewhere.py")
    with pytest.raises(PluginError, match=r"made by a file stranger\.py with SHA-256 .* not in \./networks") as refused:
        clbench.load_network(strangers.path)
    assert "network=FILE" in str(refused.value)
    given = clbench.load_network(strangers.path, network=elsewhere)
    x = torch.zeros(1, 3, 12, 12)
    assert torch.equal(found(x), given(x))


def test_a_file_that_has_changed_since_is_not_run(file: Path, strangers: StoredRun) -> None:
    file.write_text(file.read_text() + f"\nopen({str(file.parent / 'was-run')!r}, 'w')\n")
    with pytest.raises(PluginError, match=r"stranger\.py is a different file: .* with SHA-256"):
        clbench.load_network(strangers.path)
    with pytest.raises(PluginError, match=r"stranger\.py has changed since"):
        clbench.load_network(strangers.path, network=file)
    assert not (file.parent / "was-run").exists()


def test_a_built_in_network_needs_no_file(folder: Path, file: Path) -> None:
    with pytest.raises(UsageError, match="the network is mlp, which needs no file"):
        clbench.load_network(folder, network=file)


def test_tensors_are_named_as_in_the_strangers_own_module(strangers: StoredRun) -> None:
    names = set(load_file(strangers.path / "network.safetensors"))
    assert {"trunk.body.0.weight", "trunk.body.1.running_mean", "classifier.weight", "classifier.bias"} <= names
    assert not any("fc" in name for name in names)


def test_a_surplus_tensor_is_named(folder: Path) -> None:
    from clbench.networks.weights import weights_sha256

    tensors = load_file(folder / "network.safetensors") | {"trunk.extra": torch.zeros(1)}
    save_file(tensors, folder / "network.safetensors")
    changed(folder, lambda record: record.update(weights_sha256=weights_sha256(tensors)))
    with pytest.raises(DataError, match="1 left over: extra"):
        clbench.load_network(folder)
