"""Networks that clbench has never seen: weights made by plain PyTorch, and lists of classes as people have them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import pytest
import torch
from torch import nn

import clbench
from clbench.deployment.foreign_networks import Foreign, foreign_network, read_classes
from clbench.errors import DataError, MachineError, PluginError, UsageError

OWN = '''
"""A network of somebody's own."""
from torch import nn


class mine(nn.Module):
    def __init__(self, num_classes: int = 7) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Flatten(), nn.Linear(16 * 16 * 3, 32), nn.ReLU())
        self.classifier = nn.Linear(32, num_classes)

    def forward(self, x):
        return self.classifier(self.body(x))
'''
NAMES = [f"digit-{n}" for n in range(7)]


class Mine(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Flatten(), nn.Linear(16 * 16 * 3, 32), nn.ReLU())
        self.classifier = nn.Linear(32, 7)

    def forward(self, x):
        return self.classifier(self.body(x))


def loaded(folder: Path) -> tuple[torch.Tensor, torch.Tensor]:
    """Images as plain PyTorch loads them, (n, 3, 16, 16), normalized by 0.2 and 0.5, and labels."""
    x, y = [], []
    for label, name in enumerate(NAMES):
        for file in sorted((folder / name).glob("*.png")):
            pixels = np.asarray(PIL.Image.open(file).convert("RGB"), dtype=np.float32) / 255
            x.append(torch.from_numpy((pixels - 0.2) / 0.5).permute(2, 0, 1))
            y.append(label)
    return torch.stack(x), torch.tensor(y)


@pytest.fixture(scope="module")
def elsewhere(photos, tmp_path_factory) -> tuple[Path, nn.Module]:
    """A folder with mine.py, weights.pt and classes.txt, and the module."""
    folder = tmp_path_factory.mktemp("elsewhere")
    torch.manual_seed(0)
    module = Mine()
    x, y = loaded(photos.base)
    optimizer = torch.optim.Adam(module.parameters(), 0.01)
    for _ in range(40):
        optimizer.zero_grad()
        nn.functional.cross_entropy(module(x), y).backward()
        optimizer.step()
    (folder / "mine.py").write_text(OWN)
    state = {f"module.{name}": value for name, value in module.state_dict().items()}  # as DataParallel saves it
    torch.save({"epoch": 40, "state_dict": state, "optimizer": optimizer.state_dict()}, folder / "weights.pt")
    (folder / "classes.txt").write_text("\n".join(NAMES) + "\n")
    return folder, module.eval()


def given(folder: Path, **values) -> Foreign:
    usual = {"size": 16, "mean": (0.2, 0.2, 0.2), "std": (0.5, 0.5, 0.5)}
    return Foreign(str(folder / "mine.py"), folder / "weights.pt", folder / "classes.txt", **{**usual, **values})


def test_it_answers_exactly_as_in_plain_pytorch(elsewhere, photos):
    folder, module = elsewhere
    network, assumed = foreign_network(given(folder))
    x, _ = loaded(photos.base_test)
    files = [file for name in NAMES for file in sorted((photos.base_test / name).glob("*.png"))]
    with torch.no_grad():
        ours = network(torch.stack([network.transform(PIL.Image.open(file)) for file in files]))
        assert torch.allclose(ours, module(x), atol=1e-4)
    assert network.classes == tuple(NAMES) and assumed == []


@pytest.mark.slow
def test_it_is_extended_and_taken_away_as_onnx(elsewhere, photos, tmp_path):
    onnxruntime = pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript")
    folder, _ = elsewhere
    out = clbench.extend(
        images=photos.one,
        network=folder / "mine.py",
        weights=folder / "weights.pt",
        classes=folder / "classes.txt",
        size=16,
        mean=[0.2],
        std=[0.5],
        old_test=photos.base_test,
        strategy="lwf_mc",
        set={"network.train": "head"},
        out=tmp_path / "out",
        export="onnx",
        threads=1,
    )
    x, y = loaded(photos.base_test)
    with torch.no_grad():
        right = (elsewhere[1](x).argmax(1) == y).float().mean()
    assert out.result.kept.old_accuracy_before == pytest.approx(float(right), abs=1e-6)  # as many images of each class
    session = onnxruntime.InferenceSession(str(tmp_path / "out" / "network.onnx"))
    pixels = np.stack([np.asarray(PIL.Image.open(file).convert("RGB")) for file in sorted(photos.one.glob("*/*.png"))])
    (scores,) = session.run(None, {"images": pixels})
    assert scores.shape == (40, 8)
    assert json.loads(session.get_modelmeta().custom_metadata_map["classes"]) == [*NAMES, "digit-7"]
    assert (scores.argmax(1) == 7).mean() > 0.5


def test_what_is_assumed_is_said(elsewhere):
    folder, _ = elsewhere
    _, assumed = foreign_network(given(folder, mean=None, std=None))
    assert assumed == ["pixels in 0..1, not normalized (--mean, --std)"]


@pytest.mark.slow
def test_a_torchvision_network_is_taken_with_its_own_head(tmp_path):
    import torchvision

    torch.manual_seed(0)
    module = torchvision.models.resnet18(num_classes=3).eval()
    torch.save(module.state_dict(), tmp_path / "resnet.pt")
    (tmp_path / "classes.json").write_text('["a", "b", "c"]')
    network, assumed = foreign_network(
        Foreign("torchvision:resnet18", tmp_path / "resnet.pt", tmp_path / "classes.json", size=64)
    )
    x = torch.randn(2, 3, 64, 64)
    with torch.no_grad():
        assert torch.allclose(network(x), module(x), atol=1e-4)
    assert assumed == ["pixels normalized as for ImageNet (--mean, --std)"]


def test_a_timm_network_is_taken_with_its_own_head(tmp_path):
    timm = pytest.importorskip("timm")
    torch.manual_seed(0)
    module = timm.create_model("mobilenetv3_small_050", num_classes=3).eval()
    torch.save(module.state_dict(), tmp_path / "mobile.pt")
    (tmp_path / "classes.txt").write_text("a\nb\nc\n")
    network, _ = foreign_network(
        Foreign("timm:mobilenetv3_small_050", tmp_path / "mobile.pt", tmp_path / "classes.txt", size=64)
    )
    x = torch.randn(2, 3, 64, 64)
    with torch.no_grad():
        assert torch.allclose(network(x), module(x), atol=1e-4)


def test_an_empty_name_is_refused_with_the_output_that_has_it(elsewhere, tmp_path):
    folder, _ = elsewhere
    (tmp_path / "classes.txt").write_text("a\n\nc\n")
    with pytest.raises(DataError, match=r"classes.txt: the name of output 1 is empty"):
        foreign_network(Foreign(str(folder / "mine.py"), folder / "weights.pt", tmp_path / "classes.txt", size=16))


def test_too_few_classes_are_refused(elsewhere, tmp_path):
    folder, _ = elsewhere
    (tmp_path / "classes.txt").write_text("a\nb\n")
    with pytest.raises(DataError, match=r"a head with 7 outputs, but .* names 2 classes"):
        foreign_network(Foreign(str(folder / "mine.py"), folder / "weights.pt", tmp_path / "classes.txt", size=16))


def test_a_linear_layer_that_is_not_the_head_is_refused_with_those_that_fit(tmp_path):
    code = (
        "from torch import nn\nclass mine(nn.Sequential):\n    def __init__(self):\n        super().__init__("
        "nn.Flatten(), nn.Linear(48, 16), nn.Linear(16, 16), nn.ReLU(), nn.Linear(16, 4))\n"
    )
    (tmp_path / "mine.py").write_text(code)
    (tmp_path / "classes.txt").write_text("a\nb\nc\nd\n")
    defined: dict[str, Any] = {}
    exec(code, defined)
    torch.save(defined["mine"]().state_dict(), tmp_path / "mine.pt")
    files = str(tmp_path / "mine.py"), tmp_path / "mine.pt", tmp_path / "classes.txt"
    with pytest.raises(UsageError, match=r"--head 2 is not the head: .* outputs 4 values per image") as refused:
        foreign_network(Foreign(*files, head="2", size=4))
    assert refused.value.hint.endswith("Layers with as many outputs: 4.")
    foreign_network(Foreign(*files, head="4", size=4))


def test_weights_of_another_network_are_refused(elsewhere, tmp_path):
    folder, _ = elsewhere
    torch.save(nn.Linear(5, 7).state_dict(), tmp_path / "other.pt")
    with pytest.raises(DataError, match="could be the head"):
        foreign_network(Foreign(str(folder / "mine.py"), tmp_path / "other.pt", folder / "classes.txt", size=16))


def test_the_mean_needs_a_value_for_each_channel(elsewhere):
    folder, _ = elsewhere
    with pytest.raises(UsageError, match=r"--mean must have one value, or one for each channel \(got 2\)"):
        foreign_network(given(folder, mean=(0.5, 0.5)))


def test_a_single_mean_and_deviation_are_those_of_every_channel(elsewhere, tmp_path):
    folder, _ = elsewhere
    network, _ = foreign_network(given(folder, mean=(0.2,), std=(0.5,)))
    assert (network.record.input.mean, network.record.input.std) == ((0.2,) * 3, (0.5,) * 3)
    network, _ = foreign_network(given(folder, mean=(0.2,)))
    assert network.record.input.mean == (0.2,) * 3
    torch.manual_seed(0)
    for channels in (1, 3):  # nothing but the first convolution says how many there are
        module = nn.Sequential(nn.Conv2d(channels, 4, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 2))
        code = f"nn.Conv2d({channels}, 4, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 2)"
        (tmp_path / "small.py").write_text(f"from torch import nn\ndef small():\n    return nn.Sequential({code})\n")
        (tmp_path / "classes.txt").write_text("a\nb\n")
        torch.save(module.state_dict(), tmp_path / "small.pt")
        files = str(tmp_path / "small.py"), tmp_path / "small.pt", tmp_path / "classes.txt"
        for statistics in ({"mean": (0.0,), "std": (1.0,)}, {}):
            network, _ = foreign_network(Foreign(*files, size=8, **statistics))
            assert network.record.input.channels == channels


def test_weights_that_are_not_finite_are_refused_by_name(elsewhere, tmp_path):
    folder, module = elsewhere
    broken = {name: value.clone() for name, value in module.state_dict().items()}
    broken["body.1.bias"][3] = float("nan")
    torch.save(broken, tmp_path / "broken.pt")
    with pytest.raises(DataError, match=r"body\.1\.bias in .*broken\.pt has NaN or infinite values"):
        foreign_network(Foreign(str(folder / "mine.py"), tmp_path / "broken.pt", folder / "classes.txt", size=16))


def test_a_buffer_may_be_infinite_as_the_mask_of_an_attention_but_not_nan(tmp_path):
    (tmp_path / "masked.py").write_text(
        "import torch\nfrom torch import nn\n\n\nclass masked(nn.Sequential):\n    def __init__(self):\n"
        "        super().__init__(nn.Flatten(), nn.Linear(48, 4), nn.Linear(4, 2))\n"
        "        self.register_buffer('mask', torch.tensor([0.0, float('-inf')]))\n"
    )
    (tmp_path / "classes.txt").write_text("a\nb\n")
    defined: dict[str, Any] = {}
    exec((tmp_path / "masked.py").read_text(), defined)
    state = defined["masked"]().state_dict()
    torch.save(state, tmp_path / "masked.pt")
    files = str(tmp_path / "masked.py"), tmp_path / "masked.pt", tmp_path / "classes.txt"
    assert foreign_network(Foreign(*files, size=4))[0].classes == ("a", "b")
    torch.save({**state, "mask": torch.tensor([0.0, float("nan")])}, tmp_path / "masked.pt")
    with pytest.raises(DataError, match=r"mask in .* has NaN or infinite values"):
        foreign_network(Foreign(*files, size=4))


PROCESSED = """
from torch import nn


class mine(nn.Module):
    def __init__(self):
        super().__init__()
        self.body = nn.Sequential(nn.Flatten(), nn.Linear(16 * 16 * 3, 32), nn.ReLU())
        self.classifier = nn.Linear(32, 7)

    def forward(self, x):
        return self.classifier(self.body(x)){}
"""


@pytest.mark.slow
def test_a_head_that_had_to_be_named_is_found_again(elsewhere, photos, tmp_path):
    """What `.float().clone()` returns is no longer the layer's own tensor, so that the layer is not recognized."""
    folder, module = elsewhere
    (tmp_path / "mine.py").write_text(PROCESSED.format(".float().clone()"))
    rest = {"size": 16, "mean": [0.2] * 3, "std": [0.5] * 3, "threads": 1}
    files = {"network": tmp_path / "mine.py", "weights": folder / "weights.pt", "classes": folder / "classes.txt"}
    with pytest.raises(DataError, match="is not that of a linear layer"):
        clbench.extend(images=photos.one, out=tmp_path / "out", **files, **rest)
    one = clbench.extend(images=photos.one, head="classifier", out=tmp_path / "out", **files, **rest)
    x, _ = loaded(photos.base_test)
    with torch.no_grad():
        assert torch.allclose(one.network()(x)[:, :7], module(x), atol=1e-4)
    again = {"also_old": True, "strategy": "naive", "set": {"network.train": "head"}, "threads": 1}
    two = clbench.extend(one, photos.three, network=tmp_path / "mine.py", out=tmp_path / "two", **again)
    assert two.network().classes == (*NAMES, "digit-7", "digit-8", "digit-9")


@pytest.mark.parametrize("processing", [".log_softmax(1)", ".softmax(1)", " * 4", ".relu()"])
def test_a_named_head_whose_output_is_processed_is_refused(elsewhere, tmp_path, processing):
    folder, _ = elsewhere
    (tmp_path / "mine.py").write_text(PROCESSED.format(processing))
    files = str(tmp_path / "mine.py"), folder / "weights.pt", folder / "classes.txt"
    with pytest.raises(PluginError, match="the network's output is not that of 'classifier'"):
        foreign_network(Foreign(*files, head="classifier", size=16))


def test_a_head_that_is_no_linear_layer_is_refused_as_such(tmp_path):
    code = "nn.Conv2d(3, 4, 3), nn.AdaptiveAvgPool2d(1), nn.Conv2d(4, 2, 1), nn.Flatten()"
    (tmp_path / "small.py").write_text(f"from torch import nn\ndef small():\n    return nn.Sequential({code})\n")
    (tmp_path / "classes.txt").write_text("a\nb\n")
    module = nn.Sequential(nn.Conv2d(3, 4, 3), nn.AdaptiveAvgPool2d(1), nn.Conv2d(4, 2, 1), nn.Flatten())
    torch.save(module.state_dict(), tmp_path / "small.pt")
    files = str(tmp_path / "small.py"), tmp_path / "small.pt", tmp_path / "classes.txt"
    with pytest.raises(DataError, match="is not that of a linear layer"):
        foreign_network(Foreign(*files, size=8))
    with pytest.raises(UsageError, match=r"--head 2 is no linear layer: its weight has the shape \(2, 4, 1, 1\)"):
        foreign_network(Foreign(*files, size=8, head="2"))


@pytest.mark.parametrize(
    "name, text, classes",
    [
        ("c.txt", "cat\ndog\n", ("cat", "dog")),
        ("c.txt", "cat\r\ndog\r\n\r\n", ("cat", "dog")),
        ("c.txt", "\ufeffcat\ndog", ("cat", "dog")),
        ("c.json", '["cat", "dog"]', ("cat", "dog")),
        ("c.json", '{"0": "cat", "1": "dog"}', ("cat", "dog")),
        ("c.json", '{"dog": 1, "cat": 0}', ("cat", "dog")),
    ],
)
def test_classes_are_read_as_people_write_them(tmp_path, name, text, classes):
    (tmp_path / name).write_text(text, encoding="utf-8")
    assert read_classes(tmp_path / name) == classes


@pytest.mark.parametrize(
    "name, text",
    [
        ("c.txt", ""),
        ("c.txt", "cat\n\ndog\n"),
        ("c.txt", "cat\ncat\n"),
        ("c.json", '{"a": 1, "b": 2}'),
        ("c.json", "[1]"),
        ("c.json", "{"),
    ],
)
def test_lists_of_classes_that_cannot_be_are_refused(tmp_path, name, text):
    (tmp_path / name).write_text(text)
    with pytest.raises(DataError):
        read_classes(tmp_path / name)


def extend_mine(folder: Path, photos, out: Path, **values) -> clbench.Extended:
    usual = {"network": folder / "mine.py", "classes": folder / "classes.txt"}
    usual |= {"size": 16, "mean": [0.2] * 3, "std": [0.5] * 3}
    return clbench.extend(
        images=photos.one,
        weights=folder / "weights.pt",
        out=out,
        threads=1,
        **{**usual, **values},
    )


@pytest.mark.slow
def test_classes_in_another_order_are_suspected(elsewhere, photos, tmp_path, capsys):
    folder, _ = elsewhere
    extend_mine(folder, photos, tmp_path / "right", old_test=photos.base_test)
    assert "which guessing may reach" not in capsys.readouterr().err
    (tmp_path / "classes.txt").write_text("\n".join(NAMES[1:] + NAMES[:1]))
    extend_mine(folder, photos, tmp_path / "wrong", old_test=photos.base_test, classes=tmp_path / "classes.txt")
    assert "is the order in --classes right" in " ".join(capsys.readouterr().err.split())


@pytest.mark.parametrize(
    ("error", "kind", "said"),
    [
        ("ValueError('too many')", PluginError, "{} failed: ValueError: too many"),
        ("MemoryError()", MachineError, "memory is short: not enough for {}"),
    ],
)
def test_a_network_that_fails_is_said_to_have_failed(elsewhere, photos, tmp_path, error, kind, said):
    folder, _ = elsewhere
    failing = f"    def forward(self, x):\n        if len(x) > 4:\n            raise {error}\n"
    (tmp_path / "mine.py").write_text(OWN.replace("    def forward(self, x):\n", failing))
    with pytest.raises(kind, match=said.format("the training of mine")):
        clbench.train(photos.base, network=tmp_path / "mine.py", size=16, out=tmp_path / "first", threads=1)
    with pytest.raises(kind, match=said.format("the network mine")):
        extend_mine(folder, photos, tmp_path / "out", network=tmp_path / "mine.py")


def test_its_file_is_known_to_what_python_returns(elsewhere, photos, tmp_path):
    folder, _ = elsewhere
    out = extend_mine(folder, photos, tmp_path / "out")
    assert out.network().classes == (*NAMES, "digit-7")
    given = {"also_old": True, "strategy": "naive", "epochs": 1, "threads": 1}
    again = clbench.extend(out, photos.three, out=tmp_path / "two", **given)
    assert again.network().classes == (*NAMES, "digit-7", "digit-8", "digit-9")


@pytest.mark.parametrize(
    "mean, std", [([float("nan"), 0, 0], [1, 1, 1]), ([0, 0, 0], [1, float("inf"), 1]), ([0, 0, 0], [1, 0, 1])]
)
def test_impossible_means_and_deviations_are_refused(elsewhere, photos, tmp_path, mean, std):
    with pytest.raises(UsageError, match="--mean must be finite, and --std also above 0"):
        extend_mine(elsewhere[0], photos, tmp_path / "out", mean=mean, std=std)
