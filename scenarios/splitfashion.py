"""Split Fashion-MNIST: ten classes of clothing (Xiao et al. 2017), two classes at a time. Harder than MNIST."""

import clbench


class SplitFashion(clbench.Scenario):
    dataset = "fashion"
    split = "5"
    recipes = {
        "quick": clbench.Recipe(network="mlp", optimizer="adam", lr=1e-3, batch_size=128, epochs=2),
        "standard": clbench.Recipe(network="mlp", optimizer="adam", lr=1e-3, batch_size=128, epochs=10),
    }
