"""Split Caltech-101: photographs of 101 objects and a background class (Fei-Fei et al. 2004), of all sizes.

Images: `images/caltech101/CLASS/*` in the data folder, 31 to 800 a class; a fifth of each is held out for testing.
"""

import clbench
from clbench import Augmentation


class SplitCaltech101(clbench.Scenario):
    dataset = "caltech101"
    image_size = 128
    split = "12+10x9"
    recipes = {
        # The features of a pretrained network are computed once; what is trained is the head.
        "quick": clbench.Recipe(
            network="lite0", network_config={"train": "head"}, optimizer="adam", lr=1e-3, batch_size=64, epochs=20
        ),
        "standard": clbench.Recipe(
            network="lite0",
            optimizer="sgd",
            lr=0.01,
            momentum=0.9,
            weight_decay=5e-4,
            schedule="cosine",
            batch_size=64,
            epochs=30,
            augmentation=Augmentation(crop=8, flip=True),
            precision="bfloat16",
        ),
    }
