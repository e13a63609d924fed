"""CLEAR-10: photographs of ten kinds of things and of background, 2004 to 2014 (Lin et al. 2021), in order of time.

Images: those in `clear10` in the data folder, as Avalanche lays them out and downloads them, at 64x64 pixels. Each of
the ten experiences is a span of time, with test images of its own.
"""

from pathlib import Path
from typing import Any

import clbench
from clbench import Augmentation


class CLEAR(clbench.Scenario):
    setting = "domain"
    recipes = {
        "quick": clbench.Recipe(network="cnn", optimizer="adam", lr=1e-3, batch_size=64, epochs=2),
        "standard": clbench.Recipe(
            network="torchvision:resnet18",
            optimizer="sgd",
            lr=0.05,
            momentum=0.9,
            weight_decay=5e-4,
            schedule="cosine",
            batch_size=64,
            epochs=50,
            augmentation=Augmentation(crop=8, flip=True),
            precision="bfloat16",
        ),
    }

    @staticmethod
    def benchmark(dataset_root: Path) -> Any:
        from avalanche.benchmarks import paths_benchmark
        from torchvision.transforms import CenterCrop, Compose, Resize

        train, test = (_by_time(dataset_root / "clear10", part) for part in ("train", "test"))
        small = Compose([Resize(64), CenterCrop(64)])
        return paths_benchmark(
            train,
            test,
            task_labels=[0] * len(train),
            complete_test_set_only=False,
            train_transform=small,
            eval_transform=small,
        )


def _by_time(root: Path, part: str) -> list[list[tuple[Path, int]]]:
    """Return the files of each span of time with their labels.

    Avalanche's own benchmark gives all files to every experience: it goes on with one list for all of them. Its dataset
    has them in order of time, and by label within each span.
    """
    from avalanche.benchmarks.datasets.clear import _CLEARImage

    spans: list[list[tuple[Path, int]]] = []
    last = None
    for file, label in _CLEARImage(root, data_name="clear10", split=part, seed=0).samples:
        if last is None or label < last:
            spans.append([])
        spans[-1].append((root / file, label))
        last = label
    return spans
