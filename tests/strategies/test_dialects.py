"""The presets of LwF: each loss, and its gradient, beside a direct transcription of its formula in paper or code."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from small_runs import builtin, strategy_class
from torch import Tensor, nn

from clbench.base.batch import Batch
from clbench.base.config import configure
from clbench.base.experience import Experience
from clbench.base.incremental_setting import Setting
from clbench.base.strategy import config_class
from clbench.errors import UsageError
from clbench.networks.head import Head

SIZES = (2, 3, 2)
OLD, SEEN, N, T = 5, 7, 11, 2.0
"""Third experience: five old classes in groups of two and three, two new ones; eleven samples; every preset's T."""


class Answers(nn.Module):
    """A network that gives the same logits for whatever it is asked."""

    def __init__(self, logits: Tensor) -> None:
        super().__init__()
        self.logits = logits

    def forward(self, x: Tensor) -> Tensor:
        return self.logits


def preset(name: str, setting: Setting = "class_incremental", **more: Any) -> Any:
    """A preset, with `more` hyper-parameters; the paper too by the dialects' file, whose defaults it is."""
    cls = strategy_class("lwf_dialects")
    values = cls.presets.get(name, {})
    given = {**values.get("set", {}), **values.get("in_setting", {}).get(setting, {}), **more}
    return cls(configure(config_class(cls), given, "lwf"))


def draw(columns: int = SEEN, classes: range = range(OLD, SEEN), seed: int = 0) -> tuple[Tensor, Tensor, Tensor]:
    """Random student logits that want a gradient, random teacher logits, and labels."""
    generator = torch.Generator().manual_seed(seed)
    student = 3 * torch.randn(N, columns, generator=generator)
    teacher = 3 * torch.randn(N, columns, generator=generator)
    y = torch.randint(classes.start, classes.stop, (N,), generator=generator)
    return student.requires_grad_(), teacher, y


def loss_of(strategy: Any, student: Tensor, teacher: Tensor, y: Tensor, where: Experience) -> Tensor:
    recorded = strategy.teacher_output(Answers(teacher), torch.zeros(N, 1), where)
    loss: Tensor = strategy.loss(Batch(y, y, y, student, recorded, None, where))  # type: ignore[arg-type]
    return loss


def cross_entropy_by_hand(logits: Tensor, y: Tensor) -> Tensor:
    return -(logits[torch.arange(N), y] - torch.logsumexp(logits, dim=1)).mean()


def softened_by_power(logits: Tensor) -> Tensor:
    """As the papers write it: probabilities raised to 1/T and normalised again."""
    powered = torch.softmax(logits, dim=1) ** (1 / T)
    return powered / powered.sum(dim=1, keepdim=True)


def li2016(s: Tensor, t: Tensor, y: Tensor) -> Tensor:
    tasks = [(0, 2), (2, 5)]
    kd = [-(softened_by_power(t[:, a:b]) * softened_by_power(s[:, a:b]).log()).sum(dim=1).mean() for a, b in tasks]
    return cross_entropy_by_hand(s[:, OLD:], y - OLD) + kd[0] + kd[1]


def vandeven2019(s: Tensor, t: Tensor, y: Tensor) -> Tensor:
    log_scores = F.log_softmax(s / T, dim=1)
    targets = torch.cat([F.softmax(t[:, :OLD] / T, dim=1), torch.zeros(N, SEEN - OLD)], dim=1)
    kd = (-targets * log_scores).mean() * T**2  # the mean over samples and classes, as its code had it in April 2019
    return 1 / 3 * F.cross_entropy(s, y) + (1 - 1 / 3) * kd


def pycil(s: Tensor, t: Tensor, y: Tensor) -> Tensor:
    kd = -(torch.softmax(t[:, :OLD] / T, dim=1) * torch.log_softmax(s[:, :OLD] / T, dim=1)).sum() / N
    return F.cross_entropy(s[:, OLD:], y - OLD) + 3 * kd


def facil(s: Tensor, t: Tensor, y: Tensor) -> Tensor:
    kd = -(softened_by_power(t[:, :OLD]) * softened_by_power(s[:, :OLD]).log()).sum(dim=1).mean()
    return F.cross_entropy(s[:, OLD:], y - OLD) + kd


def mammoth(s: Tensor, t: Tensor, y: Tensor) -> Tensor:
    kd = -(softened_by_power(t[:, :OLD]) * softened_by_power(s[:, :OLD]).log()).sum(dim=1).mean()
    return F.cross_entropy(s, y) + 0.5 * kd


def der2020(s: Tensor, t: Tensor, y: Tensor) -> Tensor:
    kd = -(softened_by_power(t[:, :OLD]) * softened_by_power(s[:, :OLD]).log()).sum(dim=1).mean()
    return F.cross_entropy(s, y) + 3 * kd


def avalanche(s: Tensor, t: Tensor, y: Tensor) -> Tensor:
    # ContinualAI/avalanche v0.6.0, avalanche/training/regularization.py, lines 83 to 99; since v0.2.0 the old units are
    # selected before the student's softmax, not after it.
    log_p = torch.log_softmax(s[:, :OLD] / T, dim=1)
    q = torch.softmax(t[:, :OLD] / T, dim=1)
    return F.cross_entropy(s, y) + F.kl_div(log_p, q, reduction="batchmean")


TRANSCRIPTIONS: dict[str, Callable[[Tensor, Tensor, Tensor], Tensor]] = {
    "li2016": li2016,
    "vandeven2019": vandeven2019,
    "hsu2018": vandeven2019,
    "pycil": pycil,
    "facil": facil,
    "mammoth": mammoth,
    "der2020": der2020,
    "avalanche": avalanche,
}


@pytest.mark.parametrize("name", TRANSCRIPTIONS)
def test_a_presets_loss_and_its_gradient_are_those_of_its_formula(name: str) -> None:
    student, teacher, y = draw()
    where = Experience(2, SIZES)
    ours = loss_of(preset(name), student, teacher[:, :OLD], y, where)
    theirs = TRANSCRIPTIONS[name](student, teacher, y)
    (our_gradient,) = torch.autograd.grad(ours, student)
    (their_gradient,) = torch.autograd.grad(theirs, student)
    torch.testing.assert_close(our_gradient, their_gradient, rtol=1e-4, atol=1e-6)
    if name == "avalanche":  # which has the divergence in place of the cross-entropy: less by the teacher's entropy
        q = torch.softmax(teacher[:, :OLD] / T, dim=1)
        theirs = theirs - (q * q.log()).sum(dim=1).mean()
    torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-5)


def test_the_avalanche_preset_has_the_gradient_of_avalanches_own_regularizer() -> None:
    regularization = pytest.importorskip("avalanche.training.regularization")
    student, teacher, y = draw()
    ours = loss_of(preset("avalanche"), student, teacher[:, :OLD], y, Experience(2, SIZES))
    plugin = regularization.LearningWithoutForgetting(alpha=1, temperature=T)
    theirs = F.cross_entropy(student, y) + plugin._distillation_loss(student, teacher[:, :OLD], range(OLD))
    torch.testing.assert_close(torch.autograd.grad(ours, student), torch.autograd.grad(theirs, student))


@pytest.mark.parametrize("n", [2, 4])
def test_vandeven2022_multiplies_the_distillation_by_the_number_of_earlier_experiences_domain_incrementally(
    n: int,
) -> None:
    # GMvandeVen/continual-learning 0fa419e, models/classifier.py: loss_replay *= (context-1), except scenario 'class'.
    student, teacher, y = draw(columns=2, classes=range(2))
    strategy = preset("vandeven2022", "domain_incremental")
    ours = loss_of(strategy, student, teacher, y, Experience(n - 1, (2, 2, 2, 2), "domain_incremental"))
    kd = -(F.softmax(teacher / T, dim=1) * F.log_softmax(student / T, dim=1)).sum(dim=1).mean()
    theirs = F.cross_entropy(student, y) + (n - 1) * kd
    torch.testing.assert_close(ours, theirs)
    torch.testing.assert_close(torch.autograd.grad(ours, student), torch.autograd.grad(theirs, student))


def test_vandeven2022_ranges_over_all_outputs_of_a_fixed_head() -> None:
    student, teacher, y = draw(columns=10)
    where = Experience(2, (*SIZES, 3))
    ours = loss_of(preset("vandeven2022"), student, teacher, y, where)
    kd = -(F.softmax(teacher / T, dim=1) * F.log_softmax(student / T, dim=1)).sum(dim=1).mean()
    theirs = F.cross_entropy(student, y) + kd
    torch.testing.assert_close(ours, theirs)
    torch.testing.assert_close(torch.autograd.grad(ours, student), torch.autograd.grad(theirs, student))


def test_every_preset_is_tested() -> None:
    assert {*TRANSCRIPTIONS, "vandeven2022"} == {
        *strategy_class("lwf").presets,
        *strategy_class("lwf_dialects").presets,
    }


def test_no_two_presets_of_different_codebases_have_the_same_loss() -> None:
    student, teacher, y = draw()
    names = [name for name in TRANSCRIPTIONS if name != "hsu2018"]
    values = [loss_of(preset(name), student, teacher[:, :OLD], y, Experience(2, SIZES)).item() for name in names]
    assert len({round(value, 4) for value in values}) == len(names)


@pytest.mark.parametrize("name", ["li2016", "pycil", "facil", "mammoth", "avalanche"])
def test_distillation_has_no_gradient_where_the_student_is_the_teacher(name: str) -> None:
    student, _, y = draw()
    where = Experience(2, SIZES)
    strategy = preset(name, lambda_new=0)
    (gradient,) = torch.autograd.grad(loss_of(strategy, student, student.detach()[:, :OLD], y, where), student)
    assert gradient.abs().max() < 1e-6


@pytest.mark.parametrize("name", TRANSCRIPTIONS)
def test_without_distillation_a_preset_is_its_classification_loss(name: str) -> None:
    student, teacher, y = draw()
    strategy = preset(name, alpha=0, weighting="constant")
    ours = loss_of(strategy, student, teacher[:, :OLD], y, Experience(2, SIZES))
    current = strategy.config.cross_entropy_over == "current"
    theirs = F.cross_entropy(student[:, OLD:], y - OLD) if current else F.cross_entropy(student, y)
    torch.testing.assert_close(ours, theirs)


def test_at_temperature_1_the_teachers_answers_are_its_probabilities() -> None:
    _, teacher, _ = draw()
    recorded = preset("pycil", temperature=1).teacher_output(
        Answers(teacher[:, :OLD]), torch.zeros(N, 1), Experience(2, SIZES)
    )
    torch.testing.assert_close(recorded.squeeze(1), teacher[:, :OLD].softmax(dim=1))


def test_task_incrementally_each_earlier_experience_is_distilled_by_itself_and_only_the_own_one_classified() -> None:
    student, teacher, y = draw()
    where = Experience(2, SIZES, "task_incremental")
    ours = loss_of(preset("pycil"), student, teacher[:, :OLD], y, where)
    kd = sum(
        -(F.softmax(teacher[:, a:b] / T, dim=1) * F.log_softmax(student[:, a:b] / T, dim=1)).sum(dim=1).mean()
        for a, b in ((0, 2), (2, 5))
    )
    torch.testing.assert_close(ours, F.cross_entropy(student[:, OLD:], y - OLD) + 3 * kd)


def test_vandeven2019_averages_over_earlier_experiences_task_incrementally() -> None:
    student, teacher, y = draw(columns=6, classes=range(4, 6))
    where = Experience(2, (2, 2, 2), "task_incremental")
    ours = loss_of(preset("vandeven2019", "task_incremental"), student, teacher[:, :4], y, where)
    replayed = [
        -(F.softmax(teacher[:, a : a + 2] / T, dim=1) * F.log_softmax(student[:, a : a + 2] / T, dim=1)).mean() * T**2
        for a in (0, 2)
    ]
    theirs = 1 / 3 * F.cross_entropy(student[:, 4:], y - 4) + 2 / 3 * (replayed[0] + replayed[1]) / 2
    torch.testing.assert_close(ours, theirs)


@pytest.mark.parametrize("name", ["li2016", "pycil", "vandeven2019"])
def test_domain_incrementally_both_terms_range_over_the_shared_outputs(name: str) -> None:
    student, teacher, y = draw(columns=2, classes=range(2))
    strategy = preset(name, weighting="constant", temperature_squared=False, class_reduction="sum", alpha=1)
    ours = loss_of(strategy, student, teacher, y, Experience(3, (2, 2, 2, 2), "domain_incremental"))
    kd = -(F.softmax(teacher / T, dim=1) * F.log_softmax(student / T, dim=1)).sum(dim=1).mean()
    torch.testing.assert_close(ours, F.cross_entropy(student, y) + kd)


def test_hsu2018_whose_code_has_no_lwf_has_the_settings_of_vandeven2019() -> None:
    ours, theirs = (strategy_class("lwf_dialects").presets[name] for name in ("hsu2018", "vandeven2019"))
    assert ours["set"] == theirs["set"] and ours["loss"] == theirs["loss"]
    assert ours.get("in_setting") == theirs.get("in_setting")


def test_the_teacher_answers_in_evaluation_mode_unless_the_preset_copies_the_fault() -> None:
    seen: list[bool] = []

    class Asked(Answers):
        def forward(self, x: Tensor) -> Tensor:
            seen.append(self.training)
            return self.logits

    for name in ("li2016", "avalanche"):
        preset(name).teacher_output(Asked(torch.zeros(N, OLD)), torch.zeros(N, 1), Experience(2, SIZES))
    assert seen == [False, True]
    assert not preset("li2016").online_teacher() and preset("avalanche").online_teacher()


def test_what_needs_a_fixed_head_or_a_growing_one_says_so_before_training() -> None:
    class Model:
        head = Head(4)

    with pytest.raises(UsageError, match="needs a recipe with a fixed head"):
        preset("vandeven2022").start(Model())
    Model.head.fix(4, seed=0)
    preset("vandeven2022").start(Model())
    with pytest.raises(UsageError, match="growing head"):
        preset("facil").start(Model())


@pytest.mark.parametrize("setting", ["class_incremental", "task_incremental", "domain_incremental"])
def test_the_papers_file_and_the_defaults_of_the_dialects_are_the_same_loss_to_the_bit(setting: Setting) -> None:
    columns = 2 if setting == "domain_incremental" else SEEN
    student, teacher, y = draw(columns, range(2) if columns == 2 else range(OLD, SEEN))
    where = Experience(2, (2, 2, 2) if columns == 2 else SIZES, setting)
    paper, family = builtin("lwf", alpha=3, temperature=3), builtin("lwf_dialects", alpha=3, temperature=3)
    teacher = teacher[:, : where.old_classes]
    one, other = (loss_of(strategy, student, teacher, y, where) for strategy in (paper, family))
    assert torch.equal(one, other)
    assert torch.equal(*(torch.autograd.grad(loss, student)[0] for loss in (one, other)))


@pytest.mark.parametrize("name", ["lwf", "ewc"])
def test_the_defaults_of_the_dialects_are_the_papers(name: str) -> None:
    assert vars(builtin(name).config).items() <= vars(builtin(f"{name}_dialects").config).items()
    assert builtin(name).stability == builtin(f"{name}_dialects").stability


def test_while_only_the_new_rows_warm_up_the_loss_is_the_cross_entropy_over_the_new_classes() -> None:
    student, teacher, y = draw()
    strategy, where = preset("der2020"), Experience(2, SIZES)

    class Model:
        blocks, head = object(), Head(4)

    Model.head.fix(SEEN, seed=0)
    blocks, others = strategy.frozen(Model(), where, epoch=49)
    assert blocks is Model.blocks and (others.first, others.end) == (OLD, SEEN)
    warm = loss_of(strategy, student, teacher[:, :OLD], y, where)
    torch.testing.assert_close(warm, F.cross_entropy(student[:, OLD:], y - OLD))
    assert not torch.autograd.grad(warm, student)[0][:, :OLD].any()
    assert strategy.frozen(Model(), where, epoch=50) == ()
    torch.testing.assert_close(loss_of(strategy, student, teacher[:, :OLD], y, where), der2020(student, teacher, y))
