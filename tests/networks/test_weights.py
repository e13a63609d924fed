"""Weights from files: what is read, that nothing in them is run, and what is reported about those that do not fit."""

from __future__ import annotations

import os
import pickle
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from clbench.errors import DataError
from clbench.networks.weights import fitted, read_weights, weights_sha256

RAN: list[str] = []


class Hostile:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return RAN.append, ("code in the pickle",)


class Command:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.system, ("true",)


def module() -> nn.Sequential:
    return nn.Sequential(nn.Linear(3, 2), nn.BatchNorm1d(2))


def weights() -> dict[str, Tensor]:
    return {name: value.clone() for name, value in module().state_dict().items()}


def equal(one: dict[str, Tensor], other: dict[str, Tensor]) -> bool:
    return set(one) == set(other) and all(torch.equal(one[name], other[name]) for name in one)


@pytest.mark.filterwarnings("ignore::FutureWarning")
def test_a_torchscript_program_is_told_from_weights(tmp_path: Path) -> None:
    torch.jit.script(torch.nn.Linear(2, 2)).save(str(tmp_path / "program.pt"))
    with pytest.raises(DataError, match="is a TorchScript program, and was not read"):
        read_weights(tmp_path / "program.pt")


@pytest.mark.parametrize("content", [b"", b"hello world"])
def test_what_is_no_file_of_weights_is_said_without_a_librarys_key(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "w.pt").write_bytes(content)
    with pytest.raises(DataError, match=r"it may be empty, damaged or cut off$"):
        read_weights(tmp_path / "w.pt")


def test_the_same_weights_are_read_from_safetensors_and_from_torchs_own_files(tmp_path: Path) -> None:
    expected = weights()
    save_file(expected, tmp_path / "w.safetensors")
    torch.save(expected, tmp_path / "w.pt")
    torch.save({"epoch": 3, "model_state_dict": expected, "lr": 0.1}, tmp_path / "checkpoint.pt")
    for name in ("w.safetensors", "w.pt", "checkpoint.pt"):
        assert equal(read_weights(tmp_path / name), expected)
    assert weights_sha256(read_weights(tmp_path / "w.pt")) == weights_sha256(expected)


def test_the_hash_depends_on_names_types_shapes_and_values_and_not_on_their_order() -> None:
    one = {"a": torch.ones(2, 3), "b": torch.zeros(2)}
    assert weights_sha256(one) == weights_sha256(dict(reversed(one.items())))
    others = ({**one, "a": torch.ones(3, 2)}, {**one, "a": one["a"].double()}, {"a": one["a"], "c": one["b"]})
    assert len({weights_sha256(each) for each in (one, *others)}) == 4


def test_code_in_a_pickle_is_refused_and_never_run(tmp_path: Path) -> None:
    torch.save({"weight": torch.ones(1), "more": Hostile()}, tmp_path / "hostile.pt")
    (tmp_path / "plain.pkl").write_bytes(pickle.dumps(Hostile()))
    for name in ("hostile.pt", "plain.pkl"):
        with pytest.raises(DataError, match="contains more than weights, and was not read: UnpicklingError"):
            read_weights(tmp_path / name)
    assert RAN == []


def test_a_whole_network_that_was_pickled_is_refused_with_how_to_save_its_weights(tmp_path: Path) -> None:
    torch.save(module(), tmp_path / "model.pt")
    with pytest.raises(DataError, match="more than weights") as refused:
        read_weights(tmp_path / "model.pt")
    assert "state_dict()" in str(refused.value.hint)
    assert "add_safe_globals" not in refused.value.message  # torch's advice, with which no file is read here


@pytest.mark.parametrize("suffix", ["safetensors", "pt"])
@pytest.mark.parametrize("share", [0.0, 0.3, 0.9])
def test_a_file_that_is_cut_off_is_an_error_that_names_it(suffix: str, share: float, tmp_path: Path) -> None:
    path = tmp_path / f"w.{suffix}"
    if suffix == "pt":
        torch.save(weights(), path)
    else:
        save_file(weights(), path)
    content = path.read_bytes()
    path.write_bytes(content[: int(share * len(content))])
    with pytest.raises(DataError, match=path.name):
        read_weights(path)


def test_a_file_without_tensors_and_a_file_that_is_not_there_are_errors(tmp_path: Path) -> None:
    torch.save([1, 2], tmp_path / "list.pt")
    with pytest.raises(DataError, match="no named tensors"):
        read_weights(tmp_path / "list.pt")
    with pytest.raises(DataError, match="there is no weights file"):
        read_weights(tmp_path / "nothing.pt")


@pytest.mark.parametrize("prefix", ["module.", "model.", "backbone.net."])
def test_a_prefix_of_all_names_is_dropped(prefix: str) -> None:
    expected = weights()
    named = {f"{prefix}{name}": value for name, value in expected.items()}
    assert equal(fitted(named, module(), (), "the weights"), expected)


def test_the_weights_of_the_head_that_was_cut_off_are_left_out() -> None:
    expected = weights()
    named = {**expected, "fc.weight": torch.ones(4, 2), "fc.bias": torch.ones(4)}
    assert equal(fitted(named, module(), ["fc"], "the weights"), expected)


def test_missing_surplus_and_misshapen_tensors_are_named_with_their_numbers() -> None:
    named = weights()
    del named["1.bias"]
    named |= {"0.weight": torch.ones(3, 3), "extra.one": torch.ones(1), "extra.two": torch.ones(1)}
    with pytest.raises(DataError) as refused:
        fitted(named, module(), (), "the weights in w.pt")
    said = refused.value.message
    assert "the weights in w.pt do not fit" in said
    assert "1 missing: 1.bias" in said
    assert "2 left over: extra.one, extra.two" in said
    assert "1 of another shape: 0.weight (3, 3) instead of (2, 3)" in said


def test_why_a_pickle_is_refused_is_said_without_advice_to_run_it(tmp_path: Path) -> None:
    torch.save({"more": Command()}, tmp_path / "hostile.pt")
    with pytest.raises(DataError, match=r"more than weights.*system") as refused:
        read_weights(tmp_path / "hostile.pt")
    assert "weights_only" not in str(refused.value)


@pytest.mark.parametrize(
    ("value", "fault"),
    [
        (torch.full((2, 3), float("nan")), "1 with NaN or infinite values: 0.weight"),
        (torch.zeros(2, 3).to_sparse(), "1 sparse, complex, quantized or without values: 0.weight"),
        (torch.zeros(2, 3, dtype=torch.complex64), "1 sparse, complex, quantized or without values: 0.weight"),
        (torch.zeros(2, 3, device="meta"), "1 sparse, complex, quantized or without values: 0.weight"),
    ],
)
def test_tensors_that_are_not_finite_real_numbers_are_named(value: Tensor, fault: str) -> None:
    with pytest.raises(DataError, match=fault) as refused:
        fitted(weights() | {"0.weight": value}, module(), (), "the weights in w.pt")
    assert refused.value.hint is None  # another network would not help


def test_a_buffer_may_be_infinite_as_the_mask_of_an_attention_is() -> None:
    infinite = torch.full((2,), float("inf"))
    assert torch.equal(fitted(weights() | {"1.running_var": infinite}, module(), (), "w")["1.running_var"], infinite)
