"""Split CIFAR-10: 32x32 colour photographs of ten classes (Krizhevsky 2009), two classes at a time."""

import clbench
from clbench import Augmentation, Overrides


class SplitCIFAR10(clbench.Scenario):
    dataset = "cifar10"
    split = "5"
    aliases = ("splitcifar",)
    recipes = {
        # Minutes on two CPU cores. Not augmented, so that LwF computes the old network's outputs only once.
        "quick": clbench.Recipe(network="cnn", optimizer="adam", lr=1e-3, batch_size=128, epochs=4),
        "standard": clbench.Recipe(
            network="resnet18",
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
        # Buzzega et al. 2020 (arXiv 2004.07211), by the first commit of its code: torch's initialization, a fixed head,
        # SGD without momentum, a learning rate per method. LwF's warm-up takes 50 additional epochs (lwf:der2020).
        "der2020": clbench.Recipe(
            network="resnet18",
            initialization="torch",
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
