"""Split Omniglot: handwritten characters of 30 alphabets (Lake et al. 2015), an alphabet at a time, 20 drawings each.

Images: the 964 characters of torchvision's background set, from its files in the data folder or downloaded; a fifth of
the drawings of each is held out for testing. Alphabets have 14 to 55 characters and come in alphabetical order.
"""

import clbench


class SplitOmniglot(clbench.Scenario):
    dataset = "omniglot"
    images = "torchvision:Omniglot"
    image_size = 28
    class_order = "natural"
    recipes = {
        "quick": clbench.Recipe(network="cnn", optimizer="adam", lr=1e-3, batch_size=32, epochs=10),
        "standard": clbench.Recipe(network="cnn", optimizer="adam", lr=1e-3, batch_size=32, epochs=50),
    }
