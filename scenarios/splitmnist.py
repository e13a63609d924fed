"""Split MNIST: the handwritten digits of LeCun et al. 1998, two classes at a time. The field's first check."""

import clbench


class SplitMNIST(clbench.Scenario):
    dataset = "mnist"
    split = "5"
    recipes = {
        "quick": clbench.Recipe(model="mlp", optimizer="adam", lr=1e-3, batch_size=128, epochs=2),
        "standard": clbench.Recipe(model="mlp", optimizer="adam", lr=1e-3, batch_size=128, epochs=10),
    }
