"""Learning without Forgetting: the old network's softened answers on the new data stand in for the old data.

    L = λ_new·CE(ŷ_new, y) + λ_old·KD_T(ŷ_old, y_old) + λ_r·R(θ)
    KD_T = -Σ_tasks Σ_c y'_c log ŷ'_c,   y'_c = y_c^(1/T) / Σ_j y_j^(1/T),   R = ½‖θ‖²

Step 1 records the old network's responses y_old to every new image; step 2 adds rows for the new classes, initialised
at random; an optional warm-up trains these rows alone; then everything trains together.

Source: Li & Hoiem 2016 (arXiv 1606.09282), figure 3 and equations 1 to 3.
Variant: by default `li2016`, the published one, on a single head: the new-class term ranges over the new classes only,
and the distillation has a softmax of its own for each earlier experience, where the paper has a head for each earlier
task. No factor T². R is added by the optimizer as weight decay, which has the same gradient. In the first experience,
which the paper takes as given, plain cross-entropy. Where the recipe augments images, step 1 cannot be done once, and a
frozen copy of the old network answers for every batch. The other presets are what other codebases call LwF.
"""

from collections.abc import Sequence
from typing import Annotated, Literal

from annotated_types import Ge, Gt
from torch import Tensor, nn

import clbench
from clbench import losses


@clbench.config
class Config:
    alpha: Annotated[float, Ge(0)] = 1.0
    """λ_old, weight of the distillation; dimensionless. The paper uses 1."""

    lambda_new: Annotated[float, Ge(0)] = 1.0
    """λ_new, weight of the new-class term; dimensionless. The paper uses 1."""

    weighting: Literal["constant", "by_experience"] = "constant"
    """Whether the two weights stay, or in experience n (from 1) are further multiplied by 1 - 1/n and 1/n."""

    lambda_r: Annotated[float, Ge(0)] = 0.0005
    """λ_r, weight of R, on top of the recipe's own weight decay; dimensionless. The paper uses 0.0005. Like the term of
    the old classes it acts from the second experience on; the first is trained by the recipe alone."""

    temperature: Annotated[float, Gt(0)] = 2.0
    """T; dimensionless. The paper uses 2."""

    temperature_squared: bool = False
    """Whether the distillation is multiplied by T²."""

    new_term: Literal["current", "seen", "all"] = "current"
    """Classes over which the cross-entropy's softmax ranges: the new ones (the paper), those of the setting (class-
    incrementally all seen so far), or all of the stream, for which the recipe's head must be fixed."""

    distil: Literal["per_experience", "old", "seen", "all"] = "per_experience"
    """Classes over which the distillation's softmax ranges: those of each earlier experience by itself (the paper), all
    old ones together, for the student all seen so far with a target of 0 for the new ones, or all of the stream.
    Task-incrementally each earlier experience by itself whatever is said here, domain-incrementally the shared ones."""

    over_experiences: Literal["sum", "mean"] = "sum"
    """Whether the distillation of several earlier experiences is summed (the paper) or averaged."""

    over_classes: Literal["sum", "mean"] = "sum"
    """Whether the distillation's cross-entropy is summed over the classes of its softmax (the paper) or averaged."""

    teacher: Literal["eval", "train"] = "eval"
    """Mode of the old network. `train` takes batch statistics in its normalisation, and answers for every batch."""

    warmup_epochs: Annotated[int, Ge(0)] = 0
    """Epochs, out of the recipe's, in which only the new rows of the head train, by the cross-entropy over the new
    classes alone."""

    old_rows: Literal["trained", "frozen"] = "trained"
    """Whether the head's rows of old classes go on training."""


class LwF(clbench.Strategy[Config]):
    stability = ("alpha", 10.0)
    warming_up = False
    presets = {
        "li2016": {
            "source": "Li & Hoiem 2016 (arXiv 1606.09282)",
            "loss": "CE(new) + Σ_experiences KD_T(their own classes) + λ_r·½‖θ‖², T = 2",
        },
        "vandeven2019": {
            "source": "van de Ven & Tolias 2019 (arXiv 1904.07734), its code as of April 2019",
            "loss": "1/n·CE(seen) + (1 - 1/n)·T²/C·KD_T(student over the C seen, new targets 0), T = 2",
            "set": {
                "lambda_r": 0.0,
                "weighting": "by_experience",
                "temperature_squared": True,
                "new_term": "seen",
                "distil": "seen",
                "over_experiences": "mean",
                "over_classes": "mean",
            },
        },
        "hsu2018": {
            "source": "Hsu et al. 2018 (arXiv 1810.12488); its code has no LwF, so the settings are vandeven2019's",
            "loss": "1/n·CE(seen) + (1 - 1/n)·T²/C·KD_T(student over the C seen, new targets 0), T = 2",
            "set": {
                "lambda_r": 0.0,
                "weighting": "by_experience",
                "temperature_squared": True,
                "new_term": "seen",
                "distil": "seen",
                "over_experiences": "mean",
                "over_classes": "mean",
            },
        },
        "vandeven2022": {
            "source": "van de Ven et al. 2022 (Nature Machine Intelligence), its code",
            "loss": "CE(all) + KD_T(all), T = 2",
            "set": {"lambda_r": 0.0, "new_term": "all", "distil": "all"},
        },
        "pycil": {
            "source": "PyCIL (arXiv 2112.12533), models/lwf.py",
            "loss": "CE(new) + 3·KD_T(old), T = 2",
            "set": {"lambda_r": 0.0, "alpha": 3.0, "distil": "old"},
        },
        "facil": {
            "source": "FACIL, Masana et al. 2020 (arXiv 2010.15277), approach/lwf.py",
            "loss": "CE(new) + KD_T(old), T = 2; old rows of the head do not train",
            "set": {"lambda_r": 0.0, "distil": "old", "old_rows": "frozen"},
        },
        "mammoth": {
            "source": "Mammoth, Buzzega et al. 2020 (arXiv 2004.07211), models/lwf.py",
            "loss": "CE(seen) + 0.5·KD_T(old), T = 2",
            "set": {"lambda_r": 0.0, "alpha": 0.5, "new_term": "seen", "distil": "old"},
        },
        "der2020": {
            "source": "Buzzega et al. 2020 (arXiv 2004.07211), first commit of its code, utils/best_args.py: CIFAR-10",
            "loss": "CE(seen) + 3·KD_T(old) + 0.0005‖θ‖², T = 2; 50 epochs of warm-up",
            "set": {"lambda_r": 0.001, "alpha": 3.0, "new_term": "seen", "distil": "old", "warmup_epochs": 50},
        },
        "avalanche": {
            "source": "Avalanche 0.6, training/plugins/lwf.py",
            "loss": "CE(seen) + KD_T(student over seen, new targets 0), T = 2; teacher in train mode",
            "set": {"lambda_r": 0.0, "new_term": "seen", "distil": "seen", "teacher": "train"},
        },
    }

    def start(self, model: clbench.Network) -> None:
        head, config = model.head, self.config
        if head.fixed and config.old_rows == "frozen":
            raise clbench.UsageError("lwf: with a fixed head no rows are new; it needs old_rows=trained")
        if not head.fixed and "all" in (config.new_term, config.distil):
            raise clbench.UsageError("lwf: a loss over all classes of the stream needs a recipe whose head is fixed")

    def first_loss(self) -> clbench.Classes:
        return "all" if self.config.new_term == "all" else "seen"

    def online_teacher(self) -> bool:
        return self.config.teacher == "train"

    def teacher_output(self, model: nn.Module, x: Tensor, experience: clbench.Experience) -> Tensor:
        logits = model.train(self.config.teacher == "train")(x)
        groups = self.groups(experience, logits.shape[1])
        return losses.soften(logits[:, : sum(groups)], self.config.temperature, groups)  # (n, groups, widest group)

    def frozen(self, model: clbench.Network, experience: clbench.Experience, epoch: int) -> Sequence[nn.Module]:
        self.warming_up = epoch < self.config.warmup_epochs
        trunk = (model.blocks,) if self.warming_up else ()
        # In a fixed head the warm-up's loss leaves the old rows alone.
        still = self.config.old_rows == "frozen" or (self.warming_up and not model.head.fixed)
        return (*trunk, model.head.old) if still else trunk

    def weight_decay(self, experience: clbench.Experience) -> float:
        return self.config.lambda_r

    def loss(self, batch: clbench.Batch) -> Tensor:
        index, term = batch.experience.index, self.config.new_term
        if self.warming_up:
            return batch.cross_entropy("current")
        new, old = self.config.lambda_new, self.config.alpha
        if self.config.weighting == "by_experience":
            new, old = new / (index + 1), old * index / (index + 1)
        return new * batch.cross_entropy(term) + old * self.distillation(batch)

    def distillation(self, batch: clbench.Batch) -> Tensor:
        targets, where = batch.teacher_outputs, batch.experience
        groups = self.groups(where, batch.logits.shape[1])
        if self.config.distil == "seen" and where.setting == "class_incremental":
            targets = nn.functional.pad(targets, (0, where.seen_classes - where.old_classes))
            groups = (where.seen_classes,)
        factor = self.config.temperature**2 if self.config.temperature_squared else 1.0
        if self.config.over_experiences == "mean":
            factor /= len(groups)
        if self.config.over_classes == "mean":
            factor /= max(groups)
        return factor * losses.distillation(batch.logits[:, : sum(groups)], targets, self.config.temperature, groups)

    def groups(self, where: clbench.Experience, outputs: int) -> Sequence[int]:
        """How many neighbouring outputs of the teacher share a softmax, and of the student unless that is wider."""
        if where.setting != "class_incremental" or self.config.distil == "per_experience":
            return where.old_groups
        return (outputs,) if self.config.distil == "all" else (where.old_classes,)
