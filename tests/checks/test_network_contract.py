"""The contract of a network: what each check finds, and that networks as people write them pass."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from torch import nn

from clbench.checks.network_contract import CHECKS, every_block_can_be_frozen, examine
from clbench.networks.network import Network

HEAD = "import itertools\nimport torch\nfrom torch import nn\n\nCOUNT = itertools.count()\n\n\n"
NET = "class Faulty(nn.Module):\n    def __init__(self, channels):\n        super().__init__()\n"
LAYER = "        self.layer = nn.Linear(64, 4)\n"
FORWARD = "\n    def forward(self, x):\n        x = x.flatten(1)\n"

FAULTY = {
    "one_network_that_is_built": HEAD + NET + LAYER + FORWARD + "        return x[0]\n",
    "the_same_seed_gives_the_same_weights": HEAD
    + NET
    + LAYER
    + "        nn.init.constant_(self.layer.bias, float(next(COUNT)))\n"
    + FORWARD
    + "        return torch.relu(self.layer(x))\n",
    "features_do_not_depend_on_batch_mates": HEAD
    + NET
    + LAYER
    + FORWARD
    + "        return torch.relu(self.layer(x - x.mean(0)))\n",
    "evaluation_changes_nothing": HEAD
    + NET
    + LAYER
    + FORWARD
    + "        return nn.functional.dropout(torch.relu(self.layer(x)), 0.5)\n",
    "every_block_can_be_frozen": HEAD
    + NET
    + LAYER
    + "        self.layer.register_buffer('seen', torch.zeros(1))\n"
    + FORWARD
    + "        self.layer.seen += 1\n        return torch.relu(self.layer(x))\n",
    "copies_and_pickles": HEAD + NET + LAYER + "        self.act = lambda x: x.relu()\n" + FORWARD
    + "        return self.act(self.layer(x))\n",
    "a_worker_process_gives_the_same_weights": HEAD
    + "import os\n\n\n"
    + NET
    + LAYER
    + "        nn.init.constant_(self.layer.bias, (os.getpid() % 1000) / 1000)\n"
    + FORWARD
    + "        return torch.relu(self.layer(x))\n",
}  # fmt: skip

ALSO_FOUND_BY = {
    "the_same_seed_gives_the_same_weights": ["a_worker_process_gives_the_same_weights"],
    "evaluation_changes_nothing": [
        "the_same_seed_gives_the_same_weights",  # the probe draws from the global generator
        "features_do_not_depend_on_batch_mates",
        "copies_and_pickles",
    ],
    "every_block_can_be_frozen": ["evaluation_changes_nothing"],
    "copies_and_pickles": ["a_worker_process_gives_the_same_weights"],
}


def failed(content: str, tmp_path: Path) -> list[str]:
    path = tmp_path / "faulty.py"
    path.write_text(content)
    return [result.check for result in examine(str(path)) if result.status == "failed" and result.found]


@pytest.mark.slow
@pytest.mark.parametrize("check", sorted(FAULTY))
def test_a_fault_of_a_network_is_found_by_its_check(check: str, tmp_path: Path) -> None:
    torch.manual_seed(0)  # of a few features, two draws of dropout may be alike
    found = failed(FAULTY[check], tmp_path)
    assert check in found
    assert set(found) <= {check, *ALSO_FOUND_BY.get(check, ())}


@pytest.mark.slow
@pytest.mark.parametrize("norm", ["nn.Identity()", "nn.BatchNorm1d(4)"])
def test_a_trunk_without_gradients_is_found_also_if_its_statistics_change(norm: str, tmp_path: Path) -> None:
    trunk = NET + LAYER + f"        self.norm = {norm}\n" + FORWARD
    trunk += "        with torch.no_grad():\n            return torch.relu(self.norm(self.layer(x)))\n"
    assert failed(HEAD + trunk, tmp_path) == ["every_block_can_be_frozen"]


def test_a_last_block_that_has_nothing_to_learn_is_no_fault() -> None:
    trunk = nn.Sequential(nn.Flatten(), nn.Linear(64, 4), nn.Tanh())
    network = Network(trunk, 4)
    network.head.grow(4, 0)
    bench = SimpleNamespace(network=lambda: network, images=lambda count: torch.rand(count, 1, 8, 8))
    assert list(network.blocks)[-1] is trunk[-1]
    every_block_can_be_frozen(bench)  # type: ignore[arg-type]


def test_every_fault_has_a_check_and_every_check_a_sentence() -> None:
    assert {check.__name__ for check in CHECKS} == set(FAULTY)
    assert all(check.__doc__ and check.__doc__.endswith(".") for check in CHECKS)


@pytest.mark.parametrize(
    "name",
    [
        "mlp",
        pytest.param("cnn", marks=pytest.mark.slow),
        pytest.param("torchvision:mobilenet_v2", marks=pytest.mark.slow),
    ],
)
def test_networks_as_people_have_them_pass(name: str) -> None:
    results = list(examine(name))
    assert [result.check for result in results if result.status != "passed"] == []
    assert len(results) == len(CHECKS)
