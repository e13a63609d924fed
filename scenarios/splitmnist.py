"""Split MNIST: the handwritten digits of LeCun et al. 1998, two classes at a time. The field's usual first test."""

import clbench


class SplitMNIST(clbench.Scenario):
    dataset = "mnist"
    split = "5"
    recipes = {
        "quick": clbench.Recipe(network="mlp", optimizer="adam", lr=1e-3, batch_size=128, epochs=2),
        "standard": clbench.Recipe(network="mlp", optimizer="adam", lr=1e-3, batch_size=128, epochs=10),
        # Hsu et al. 2018 (arXiv 1810.12488): their code never resets the optimizer, and its head is fixed;
        # task-incrementally there is one for each task.
        "hsu2018": clbench.Recipe(
            network="mlp",
            optimizer="adam",
            optimizer_state="carried",
            lr=1e-3,
            batch_size=128,
            epochs=4,
            padding=2,
            head="fixed",
            head_parameters="per_experience",
            class_order="natural",
        ),
        "hsu2018-sgd": clbench.Recipe(
            network="mlp",
            optimizer="sgd",
            optimizer_state="carried",
            lr=0.01,
            batch_size=128,
            epochs=4,
            padding=2,
            head="fixed",
            class_order="natural",
        ),
        "hsu2018-adagrad": clbench.Recipe(
            network="mlp",
            optimizer="adagrad",
            optimizer_state="carried",
            lr=0.01,
            batch_size=128,
            epochs=4,
            padding=2,
            head="fixed",
            class_order="natural",
        ),
        # van de Ven & Tolias 2019 (arXiv 1904.07734), and their code until 2022: not padded, pixels in 0..1.
        "vandeven2019": clbench.Recipe(
            network="mlp",
            optimizer="adam",
            optimizer_state="carried",
            lr=1e-3,
            batch_size=128,
            iterations=2000,
            drop_last=True,
            normalization="unit",
            head="fixed",
            class_order="seed",
        ),
        "vandeven2022": clbench.Recipe(
            network="mlp",
            optimizer="adam",
            optimizer_state="carried",
            lr=1e-3,
            batch_size=128,
            iterations=2000,
            drop_last=True,
            normalization="unit",
            head="fixed",
            class_order="seed",
        ),
        # Aljundi et al. 2019 (arXiv 1908.04742): 1,000 images of each experience, once.
        "mir2019": clbench.Recipe(
            network="mlp",
            optimizer="sgd",
            lr=0.1,
            batch_size=10,
            epochs=1,
            normalization="unit",
            head="fixed",
            class_order="natural",
            stream_options={"samples": 1000},
        ),
        # Prabhu et al. 2020 (ECCV). In their code the rate changes by epoch, is 0.005 and 0.05 in the first two, and
        # does not go below 0.0005; the head has no biases and is normalised too; the arithmetic is in half precision.
        "gdumb2020": clbench.Recipe(
            network="mlp",
            network_config={"batch_norm": True},
            optimizer="sgd",
            lr=0.05,
            momentum=0.9,
            weight_decay=1e-6,
            clip_norm=10.0,
            schedule="warm_restarts",
            warmup_epochs=1,
            restart_epochs=1,
            restart_factor=2,
            batch_size=16,
            epochs=128,
            augmentation=clbench.Augmentation(crop=4),
            class_order="seed",
        ),
        "gdumb2020-100": clbench.Recipe(
            network="mlp",
            network_config={"units": 100, "batch_norm": True},
            optimizer="sgd",
            lr=0.05,
            momentum=0.9,
            weight_decay=1e-6,
            clip_norm=10.0,
            schedule="warm_restarts",
            warmup_epochs=1,
            restart_epochs=1,
            restart_factor=2,
            batch_size=16,
            epochs=128,
            augmentation=clbench.Augmentation(crop=4),
            class_order="seed",
        ),
    }
