"""Imprinted weights: rows and biases against the formula by hand, and what of the network stays as it was."""

from __future__ import annotations

import math

import pytest
import torch
from small_runs import SmallRun, builtin, colours, same

import clbench
from clbench import Recipe

RECIPE = Recipe(network="cnn", optimizer="sgd", lr=0.05, momentum=0.9, batch_size=16, epochs=3)
SIZES = (3, 1, 2)
OLD = torch.tensor([[3.0, 1.0], [1.0, 1.0]])
OLD_BIAS = torch.tensor([0.5, -0.5])
# w̄ = (2, 1), and both old rows are 1 away from it.


def test_a_new_row_is_the_mean_old_row_and_half_the_old_rows_length_in_the_direction_of_the_mean_feature() -> None:
    phi = torch.tensor([[0.0, 2.0], [0.0, 6.0], [4.0, 0.0], [1.0, 0.0]])
    # At length 1 they are (0, 1) twice and (1, 0) twice, whose sum (2, 2) has the direction (1, 1)/√2.
    weight, _ = builtin("imprint").rows(OLD, OLD_BIAS, [phi])
    expected = [2 + 0.5 / math.sqrt(2), 1 + 0.5 / math.sqrt(2)]
    torch.testing.assert_close(weight, torch.tensor([expected]))


def test_the_bias_is_what_images_need_that_the_row_was_not_made_of() -> None:
    phi = torch.tensor([[0.0, 2.0], [4.0, 0.0]])
    # Old logits: (2.5, 1.5) and (12.5, 3.5). Without an image the row has the other's direction: (2.5, 1) gives
    # (0, 2) a logit of 2, and (2, 1.5) gives (4, 0) one of 8. What is missing is 0.5 and 4.5: 2.5 ± 2√2.
    for deviations in (0.0, 1.0, 2.0):
        _, bias = builtin("imprint", deviations=deviations).rows(OLD, OLD_BIAS, [phi])
        torch.testing.assert_close(bias, torch.tensor([2.5 + deviations * 2 * math.sqrt(2)]))


def test_new_classes_of_an_experience_share_the_mean_of_their_biases() -> None:
    phi = [torch.tensor([[0.0, 2.0], [4.0, 0.0]]), torch.tensor([[1.0, 1.0], [2.0, 0.0], [3.0, 1.0]])]
    imprint = builtin("imprint")
    alone = [imprint.rows(OLD, OLD_BIAS, [each])[1] for each in phi]
    weight, bias = imprint.rows(OLD, OLD_BIAS, phi)
    torch.testing.assert_close(bias, ((alone[0] + alone[1]) / 2).expand(2))
    torch.testing.assert_close(weight, torch.cat([imprint.rows(OLD, OLD_BIAS, [each])[0] for each in phi]))


def test_what_all_old_rows_have_in_common_changes_no_answer() -> None:
    draw = torch.Generator().manual_seed(1)
    old, old_bias, common = torch.randn(4, 6, generator=draw), torch.randn(4, generator=draw), torch.randn(6)
    phi, x = torch.rand(9, 6, generator=draw), torch.rand(50, 6, generator=draw)
    scores = []
    for shift in (torch.zeros(6), 5 * common):
        weight, bias = builtin("imprint").rows(old + shift, old_bias, [phi])
        scores.append((x @ torch.cat([old + shift, weight]).T + torch.cat([old_bias, bias])).softmax(dim=1))
    torch.testing.assert_close(*scores, rtol=1e-3, atol=1e-4)


def test_of_one_image_the_bias_makes_its_new_logit_as_high_as_its_highest_old_one() -> None:
    phi = torch.tensor([[2.0, 1.0]])
    weight, bias = builtin("imprint").rows(OLD, OLD_BIAS, [phi])
    torch.testing.assert_close(phi @ weight.T + bias, (phi @ OLD.T + OLD_BIAS).max(dim=1, keepdim=True).values)


@pytest.mark.parametrize("head", ["growing", "fixed"])
def test_trunk_and_old_rows_stay_as_they_were_to_the_byte(head: str) -> None:
    run = SmallRun(builtin("imprint"), Recipe(**{**vars(RECIPE), "head": head}), colours(classes=6), SIZES).learn()
    assert [costs.gradient_steps > 0 for costs in run.experience_costs] == [True, False, False]
    seen = 0
    for size, before, after in zip(SIZES, run.models, run.models[1:], strict=False):
        seen += size
        assert same(before.blocks, after.blocks)
        for name in ("weight", "bias"):
            assert torch.equal(getattr(before.head, name)[:seen], getattr(after.head, name)[:seen])
        added = after.head.weight[seen : seen + 1]
        assert not torch.equal(added, before.head.weight[seen : seen + 1])


def test_one_class_at_a_time_is_learned_and_the_old_ones_are_kept() -> None:
    run = SmallRun(builtin("imprint"), RECIPE, colours(classes=6, per_class=40), (3, 1, 1, 1)).learn()
    network = run.trainer.model.in_evaluation()
    with torch.no_grad():
        answers = network(run.scaling(run.images.pixels)).argmax(dim=1)
    right = [(answers == run.positions)[run.positions == label].float().mean().item() for label in range(6)]
    assert min(sum(right[:3]) / 3, sum(right[3:]) / 3) > 0.8


def test_a_single_old_class_gives_each_new_one_a_row_of_its_own() -> None:
    """With one old row w, ρ would be 0, and all new rows w. Its length 5 takes the place of ρ."""
    weight, _ = builtin("imprint").rows(
        torch.tensor([[3.0, 4.0]]), torch.zeros(1), [torch.tensor([[2.0, 0.0]]), torch.tensor([[0.0, 1.0]])]
    )
    torch.testing.assert_close(weight, torch.tensor([[3 + 0.5 * 5, 4.0], [3.0, 4 + 0.5 * 5]]))


def test_an_image_is_answered_as_before_or_with_a_new_class() -> None:
    run = SmallRun(builtin("imprint"), RECIPE, colours(classes=6), SIZES).learn()
    x = run.scaling(run.images.pixels)
    with torch.no_grad():
        before, after = (model.in_evaluation()(x).argmax(dim=1) for model in run.models[:2])
    assert ((after == before) | (after == 3)).all()


def test_domain_incrementally_it_is_refused() -> None:
    with pytest.raises(clbench.UsageError, match="has no new ones"):
        type(builtin("imprint")).check_protocol(builtin("imprint").config, RECIPE, "domain_incremental")
