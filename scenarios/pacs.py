"""PACS: dogs, guitars and so on as photo, art painting, cartoon and sketch (Li et al. 2017), a domain at a time.

Images: `images/pacs/DOMAIN/CLASS/*` in the data folder, 4 domains with the same 7 classes; a fifth of each is held out.
"""

import clbench
from clbench import Augmentation


class PACS(clbench.Scenario):
    dataset = "pacs"
    image_size = 64
    split = "4"
    setting = "domain"
    recipes = {
        "quick": clbench.Recipe(network="cnn", optimizer="adam", lr=1e-3, batch_size=64, epochs=5),
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
