"""Rotated MNIST: all ten digits in every experience, rotated by another random angle in each.

Lopez-Paz & Ranzato 2017 (arXiv 1706.08840). A stream of domains: the experiences share ten outputs.
"""

import clbench
from clbench import Overrides


class RotatedMNIST(clbench.Scenario):
    dataset = "mnist"
    split = "1"
    stream = "rotated"
    setting = "domain"
    recipes = {
        "quick": clbench.Recipe(network="mlp", optimizer="sgd", lr=0.1, batch_size=128, epochs=1),
        "standard": clbench.Recipe(network="mlp", optimizer="sgd", lr=0.1, batch_size=128, epochs=10),
        # Buzzega et al. 2020 (arXiv 2004.07211), by the first commit of its code: 20 angles from 0 to 180 degrees, here
        # whole ones that differ; the rest as on permuted MNIST.
        "der2020": clbench.Recipe(
            network="mlp",
            network_config={"units": 100},
            initialization="xavier_uniform",
            head_initialization="xavier_uniform",
            optimizer="sgd",
            lr=0.2,
            batch_size=128,
            epochs=1,
            normalization="unit",
            stream_options={"experiences": 20, "smallest_angle": 0},
            of_strategy={name: Overrides(lr=0.1) for name in ("ewc", "si", "agem", "derpp")},
        ),
    }
