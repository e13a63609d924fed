"""Fine-tuning: go on training on the new data, with nothing done against forgetting. The lower reference.

    L = CE(softmax(o), y)        over the classes of the setting, class-incrementally all seen so far

Source: the "fine-tuning" or "none" row of every comparison, for example van de Ven & Tolias 2019 (arXiv 1904.07734).
Variant: the cross-entropy ranges over all classes seen so far, not over those of the current experience only.
"""

from torch import Tensor

import clbench


class Naive(clbench.Strategy):
    reference = "lower"

    def loss(self, batch: clbench.Batch) -> Tensor:
        return batch.cross_entropy()
