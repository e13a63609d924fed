"""NCM: nearest class mean. The trunk is frozen after the first experience; each class is the mean of its features.

    ŷ = argmax_c cos(φ(x), μ_c),   μ_c = 1/n_c Σ_{y = c} φ(x)

Source: Mensink et al. 2013 (TPAMI 35(11)), equations 1 and 2, without its learned metric; with the cosine it is
SimpleCIL of Zhou et al. 2024 (arXiv 2303.07338).
Variant: the cosine. The trunk is trained on the first experience with the recipe unless it is frozen from the start;
SimpleCIL's is always pretrained. In the domain-incremental setting, means are over all domains so far.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

import clbench
from clbench.networks.classifiers import NearestMean


class NCM(clbench.FeatureStrategy):
    statistics = "small"

    def start(self, model: clbench.Network) -> None:
        super().start(model)
        self.sums = torch.zeros(0)  # (classes, features)
        self.counts = torch.zeros(0)  # (classes,)

    def learn(self, features: Tensor, labels: Tensor, experience: clbench.Experience) -> nn.Module:
        targets = F.one_hot(labels, experience.seen_classes).double()  # (n, classes)
        sums, counts = targets.T @ features.double(), targets.sum(dim=0)
        old = len(self.counts)
        if old:
            sums[:old] += self.sums
            counts[:old] += self.counts
        self.sums, self.counts = sums, counts
        return NearestMean(sums / counts[:, None])
