"""Permuted MNIST: all ten digits in every experience, their pixels in another random order in each.

Goodfellow et al. 2014 (arXiv 1312.6211). A stream of domains: the experiences share ten outputs.
"""

import clbench
from clbench import Overrides


class PermutedMNIST(clbench.Scenario):
    dataset = "mnist"
    split = "1"
    stream = "permuted"
    setting = "domain"
    recipes = {
        "quick": clbench.Recipe(network="mlp", optimizer="sgd", lr=0.1, batch_size=128, epochs=1),
        "standard": clbench.Recipe(network="mlp", optimizer="sgd", lr=0.1, batch_size=128, epochs=10),
        # Buzzega et al. 2020 (arXiv 2004.07211), by the first commit of its code: 20 permutations, two layers of 100
        # units, weights from Glorot & Bengio's distribution, pixels in 0..1, and a learning rate for each method.
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
            stream_options={"experiences": 20},
            of_strategy={name: Overrides(lr=0.1) for name in ("ewc", "si", "agem", "derpp")},
        ),
        # Chaudhry et al. 2019 (arXiv 1902.10486): 17 permutations after the 3 on which they tune, 1,000 images of each,
        # and weights as their code initializes them.
        "chaudhry2019": clbench.Recipe(
            network="mlp",
            network_config={"units": 256},
            initialization="truncated_normal",
            head_initialization="truncated_normal",
            optimizer="sgd",
            lr=0.1,
            batch_size=10,
            epochs=1,
            normalization="unit",
            stream_options={"experiences": 17, "samples": 1000},
        ),
        # van de Ven & Tolias 2019 (arXiv 1904.07734): 10 permutations of the pixels of images padded to 32x32.
        "vandeven2019": clbench.Recipe(
            network="mlp",
            network_config={"units": 1000},
            optimizer="adam",
            optimizer_state="carried",
            lr=1e-4,
            batch_size=128,
            iterations=5000,
            drop_last=True,
            padding=2,
            normalization="unit",
            head="fixed",
        ),
    }
