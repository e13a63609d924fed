"""Fine-tuning: train on the new data with no measure against forgetting. The lower reference.

    L = CE(softmax(o), y)        over the classes of the setting; class-incrementally, all classes seen so far

Source: the "fine-tuning" or "none" row of every comparison, for example van de Ven & Tolias 2019 (arXiv 1904.07734).
Variant: by default the softmax ranges over all classes seen so far, not over those of the current experience only.
"""

from typing import Literal

from torch import Tensor

import clbench


@clbench.config
class Config:
    renamed = {"new_term": "cross_entropy_over"}

    cross_entropy_over: Literal["seen", "current", "all"] = "seen"
    """Classes over which the softmax ranges, class-incrementally: all seen so far, those of the current experience, or
    all of the stream, which needs a recipe with a fixed head."""


class Naive(clbench.Strategy[Config]):
    reference = "lower"
    presets = {
        "pycil": {
            "source": "PyCIL (arXiv 2112.12533), models/finetune.py",
            "loss": "CE(new)",
            "set": {"cross_entropy_over": "current"},
        },
        "mammoth": {
            "source": "Mammoth, Buzzega et al. 2020 (arXiv 2004.07211), models/sgd.py",
            "loss": "CE(all)",
            "set": {"cross_entropy_over": "all"},
        },
    }

    def start(self, model: clbench.Network) -> None:
        if self.config.cross_entropy_over == "all" and not model.head.fixed:
            raise clbench.UsageError("naive: a loss over all classes of the stream needs a recipe with a fixed head")

    def first_loss(self) -> clbench.Classes:
        return self.config.cross_entropy_over

    def loss(self, batch: clbench.Batch) -> Tensor:
        return batch.cross_entropy(self.config.cross_entropy_over)
