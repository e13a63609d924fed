"""Rotated MNIST: all ten digits in every experience, rotated by another random angle in each.

Lopez-Paz & Ranzato 2017 (arXiv 1706.08840). A stream of domains: the experiences share ten outputs.
"""

import clbench


class RotatedMNIST(clbench.Scenario):
    dataset = "mnist"
    split = "1"
    stream = "rotated"
    setting = "domain"
    recipes = {
        "quick": clbench.Recipe(network="mlp", optimizer="sgd", lr=0.1, batch_size=128, epochs=1),
        "standard": clbench.Recipe(network="mlp", optimizer="sgd", lr=0.1, batch_size=128, epochs=10),
    }
