"""Split CIFAR-100: 32x32 colour photographs of a hundred classes (Krizhevsky 2009), ten classes at a time."""

import clbench
from clbench import Augmentation, Overrides

# numpy.random.RandomState(1993).permutation(100), the class order of most of this literature.
_ORDER_1993 = (
    "68,56,78,8,23,84,90,65,74,76,40,89,3,92,55,9,26,80,43,38,58,70,77,1,85,"
    "19,17,50,28,53,13,81,45,82,6,59,83,16,15,44,91,41,72,60,79,52,20,10,31,54,"
    "37,95,14,71,96,98,97,2,64,66,42,22,35,86,24,34,87,21,99,0,88,27,18,94,11,"
    "12,47,25,30,46,62,69,36,61,7,63,75,5,32,4,51,48,73,93,39,67,29,49,57,33"
)


class SplitCIFAR100(clbench.Scenario):
    dataset = "cifar100"
    split = "10"
    recipes = {
        # Minutes on two CPU cores. Not augmented, so that LwF computes the old network's outputs only once.
        "quick": clbench.Recipe(network="cnn", optimizer="adam", lr=1e-3, batch_size=128, epochs=4),
        "standard": clbench.Recipe(
            network="resnet32",
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
        # Zhou et al. 2024 (TPAMI), by the code of PyCIL (arXiv 2112.12533): after the first experience every method has
        # its own epochs and milestones. (PyCIL's LwF has its third milestone in the first experience at 160.)
        "survey2024": clbench.Recipe(
            network="resnet32",
            optimizer="sgd",
            lr=0.1,
            momentum=0.9,
            weight_decay=2e-4,
            schedule="milestones",
            milestones=(40, 70),
            batch_size=128,
            epochs=80,
            augmentation=Augmentation(crop=4, flip=True, brightness=63 / 255),
            head_initialization="lecun",
            class_order=_ORDER_1993,
            first=Overrides(epochs=200, weight_decay=5e-4, milestones=(60, 120, 170)),
            of_strategy={
                "ewc": Overrides(epochs=180, milestones=(70, 120, 150)),
                "lwf": Overrides(epochs=250, milestones=(60, 120, 180, 220)),
            },
        ),
        # Masana et al. 2020 (arXiv 2010.15277), by its code FACIL; the published numbers are tuned with `--tune chf`.
        # FACIL also clips gradients at a norm of 10,000, which they never reach.
        "masana2020": clbench.Recipe(
            network="resnet32b",
            optimizer="sgd",
            lr=0.1,
            momentum=0.9,
            weight_decay=2e-4,
            schedule="plateau",
            divisor=3.0,
            patience=10,
            lr_min=1e-4,
            validation=0.1,
            batch_size=128,
            epochs=200,
            augmentation=Augmentation(crop=4, flip=True),
            class_order=_ORDER_1993,
        ),
    }
