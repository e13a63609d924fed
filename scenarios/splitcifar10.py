"""Split CIFAR-10: ten kinds of 32x32 colour photographs (Krizhevsky 2009), two at a time."""

import clbench
from clbench import Augmentation


class SplitCIFAR10(clbench.Scenario):
    dataset = "cifar10"
    split = "5"
    aliases = ("splitcifar",)
    recipes = {
        # Minutes on two CPU cores; without augmentation, so that LwF records its responses once.
        "quick": clbench.Recipe(model="cnn", optimizer="adam", lr=1e-3, batch_size=128, epochs=4),
        "standard": clbench.Recipe(
            model="resnet18",
            optimizer="sgd",
            lr=0.05,
            momentum=0.9,
            weight_decay=5e-4,
            schedule="cosine",
            batch_size=128,
            epochs=50,
            augmentation=Augmentation(crop=4, flip=True),
            precision="bfloat16",
        ),
    }
