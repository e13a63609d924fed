"""Split CIFAR-10: ten kinds of 32x32 colour photographs (Krizhevsky 2009), two at a time."""

import clbench
from clbench import Augmentation, Overrides


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
        # Buzzega et al. 2020 (arXiv 2004.07211) after the first commit of its code: a head of all rows, SGD without
        # momentum, and each method's own learning rate. LwF trains its warm-up in 50 further epochs (lwf:der2020).
        "der2020": clbench.Recipe(
            model="resnet18",
            optimizer="sgd",
            lr=0.1,
            batch_size=32,
            epochs=50,
            augmentation=Augmentation(crop=4, flip=True),
            head="fixed",
            class_order="natural",
            first=Overrides(epochs=50),
            of_strategy={"ewc": Overrides(lr=0.03), "si": Overrides(lr=0.03), "lwf": Overrides(lr=0.01, epochs=100)},
        ),
    }
