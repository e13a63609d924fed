"""The networks: their sizes, the growing head, freezing, and weights that come from a seed alone."""

from __future__ import annotations

import copy
import random
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from clbench.networks.head import Head
from clbench.networks.network import Network
from clbench.plugins.discovery import builtin_folder, select
from clbench.plugins.loading import load
from clbench.plugins.networks import build, network_source

BUILT_IN = ("mlp", "cnn", "resnet18", "resnet32", "resnet32b")


def parameters(model: nn.Module) -> int:
    return sum(parameter.numel() for parameter in model.parameters())


def network(name: str = "cnn", shape: tuple[int, int, int] = (8, 8, 3), classes: tuple[int, ...] = (2, 1)) -> Network:
    made = build(name, shape, seed=0)
    for index, count in enumerate(classes):
        made.head.grow(count, seed=index)
    return made


def buffers(module: nn.Module) -> list[Tensor]:
    return [buffer.clone() for buffer in module.buffers()]


def equal(one: list[Tensor], other: list[Tensor]) -> bool:
    return all(torch.equal(a, b) for a, b in zip(one, other, strict=True))


def random_states() -> list[Any]:
    return [random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state().tolist()]


@pytest.mark.parametrize(
    ("name", "shape", "expected"),
    [
        ("mlp", (28, 28, 1), (784 + 1) * 400 + (400 + 1) * 400 + (400 + 1) * 10),
        ("mlp", (8, 8, 3), (192 + 1) * 400 + (400 + 1) * 400 + (400 + 1) * 10),
        ("cnn", (32, 32, 3), 9 * (3 * 32 + 32 * 64 + 64 * 128) + 2 * (32 + 64 + 128) + (128 + 1) * 10),
        ("resnet32", (32, 32, 3), 464_154),  # option A with batch normalisation, as in the literature: 0.46 million
        ("resnet18", (32, 32, 3), 11_173_962),  # with the 3x3 stem, as in the literature: 11.17 million
    ],
)
def test_the_networks_have_as_many_parameters_as_published(
    name: str, shape: tuple[int, int, int], expected: int
) -> None:
    assert parameters(network(name, shape, (2, 8))) == expected


def test_the_batch_normalised_mlp_has_no_biases_and_the_epsilon_of_gdumbs_code() -> None:
    trunk, features, _ = network_source("mlp").trunk((28, 28, 1), {"units": 100, "batch_norm": True}, 0, "architecture")
    model = Network(trunk, features)
    assert sum(p.numel() for p in model.blocks.parameters()) == (784 + 2) * 100 + (100 + 2) * 100
    norms = [layer for layer in model.blocks.modules() if isinstance(layer, nn.BatchNorm1d)]
    assert [norm.eps for norm in norms] == [1e-6, 1e-6]
    found = model.train().blocks(torch.rand(64, 1, 28, 28))
    assert found.shape == (64, 100) and (found >= 0).all()
    assert 0.3 < float((found > 0).float().mean()) < 0.7  # each unit's inputs have mean 0


@pytest.mark.parametrize(("name", "features"), [("mlp", 400), ("cnn", 128), ("resnet32", 64), ("resnet18", 512)])
def test_the_trunk_gives_a_vector_of_features_and_the_head_a_column_per_class(name: str, features: int) -> None:
    model = network(name, (32, 32, 3), (2, 1)).eval()
    with torch.no_grad():
        images = torch.zeros(2, 3, 32, 32)
        assert model.blocks(images).shape == (2, features)
        assert model(images).shape == (2, 3)


def test_resnet32_halves_the_image_twice_over_its_31_convolutions() -> None:
    """6n + 2 layers for n = 5: 31 convolutions and the head; 32x32, 16x16 and 8x8 pixels."""
    model, sizes = network("resnet32", (32, 32, 3)).eval(), []
    for convolution in (module for module in model.modules() if isinstance(module, nn.Conv2d)):
        convolution.register_forward_hook(lambda module, inputs, output: sizes.append(output.shape[-1]))
    with torch.no_grad():
        model(torch.zeros(1, 3, 32, 32))
    assert sizes == [32] * 11 + [16] * 10 + [8] * 10


# The head


def test_growing_keeps_the_rows_so_far_bit_for_bit() -> None:
    head = Head(7)
    head.grow(3, seed=1)
    for count, seed in ((2, 2), (1, 3)):
        weight, bias = head.weight.detach().clone(), head.bias.detach().clone()
        head.grow(count, seed)
        assert torch.equal(head.weight[: len(bias)], weight)
        assert torch.equal(head.bias[: len(bias)], bias)
    assert head.classes == 6
    assert head.weight.shape == (6, 7)


def test_old_holds_the_rows_of_earlier_experiences_and_new_those_of_the_current_one() -> None:
    head = Head(7)
    head.grow(3, seed=1)
    assert head.old is None
    head.grow(2, seed=2)
    head.grow(1, seed=3)
    assert head.old is not None
    assert head.new is not None
    assert (head.old.out_features, head.new.out_features) == (5, 1)
    assert all(parameter.requires_grad for parameter in head.parameters())


def test_new_rows_are_uniform_between_plus_and_minus_one_over_the_root_of_the_features() -> None:
    head = Head(16)
    head.grow(4000, seed=0)
    for drawn in (head.weight, head.bias):
        assert drawn.abs().max() <= 1 / 4
        histogram = torch.histc(drawn.detach(), bins=10, min=-1 / 4, max=1 / 4) / drawn.numel()
        assert histogram.sub(0.1).abs().max() < 0.025  # five standard deviations of a bin of 4000 draws


@pytest.mark.parametrize("fixed", [False, True])
def test_with_lecuns_initialization_rows_are_uniform_with_variance_one_over_the_features_and_biases_zero(
    fixed: bool,
) -> None:
    """SimpleLinear.reset_parameters, G-U-N/PyCIL at 87cc411, convs/linears.py lines 27 to 29."""
    head = Head(12)
    head.initialization = "lecun"
    head.fix(4000, seed=0) if fixed else head.grow(4000, seed=0)
    assert not head.bias.any()
    histogram = torch.histc(head.weight.detach(), bins=10, min=-1 / 2, max=1 / 2) / head.weight.numel()
    assert head.weight.abs().max() <= 1 / 2 and histogram.sub(0.1).abs().max() < 0.025
    assert head.weight.var().item() == pytest.approx(1 / 12, rel=0.03)


def test_a_truncated_normal_initialization_has_no_weight_beyond_two_standard_deviations_and_biases_of_a_tenth() -> None:
    """A normal distribution cut off at ±2σ has variance (1 - 4φ(2) / (2Φ(2) - 1))·σ² = 0.7737·σ², here σ = 0.1."""
    trunk = build("mlp", (28, 28, 1), 0, initialization="truncated_normal")
    drawn = [part for part in trunk.modules() if isinstance(part, nn.Linear)]
    head = Head(400)
    head.initialization = "truncated_normal"
    head.grow(400, seed=0)
    assert len(drawn) == 2
    for layer in (*drawn, head):
        assert layer.bias.unique().tolist() == pytest.approx([0.1])
        assert layer.weight.abs().max() <= 0.2
        assert layer.weight.var().item() == pytest.approx(0.007737, rel=0.02)
    other = build("mlp", (28, 28, 1), 1, initialization="truncated_normal")
    assert not torch.equal(other.blocks[0][1].weight, trunk.blocks[0][1].weight)  # type: ignore[index]


def test_xaviers_initialization_is_uniform_by_inputs_and_outputs_and_has_no_biases() -> None:
    """Glorot & Bengio 2010, equation 16, and xavier of aimagelab/mammoth at 7ab9db9, backbone/__init__.py."""
    trunk = build("mlp", (28, 28, 1), 0, initialization="xavier_uniform")
    drawn = [part for part in trunk.modules() if isinstance(part, nn.Linear)]
    head = Head(400)
    head.initialization = "xavier_uniform"
    head.grow(10, seed=0)
    for layer, inputs, outputs in ((drawn[0], 784, 400), (drawn[1], 400, 400), (head, 400, 10)):
        assert not layer.bias.any()
        assert layer.weight.abs().max().item() == pytest.approx((6 / (inputs + outputs)) ** 0.5, rel=0.01)
        assert layer.weight.var().item() == pytest.approx(2 / (inputs + outputs), rel=0.05)


@pytest.mark.slow
def test_torchs_initialization_of_resnet18_is_uniform_by_the_inputs_of_each_convolution() -> None:
    """aimagelab/mammoth at e75a491, backbone/ResNetBlock.py, which initializes nothing by itself."""
    own, torchs = (build("resnet18", (32, 32, 3), 0, initialization=name) for name in ("architecture", "torch"))  # type: ignore[arg-type]
    for mine, theirs in zip(own.modules(), torchs.modules(), strict=True):
        if isinstance(theirs, nn.Conv2d) and isinstance(mine, nn.Conv2d):
            inputs = theirs.weight[0].numel()
            assert theirs.weight.abs().max() <= inputs**-0.5
            assert theirs.weight.var().item() == pytest.approx(1 / (3 * inputs), rel=0.1)
            if theirs.in_channels == theirs.out_channels:  # He's variance by fan-out is 2/n, six times 1/3n
                assert (mine.weight.var() / theirs.weight.var()).item() == pytest.approx(6, rel=0.1)


def test_the_recipe_after_mammoths_code_trains_a_resnet18_as_torch_draws_it() -> None:
    recipe = load(select("scenario", str(builtin_folder("scenario") / "splitcifar10.py"))).recipes["der2020"]
    assert (recipe.network, recipe.initialization) == ("resnet18", "torch")


def test_new_rows_depend_on_the_seed_alone() -> None:
    heads = [Head(5) for _ in range(3)]
    torch.manual_seed(1)
    heads[0].grow(2, seed=4)
    torch.manual_seed(2)
    heads[1].grow(1, seed=3)
    heads[1].grow(2, seed=4)
    heads[2].grow(2, seed=5)
    rows = [head.new for head in heads]
    assert rows[0] is not None
    assert rows[1] is not None
    assert rows[2] is not None
    assert torch.equal(rows[0].weight, rows[1].weight)
    assert torch.equal(rows[0].bias, rows[1].bias)
    assert not torch.equal(rows[0].weight, rows[2].weight)


def test_the_output_is_that_of_one_linear_layer_of_all_rows() -> None:
    head, features = Head(7), torch.randn(4, 7, generator=torch.Generator().manual_seed(0))
    for count in (3, 2, 1):
        head.grow(count, seed=count)
        expected = features.double() @ head.weight.double().T + head.bias.double()
        torch.testing.assert_close(head(features).double(), expected, rtol=0, atol=1e-6)


def test_gradients_reach_old_and_new_rows() -> None:
    head = Head(7)
    head.grow(3, seed=1)
    head.grow(2, seed=2)
    head(torch.ones(4, 7)).sum().backward()
    assert all(parameter.grad is not None and (parameter.grad == 4).all() for parameter in head.parameters())


# Freezing


def test_frozen_parameters_get_no_gradient_and_the_others_do() -> None:
    model = network()
    model.freeze([model.blocks[0], model.head.old])
    model(torch.randn(4, 3, 8, 8)).sum().backward()
    with_gradient = {name for name, parameter in model.named_parameters() if parameter.grad is not None}
    expected = {name for name, _ in model.named_parameters() if not name.startswith(("blocks.0", "head.old"))}
    assert with_gradient == expected


def test_the_running_statistics_of_frozen_blocks_do_not_move_whatever_train_says() -> None:
    model = network()
    model.freeze([model.blocks[0]])
    model.train()
    frozen, free = buffers(model.blocks[0]), buffers(model.blocks[1])
    model(torch.randn(4, 3, 8, 8))
    assert len(frozen) == 3  # running mean, running variance, number of batches
    assert equal(buffers(model.blocks[0]), frozen)
    assert not equal(buffers(model.blocks[1]), free)


def test_what_is_no_longer_frozen_trains_again() -> None:
    model = network().train()
    model.freeze([model.blocks[0], model.blocks[1]])
    model.freeze([model.blocks[1]])
    assert all(parameter.requires_grad for parameter in model.blocks[0].parameters())
    assert all(module.training for module in model.blocks[0].modules())
    assert not any(parameter.requires_grad for parameter in model.blocks[1].parameters())
    assert not any(module.training for module in model.blocks[1].modules())
    model.freeze(())
    assert all(parameter.requires_grad for parameter in model.parameters())
    assert all(module.training for module in model.modules())


def test_freezing_and_unfreezing_leave_a_network_in_evaluation_mode_there() -> None:
    model = network().eval()
    model.freeze([model.blocks[0]])
    model.freeze(())
    assert not any(module.training for module in model.modules())


def test_the_trunk_is_frozen_when_every_block_is() -> None:
    model = network()
    assert not model.trunk_is_frozen
    for frozen, expected in (
        ([*model.blocks], True),
        ([model.blocks], True),
        ([*model.blocks, model.head.old], True),
        ([*model.blocks][:-1], False),
        ([model.head], False),
        ([block[0] for block in model.blocks], False),
        ([], False),
    ):
        model.freeze(frozen)
        assert model.trunk_is_frozen == expected


def test_a_copy_of_a_frozen_network_is_frozen_on_its_own() -> None:
    model = network()
    model.freeze([model.blocks[0]])
    twin = copy.deepcopy(model)
    model.freeze(())
    twin.train()
    assert not twin.blocks[0].training
    assert model.blocks[0].training
    twin.freeze([*twin.blocks])
    assert twin.trunk_is_frozen
    assert not model.trunk_is_frozen
    assert all(parameter.requires_grad for parameter in model.parameters())


# Seeds


@pytest.mark.parametrize("name", BUILT_IN)
def test_the_same_seed_gives_the_same_weights_whatever_was_drawn_before(name: str) -> None:
    one = build(name, (32, 32, 3), seed=3).state_dict()
    torch.rand(5)
    again, other = (build(name, (32, 32, 3), seed=seed).state_dict() for seed in (3, 4))
    assert all(torch.equal(one[key], again[key]) for key in one)
    assert any(not torch.equal(one[key], other[key]) for key in one)


@pytest.mark.parametrize("name", BUILT_IN)
def test_building_and_growing_leave_the_global_random_states_alone(name: str) -> None:
    before = random_states()
    build(name, (32, 32, 3), seed=3).head.grow(2, seed=1)
    assert random_states() == before


def test_layers_are_drawn_in_the_order_of_the_reference_runs() -> None:
    """A seed gives the weights that it gave when the runs in results/reference were made."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(7)
        last, first, second = (nn.Conv2d(*size, 3, bias=False) for size in ((64, 128), (3, 32), (32, 64)))
        torch.manual_seed(7)
        hidden = nn.Linear(192, 400), nn.Linear(400, 400)
    cnn, mlp = build("cnn", (32, 32, 3), seed=7), build("mlp", (8, 8, 3), seed=7)
    drawn = [weight for weight in cnn.blocks.parameters() if weight.dim() == 4]
    assert [torch.equal(ours, conv.weight) for ours, conv in zip(drawn, (first, second, last), strict=True)] == [
        True
    ] * 3
    layers = [part for part in mlp.blocks.modules() if isinstance(part, nn.Linear)]
    assert [torch.equal(ours.weight, layer.weight) for ours, layer in zip(layers, hidden, strict=True)] == [True] * 2
