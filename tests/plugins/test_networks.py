"""Networks as plug-ins: what a file must define, how its network is built, and networks of libraries by name."""

from __future__ import annotations

import hashlib
import pickle
from pathlib import Path

import pytest
import torch

from clbench.errors import ClbenchError, PluginError, UsageError
from clbench.plugins.discovery import describe, discover, select
from clbench.plugins.networks import build, network_source

STRANGER = """
import torch
from torch import nn


class Block(nn.Module):
    def __init__(self, inputs, outputs):
        super().__init__()
        self.conv = nn.Conv2d(inputs, outputs, 3, padding=1)
        self.norm = nn.BatchNorm2d(outputs)

    def forward(self, x):
        return torch.relu(self.norm(self.conv(x)))


class Stranger(nn.Module):
    def __init__(self, in_channels=3, num_classes=10):
        super().__init__()
        self.one, self.two = Block(in_channels, 4), Block(4, 6)
        self.fc = nn.Linear(6, num_classes)

    def forward(self, x):
        return self.fc(self.two(self.one(x)).mean((2, 3)))
"""


def written(tmp_path: Path, content: str, name: str = "stranger") -> Path:
    path = tmp_path / f"{name}.py"
    path.write_text(content)
    return path


def test_a_module_of_a_strangers_is_a_network_without_a_line_of_clbench(tmp_path: Path) -> None:
    network = build(str(written(tmp_path, STRANGER)), (8, 8, 1), seed=0)
    assert network.head.features == 6
    assert network.blocks(torch.zeros(2, 1, 8, 8)).shape == (2, 6)
    assert [type(block).__name__ for block in network.blocks] == ["Block", "Block"]


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        ("x = 1", "no function or class that is a network"),
        ("from torch import nn\nclass A(nn.Module): pass\nclass B(nn.Module): pass", "which of A, B is the network"),
        ("def stranger(shape:\n", "SyntaxError in line 1"),
    ],
)
def test_a_file_that_does_not_say_what_its_network_is_is_broken(content: str, problem: str, tmp_path: Path) -> None:
    plugin = describe("network", written(tmp_path, content), "path")
    assert plugin.problem is not None
    assert problem in plugin.problem


@pytest.mark.parametrize(
    ("content", "name"),
    [
        ("import clbench\nclass Stranger: pass\n@clbench.network()\ndef made(): ...", "made"),
        ("class Other: pass\ndef stranger(): ...", "stranger"),
        ("from torch import nn\nclass Other: pass\nclass Net(nn.Module): pass", "Net"),
    ],
)
def test_the_network_is_the_decorated_one_else_the_one_named_like_the_file_else_the_only_module(
    content: str, name: str, tmp_path: Path
) -> None:
    plugin = describe("network", written(tmp_path, content), "path")
    assert (plugin.problem, plugin.class_name) == (None, name)


def test_looking_at_a_network_runs_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "networks").mkdir()
    written(tmp_path / "networks", "raise SystemExit(9)\ndef stranger(): ...")
    monkeypatch.chdir(tmp_path)
    assert "stranger" in {plugin.name for plugin in discover("network")}
    with pytest.raises(PluginError, match="SystemExit"):
        network_source("stranger")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("def stranger(depth): ...", "needs depth, which clbench does not pass"),
        ("def stranger(): return 3", "returns a int, but must return an nn.Module"),
        ("def stranger(): return 1 / 0", "cannot be built: ZeroDivisionError"),
        ("def stranger(): raise SystemExit(0)", "cannot be built: SystemExit: 0"),
        (
            "from torch import nn\nclass A(nn.Module):\n    def forward(self, x): exit(0)\ndef stranger(): return A()",
            "cannot be used: SystemExit: 0",
        ),
        (
            "from torch import nn\ndef stranger(channels): return nn.Conv2d(channels, 2, 3)",
            "must return \\(n, features\\)",
        ),
    ],
)
def test_what_cannot_be_built_is_a_plugin_error_that_says_why(content: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(PluginError, match=message):
        build(str(written(tmp_path, content)), (8, 8, 1), seed=0)


def test_a_networks_hyper_parameters_are_checked_and_only_what_differs_is_kept() -> None:
    source = network_source("mlp")
    assert source.differing({"units": "400"}) == {}
    assert source.differing({"units": "32"}) == {"units": 32}
    with pytest.raises(UsageError, match="units must be"):
        source.config({"units": "0"})
    trunk, features, _ = source.trunk((8, 8, 1), {"units": "32"}, 0, "architecture")
    assert features == 32
    assert len(trunk) == 2


def test_a_built_in_is_identified_by_its_name_and_a_file_of_ones_own_by_its_hash(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert network_source("cnn").sha256 is None
    path = written(tmp_path, STRANGER)
    assert network_source(str(path)).sha256 == hashlib.sha256(STRANGER.encode()).hexdigest()
    copy = select("network", "cnn").path.read_bytes()
    (tmp_path / "networks").mkdir()
    (tmp_path / "networks" / "cnn.py").write_bytes(copy)
    assert network_source("cnn").sha256 is None  # the same bytes are the same network
    (tmp_path / "networks" / "cnn.py").write_bytes(copy + b"\n# changed\n")
    with pytest.raises(UsageError, match="two different files"):
        network_source("cnn")


def test_two_networks_of_one_file_are_of_one_class_and_can_be_pickled(tmp_path: Path) -> None:
    path = str(written(tmp_path, STRANGER))
    first = build(path, (8, 8, 1), seed=0)
    build(path, (8, 8, 1), seed=1)
    again = pickle.loads(pickle.dumps(first))
    x = torch.randn(2, 1, 8, 8)
    assert torch.equal(again.eval().blocks(x), first.eval().blocks(x))


def test_torchvisions_networks_are_known_by_name() -> None:
    source = network_source("torchvision:mobilenet_v3_small")
    assert source.package is not None
    assert source.package.startswith("torchvision ")
    _, features, head = source.trunk((32, 32, 3), {}, 0, "architecture")
    assert (features, head) == (1024, "classifier.3")
    with pytest.raises(
        UsageError, match="torchvision has no network 'mobilnet_v3_small', did you mean torchvision:mob"
    ):
        network_source("torchvision:mobilnet_v3_small")


def test_timms_networks_are_known_by_name() -> None:
    pytest.importorskip("timm", reason="the extra `pretrained` brings timm")
    _, features, head = network_source("timm:resnet18").trunk((32, 32, 3), {}, 0, "architecture")
    assert (features, head) == (512, None)
    vit = network_source("timm:vit_tiny_patch16_224")
    assert (vit.traits.size, vit.traits.channels) == (224, 3)
    assert vit.trunk((32, 32, 3), {}, 0, "architecture")[1] == 192  # built for the size that it is given
    with pytest.raises(UsageError, match="timm has no network 'resnet81', did you mean"):
        network_source("timm:resnet81")


def test_a_tag_that_timm_does_not_have_is_refused_with_those_of_the_architecture() -> None:
    pytest.importorskip("timm", reason="the extra `pretrained` brings timm")
    for name in ("timm:resnet18.a1_in1", "timm:resnet18."):
        with pytest.raises(
            UsageError, match=rf"timm has no network '{name[5:]}', did you mean timm:resnet18\."
        ) as refused:
            network_source(name)
        assert "timm:resnet18.a1_in1k, timm:resnet18.a2_in1k" in str(refused.value.hint)
    assert network_source("timm:resnet18.a1_in1k").traits.pretrained is not None


def test_a_library_that_is_not_installed_is_said_with_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "timm", None)
    for name in ("timm:resnet18", "lite0"):
        with pytest.raises(ClbenchError) as refused:
            build(name, (32, 32, 3), seed=0)
        assert refused.value.exit_code == 4
        assert "clbench[pretrained]" in str(refused.value.hint)


LAZY = """
import torch
from torch import nn


class Lazy(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv, self.hidden, self.fc = nn.LazyConv2d(4, 3), nn.LazyLinear(6), nn.LazyLinear(10)

    def forward(self, x):
        torch.rand(1)
        return self.fc(self.hidden(self.conv(x).flatten(1)))
"""


def test_layers_that_are_lazy_are_drawn_from_the_seed_and_leave_the_global_random_state(tmp_path: Path) -> None:
    path = str(written(tmp_path, LAZY, "lazy"))
    one = build(path, (8, 8, 1), seed=0).state_dict()
    torch.rand(3)
    before = torch.get_rng_state()
    same, other = (build(path, (8, 8, 1), seed).state_dict() for seed in (0, 1))
    assert all(torch.equal(value, same[name]) for name, value in one.items())
    assert not any(torch.equal(value, other[name]) for name, value in one.items())
    assert torch.equal(torch.get_rng_state(), before)
