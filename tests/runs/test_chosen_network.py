"""The network of a run as the user chooses it: what of it identifies the run, and what is refused before training."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from clbench.base.events import Event, Note
from clbench.errors import ClbenchError, DataError, PluginError, UsageError
from clbench.plugins.networks import network_source
from clbench.results.run_spec import NetworkSpec, RunSpec, run_id
from clbench.runs.initial_network import frozen_trunk, initial_network
from clbench.runs.planned_runs import Planned, plan
from clbench.runs.request import Request

DIGITS = (8, 8, 1)
NARROW = """
import clbench
from torch import nn

@clbench.network(size=12, channels=3, mean=(0.5, 0.4, 0.3), std=(0.1, 0.2, 0.4))
def narrow(shape, width: int = 4):
    assert shape == (12, 12, 3)
    return nn.Sequential(nn.Conv2d(3, width, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten())
"""

TWICE = """
from torch import nn

class Twice(nn.Module):
    def __init__(self):
        super().__init__()
        self.backbone = nn.Sequential(nn.Flatten(), nn.Linear(64, 4), nn.ReLU())
        self.layers = nn.Sequential(*self.backbone.children())

    def forward(self, x):
        return self.layers(x)
"""

AUXILIARY = """
from torch import nn

class Auxiliary(nn.Module):
    def __init__(self):
        super().__init__()
        self.norm, self.layer, self.drop = nn.BatchNorm2d(1), nn.Linear(64, 4), nn.Dropout()

    def forward(self, x):
        x = self.drop(self.layer(self.norm(x).flatten(1)).relu())
        return (x, x) if self.training and {more} else x
"""


def planned(data: Path, **given: Any) -> list[Planned]:
    asked = {"strategy": "naive", "scenario": "splitdigits", "device": "cpu", "data": data, **given}
    return plan(Request.from_python(asked), lambda event: None)


def spec_of(data: Path, **given: Any) -> RunSpec:
    return planned(data, **given)[0].spec


def refused(data: Path, **given: Any) -> ClbenchError:
    with pytest.raises(ClbenchError) as raised:
        planned(data, **given)
    return raised.value


def weights_file(path: Path, seed: int = 3) -> Path:
    trunk, _, _ = network_source("mlp").trunk(DIGITS, {}, seed, "architecture")
    save_file(trunk.state_dict(), path)
    return path


# -- what identifies a run --------------------------------------------------------------------------------------------


def test_the_recipes_own_network_is_the_same_run_however_it_is_named(data: Path) -> None:
    expected = run_id(spec_of(data))
    assert run_id(spec_of(data, network="mlp")) == expected
    assert run_id(spec_of(data, set={"recipe.network": "mlp"})) == expected
    assert run_id(spec_of(data, set={"network.units": 400})) == expected  # its default


@pytest.mark.parametrize(("value", "text"), [(32, "32"), ("tanh", "tanh"), (True, "true")])
def test_a_value_from_python_is_the_same_run_as_from_the_command_line(data: Path, value: Any, text: str) -> None:
    name = {32: "network.units", "tanh": "network.activation"}.get(value, "network.batch_norm")
    assert run_id(spec_of(data, set={name: value})) == run_id(spec_of(data, set={name: text}))


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ({"network.width": "2"}, {"network.width": "2.0"}),
        ({"network.width": 2.0}, {"network.width": "02"}),
        ({"network.width": "1"}, {}),
        ({"network.train": "all"}, {}),
        ({"network.size": "none"}, {}),
    ],
)
def test_equal_settings_of_a_network_are_the_same_run_however_they_are_typed(
    data: Path, one: dict[str, Any], other: dict[str, Any]
) -> None:
    assert run_id(spec_of(data, network="cnn", set=one)) == run_id(spec_of(data, network="cnn", set=other))


def test_settings_of_a_network_are_the_same_run_in_any_order(data: Path) -> None:
    one, other = {"network.units": 32, "network.layers": 1}, {"network.layers": 1, "network.units": 32}
    assert run_id(spec_of(data, set=one)) == run_id(spec_of(data, set=other))


def test_what_a_recipe_says_of_its_network_is_what_a_setting_is_compared_with(data: Path, tmp_path: Path) -> None:
    (tmp_path / "narrow.py").write_text(
        "import clbench\nclass Narrow(clbench.Scenario):\n    dataset, split = 'digits', '5'\n"
        "    recipes = {'quick': clbench.Recipe(network_config={'units': 100, 'train': 'head', 'size': 12})}\n"
    )

    def changes(**values: Any) -> dict[str, Any]:
        given = {f"network.{name}": value for name, value in values.items()}
        return dict(spec_of(data, scenario=tmp_path / "narrow.py", set=given).recipe.changes)

    assert changes(units="100", train="head", size="12") == {}
    assert changes(units=400, train="all", size=None) == {
        "network.units": "400",
        "network.train": "all",
        "network.size": None,
    }


@pytest.mark.parametrize(
    "given",
    [
        {"network": "cnn"},
        {"set": {"network.units": 32}},
        {"set": {"network.train": "head"}},
        {"set": {"network.train": 1}},
        {"set": {"network.size": 16}},
    ],
)
def test_what_changes_the_network_changes_the_run_and_is_said_in_its_name(given: dict[str, Any], data: Path) -> None:
    plain, other = planned(data)[0], planned(data, **given)[0]
    assert run_id(other.spec) != run_id(plain.spec)
    assert other.name.rpartition("-")[0] != plain.name.rpartition("-")[0]


def test_a_users_file_is_in_the_spec_by_its_hash_and_a_built_in_by_its_name(data: Path, tmp_path: Path) -> None:
    path = tmp_path / "narrow.py"
    path.write_text(NARROW)
    (run,) = planned(data, network=path)
    assert run.network == path
    assert run.spec.network.sha256 is not None
    assert (run.spec.network.size, run.spec.network.channels, run.spec.network.mean) == (12, 3, (0.5, 0.4, 0.3))
    (own,) = planned(data, network="cnn")
    assert (own.network, own.spec.network.sha256) == (None, None)


def test_weights_are_identified_by_their_content_whatever_file_they_are_in(data: Path, tmp_path: Path) -> None:
    first = weights_file(tmp_path / "first.safetensors")
    torch.save({"module." + name: value for name, value in _loaded(first).items()}, tmp_path / "second.pt")
    one, other = (spec_of(data, weights=path).network for path in (first, tmp_path / "second.pt"))
    assert one.weights_sha256 == other.weights_sha256 is not None
    third = spec_of(data, weights=weights_file(tmp_path / "third.safetensors", seed=4)).network
    assert third.weights_sha256 != one.weights_sha256


def _loaded(path: Path) -> dict[str, torch.Tensor]:
    from safetensors.torch import load_file

    return load_file(path)


@pytest.mark.slow
def test_a_recipe_can_set_the_hyper_parameters_of_its_network_and_the_user_others(data: Path, tmp_path: Path) -> None:
    (tmp_path / "narrow.py").write_text(
        "import clbench\nclass Narrow(clbench.Scenario):\n    dataset, split = 'digits', '5'\n"
        "    recipes = {'quick': clbench.Recipe(network_config={'units': 100, 'layers': 3, 'activation': 'tanh'})}\n"
    )

    def config(**given: Any) -> dict[str, Any]:
        return spec_of(data, scenario=tmp_path / "narrow.py", **given).network.config

    assert config() == {"units": 100, "layers": 3, "activation": "tanh"}
    assert config(set={"network.units": 50}) == {"units": 50, "layers": 3, "activation": "tanh"}
    assert config(network="cnn") == {}
    network = initial_network(spec_of(data, scenario=tmp_path / "narrow.py"), DIGITS, data)
    shapes = [tuple(weight.shape) for weight in network.blocks.parameters() if weight.dim() == 2]
    assert shapes == [(100, 64), (100, 100), (100, 100)]
    assert sum(isinstance(part, torch.nn.Tanh) for part in network.modules()) == 3


# -- the network that a run starts from -------------------------------------------------------------------------------


def test_a_run_starts_from_the_weights_that_were_given(data: Path, tmp_path: Path) -> None:
    path = weights_file(tmp_path / "w.safetensors")
    spec = spec_of(data, weights=path)
    path.unlink()  # the run takes them from the data folder
    network = initial_network(spec, DIGITS, data)
    trunk, _, _ = network_source("mlp").trunk(DIGITS, {}, 3, "architecture")
    assert all(
        torch.equal(ours, theirs) for ours, theirs in zip(network.blocks.parameters(), trunk.parameters(), strict=True)
    )


def test_a_run_starts_from_weights_that_its_network_has_under_two_names(data: Path, tmp_path: Path) -> None:
    file = tmp_path / "twice.py"
    file.write_text(TWICE)
    trunk, _, _ = network_source(str(file)).trunk(DIGITS, {}, 3, "architecture")
    torch.save(trunk.module.state_dict(), tmp_path / "w.pt")  # type: ignore[union-attr]
    spec = spec_of(data, network=file, weights=tmp_path / "w.pt")
    module = initial_network(spec, DIGITS, data, file).blocks.module
    assert module.backbone[1].weight is module.layers[1].weight
    assert torch.equal(module.layers[1].weight, trunk.module.layers[1].weight)  # type: ignore[union-attr]


@pytest.mark.parametrize("name", ["resnet18", "mobilenetv3_small_050", "convnext_atto", "levit_128s"])
def test_a_run_starts_from_an_ordinary_checkpoint_of_timms_without_its_classifier(
    name: str, data: Path, tmp_path: Path
) -> None:
    timm = pytest.importorskip("timm", reason="the extra `pretrained` brings timm")
    module = timm.create_model(name, num_classes=7)
    torch.save({"state_dict": module.state_dict()}, tmp_path / "checkpoint.pt")
    asked = {"network": f"timm:{name}", "set": {"network.size": 224 if name == "levit_128s" else 32}}
    spec = spec_of(data, weights=tmp_path / "checkpoint.pt", **asked)
    size = (spec.network.size, spec.network.size, 1)
    initial = initial_network(spec, size, data).blocks.module.state_dict()
    assert initial and all(torch.equal(value, module.state_dict()[name]) for name, value in initial.items())


def test_pretrained_weights_that_cannot_be_fetched_are_said_with_what_a_file_needs_besides(
    data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import torchvision

    def unreachable(self: Any, **given: Any) -> Any:
        raise OSError("no connection")

    monkeypatch.setattr(torchvision.models.ResNet18_Weights, "get_state_dict", unreachable)
    error = refused(data, network="torchvision:resnet18", weights="pretrained")
    assert "the pretrained weights of torchvision:resnet18 cannot be fetched (OSError: no connection)" in error.message
    assert "--weights FILE --set network.size=224" in str(error.hint)
    assert "@clbench.network(mean=…, std=…)" in str(error.hint)


@pytest.mark.parametrize(
    ("name", "size"), [("googlenet", 32), pytest.param("inception_v3", 80, marks=pytest.mark.slow)]
)
def test_googlenet_and_inception_get_images_as_in_pretraining_and_have_no_auxiliary_classifiers(
    name: str, size: int, data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from torchvision import models

    values = models.get_model(name, weights=None, init_weights=False).state_dict()
    weights = models.get_model_weights(name)
    monkeypatch.setattr(weights, "get_state_dict", lambda self, **given: values)
    theirs = models.get_model(name, weights="DEFAULT").eval()
    theirs.fc = torch.nn.Identity()
    spec = spec_of(data, network=f"torchvision:{name}", weights="pretrained", set={"network.size": size})
    assert spec.network.mean == tuple(weights.DEFAULT.transforms().mean)
    ours = initial_network(spec, DIGITS, data).blocks
    x = torch.randn(2, 3, size, size)
    with torch.no_grad():
        features, expected = ours.eval()(x), theirs(x)
    assert (features - expected).abs().max() < 1e-3 * expected.abs().max()  # which may be tiny
    assert isinstance(ours.train()(x), torch.Tensor)
    assert not [part for part in ours.state_dict() if "aux" in part.lower()]


def test_given_weights_that_are_gone_or_damaged_are_an_error_before_training(data: Path, tmp_path: Path) -> None:
    spec = spec_of(data, weights=weights_file(tmp_path / "w.safetensors", seed=8))
    kept = data / "weights" / f"{spec.network.weights_sha256}.safetensors"
    content = kept.read_bytes()
    kept.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    with pytest.raises(DataError, match="damaged"):
        initial_network(spec, DIGITS, data)
    kept.unlink()
    with pytest.raises(DataError, match=r"no longer in "):
        initial_network(spec, DIGITS, data)


def test_so_many_blocks_from_the_head_train_and_the_others_stay_frozen(data: Path) -> None:
    network = initial_network(spec_of(data, network="resnet32", set={"network.train": 2}), DIGITS, data)
    trains = [any(parameter.requires_grad for parameter in block.parameters()) for block in network.blocks]
    assert trains == [False] * 14 + [True] * 2
    whole = initial_network(spec_of(data, network="resnet32"), DIGITS, data)
    assert all(parameter.requires_grad for parameter in whole.parameters())


def test_if_the_head_alone_trains_the_inputs_are_the_features_of_the_trunk(data: Path) -> None:
    spec = spec_of(data, network="cnn", set={"network.train": "head"})
    network, trunk = initial_network(spec, DIGITS, data), frozen_trunk(spec, DIGITS, data)
    assert (len(network.blocks), network.head.features) == (0, 128)
    assert trunk(torch.zeros(2, 1, 8, 8)).shape == (2, 128)
    assert not any(parameter.requires_grad for parameter in trunk.parameters())


# -- what is refused --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("given", "kind", "message"),
    [
        ({"network": "resnet81"}, UsageError, "no network 'resnet81'; did you mean 'resnet18'"),
        ({"network": "./none.py"}, UsageError, "there is no network file none.py"),
        ({"network": "mlp", "weights": "pretrained"}, UsageError, "mlp has no pretrained weights"),
        ({"weights": "pretrind"}, UsageError, "did you mean 'pretrained'"),
        ({"weights": "./none.pt"}, DataError, "there is no weights file none.pt"),
        ({"set": {"network.unit": 3}}, UsageError, "no setting 'unit'; did you mean 'units'"),
        ({"set": {"network.units": 0}}, UsageError, "units must be"),
        ({"set": {"network.train": "some"}}, UsageError, "network.train"),
        ({"set": {"network.train": 3}}, UsageError, "network.train = 3: the trunk of mlp has 2 blocks"),
        ({"set": {"network.size": 0}}, UsageError, "network.size"),
        ({"network": "cnn", "set": {"recipe.network": "mlp"}}, UsageError, "both given"),
        ({"network": "cnn", "set": {"network.size": 4}}, PluginError, "does not accept images of 4×4 px"),
        (
            {"set": {"network.train": "head", "recipe.augmentation.flip": True}},
            UsageError,
            "recipe.augmentation.flip has no effect here",
        ),
    ],
)
def test_what_cannot_be_is_refused_before_anything_is_trained(
    given: dict[str, Any], kind: type[ClbenchError], message: str, data: Path
) -> None:
    error = refused(data, **given)
    assert type(error) is kind
    assert message in error.message


def test_a_network_that_returns_more_than_a_tensor_in_training_mode_is_refused_unless_only_its_head_trains(
    data: Path, tmp_path: Path
) -> None:
    file = tmp_path / "auxiliary.py"
    file.write_text(AUXILIARY.format(more=True))
    for train in ("all", 1):
        error = refused(data, network=file, set={"network.train": train})
        assert type(error) is PluginError
        assert "auxiliary: the network returns a tuple in training mode" in error.message
        assert "--set network.train=head" in str(error.hint)
    assert spec_of(data, network=file, set={"network.train": "head"}).network.train == "head"


def test_looking_at_a_network_in_training_mode_changes_neither_its_statistics_nor_random_numbers(
    data: Path, tmp_path: Path
) -> None:
    file = tmp_path / "auxiliary.py"
    file.write_text(AUXILIARY.format(more=False))
    trunk, _, _ = network_source(str(file)).trunk(DIGITS, {}, 3, "architecture")
    before = trunk.state_dict()
    torch.save({name: value for name, value in before.items() if "tracked" not in name}, tmp_path / "w.pt")
    random = torch.get_rng_state()
    spec = spec_of(data, network=file, weights=tmp_path / "w.pt")
    assert torch.equal(torch.get_rng_state(), random)
    after = initial_network(spec, DIGITS, data, file).blocks.state_dict()
    assert all(torch.equal(value, after[name]) for name, value in before.items())


def test_weights_that_do_not_fit_are_refused_with_what_does_not(data: Path, tmp_path: Path) -> None:
    error = refused(data, network="cnn", weights=weights_file(tmp_path / "w.safetensors"))
    assert error.exit_code == 3
    assert "missing: 0.0.weight" in error.message
    assert "left over: " in error.message


def test_augmentation_is_left_out_and_that_is_said_if_the_head_alone_trains(data: Path, tmp_path: Path) -> None:
    (tmp_path / "flipped.py").write_text(
        "import clbench\nclass Flipped(clbench.Scenario):\n    dataset, split = 'digits', '5'\n"
        "    recipes = {'quick': clbench.Recipe(augmentation=clbench.Augmentation(flip=True))}\n"
    )
    events: list[Event] = []
    asked = {"strategy": "naive", "scenario": tmp_path / "flipped.py", "device": "cpu", "data": data}
    (run,) = plan(Request.from_python({**asked, "set": {"network.train": "head"}}), events.append)
    assert not run.spec.recipe.config.augmentation.active
    assert any("images are not augmented" in event.text for event in events if isinstance(event, Note))
    (plain,) = plan(Request.from_python(asked), events.append)
    assert plain.spec.recipe.config.augmentation.active


# -- runs -------------------------------------------------------------------------------------------------------------


def test_the_head_learns_from_features_as_it_would_behind_the_frozen_trunk(data: Path, tmp_path: Path) -> None:
    """A head on features is logistic regression, computed here from the trunk by a loop of the test's own."""
    import clbench

    runs = clbench.run(
        "naive",
        "splitdigits",
        set={"network.train": "head", "recipe.optimizer": "sgd", "recipe.lr": 0.1, "recipe.epochs": 1},
        split=1,
        device="cpu",
        out=tmp_path / "out",
        data=data,
    )
    (run,) = runs
    expected = _logistic_regression(run.spec, data)
    assert run.final_predictions()[1].tolist() == expected.tolist()
    assert run.metric("final_accuracy") > 0.5  # so that the predictions say something


def _logistic_regression(spec: RunSpec, data: Path) -> Any:
    from clbench.data.datasets import open_dataset
    from clbench.system.seeds import derive

    digits = open_dataset("digits", data)
    trunk = frozen_trunk(spec, DIGITS, data)
    mean, std = digits.info.mean[0], digits.info.std[0]

    def features(images: Any) -> torch.Tensor:
        pixels = torch.from_numpy(np.array(images)).permute(0, 3, 1, 2).float() / 255
        with torch.no_grad():
            return trunk((pixels - mean) / std)

    order = torch.tensor(spec.scenario.class_order)
    phi, y = features(digits.x_train), order.argsort()[torch.from_numpy(np.array(digits.y_train))]
    head = initial_network(spec, DIGITS, data).head
    head.grow(10, derive(spec.seeds.network, "head", 0))
    optimizer = torch.optim.SGD(head.parameters(), lr=0.1, momentum=spec.recipe.config.momentum)
    generator = torch.Generator().manual_seed(derive(spec.seeds.training, "order", 0))
    for batch in torch.randperm(len(y), generator=generator).split(spec.recipe.config.batch_size):
        optimizer.zero_grad()
        torch.nn.functional.cross_entropy(head(phi[batch]), y[batch]).backward()
        optimizer.step()
    return order[head(features(digits.x_test)).argmax(dim=1)]


@pytest.mark.slow
def test_exemplars_of_a_run_on_features_are_features_and_are_counted(data: Path, tmp_path: Path) -> None:
    import clbench

    (run,) = clbench.run(
        "er", "splitdigits", network="cnn", set={"network.train": "head"}, device="cpu", out=tmp_path, data=data
    )
    assert run.result.audit.verdict == "pass"
    assert run.result.experiences[-1].exemplars == 200
    assert run.result.experiences[-1].stored_bytes >= 200 * 128 * 4  # 128 features of float32


@pytest.mark.parametrize(
    ("train", "said"), [(1, "cnn, last block"), (2, "cnn, last 2 blocks"), ("head", "cnn, head only")]
)
def test_a_title_says_how_much_of_a_network_trains(train: Any, said: str) -> None:
    assert NetworkSpec(name="cnn", train=train).label == said
