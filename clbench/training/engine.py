"""The training loop: Avalanche's SupervisedTemplate with whole batches, a growing head and a strategy's hooks.

Avalanche drives the loop and calls its plug-ins; each method here that it calls says what this engine does at that
point. The only modules of clbench that import Avalanche are this one and streams/stream.py.
"""

from __future__ import annotations

import copy
import itertools
import math
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from typing import Any, cast

import torch
from torch import Tensor

from clbench.avalanche.importing import importing_avalanche
from clbench.base.events import Listener, TrainingProgress
from clbench.base.recipe import Recipe
from clbench.base.settings import Setting
from clbench.base.strategy import Batch, Experience, Strategy, has_teacher
from clbench.data.batches import Images, Scaling, augment
from clbench.errors import Divergence, PluginError, UsageError
from clbench.networks.network import Network
from clbench.streams.stream import ClassIncrementalStream
from clbench.system.randomness import randomness_untouched, seed_everything
from clbench.system.seeds import derive
from clbench.system.signals import Interruption
from clbench.training.costs import Costs, PhaseTimer
from clbench.training.cuda_graphs import Inputs, Recorder, Replay
from clbench.training.experience_data import ExperienceData
from clbench.training.fine_tuning import FineTuning
from clbench.training.optimizers import build_optimizer, set_rate
from clbench.training.schedules import Plateau, scheduled_rate

with importing_avalanche():
    from avalanche.training.plugins import EvaluationPlugin, SupervisedPlugin
    from avalanche.training.templates import SupervisedTemplate

# Losses are looked at in bunches: asking a GPU for each would make it wait for every step.
_LOSSES_AT_ONCE = 50
_SECONDS_BETWEEN_REPORTS = 0.2
_EVENTS_OF_A_BATCH = (
    "before_training_iteration",
    "before_forward",
    "after_forward",
    "before_backward",
    "after_backward",
    "before_update",
    "after_update",
    "after_training_iteration",
)


class Engine(SupervisedTemplate):  # type: ignore[misc]
    """Trains one strategy on one stream, experience by experience."""

    def __init__(
        self,
        *,
        model: Network,
        strategy: Strategy[Any],
        recipe: Recipe,
        benchmark: ClassIncrementalStream,
        images: Images,
        scaling: Scaling,
        labels: Tensor,
        classes_per_experience: tuple[int, ...],
        setting: Setting,
        seeds: dict[str, int],
        new_model: Callable[[], Network],
        run: str,
        interruption: Interruption,
        notify: Listener,
        wait: Callable[[], None] | None = None,
        recorder: Recorder | None = None,
    ) -> None:
        """`labels` (n,) of all `images` are the outputs that stand for their classes in the `setting`; `new_model`
        gives the run's initial network again; `wait` as in PhaseTimer; with a `recorder` steps are replayed where
        nothing is different for it."""
        super().__init__(
            model=model,
            optimizer=torch.optim.SGD(model.parameters(), lr=recipe.lr),  # replaced at every experience
            train_mb_size=recipe.batch_size,
            train_epochs=recipe.epochs,
            device=images.device,
            evaluator=_no_metrics(),
        )
        # It has nothing to do, and being called at every step it would cost as much as a small network's update.
        self.plugins.remove(self.evaluator)
        theirs = list(strategy.plugins())
        self.hears_plugins = bool(theirs)
        """Whether the strategy brings plug-ins of Avalanche."""
        self.plugins[:0] = theirs  # before Avalanche's clock, which must be the last
        self.strategy, self.protocol, self.benchmark = strategy, recipe, benchmark
        self.recipe = recipe.at(0)
        """The recipe in the current experience."""
        self.images, self.scaling = images, scaling
        self.data = ExperienceData(benchmark.rows, images, scaling, labels.to(images.device), seeds["training"])
        self.classes_per_experience, self.setting = classes_per_experience, setting
        self.seeds, self.new_model = seeds, new_model
        self.optimizer_state: dict[str, Any] | None = None
        """What the optimizer of the last experience left, where the recipe carries it on."""
        self.run, self.interruption, self.notify = run, interruption, notify
        self.costs, self.timer = Costs(), PhaseTimer(wait)
        self.recorder = recorder
        self._asked_for = 0
        """Images that the strategy asked for beyond its batches."""
        self.mbatch: Any = None
        self._teacher: Network | None = None
        self._leave_out_unheard_events()

    # -- one experience -----------------------------------------------------------------------------------------------

    def learn(self, index: int) -> Costs:
        """Train experience `index`, which must follow the last one, and return what it cost.

        Raises Divergence for a loss that is NaN or infinite, PluginError for one that is no scalar.
        """
        if self.fit(index):
            self.conclude()
        return self.costs

    def fit(self, index: int) -> bool:
        """Train experience `index` without `after_experience`; return whether the strategy trains there at all."""
        self.begin(index)
        return self.train_current()

    def begin(self, index: int) -> None:
        """Get ready for experience `index`: what is the same however it is then learned."""
        self.timer.enter("data")
        self.costs = Costs()
        self.recipe = self.protocol.at(index)
        self.where = Experience(index, self.classes_per_experience, self.setting)
        seed_everything(derive(self.seeds["training"], "global", index))
        if index == 0:
            self._fix_head()
        self._own, self.validation_set = self.data.divided(index, self.recipe.validation)
        plain = self.strategy.first_loss() if index == 0 else None
        if plain and self.hears_plugins:
            raise PluginError(f"{type(self.strategy).__name__} has a plain start and plug-ins, which act in it")
        # In the first experience the current classes are those seen.
        self.acting = self.strategy if plain is None else FineTuning("all" if plain == "all" else "seen")
        """The strategy, or what stands in for it in a plain start."""

    @property
    def first_loss_is_shared(self) -> bool:
        """Whether the strategy has no part in training the experience that was begun."""
        return self.acting is not self.strategy

    def train_current(self) -> bool:
        """Train the experience that was begun; return whether the strategy trains there at all."""
        index = self.where.index
        self.timer.enter("strategy")
        self._choice = self.acting.training_data(replace(self.where, samples=self._own))
        self.timer.enter("data")
        self.costs.learned = self._choice is not None
        if self._choice in (None, "read"):
            self._grow_head()
            return self.costs.learned
        self._order = torch.Generator().manual_seed(derive(self.seeds["training"], "order", index))
        self._changes = torch.Generator().manual_seed(derive(self.seeds["training"], "augmentation", index))
        self.clock.train_exp_counter = index  # which Avalanche's plug-ins read, and which a resumed run has not counted
        self.train(self.benchmark.train_stream[index], eval_streams=[])
        self.model.freeze(())
        self.model.zero_grad()
        self._teacher = None
        if self.recipe.optimizer_state == "carried":
            self.optimizer_state = self.optimizer.state_dict()
        return True

    def conclude(self) -> None:
        """Let the strategy take what it needs of the experience that was trained."""
        self.timer.enter("strategy")
        self.strategy.after_experience(self.model, replace(self.where, samples=self._own))

    def release(self) -> None:
        """Let go of network, optimizer and data; the engine cannot be used afterwards.

        It and Avalanche's objects refer to each other, and would stay in memory until Python looks for such circles.
        """
        self.__dict__.clear()

    def train_dataset_adaptation(self, **kwargs: Any) -> None:
        """Choose the experience's training samples."""
        if self.hears_plugins:
            self.adapted_dataset = self.experience.dataset
        self.training_set = self._own
        if self._choice == "seen":
            past = [self.data.divided(index, self.recipe.validation)[0] for index in range(self.where.index)]
            self.costs.past_data_bytes = sum(map(len, past)) * self.images.pixels[0].nbytes
            self.training_set = self.data.joined([*past, self._own])
        if self._choice in ("memory", "with_memory"):
            alone = self._choice == "memory"
            self.training_set = self.data.with_exemplars(self._own, self.strategy, alone)
        samples = len(self.training_set)
        steps = samples / self.recipe.batch_size
        self._epoch_steps = int(steps) if self.recipe.drop_last else math.ceil(steps)
        if self._epoch_steps == 0:
            raise UsageError(f"experience {self.where.index} has {samples} samples, fewer than a batch has")
        self._steps = self.recipe.iterations or self._epoch_steps * self.recipe.epochs
        self.train_epochs = math.ceil(self._steps / self._epoch_steps)

    def make_train_dataloader(self, **kwargs: Any) -> None:
        """Nothing yet: the batches are served afresh for every epoch."""

    def check_model_and_optimizer(self, **kwargs: Any) -> None:
        """Record the old network's answers, grow the head, and make a new optimizer for what is then to be trained."""
        self.timer.enter("strategy")
        afresh = self.acting.reinitialize(self.where)
        if afresh:
            self._start_afresh()
        else:
            if self.where.index > 0 and has_teacher(self.acting):
                self._record()
            self._grow_head()
        self.acting.before_experience(self.model, self.where)
        self.timer.enter("optimizer")
        decay = self.recipe.weight_decay + self.acting.weight_decay(self.where)
        carried = None if afresh else self.optimizer_state
        self.optimizer = build_optimizer(self.recipe, list(self.model.parameters()), decay, carried)
        self._adjusts_gradients = type(self.acting).before_step is not Strategy.before_step
        self._follows_steps = type(self.acting).after_step is not Strategy.after_step
        self._plateau = Plateau(self.recipe) if self.recipe.schedule == "plateau" else None
        self._replay = self._prepare_replay()
        self._losses: list[Tensor] = []
        self._reported = self._began = time.perf_counter()

    def _record(self) -> None:
        began = time.perf_counter()
        old = copy.deepcopy(self.model).eval().requires_grad_(False)
        if self.recipe.augmentation.active or self.acting.online_teacher():
            self._teacher = old
            self.costs.recorded = "live"
        else:
            self.training_set.teacher_outputs = self.training_set.collect(lambda x: self._answer(old, x))
            if self._watches:
                self.validation_set.teacher_outputs = self.validation_set.collect(lambda x: self._answer(old, x))
            self.costs.recorded_bytes = self.training_set.teacher_outputs.nbytes
            self.costs.recorded = "recorded"
        self.costs.recording_seconds = time.perf_counter() - began

    def _answer(self, old: Network, x: Tensor) -> Tensor:
        with torch.no_grad(), self._precision():
            return self.acting.teacher_output(old, x, self.where).float()

    def _start_afresh(self) -> None:
        self.model = self.new_model()
        self._fix_head()
        for index in range(self.where.index + 1):
            self._grow_head(index)
        self.model = self.model.to(self.device).train()

    def _fix_head(self) -> None:
        if self.recipe.head == "fixed":
            sizes = self.classes_per_experience
            outputs = sizes[0] if self.setting == "domain_incremental" else sum(sizes)
            self.model.head.fix(outputs, derive(self.seeds["model"], "head"))
            self.model.head.to(self.device)

    def _grow_head(self, index: int | None = None) -> None:
        index = self.where.index if index is None else index
        head, sizes = self.model.head, self.classes_per_experience
        if index == 0 or self.setting != "domain_incremental":
            head.grow(sizes[index], derive(self.seeds["model"], "head", index))
        elif index == 1:
            head.share()

    def _train_exp(self, experience: Any, eval_streams: Any = None, **kwargs: Any) -> None:
        """Avalanche's loop over the epochs, timed, with interruptions held back to the next batch."""
        began = time.perf_counter()
        self._epoch = 0
        self.interruption.defer(True)
        try:
            super()._train_exp(experience, eval_streams, **kwargs)
        finally:
            self.interruption.defer(False)
        if self.device.type == "cuda":
            torch.cuda.synchronize()
        if self._replay is not None:
            self.costs.captured_steps, self.costs.not_captured = self._replay.steps, self._replay.reason
            self._replay = None
        self.costs.training_seconds = time.perf_counter() - began

    # -- one epoch ----------------------------------------------------------------------------------------------------

    def _before_training_epoch(self, **kwargs: Any) -> None:
        """Freeze what the strategy wants frozen, and get the batches ready."""
        self.timer.enter("strategy")
        self.model.freeze(self.acting.frozen(self.model, self.where, self._epoch))
        self.timer.enter("data")
        if self.model.trunk_is_frozen and not self.recipe.augmentation.active:
            if self.training_set.features is None:
                self.training_set.features = self.training_set.collect(self._features)
                self.costs.features_cached = True
        else:
            self.training_set.features = None
        batches = self.training_set.epoch(self.recipe.batch_size, self._order, self.recipe.augmentation, self._changes)
        left = self._steps - self.costs.gradient_steps
        self.dataloader: Iterator[Inputs] = itertools.islice(batches, min(left, self._epoch_steps))
        super()._before_training_epoch(**kwargs)

    def _after_training_epoch(self, **kwargs: Any) -> None:
        self._check_losses()
        self._epoch += 1
        if self._plateau is not None:
            self._follow_plateau(self._plateau)
        super()._after_training_epoch(**kwargs)

    @property
    def _watches(self) -> bool:
        return self.recipe.schedule == "plateau"

    def _follow_plateau(self, plateau: Plateau) -> None:
        rate = plateau.after_epoch(self._validation_loss(), self.model)
        if rate is None or self._epoch == self.train_epochs:
            self.model.load_state_dict(plateau.best)
            self.stop_training()
            return
        set_rate(self.optimizer, rate)

    def _validation_loss(self) -> float:
        """Return the strategy's mean loss on the validation data, in evaluation mode."""
        total = 0.0
        self.model.eval()
        with torch.no_grad(), randomness_untouched():
            for x, y, rows, recorded in self.validation_set.in_order(self.recipe.batch_size):
                if self._teacher is not None:
                    recorded = self._answer(self._teacher, x)
                batch = Batch(x, y, rows, x, recorded, self.model, self.where)
                with self._precision():
                    batch.logits = self.model(x).float()
                total += float(self.acting.loss(batch)) * len(y)
        self.model.train()
        return total / len(self.validation_set)

    @torch.no_grad()
    def validation_accuracy(self) -> float:
        """Return the accuracy on the current experience's validation data, among the experience's own outputs."""
        sizes = self.where.classes_per_experience
        first = 0 if self.setting == "domain_incremental" else sum(sizes[: self.where.index])
        network = copy.deepcopy(self.model).eval()
        correct = 0
        for x, y in self.validation_set.batches(self.images.inference_batch):
            with self._precision():
                logits = network(x)[:, first : first + sizes[self.where.index]]
            correct += int((first + logits.argmax(dim=1) == y).sum())
        return correct / len(self.validation_set)

    def _features(self, x: Tensor) -> Tensor:
        with self._precision():
            return cast(Tensor, self.model.blocks(x)).float()

    # -- one batch ----------------------------------------------------------------------------------------------------

    def _prepare_replay(self) -> Replay | None:
        """Return what replays the steps of this experience; None where each is done one operation after another."""
        if self.recorder is None:
            return None
        if self.hears_plugins or self._adjusts_gradients or self._follows_steps:
            self.costs.not_captured = "the strategy acts between the operations of a step"
            return None
        return Replay(
            self._whole_step,
            self.model,
            self.optimizer,
            self.acting,
            lambda: self._asked_for,
            self.recorder,
        )

    def _whole_step(self, inputs: Inputs) -> Tensor:
        """Do what Avalanche's loop does for a batch, without its events; return the loss."""
        x, y, rows, recorded = inputs
        if self._teacher is not None:
            recorded = self._answer(self._teacher, cast(Tensor, x))
        self.batch = Batch(x, y, rows, x, recorded, self.model, self.where, self)  # type: ignore[arg-type]
        self.optimizer.zero_grad()
        self.forward()
        loss = self._loss()
        loss.backward()
        self.optimizer.step()
        return loss.detach()

    def training_epoch(self, **kwargs: Any) -> None:
        """Replay the steps that can be; leave the others to Avalanche's loop."""
        if self._replay is None:
            super().training_epoch(**kwargs)
            return
        self._replay.begin_epoch()
        batches = self.dataloader
        for batch in batches:
            self.interruption.check()
            self._follow_schedule()
            self.timer.enter("captured")
            loss = self._replay.train(batch)
            if loss is None:
                self.dataloader = iter([batch])
                super().training_epoch(**kwargs)
            else:
                self._losses.append(loss)
                self._account(len(cast(Tensor, batch[1])))

    def _unpack_minibatch(self) -> None:
        """Make of the served tensors what Avalanche's plug-ins read (mbatch: x, y, task label) and what `loss` gets."""
        self.interruption.check()
        x, y, rows, recorded = self.mbatch
        if self._teacher is not None:
            self.timer.enter("strategy")
            recorded = self._answer(self._teacher, x)
        self.timer.enter("optimizer")
        self.mbatch = [x, y, torch.zeros_like(y)]
        self.batch = Batch(x, y, rows, x, recorded, self.model, self.where, self)
        self._follow_schedule()

    def _follow_schedule(self) -> None:
        if self.recipe.schedule in ("cosine", "milestones"):
            steps = self.costs.gradient_steps
            set_rate(self.optimizer, scheduled_rate(self.recipe, steps, self._steps, self._epoch_steps))

    def original(self, rows: Tensor) -> Tensor:
        """Return training images as they are stored; see strategy.Source."""
        self._asked_for += len(rows)
        return self.images.take(rows)

    def prepare(self, images: Tensor) -> Tensor:
        """Augment and scale images that a strategy kept, and count them as seen; see strategy.Source."""
        self._asked_for += len(images)
        self.costs.samples_seen += len(images)
        augmentation = self.recipe.augmentation
        return self.scaling(augment(images, augmentation, self._changes) if augmentation.active else images)

    def forward(self) -> Tensor:
        """Return the logits, (n, rows of the head)."""
        self.timer.enter("forward")
        with self._precision():
            network = self.model if self.training_set.features is None else self.model.head
            self.batch.logits = network(self.batch.x).float()
        return self.batch.logits

    def criterion(self) -> Tensor:
        """Return the strategy's loss, and note it to be looked at."""
        self.timer.enter("strategy")
        loss = self._loss()
        self._losses.append(loss.detach())
        return loss

    def _loss(self) -> Tensor:
        loss = self.acting.loss(self.batch)
        if not isinstance(loss, Tensor) or loss.numel() != 1:
            what = f"a tensor of shape {tuple(loss.shape)}" if isinstance(loss, Tensor) else f"a {type(loss).__name__}"
            raise PluginError(f"{type(self.strategy).__name__}.loss returned {what}; it must return a scalar tensor")
        return loss

    def backward(self) -> None:
        """Compute the gradients."""
        self.timer.enter("backward")
        self.loss.backward()

    def optimizer_step(self) -> None:
        """Update the weights and account for the batch."""
        if self._adjusts_gradients:
            self.timer.enter("strategy")
            self.acting.before_step(self.batch)
        self.timer.enter("optimizer")
        self.optimizer.step()
        if self._follows_steps:
            self.timer.enter("strategy")
            self.acting.after_step(self.batch)
        self._account(len(self.batch.y))

    def _account(self, samples: int) -> None:
        """Count a step that is done; from here on it is the next batch's time."""
        self.timer.enter("data")
        self.costs.gradient_steps += 1
        self.costs.samples_seen += samples
        if len(self._losses) >= _LOSSES_AT_ONCE:
            self._check_losses()
        now = time.perf_counter()
        if now - self._reported > _SECONDS_BETWEEN_REPORTS:
            self._reported = now
            fraction = self.costs.gradient_steps / self._steps
            speed = self.costs.samples_seen / (now - self._began)
            self.notify(TrainingProgress(self.run, self.where.index, self._epoch, fraction, speed))

    def _check_losses(self) -> None:
        if not self._losses:
            return
        finite = torch.stack([loss.reshape(()) for loss in self._losses]).isfinite().tolist()
        if not all(finite):
            step = self.costs.gradient_steps - len(finite) + finite.index(False)
            value = float(self._losses[finite.index(False)])
            raise Divergence(f"in experience {self.where.index}, step {step}: the loss became {value}")
        self._losses.clear()

    def _precision(self) -> AbstractContextManager[Any]:
        if self.recipe.precision == "float32":
            return nullcontext()
        return torch.autocast(self.device.type, torch.bfloat16)

    def _leave_out_unheard_events(self) -> None:
        """Do nothing at the events of a batch that no plug-in listens to: ten calls for each would be a small
        network's forward pass."""
        for event in _EVENTS_OF_A_BATCH:
            if not any(_listens(plugin, event) for plugin in self.plugins):
                setattr(self, f"_{event}", _nothing)

    def _make_empty_loss(self) -> Any:
        """What Avalanche adds the loss to."""
        return _NoLossYet()


def _listens(plugin: Any, event: str) -> bool:
    """Return whether a plug-in has its own method for an event, rather than the empty one of Avalanche's base class."""
    method = getattr(plugin, event, None)
    return method is not None and getattr(method, "__func__", method) is not getattr(SupervisedPlugin, event)


def _nothing(**kwargs: Any) -> None:
    pass


class _NoLossYet:
    """A sum of no losses: with one added it is that loss, without an addition to be computed and differentiated."""

    def __add__(self, loss: Tensor) -> Tensor:
        return loss


def _no_metrics() -> EvaluationPlugin:
    """Return Avalanche's evaluator with nothing to do: what it would compute is computed in evaluation/metrics.py."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that it has no loggers is intended
        return EvaluationPlugin(collect_all=False)
