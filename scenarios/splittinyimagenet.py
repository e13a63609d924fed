"""Split Tiny ImageNet: 64x64 photographs of 200 classes (Le & Yang 2015), 20 classes at a time.

Images: `images/tinyimagenet/train/CLASS/*` and `images/tinyimagenet/test/CLASS/*` in the data folder; the published
validation images are the test part. `--split 100+10x10` learns half of the classes first.
"""

import clbench
from clbench import Augmentation


class SplitTinyImageNet(clbench.Scenario):
    dataset = "tinyimagenet"
    image_size = 64
    split = "10"
    recipes = {
        # On images of half the size.
        "quick": clbench.Recipe(
            network="cnn", network_config={"size": 32}, optimizer="adam", lr=1e-3, batch_size=128, epochs=2
        ),
        "standard": clbench.Recipe(
            network="resnet18",
            optimizer="sgd",
            lr=0.1,
            momentum=0.9,
            weight_decay=5e-4,
            schedule="cosine",
            batch_size=128,
            epochs=100,
            augmentation=Augmentation(crop=8, flip=True),
            precision="bfloat16",
        ),
    }
