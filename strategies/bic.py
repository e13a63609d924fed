"""BiC: distillation and replay, then a linear bias correction of the new classes' logits, which are too large.

    L = (1 - λ) CE(q, y) + λ KD_T(q_old, q_old^before),   λ = old classes / classes seen;   q_c = α_i o_c + β_i

α_i and β_i belong to the experience i that introduced class c. For the first experience they are 1 and 0. For a later
one they are 1 and 0 during its training, and are then fitted by cross-entropy with the network frozen.

Source: Wu et al. 2019 (arXiv 1905.13260), equations 1 to 5.
Variant: α and β are fitted on the exemplars of all classes, which are balanced; the paper holds out a tenth of the old
exemplars, and as many images of new classes, for this. The corrections of earlier experiences remain part of the
network, in both the student and the teacher.
"""

from dataclasses import replace
from typing import Annotated

import torch
from annotated_types import Ge, Gt
from torch import Tensor, nn

import clbench
from clbench import losses
from clbench.networks.classifiers import LinearScores


@clbench.config
class Config:
    memory: Annotated[int, Ge(1)] = 200
    """Capacity of the exemplar memory, divided equally among classes and filled at random; images."""

    temperature: Annotated[float, Gt(0)] = 2.0
    """T, temperature of the distillation; dimensionless. The paper uses 2."""

    correction_steps: Annotated[int, Ge(0)] = 200
    """Optimizer steps, each on all exemplars, that fit α and β."""

    correction_lr: Annotated[float, Gt(0)] = 0.01
    """Learning rate of Adam for α and β."""


class BiC(clbench.Strategy[Config]):
    @classmethod
    def check_protocol(cls, config: Config, recipe: clbench.Recipe, setting: clbench.Setting) -> None:
        if setting == "domain_incremental":
            raise clbench.UsageError(
                "bic weights its cross-entropy by the share of new outputs: 0 in the domain-incremental setting"
            )

    def start(self, model: clbench.Network) -> None:
        self.exemplars = clbench.ExemplarMemory(self.config.memory)
        self.corrections: list[tuple[int, int, Tensor]] = []
        """For each experience after the first: its first class, the class after its last, and (α, β)."""

    def first_loss(self) -> clbench.Classes:
        return "seen"

    def training_data(self, experience: clbench.Experience) -> clbench.TrainingData:
        return "with_memory"

    def teacher_output(self, model: clbench.Network, x: Tensor, experience: clbench.Experience) -> Tensor:
        return losses.soften(self.corrected(model(x))[:, : experience.old_classes], self.config.temperature)

    def loss(self, batch: clbench.Batch) -> Tensor:
        old = batch.experience.old_classes
        share = old / batch.experience.seen_classes
        corrected = replace(batch, logits=self.corrected(batch.logits))
        distilled = losses.distillation(corrected.logits[:, :old], batch.teacher_outputs, self.config.temperature)
        return (1 - share) * corrected.cross_entropy() + share * distilled

    def after_experience(self, model: clbench.Network, experience: clbench.Experience) -> None:
        self.exemplars.share_among_classes(experience)
        if experience.index > 0:
            self.corrections.append((experience.old_classes, experience.seen_classes, self.fitted(model, experience)))

    def fitted(self, model: clbench.Network, experience: clbench.Experience) -> Tensor:
        """Return α and β, (2,), of the new classes."""
        with torch.no_grad():
            network, parts = model.in_evaluation(), self.exemplars.images.split(500)
            logits = self.corrected(torch.cat([network(experience.samples.scaled(part)) for part in parts]))
        alpha_beta = torch.tensor([1.0, 0.0], device=logits.device, requires_grad=True)
        optimizer = torch.optim.Adam([alpha_beta], lr=self.config.correction_lr)
        for _ in range(self.config.correction_steps):
            optimizer.zero_grad()
            new = alpha_beta[0] * logits[:, experience.old_classes : experience.seen_classes] + alpha_beta[1]
            answer = torch.cat([logits[:, : experience.old_classes], new], dim=1)
            losses.cross_entropy(answer, self.exemplars.labels).backward()
            optimizer.step()
        return alpha_beta.detach()

    def corrected(self, logits: Tensor) -> Tensor:
        """Return the logits (n, classes) with every experience's correction applied."""
        logits = logits.clone()
        for first, end, (alpha, beta) in self.corrections:
            logits[:, first:end] = alpha * logits[:, first:end] + beta
        return logits

    def predict(self, model: clbench.Network, x: Tensor, experience: clbench.Experience) -> Tensor:
        return self.corrected(model(x))

    def classifier(self, model: clbench.Network, experience: clbench.Experience) -> nn.Module:
        weight, bias = model.head.weight, model.head.bias  # (classes, features), (classes,)
        shift = self.corrected(torch.zeros_like(bias)[None])
        return LinearScores((self.corrected(weight.T) - shift).T, self.corrected(bias[None])[0])
