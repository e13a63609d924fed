"""Classifiers of features: rebuilt from plain values and tensors, and exported with the same predictions."""

from __future__ import annotations

import io
import json
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from clbench.networks.classifiers import CLASSIFIERS, LinearScores, Mahalanobis, NearestMean, rebuild

DRAW = torch.Generator().manual_seed(0)


def drawn(*shape: int) -> Tensor:
    return torch.randn(*shape, generator=DRAW)


FEATURES, CLASSES, WIDE = 6, 4, 9
MADE: dict[str, nn.Module] = {
    "linear": LinearScores(drawn(CLASSES, FEATURES), drawn(CLASSES)),
    "linear without bias": LinearScores(drawn(CLASSES, FEATURES)),
    "expanded": LinearScores(drawn(CLASSES, WIDE), projection=drawn(FEATURES, WIDE), activations=("relu",)),
    "two streams": LinearScores(
        drawn(CLASSES, 2 * WIDE), projection=drawn(FEATURES, WIDE), activations=("relu", "tanh")
    ),
    "nearest mean": NearestMean(drawn(CLASSES, FEATURES)),
    "mahalanobis": Mahalanobis(drawn(CLASSES, FEATURES), drawn(CLASSES, FEATURES, FEATURES), power=0.5),
}
X = torch.randn(30, FEATURES, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("name", MADE)
def test_a_classifier_is_rebuilt_from_json_and_tensors_with_the_same_scores_to_the_bit(name: str) -> None:
    made = MADE[name]
    plain = json.loads(json.dumps(made.settings()))
    file = io.BytesIO()
    torch.save(made.state_dict(), file)
    file.seek(0)
    again = rebuild(type(made).__name__, plain, torch.load(file, weights_only=True))
    assert torch.equal(again(X), made(X))
    assert made(X).shape == (len(X), CLASSES) and not list(made.parameters())


def test_every_classifier_is_tested() -> None:
    assert {type(made).__name__ for made in MADE.values()} == set(CLASSIFIERS)


@pytest.mark.parametrize(
    ("name", "settings", "tensors", "says"),
    [
        ("Head", {}, {}, "no classifier 'Head'"),
        ("NearestMean", {}, {}, "means"),
        ("NearestMean", {}, {"means": X, "bias": X}, "bias"),
        ("NearestMean", {"power": 2}, {"means": X}, "power"),
    ],
)
def test_what_is_no_classifier_is_refused(
    name: str, settings: dict[str, object], tensors: dict[str, Tensor], says: str
) -> None:
    with pytest.raises(ValueError, match=says):
        rebuild(name, settings, tensors)


def test_the_activations_are_concatenated_in_their_order() -> None:
    made = MADE["two streams"]
    projected = X @ made.projection
    expected = projected.clamp(min=0) @ made.weight[:, :WIDE].T + projected.tanh() @ made.weight[:, WIDE:].T
    torch.testing.assert_close(made(X), expected)


def test_the_nearest_mean_is_the_one_in_the_nearest_direction() -> None:
    means = torch.tensor([[3.0, 0.0], [0.6, 0.8]])
    x = torch.tensor([[10.0, 0.0], [0.3, 0.4]])
    assert torch.allclose(NearestMean(means)(x), torch.tensor([[1.0, 0.6], [0.6, 1.0]]))


@pytest.mark.slow
@pytest.mark.parametrize("name", MADE)
def test_an_exported_classifier_gives_the_same_scores_in_onnxruntime(name: str, tmp_path: Path) -> None:
    onnxruntime = pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript")
    batch = torch.export.Dim("n")
    program = torch.onnx.export(
        MADE[name].eval(), (X[:3],), dynamo=True, dynamic_shapes=({0: batch},), input_names=["features"], verbose=False
    )
    program.save(str(tmp_path / "classifier.onnx"))
    session = onnxruntime.InferenceSession(str(tmp_path / "classifier.onnx"))
    (scores,) = session.run(None, {"features": X.numpy()})
    torch.testing.assert_close(torch.from_numpy(scores), MADE[name](X), rtol=1e-4, atol=1e-4)
