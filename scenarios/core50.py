"""CORe50-NC: 50 household objects filmed in 11 sessions (Lomonaco & Maltoni 2017), new objects in nine experiences.

Images: those of 32x32 pixels in `core50` in the data folder, as Avalanche lays them out and downloads them (run 0, 10
objects and then 5 at a time). Sessions 3, 7 and 10 are the test set.
"""

from pathlib import Path
from typing import Any

import clbench
from clbench import Augmentation


class CORe50(clbench.Scenario):
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
            scenario="nc", mini=True, train_transform=None, eval_transform=None, dataset_root=dataset_root / "core50"
        )
