"""Evaluates a run's network: after each experience, within experiences, and before it is trained."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from clbench.audit import object_graph
from clbench.audit.audit import Audit
from clbench.audit.batch_independence import check_batch_independence
from clbench.base.experience import Experience
from clbench.base.incremental_setting import Setting
from clbench.base.recipe import Recipe
from clbench.base.strategy import Strategy
from clbench.evaluation.test_set import Score, TestSet
from clbench.networks.network import Network
from clbench.results.run_spec import RunSpec
from clbench.runs.checkpoint import Checkpoint
from clbench.runs.result_building import Recorder
from clbench.system.seeds import derive
from clbench.training.head_rows import grow_head, prepare_head
from clbench.training.loop import Trainer


def state_of(strategy: Strategy[Any]) -> dict[str, Any]:
    """Return what a strategy keeps: its attributes without its config."""
    return {name: value for name, value in vars(strategy).items() if name != "config"}


@contextmanager
def in_evaluation(modules: Sequence[nn.Module]) -> Iterator[None]:
    """Set modules, and all in them, to evaluation mode, and back to the modes that they had."""
    modes = [(part, part.training) for module in modules for part in module.modules()]
    for module in modules:
        module.eval()
    try:
        yield
    finally:
        for part, training in modes:
            part.training = training


@dataclass(frozen=True)
class Evaluator:
    """Predicts the test set, and finds what a strategy must not do meanwhile."""

    spec: RunSpec
    test_set: TestSet
    strategy: Strategy[Any]
    audit: Audit
    recorder: Recorder

    def after_experience(self, trainer: Trainer) -> dict[Setting, Any]:
        """Return the predictions after the experience that was just trained, by reading."""
        before = self._fingerprint(trainer)
        with self.audit.evaluating():
            predictions = self._predicted(trainer, self._score(trainer), self.ahead)
            seed = derive(self.spec.seeds.training, "probe")
            check_batch_independence(self.test_set, trainer.model, self._score(trainer), seed, self.audit)
        self.audit.check_unchanged(before, self._fingerprint(trainer))
        return predictions

    def within_experience(self, trainer: Trainer, done: Checkpoint, steps: int) -> dict[str, float]:
        """Count correct predictions after this many `steps` of an experience; return the accuracies, none at its
        end."""
        if steps == trainer.steps:
            return {}  # the evaluation at its end follows
        index = trainer.experience.index
        before = self._fingerprint(trainer)
        with self.audit.evaluating(), in_evaluation(trainer.own_modules):
            predictions = self._predicted(trainer, self._score(trainer, within=True))
        self.audit.check_unchanged(before, self._fingerprint(trainer))
        past = sum(each.gradient_steps for each in done.experiences)
        right, shares = self.recorder.within(predictions, index)
        done.within.append((past + steps, index, right))
        return shares

    @property
    def ahead(self) -> bool:
        """Whether experiences can be judged before they are learned: they are domains, whose outputs exist already."""
        scenario = self.spec.scenario
        return scenario.domains is not None and scenario.setting == "domain_incremental"

    def before_training(self, initial: Network, recipe: Recipe) -> Any:
        """Return the classes (n,) that the network predicts with its initial weights, once it has a head."""
        seed, sizes = self.spec.seeds.network, self.spec.scenario.classes_per_experience
        where = Experience(0, sizes, self.spec.scenario.setting)
        model = copy.deepcopy(initial)
        prepare_head(model, recipe.at(0), where, seed)
        grow_head(model, where, seed)
        with self.audit.evaluating():
            return self.test_set.predict(model.to(self.test_set.images.device), None, sum(sizes))[where.setting]

    def _predicted(self, trainer: Trainer, score: Score, ahead: bool = False) -> dict[Setting, Any]:
        """Predict the test samples of the experiences so far, or of all, including those `ahead`."""
        sizes = trainer.experience.classes_per_experience
        learned = sum(sizes if ahead else sizes[: trainer.experience.index + 1])
        predictions: dict[Setting, Any] = self.test_set.predict(trainer.model, score, learned)
        return predictions

    def _score(self, trainer: Trainer, within: bool = False) -> Score:
        """Return the scores that the strategy gives after the current experience, or `within` it, as a function of
        network and images."""
        shown, predict = trainer.shown_experience, self.strategy.predict_within if within else self.strategy.predict

        def score(network: Network, x: torch.Tensor) -> torch.Tensor:
            scores: torch.Tensor = predict(network, x, shown)
            return scores

        return score

    def _fingerprint(self, trainer: Trainer) -> str:
        return object_graph.weights_sha256(trainer.model) + object_graph.contents_sha256(state_of(self.strategy))
