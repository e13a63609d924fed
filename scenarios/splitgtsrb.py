"""Split GTSRB: 43 classes of German traffic signs (Stallkamp et al. 2011), imbalanced, 210 to 2,250 images each.

Images: `images/gtsrb/train/CLASS/*` and `images/gtsrb/test/CLASS/*` in the data folder; torchvision's are imported by
`clbench data import gtsrb torchvision:GTSRB --size 32`.
"""

import clbench
from clbench import Augmentation


class SplitGTSRB(clbench.Scenario):
    dataset = "gtsrb"
    image_size = 32
    split = "8+7x5"
    recipes = {
        "quick": clbench.Recipe(network="cnn", optimizer="adam", lr=1e-3, batch_size=128, epochs=2),
        # A mirrored sign is another sign, or none.
        "standard": clbench.Recipe(
            network="resnet18",
            optimizer="sgd",
            lr=0.05,
            momentum=0.9,
            weight_decay=5e-4,
            schedule="cosine",
            batch_size=128,
            epochs=30,
            augmentation=Augmentation(crop=4),
            precision="bfloat16",
        ),
    }
