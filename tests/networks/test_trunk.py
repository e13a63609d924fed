"""Any nn.Module as a trunk: where its head is, what its blocks are, and what is refused."""

from __future__ import annotations

import copy

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from clbench.errors import PluginError
from clbench.networks.network import Network
from clbench.networks.traits import NetworkTraits
from clbench.networks.trunk import OwnParameters, Trunk, as_trunk

SHAPE = (8, 8, 3)


class Classifier(nn.Module):
    """As people write them: a container, a parameter of its own, a projection and a head."""

    def __init__(self) -> None:
        super().__init__()
        self.shift = nn.Parameter(torch.zeros(1))
        self.stages = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ModuleList([nn.BatchNorm2d(4)])[0], nn.ReLU())
        self.project = nn.Linear(4, 6)
        self.fc = nn.Linear(6, 10)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(F.relu(self.project(self.stages(x + self.shift).mean((2, 3)))))


class Softmax(Classifier):
    def forward(self, x: Tensor) -> Tensor:
        return F.log_softmax(super().forward(x), dim=1)


class Embedding(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.last = nn.Linear(192, 5)

    def forward(self, x: Tensor) -> Tensor:
        return self.last(x.flatten(1))


def test_the_linear_layer_that_gives_the_output_is_cut_off_and_the_rest_gives_the_features() -> None:
    module = Classifier().eval()
    x = torch.randn(3, 3, 8, 8)
    with torch.no_grad():
        logits, features = module(x), F.relu(module.project(module.stages(x + module.shift).mean((2, 3))))
    weight, bias = module.fc.weight, module.fc.bias
    trunk, count, head = as_trunk(module, SHAPE, NetworkTraits())
    assert (count, head) == (6, "fc")
    with torch.no_grad():
        assert torch.equal(trunk.eval()(x), features)
        assert torch.allclose(trunk(x) @ weight.T + bias, logits, atol=1e-6)


def test_blocks_are_the_children_with_containers_opened_after_the_parameters_of_the_module_itself() -> None:
    trunk, _, _ = as_trunk(Classifier(), SHAPE, NetworkTraits())
    assert [type(block) for block in trunk] == [OwnParameters, nn.Conv2d, nn.BatchNorm2d, nn.Linear]
    held = {id(parameter) for block in trunk for parameter in block.parameters()}
    assert held == {id(parameter) for parameter in trunk.parameters()}


def test_the_children_of_a_sequential_are_its_blocks() -> None:
    module = nn.Sequential(nn.Sequential(nn.Flatten(), nn.Linear(192, 4), nn.ReLU()), nn.Sequential(nn.ReLU()))
    trunk, features, head = as_trunk(module, SHAPE, NetworkTraits())
    assert trunk is module
    assert (len(trunk), features, head) == (2, 4, None)


def test_a_file_can_say_that_there_is_no_head_and_which_layer_it_is() -> None:
    assert as_trunk(Embedding(), SHAPE, NetworkTraits(head=None))[1:] == (5, None)
    assert as_trunk(Classifier(), SHAPE, NetworkTraits(head="fc"))[1:] == (6, "fc")
    with pytest.raises(PluginError, match="no layer 'classifier'") as refused:
        as_trunk(Classifier(), SHAPE, NetworkTraits(head="classifier"))
    assert "project, fc" in str(refused.value.hint)


def test_a_layer_that_is_not_the_head_is_refused_with_the_one_that_is() -> None:
    with pytest.raises(PluginError, match="does not work without 'project', which is not its head") as refused:
        as_trunk(Classifier(), SHAPE, NetworkTraits(head="project"))
    assert refused.value.hint == "Its head is 'fc'."


def test_a_network_that_ends_with_a_softmax_is_refused() -> None:
    with pytest.raises(PluginError, match="ends with a softmax"):
        as_trunk(Softmax(), SHAPE, NetworkTraits())


@pytest.mark.parametrize(
    ("module", "message"),
    [
        (nn.Sequential(nn.Conv2d(3, 4, 3)), r"returns \(2, 4, 6, 6\) for two images"),
        (nn.Sequential(nn.Flatten(), nn.Linear(100, 4)), "does not accept images of 8×8 px with 3 channels"),
        (nn.Conv2d(1, 4, 3), "does not accept images of 8×8 px with 3 channels"),
    ],
)
def test_what_gives_no_features_is_refused(module: nn.Module, message: str) -> None:
    with pytest.raises(PluginError, match=message):
        as_trunk(module, SHAPE, NetworkTraits())


def test_features_that_are_not_finite_are_refused() -> None:
    module = nn.Sequential(nn.Flatten(), nn.Linear(192, 4), nn.ReLU())
    nn.init.constant_(module[1].weight, float("nan"))
    with pytest.raises(PluginError, match="NaN or infinite"):
        as_trunk(module, SHAPE, NetworkTraits())


def test_a_block_of_a_foreign_module_can_be_frozen_and_is_thawed_again() -> None:
    trunk, features, _ = as_trunk(Classifier(), SHAPE, NetworkTraits())
    network = Network(trunk, features)
    network.head.grow(2, seed=0)
    network.freeze(network.blocks[:2])
    assert not network.trunk_is_frozen
    network(torch.randn(4, 3, 8, 8)).sum().backward()
    with_gradient = {name for name, value in network.blocks.named_parameters() if value.grad is not None}
    assert not any("shift" in name or "stages.0" in name for name in with_gradient)
    assert any("project" in name for name in with_gradient)
    network.freeze(network.blocks)
    assert network.trunk_is_frozen
    network.freeze(())
    assert all(parameter.requires_grad for parameter in network.parameters())


def test_blocks_that_are_held_stay_frozen_whatever_a_strategy_freezes_or_thaws() -> None:
    trunk, features, _ = as_trunk(Classifier(), SHAPE, NetworkTraits())
    network = Network(trunk, features)
    network.hold(network.blocks[:3])
    network.freeze(network.blocks[3:])
    assert network.trunk_is_frozen
    network.freeze(())
    network.train()
    frozen = [name for name, parameter in network.blocks.named_parameters() if not parameter.requires_grad]
    assert {name.partition("module.")[2].partition(".")[0] for name in frozen} == {"shift", "stages"}
    assert not network.blocks[2].training


class WithDropout(Classifier):
    """Dropout that is no block, since it has nothing to train, and a parameter that its author fixed."""

    def __init__(self) -> None:
        super().__init__()
        self.drop = nn.Dropout(0.5)
        self.position = nn.Parameter(torch.ones(1), requires_grad=False)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(self.drop(F.relu(self.project(self.stages(x + self.shift * self.position).mean((2, 3))))))


def test_the_features_of_a_trunk_whose_blocks_are_all_frozen_do_not_change() -> None:
    torch.manual_seed(0)  # with some others all features are 0, dropped or not
    trunk, features, _ = as_trunk(WithDropout(), SHAPE, NetworkTraits())
    network, x = Network(trunk, features).train(), torch.randn(4, 3, 8, 8)
    network.freeze(network.blocks)
    assert torch.equal(network.blocks(x), network.train().blocks(x))
    network.freeze(network.blocks[:1])
    assert trunk.module.drop.training and not torch.equal(network.blocks(x), network.blocks(x))


def test_what_the_author_of_a_network_fixed_stays_so_when_its_block_is_thawed() -> None:
    trunk, features, _ = as_trunk(WithDropout(), SHAPE, NetworkTraits())
    network = Network(trunk, features)
    for copied in (network, copy.deepcopy(network)):
        copied.freeze(copied.blocks)
        assert not any(parameter.requires_grad for parameter in copied.blocks.parameters())
        copied.freeze(())
        still = [name for name, parameter in copied.blocks.named_parameters() if not parameter.requires_grad]
        assert still == ["module.position"]


def test_a_layer_whose_output_is_changed_in_place_is_not_the_head() -> None:
    class InPlace(Embedding):
        def forward(self, x: Tensor) -> Tensor:
            return F.relu(super().forward(x), inplace=True)

    _, features, head = as_trunk(InPlace(), SHAPE, NetworkTraits())
    assert (features, head) == (5, None)


def test_copies_of_a_trunk_share_nothing_and_their_blocks_are_their_own() -> None:
    trunk, _, _ = as_trunk(Classifier(), SHAPE, NetworkTraits())
    other = copy.deepcopy(trunk)
    assert isinstance(other, Trunk)
    held = {id(parameter) for block in other for parameter in block.parameters()}
    assert held == {id(parameter) for parameter in other.parameters()}
    assert not held & {id(parameter) for parameter in trunk.parameters()}


def test_batch_normalisation_of_a_single_value_per_channel_uses_the_running_statistics() -> None:
    """Torch raises for it: with one value there is no variance."""
    norm = nn.BatchNorm2d(2)
    norm.running_mean = torch.tensor([1.0, 2.0])
    norm.running_var = torch.tensor([4.0, 9.0])
    network = Network([norm, nn.Flatten()], features=2).train()
    out = network.blocks(torch.tensor([[[[3.0]], [[-1.0]]]]))
    assert torch.allclose(out, torch.tensor([[1.0, -1.0]]), atol=1e-4)  # (3 - 1) / 2 and (-1 - 2) / 3
    assert torch.equal(norm.running_mean, torch.tensor([1.0, 2.0]))
    assert norm.training
    network.blocks(torch.randn(4, 2, 1, 1))
    assert not torch.equal(norm.running_mean, torch.tensor([1.0, 2.0]))
