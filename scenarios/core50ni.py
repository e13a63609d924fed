"""CORe50-NI: 50 household objects (Lomonaco & Maltoni 2017) in eight experiences, each filmed under new conditions.

Images: those of 32x32 pixels in `core50` in the data folder, as Avalanche lays them out and downloads them (run 0, a
session at a time). The test sessions 3, 7 and 10 belong to no experience and are dealt out to all eight, so that the
accuracy over all of them is that on CORe50's test set, and that on one of them an estimate of it.
"""

from pathlib import Path
from typing import Any

import clbench
from clbench import Augmentation


class CORe50NI(clbench.Scenario):
    setting = "domain"
    recipes = {
        "quick": clbench.Recipe(network="cnn", optimizer="adam", lr=1e-3, batch_size=128, epochs=1),
        "standard": clbench.Recipe(
            network="resnet18",
            optimizer="sgd",
            lr=0.05,
            momentum=0.9,
            weight_decay=5e-4,
            schedule="cosine",
            batch_size=128,
            epochs=10,
            augmentation=Augmentation(crop=4, flip=True),
            precision="bfloat16",
        ),
    }

    @staticmethod
    def benchmark(dataset_root: Path) -> Any:
        from avalanche.benchmarks.classic import CORe50 as Benchmark

        return Benchmark(
            scenario="ni", mini=True, train_transform=None, eval_transform=None, dataset_root=dataset_root / "core50"
        )
