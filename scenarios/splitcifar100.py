"""Split CIFAR-100: a hundred kinds of 32x32 colour photographs (Krizhevsky 2009), ten at a time."""

import clbench
from clbench import Augmentation


class SplitCIFAR100(clbench.Scenario):
    dataset = "cifar100"
    split = "10"
    recipes = {
        # Minutes on two CPU cores; without augmentation, so that LwF records its responses once.
        "quick": clbench.Recipe(model="cnn", optimizer="adam", lr=1e-3, batch_size=128, epochs=4),
        "standard": clbench.Recipe(
            model="resnet32",
            optimizer="sgd",
            lr=0.1,
            momentum=0.9,
            weight_decay=5e-4,
            schedule="cosine",
            batch_size=128,
            epochs=100,
            augmentation=Augmentation(crop=4, flip=True, brightness=63 / 255),
            precision="bfloat16",
        ),
    }
