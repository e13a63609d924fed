"""What other codebases call Learning without Forgetting: one general loss, with a preset for each of them.

    L = w_new λ_new CE(ŷ_new, y) + w_old λ_o T^(2 or 0) KD_T(ŷ_old, y_old) + λ_r ½‖θ‖²
    KD_T = -Σ_c y'_c log ŷ'_c,   y'_c = y_c^(1/T) / Σ_j y_j^(1/T)

The dialects differ in the classes over which each softmax ranges, in the weights, in factors of T² and of the number of
classes, and in what is trained. The defaults are the loss of the paper, which is in lwf.py.

Source: the codebases named in each preset; the method is Li & Hoiem 2016 (arXiv 1606.09282).
Variant: by default the paper's loss on a single head, without its warm-up; each preset gives its own formula.
`facil` leaves out the 1e-5/C that FACIL adds to the student's softened probabilities. `mammoth` leaves out Mammoth's
warm-up, as many epochs again as the recipe has, without weight decay; `der2020` has it, but with weight decay on the
new units. Mammoth compares an augmented image with the old network's output on the image before augmentation; here, and
in `der2020`, the old network sees the augmented one. `der2020` begins R with the second experience, its code with the
first.
"""

from collections.abc import Sequence
from typing import Annotated, Literal

from annotated_types import Ge, Gt
from torch import Tensor, nn

import clbench
from clbench import losses


@clbench.config
class Config:
    renamed = {
        "new_term": "cross_entropy_over",
        "distil": "distillation_over",
        "over_experiences": "experience_reduction",
        "over_classes": "class_reduction",
        "teacher": "teacher_mode",
    }

    alpha: Annotated[float, Ge(0)] = 1.0
    """λ_o, weight of the distillation; dimensionless. The paper uses 1."""

    lambda_new: Annotated[float, Ge(0)] = 1.0
    """λ_new, weight of the cross-entropy; dimensionless. The paper has none, which is 1."""

    weighting: Literal["constant", "by_experience", "by_old_experiences"] = "constant"
    """Whether the weights are constant (the paper), or in experience n, counted from 1, are multiplied by w_new = 1/n
    and w_old = 1 - 1/n, or by w_new = 1 and w_old = n - 1."""

    lambda_r: Annotated[float, Ge(0)] = 0.0005
    """λ_r, weight of R, added to the recipe's weight decay from the second experience on; dimensionless. The paper uses
    0.0005."""

    temperature: Annotated[float, Gt(0)] = 2.0
    """T, temperature of the distillation; dimensionless. The paper uses 2."""

    temperature_squared: bool = False
    """Whether the distillation is multiplied by T²; the paper does not."""

    cross_entropy_over: Literal["current", "seen", "all"] = "current"
    """Classes over which the cross-entropy's softmax ranges, class-incrementally: those of the current experience (the
    paper), all seen so far, or all of the stream, which needs a recipe with a fixed head."""

    distillation_over: Literal["per_experience", "old", "seen", "all"] = "per_experience"
    """Classes over which the distillation's softmax ranges, class-incrementally: those of each earlier experience
    separately (the paper), all old classes together, for the student all classes seen so far with a target of 0 for the
    new ones, or all of the stream. Task-incrementally it is always `per_experience`; domain-incrementally it is the
    outputs that all experiences share."""

    experience_reduction: Literal["sum", "mean"] = "sum"
    """How the distillation losses of several earlier experiences are combined; the paper sums them."""

    class_reduction: Literal["sum", "mean"] = "sum"
    """How the distillation's cross-entropy is combined over the classes of its softmax; the paper sums it."""

    teacher_mode: Literal["eval", "train"] = "eval"
    """Mode of the old network. In `train` mode its batch normalisation uses batch statistics, so it answers anew for
    every batch."""

    warmup_epochs: Annotated[int, Ge(0)] = 0
    """Epochs, counted within the recipe's, in which only the output units of the new classes are trained, by the
    cross-entropy over the new classes."""

    old_rows: Literal["trained", "frozen"] = "trained"
    """Whether the output units of old classes (rows of the head's weight) are trained; the paper trains them."""


class LwFDialects(clbench.Strategy[Config]):
    dialects_of = "lwf"
    stability = ("alpha", 10.0)
    warming_up = False
    presets = {
        "vandeven2019": {
            "source": "van de Ven & Tolias 2019 (arXiv 1904.07734), its code as of April 2019",
            "loss": "1/n·CE(seen) + (1 - 1/n)·T²/C·KD_T(student over the C seen, new targets 0), T = 2",
            "set": {
                "lambda_r": 0.0,
                "weighting": "by_experience",
                "temperature_squared": True,
                "cross_entropy_over": "seen",
                "distillation_over": "seen",
                "experience_reduction": "mean",
                "class_reduction": "mean",
            },
        },
        "hsu2018": {
            "source": "Hsu et al. 2018 (arXiv 1810.12488); its code has no LwF: the settings of vandeven2019",
            "loss": "1/n·CE(seen) + (1 - 1/n)·T²/C·KD_T(student over the C seen, new targets 0), T = 2",
            "set": {
                "lambda_r": 0.0,
                "weighting": "by_experience",
                "temperature_squared": True,
                "cross_entropy_over": "seen",
                "distillation_over": "seen",
                "experience_reduction": "mean",
                "class_reduction": "mean",
            },
        },
        "vandeven2022": {
            "source": "van de Ven et al. 2022 (Nature Machine Intelligence), its code",
            "loss": "CE(all) + KD_T(all), T = 2; domain-incrementally CE + (n - 1)·KD_T in experience n",
            "set": {"lambda_r": 0.0, "cross_entropy_over": "all", "distillation_over": "all"},
            "in_setting": {"domain_incremental": {"weighting": "by_old_experiences"}},
        },
        "pycil": {
            "source": "PyCIL (arXiv 2112.12533), models/lwf.py",
            "loss": "CE(new) + 3·KD_T(old), T = 2",
            "set": {"lambda_r": 0.0, "alpha": 3.0, "distillation_over": "old"},
        },
        "facil": {
            "source": "FACIL, Masana et al. 2020 (arXiv 2010.15277), approach/lwf.py",
            "loss": "CE(new) + KD_T(old), T = 2; the head's old rows are frozen",
            "set": {"lambda_r": 0.0, "distillation_over": "old", "old_rows": "frozen"},
        },
        "mammoth": {
            "source": "Mammoth, Buzzega et al. 2020 (arXiv 2004.07211), models/lwf.py",
            "loss": "CE(seen) + 0.5·KD_T(old), T = 2",
            "set": {"lambda_r": 0.0, "alpha": 0.5, "cross_entropy_over": "seen", "distillation_over": "old"},
        },
        "der2020": {
            "source": "Buzzega et al. 2020 (arXiv 2004.07211), first commit of its code, utils/best_args.py: CIFAR-10",
            "loss": "CE(seen) + 3·KD_T(old) + 0.0005‖θ‖², T = 2; 50 epochs of warm-up",
            "set": {
                "lambda_r": 0.001,
                "alpha": 3.0,
                "cross_entropy_over": "seen",
                "distillation_over": "old",
                "warmup_epochs": 50,
            },
        },
        "avalanche": {
            "source": "Avalanche 0.6, training/plugins/lwf.py",
            "loss": "CE(seen) + KD_T(old), T = 2; teacher in train mode",
            "set": {
                "lambda_r": 0.0,
                "cross_entropy_over": "seen",
                "distillation_over": "old",
                "teacher_mode": "train",
            },
        },
    }

    def start(self, model: clbench.Network) -> None:
        head, config = model.head, self.config
        if head.fixed and config.old_rows == "frozen":
            raise clbench.UsageError("lwf: old_rows=frozen needs a recipe with a growing head")
        if not head.fixed and "all" in (config.cross_entropy_over, config.distillation_over):
            raise clbench.UsageError("lwf: a loss over all classes of the stream needs a recipe with a fixed head")

    def first_loss(self) -> clbench.Classes:
        return "all" if self.config.cross_entropy_over == "all" else "seen"

    def online_teacher(self) -> bool:
        return self.config.teacher_mode == "train"

    def teacher_output(self, model: nn.Module, x: Tensor, experience: clbench.Experience) -> Tensor:
        logits = model.train(self.config.teacher_mode == "train")(x)
        groups = self.groups(experience, logits.shape[1])
        return losses.soften(logits[:, : sum(groups)], self.config.temperature, groups)  # (n, groups, widest group)

    def frozen(self, model: clbench.Network, experience: clbench.Experience, epoch: int) -> Sequence[nn.Module]:
        new_units = experience.setting != "domain_incremental"
        self.warming_up = new_units and epoch < self.config.warmup_epochs
        if self.warming_up:
            return (model.blocks, model.head.all_but(experience.old_classes, experience.seen_classes))
        return (model.head.old,) if self.config.old_rows == "frozen" else ()

    def weight_decay(self, experience: clbench.Experience) -> float:
        return self.config.lambda_r

    def loss(self, batch: clbench.Batch) -> Tensor:
        if self.warming_up:
            return batch.cross_entropy("current")
        new, old, index = self.config.lambda_new, self.config.alpha, batch.experience.index
        if self.config.weighting == "by_experience":
            new, old = new / (index + 1), old * index / (index + 1)
        if self.config.weighting == "by_old_experiences":
            old *= index
        return new * batch.cross_entropy(self.config.cross_entropy_over) + old * self.distillation(batch)

    def distillation(self, batch: clbench.Batch) -> Tensor:
        targets, experience = batch.teacher_outputs, batch.experience
        groups = self.groups(experience, batch.logits.shape[1])
        if self.config.distillation_over == "seen" and experience.setting == "class_incremental":
            targets = nn.functional.pad(targets, (0, experience.seen_classes - experience.old_classes))
            groups = (experience.seen_classes,)
        factor = self.config.temperature**2 if self.config.temperature_squared else 1.0
        if self.config.experience_reduction == "mean":
            factor /= len(groups)
        if self.config.class_reduction == "mean":
            factor /= max(groups)
        return factor * losses.distillation(batch.logits[:, : sum(groups)], targets, self.config.temperature, groups)

    def groups(self, experience: clbench.Experience, outputs: int) -> Sequence[int]:
        """Sizes of the groups of neighbouring outputs over which the teacher's softmax ranges."""
        if experience.setting != "class_incremental" or self.config.distillation_over == "per_experience":
            return experience.old_groups
        return (outputs,) if self.config.distillation_over == "all" else (experience.old_classes,)
