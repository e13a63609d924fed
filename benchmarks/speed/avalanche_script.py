"""Split MNIST as a user of Avalanche runs it: its datasets, loaders, strategies, evaluation and logging.

    python benchmarks/speed/avalanche_script.py STRATEGY SEED DATA THREADS

The protocol is that of clbench's recipe `quick`: an MLP with two layers of 400 units, Adam at 0.001, batches of 128,
two epochs per experience, and the test stream evaluated after each. Avalanche has no penalty towards old weights and no
frozen trunk; `l2` and `frozen` are fine-tuning here, which takes less time in Avalanche than they would.
"""

from __future__ import annotations

import sys
import warnings
from typing import Any

import torch
from torchvision import datasets, transforms

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # Avalanche imports optional packages that warn of what else they could use
    from avalanche.benchmarks import nc_benchmark
    from avalanche.evaluation.metrics import accuracy_metrics
    from avalanche.logging import InteractiveLogger
    from avalanche.models import SimpleMLP
    from avalanche.training.plugins import EvaluationPlugin
    from avalanche.training.supervised import Cumulative, LwF, Naive


def stream(data: str, seed: int) -> Any:
    """Return Split MNIST, made from torchvision's dataset."""
    transform = transforms.Compose([transforms.ToTensor(), transforms.Normalize((0.1307,), (0.3081,))])
    train, test = (datasets.MNIST(data, train=part, transform=transform) for part in (True, False))
    return nc_benchmark(train, test, n_experiences=5, task_labels=False, seed=seed, shuffle=True)


def learner(strategy: str, evaluator: EvaluationPlugin, epochs: int) -> Any:
    """Return Avalanche's strategy of that name, or the next simpler one if there is none."""
    model = SimpleMLP(num_classes=10, hidden_size=400, hidden_layers=2, drop_rate=0)
    common = {
        "model": model,
        "optimizer": torch.optim.Adam(model.parameters(), lr=1e-3),
        "criterion": torch.nn.CrossEntropyLoss(),
        "train_mb_size": 128,
        "train_epochs": epochs,
        "eval_mb_size": 128,
        "evaluator": evaluator,
    }
    if strategy == "lwf":
        return LwF(alpha=1.0, temperature=2.0, **common)
    return Cumulative(**common) if strategy == "joint" else Naive(**common)


def main(strategy: str, seed: int, data: str, threads: int) -> None:
    """Train on each experience and evaluate after it."""
    warnings.simplefilter("ignore")
    torch.set_num_threads(threads)
    torch.manual_seed(seed)
    benchmark = stream(data, seed)
    evaluator = EvaluationPlugin(accuracy_metrics(experience=True, stream=True), loggers=[InteractiveLogger()])
    learning = learner(strategy, evaluator, epochs=2)
    for experience in benchmark.train_stream:
        learning.train(experience)
        learning.eval(benchmark.test_stream)


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), sys.argv[3], int(sys.argv[4]))
