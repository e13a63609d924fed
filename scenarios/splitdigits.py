"""Split digits: scikit-learn's bundled 8x8 handwritten digits, two classes at a time. Real data, no download."""

import clbench


class SplitDigits(clbench.Scenario):
    dataset = "digits"
    split = "5"
    recipes = {
        "quick": clbench.Recipe(network="mlp", optimizer="adam", lr=1e-3, batch_size=32, epochs=10),
        "standard": clbench.Recipe(network="mlp", optimizer="adam", lr=1e-3, batch_size=32, epochs=30),
    }
