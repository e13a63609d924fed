"""Permuted MNIST: all ten digits in every experience, their pixels in another random order in each.

Goodfellow et al. 2014 (arXiv 1312.6211). A stream of domains: the experiences share ten outputs.
"""

import clbench


class PermutedMNIST(clbench.Scenario):
    dataset = "mnist"
    split = "1"
    stream = "permuted"
    setting = "domain"
    recipes = {
        "quick": clbench.Recipe(network="mlp", optimizer="sgd", lr=0.1, batch_size=128, epochs=1),
        "standard": clbench.Recipe(network="mlp", optimizer="sgd", lr=0.1, batch_size=128, epochs=10),
    }
