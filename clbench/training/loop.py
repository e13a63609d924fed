"""The training loop: trains one experience, from its data to the weights, with the same code on every device.

The whole loop is in this file, which is therefore longer than the others. Read it from `learn` down. A strategy's hooks
are called in this order; base/strategy.py says what each is for:

    first_loss                                  begin: in experience 0, which may then be trained without the strategy
    training_data                               train_current
    reinitialize, or else teacher_output        _prepare_network: all outputs at once, or with online_teacher per batch
    before_experience, trained_modules
    weight_decay, rate_factors                  _prepare_optimizer
    frozen                                      begin_epoch
    loss, before_step, after_step               step, for every batch
    validation_loss                             end_epoch, with schedule `plateau`
    after_experience                            conclude
"""

from __future__ import annotations

import copy
import itertools
import math
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from functools import partial
from typing import Any, cast

import torch
from torch import Tensor, nn

from clbench.base.batch import Batch
from clbench.base.events import Listener
from clbench.base.experience import Experience
from clbench.base.incremental_setting import Setting
from clbench.base.own_loop import Inputs
from clbench.base.recipe import Recipe
from clbench.base.strategy import Strategy, TrainingData, has_teacher, trains_itself
from clbench.data.augmentation import augment
from clbench.data.batches import TrainingSet
from clbench.errors import PluginError, UsageError
from clbench.networks.head import frozen_weights
from clbench.networks.network import Network
from clbench.system.randomness import randomness_untouched, seed_everything
from clbench.system.seeds import derive
from clbench.system.signals import Interruption
from clbench.training.closed_form_time import ClosedFormWatch
from clbench.training.costs import Costs, Epoch, PhaseTimer
from clbench.training.cuda_graphs import Recorder, Replay
from clbench.training.experience_data import ExperienceData
from clbench.training.fine_tuning import FineTuning
from clbench.training.head_rows import grow_head, prepare_head
from clbench.training.loss_watch import LossWatch
from clbench.training.optimizers import (
    build_optimizer,
    clip_gradients,
    parameter_groups,
    rate_of,
    rate_to_read,
    set_rate,
    take_step,
)
from clbench.training.schedules import Plateau, changes_by_step, scheduled_rate


class Trainer:
    """Trains one strategy on one stream, experience by experience."""

    def __init__(
        self,
        *,
        model: Network,
        strategy: Strategy[Any],
        recipe: Recipe,
        data: ExperienceData,
        classes_per_experience: tuple[int, ...],
        setting: Setting,
        seeds: dict[str, int],
        new_model: Callable[[], Network],
        run: str,
        interruption: Interruption,
        notify: Listener,
        wait: Callable[[], None] | None = None,
        recorder: Recorder | None = None,
        boundaries: bool = True,
    ) -> None:
        """`data` has the training samples of the whole stream; `new_model` returns the run's initial network again;
        `wait` is as in PhaseTimer; with a `recorder`, steps are captured as CUDA graphs if that changes nothing (see
        cuda_graphs.py). Without `boundaries` the strategy is not told where experiences begin."""
        self.device = data.images.device
        self.model = model.to(self.device)
        self.strategy, self.data = strategy, data
        self.whole_recipe = recipe
        """The recipe for the stream, which may have other values in the first experience."""
        self.recipe = recipe.at(0)
        """The recipe in the current experience."""
        self.classes_per_experience, self.setting = classes_per_experience, setting
        self.seeds, self.new_model = seeds, new_model
        self.optimizer_state: dict[str, Any] | None = None
        """State of the last experience's optimizer, if the recipe carries it over."""
        self.interruption = interruption
        self.costs, self.timer = Costs(), PhaseTimer(wait)
        self.losses = LossWatch(run, notify)
        self.closed_forms = ClosedFormWatch(run, notify, list(map(len, data.rows)), classes_per_experience)
        self.steps_before: int | None = None
        """Set by the caller if the run is tracked: the gradient steps of the experiences before the current one."""
        self.recorder = recorder
        self.boundaries = boundaries
        self.evaluate: Callable[[int], None] | None = None
        """Set by the caller to evaluate within experiences: called after every `evaluate_every` gradient steps of an
        experience, with their number."""
        self.evaluate_every = 0
        self.optimizer: torch.optim.Optimizer
        self.trained: nn.Module = self.model
        """The network, together with the strategy's own modules that train with it in this experience."""
        self.own_modules: list[nn.Module] = []
        self._teacher: Network | None = None
        """A frozen copy of the old network, if its outputs are computed batch by batch."""
        self._requests = 0
        """Number of images that the strategy requested beyond its batches."""

    # -- one experience -----------------------------------------------------------------------------------------------

    def learn(self, index: int) -> Costs:
        """Train experience `index`, which must follow the last one, and return its costs.

        Raises Divergence for a loss that is NaN or infinite, PluginError for one that is not a scalar.
        """
        if self.fit(index):
            self.conclude()
        return self.costs

    def fit(self, index: int) -> bool:
        """Train experience `index` without `after_experience`; return whether the strategy takes part in it."""
        self.begin(index)
        return self.train_current()

    def begin(self, index: int) -> None:
        """Prepare experience `index`, which is then trained, or given the weights of another run's equal training."""
        self.timer.enter("data")
        self.costs = Costs()
        self.recipe = self.whole_recipe.at(index)
        self.experience = Experience(index, self.classes_per_experience, self.setting)
        self.shown_experience = self.experience if self.boundaries else self._without_boundaries(begun=index > 0)
        """The experience as the strategy sees it."""
        seed_everything(derive(self.seeds["training"], "global", index))
        if index == 0:
            prepare_head(self.model, self.recipe, self.experience, self.seeds["model"])
            self.model.to(self.device)
        self.own_data, self.validation_set = self.data.divided(index, self.recipe)
        if self.recipe.validation and not len(self.validation_set):
            raise UsageError(
                f"experience {index} has no sample to hold out for validation: none of its classes has enough",
                "Merge it with others (--split), or leave out what needs validation data: --tune, or "
                "recipe.validation.",
            )
        classes = self.strategy.first_loss() if index == 0 and self.boundaries else None
        if classes and trains_itself(self.strategy):
            raise PluginError(f"{type(self.strategy).__name__} has both a first_loss and a training loop of its own")
        # In the first experience the current classes are those seen; one name, so that both share the training.
        self.active_strategy = self.strategy if classes is None else FineTuning("all" if classes == "all" else "seen")
        """The strategy, or plain fine-tuning if that is how the strategy's first experience is trained."""

    @property
    def first_loss_is_shared(self) -> bool:
        """Whether the current experience is trained by plain fine-tuning, without the strategy."""
        return self.active_strategy is not self.strategy

    def train_current(self) -> bool:
        """Train the current experience; return whether the strategy takes part in it, if only by reading its data."""
        self.timer.enter("strategy")
        choice: TrainingData | None = "current"
        if self.boundaries:
            choice = self.active_strategy.training_data(replace(self.experience, samples=self.own_data))
        self.timer.enter("data")
        self.costs.trained = choice is not None
        if choice is None or choice == "read":
            self._grow_head()
            return self.costs.trained
        self.training_set = self._training_set(choice)
        self._plateau_set = self._validation_set(choice)
        self._plan_steps()
        self._cumulative = choice == "seen"
        self.model.keeps_statistics = self.recipe.batch_norm == "given"
        self.model.train()
        self._prepare_optimizer(reinitialized=self._prepare_network())
        began, self._evaluation_seconds = time.perf_counter(), 0.0
        with self.interruption.deferred():  # to `begin_step`, so that no step is left half done
            if trains_itself(self.active_strategy):
                self.active_strategy.train(self)
            else:
                self._train()
        if self.device.type == "cuda":
            torch.cuda.synchronize()
        self.costs.training_seconds = time.perf_counter() - began - self._evaluation_seconds
        self.model.freeze(())
        self.trained.zero_grad()
        for module in self.own_modules:
            module.eval()
        self._teacher = None
        if self.recipe.optimizer_state == "carried":
            self.optimizer_state = self.optimizer.state_dict()
        return True

    def _train(self) -> None:
        """Take the gradient steps of every epoch and every batch."""
        graphs = self._graphs()
        for epoch in range(self.epochs):
            batches = self.begin_epoch(epoch)
            if graphs is not None:
                graphs.begin_epoch()
            for inputs in batches:
                for _ in range(min(self.recipe.steps_per_batch, self.steps - self.costs.gradient_steps)):
                    self.begin_step()
                    loss = None
                    if graphs is not None:
                        self.timer.enter("replayed")
                        loss = graphs.train(inputs)  # None if this step has to be computed as usual
                    self.end_step(self.step(inputs) if loss is None else loss, len(inputs[1]))
            if self.end_epoch(epoch):
                break
        if graphs is not None:
            self.costs.replayed_steps, self.costs.not_replayed = graphs.steps, graphs.reason

    def step(self, inputs: Inputs) -> Tensor:
        """Take a gradient step on a batch; return its loss, detached."""
        batch = self.batch(inputs)
        self.optimizer.zero_grad()
        self.forward(batch)
        loss = self.loss(batch)
        self.backward(loss)
        self.update(batch)
        return loss.detach()

    def conclude(self) -> None:
        """Call `after_experience`, in which the strategy stores what it needs."""
        if not self.boundaries:
            return
        self.timer.enter("bookkeeping")  # measuring the machine's speed is not a cost of the strategy
        self.closed_forms.announce(self.strategy, self.experience.index, self.model.head.features, self.device)
        self.timer.enter("strategy")
        self.strategy.after_experience(self.model, replace(self.experience, samples=self.own_data))

    # -- before the first epoch ---------------------------------------------------------------------------------------

    def _training_set(self, choice: str) -> TrainingSet:
        """Return the samples that the strategy chose; see base.strategy.TrainingData."""
        if choice == "seen":
            past = [self.data.divided(index, self.recipe) for index in range(self.experience.index)]
            self.costs.past_data_bytes = sum(len(own) for own, _ in past) * self.data.images.pixels[0].nbytes
            # A sample that returns may be held out in one experience only.
            held_out = [held for _, held in past]
            return self.data.joined(
                [*(own for own, _ in past), self.own_data], without=[*held_out, self.validation_set]
            )
        if choice in ("memory", "with_memory", "with_repeated_memory"):
            return self.data.with_exemplars(self.own_data, self.strategy, choice)
        return self.own_data

    def _validation_set(self, choice: str) -> TrainingSet:
        """Return what `plateau` validates on: the held-out part of each experience whose data a strategy trains on.

        A strategy that trains on a memory has no held-out samples of old classes, only of the current ones.
        """
        if choice != "seen" or self.recipe.schedule != "plateau":
            return self.validation_set
        past = [self.data.divided(index, self.recipe)[1] for index in range(self.experience.index)]
        self.costs.past_data_bytes += sum(map(len, past)) * self.data.images.pixels[0].nbytes
        return self.data.joined([*past, self.validation_set])

    def _plan_steps(self) -> None:
        samples = len(self.training_set)
        steps = samples / self.recipe.batch_size
        batches = int(steps) if self.recipe.drop_last else math.ceil(steps)
        self.epoch_steps = batches * self.recipe.steps_per_batch
        if self.epoch_steps == 0:
            raise UsageError(f"experience {self.experience.index} has {samples} samples, fewer than one batch")
        self.steps = self.recipe.iterations or self.epoch_steps * self.recipe.epochs
        self.epochs = math.ceil(self.steps / self.epoch_steps)
        self._order = torch.Generator().manual_seed(derive(self.seeds["training"], "order", self.experience.index))
        self._augmentation = torch.Generator().manual_seed(
            derive(self.seeds["training"], "augmentation", self.experience.index)
        )

    def _prepare_network(self) -> bool:
        """Compute the teacher's outputs and grow the head, or start from new weights; return whether it was the latter.

        A network that starts from new weights has no teacher.
        """
        strategy = self.active_strategy
        self.timer.enter("strategy")
        reinitialized = strategy.reinitialize(self.experience) if self.boundaries else False
        if reinitialized:
            self._reinitialize()
        else:
            if self.experience.index > 0 and self.boundaries and has_teacher(strategy):
                self._prepare_teacher()
            self._grow_head()
        if self.boundaries:
            strategy.before_experience(self.model, replace(self.experience, samples=self.own_data))
        self.own_modules = [module.to(self.device).train() for module in strategy.trained_modules()]
        self.trained = nn.ModuleList([self.model, *self.own_modules]) if self.own_modules else self.model
        return reinitialized

    def _prepare_optimizer(self, reinitialized: bool) -> None:
        """Create the experience's optimizer and what follows its rate and its losses."""
        strategy = self.active_strategy
        self.timer.enter("optimizer")
        decay = self.recipe.weight_decay + strategy.weight_decay(self.shown_experience)
        carried = None if reinitialized else self.optimizer_state
        groups = parameter_groups(self.model, self.own_modules, strategy.rate_factors(self.shown_experience))
        self.optimizer = build_optimizer(self.recipe, groups, decay, carried)
        self._plateau = Plateau(self.recipe) if self.recipe.schedule == "plateau" else None
        self._plateau_from = self._last_change_of_frozen() if self._plateau is not None else 0
        self._has_before_step = type(strategy).before_step is not Strategy.before_step
        self._has_after_step = type(strategy).after_step is not Strategy.after_step
        self.losses.begin(self.experience.index, self.steps, self._ahead(), self.steps_before)

    def _last_change_of_frozen(self) -> int:
        """Return the first epoch after which other modules are never frozen: 0, or the end of a warm-up.

        A warm-up may have another loss, so that no validation loss in it may be compared with those that follow.
        """
        frozen = [
            frozen_weights(self.active_strategy.frozen(self.model, self.shown_experience, epoch))
            for epoch in range(self.epochs)
        ]
        return max((epoch for epoch in range(1, self.epochs) if frozen[epoch] != frozen[epoch - 1]), default=0)

    def _without_boundaries(self, begun: bool) -> Experience:
        """Return what a strategy is told about an experience whose boundaries it must not know.

        As soon as training has begun, all classes that may have come count as old.
        """
        seen = self.experience.seen_classes
        rest = sum(self.classes_per_experience) - seen
        to_come = (rest,) if rest else ()
        if begun:
            return Experience(1, (seen, 0, *to_come), self.setting)
        return Experience(0, (seen, *to_come), self.setting)

    def _grow_head(self) -> None:
        grow_head(self.model, self.experience, self.seeds["model"])
        self.model.to(self.device)  # a network without blocks has no parameters that show its device

    def _ahead(self) -> float:
        """Return the samples that this and all later experiences train on, as a multiple of this experience's."""
        sizes = [len(rows) for rows in self.data.rows]
        if self._cumulative:
            sizes = list(itertools.accumulate(sizes))
        recipes = [self.whole_recipe.at(index) for index in range(len(sizes))]
        # With a number of iterations all experiences are equally long.
        samples = [1 if own.iterations else size * own.epochs for own, size in zip(recipes, sizes, strict=True)]
        return sum(samples[self.experience.index :]) / samples[self.experience.index]

    def _reinitialize(self) -> None:
        self.model = self.new_model()
        prepare_head(self.model, self.recipe, self.experience, self.seeds["model"])
        for index in range(self.experience.index + 1):
            grow_head(self.model, replace(self.experience, index=index), self.seeds["model"])
        self.model.keeps_statistics = self.recipe.batch_norm == "given"
        self.model = self.model.to(self.device).train()

    def _prepare_teacher(self) -> None:
        """Compute the old network's outputs on all training data now, or keep a frozen copy to compute them per batch.

        Augmented images differ in every epoch, so they need the copy.
        """
        began = time.perf_counter()
        old = copy.deepcopy(self.model).eval().requires_grad_(False)
        if self.recipe.augmentation.active or self.active_strategy.online_teacher():
            self._teacher = old
            self.costs.teacher = "online"
        else:
            output = partial(self._teacher_output, old)
            self.training_set.teacher_outputs = self.training_set.map_images(output)
            if self.recipe.schedule == "plateau":
                self._plateau_set.teacher_outputs = self._plateau_set.map_images(output)
            self.costs.teacher_bytes = self.training_set.teacher_outputs.nbytes
            self.costs.teacher = "recorded"
        self.costs.teacher_seconds = time.perf_counter() - began

    def _teacher_output(self, old: Network, x: Tensor) -> Tensor:
        with torch.no_grad(), self._precision():
            return self.active_strategy.teacher_output(old, x, self.experience).float()

    def _graphs(self) -> Replay | None:
        """Return what replays this experience's steps as CUDA graphs; None if they are computed as usual."""
        if self.recorder is None:
            return None
        if self._has_before_step or self._has_after_step:
            self.costs.not_replayed = "the strategy has a before_step or after_step hook"
            return None
        if self.own_modules:  # a replay would have to restore them as it does the network
            self.costs.not_replayed = "modules of the strategy's own are trained"
            return None
        return Replay(
            self.step, self.model, self.optimizer, self.active_strategy, lambda: self._requests, self.recorder
        )

    # -- one epoch ----------------------------------------------------------------------------------------------------

    def begin_epoch(self, epoch: int) -> Iterator[Inputs]:
        """Freeze what the strategy wants frozen in this epoch, and return its batches."""
        self.timer.enter("strategy")
        self.model.freeze(self.active_strategy.frozen(self.model, self.shown_experience, epoch))
        self.timer.enter("data")
        self._serve_images_or_features()
        batches = self.training_set.epoch(
            self.recipe.batch_size, self._order, self.recipe.augmentation, self._augmentation
        )
        self.losses.begin_epoch(epoch)
        steps = min(self.steps - self.costs.gradient_steps, self.epoch_steps)
        return itertools.islice(batches, math.ceil(steps / self.recipe.steps_per_batch))

    def _serve_images_or_features(self) -> None:
        """Have batches of images, or of the features of a frozen trunk, which are computed once.

        Augmented images differ in every epoch, and an online teacher is a whole network, which takes images.
        """
        if not self.model.trunk_is_frozen or self.recipe.augmentation.active or self._teacher is not None:
            self.training_set.features = None
        elif self.training_set.features is None:
            self.training_set.features = self.training_set.map_images(self._features)
            self.costs.features_cached = True

    def _features(self, x: Tensor) -> Tensor:
        with self._precision():
            return cast(Tensor, self.model.blocks(x)).float()

    def end_epoch(self, epoch: int) -> bool:
        """Record the epoch's loss; return whether the experience ends with it.

        With schedule `plateau` the validation loss sets the next rate, and the experience ends with the best weights.
        """
        if (loss := self.losses.mean(self.costs)) is not None:
            self.costs.epochs.append(Epoch(loss, rate_of(self.optimizer)))
        if self._plateau is None or epoch < self._plateau_from:
            return False
        rate = self._plateau.after_epoch(self._validation_loss(), self.trained)
        if rate is None or epoch + 1 == self.epochs:
            self.trained.load_state_dict(self._plateau.best)
            return True
        set_rate(self.optimizer, rate)
        return False

    # -- one step -----------------------------------------------------------------------------------------------------

    def begin_step(self) -> None:
        """Stop if the user requested it, and set the learning rate."""
        self.interruption.check()
        if changes_by_step(self.recipe):
            done = self.costs.gradient_steps
            set_rate(self.optimizer, scheduled_rate(self.recipe, done, self.steps, self.epoch_steps))

    def batch(self, inputs: Inputs) -> Batch:
        """Return the strategy's view of a batch, with the online teacher's outputs and still without logits."""
        x, y, rows, teacher_outputs = inputs
        if self._teacher is not None:
            self.timer.enter("strategy")
            teacher_outputs = self._teacher_output(self._teacher, x)
        self.timer.enter("optimizer")
        # Until `forward`, x stands in for the logits.
        return Batch(x, y, rows, x, teacher_outputs, self.model, self.shown_experience, source=self)

    def forward(self, batch: Batch) -> Tensor:
        """Compute the logits, (n, rows of the head)."""
        self.timer.enter("forward")
        with self._precision():
            network = self.model if self.training_set.features is None else self.model.head
            batch.logits = network(batch.x).float()
        return batch.logits

    def loss(self, batch: Batch) -> Tensor:
        """Return the strategy's loss, checked to be a scalar tensor."""
        self.timer.enter("strategy")
        loss = self.active_strategy.loss(batch)
        if not isinstance(loss, Tensor) or loss.numel() != 1:
            what = f"a tensor of shape {tuple(loss.shape)}" if isinstance(loss, Tensor) else f"a {type(loss).__name__}"
            raise PluginError(f"{type(self.strategy).__name__}.loss returned {what}; it must return a scalar tensor")
        return loss

    def backward(self, loss: Tensor) -> None:
        """Compute the gradients."""
        self.timer.enter("backward")
        loss.backward()

    def update(self, batch: Batch) -> None:
        """Update the weights."""
        if self._has_before_step:
            self.timer.enter("strategy")
            self.active_strategy.before_step(batch)
        self.timer.enter("optimizer")
        # After before_step, which may replace the gradients, so that the clipped gradients are those of the step.
        clip_gradients(self.recipe, self.trained.parameters())
        take_step(self.optimizer, self.model)
        if self._has_after_step:
            self.timer.enter("strategy")
            self.active_strategy.after_step(batch)

    def end_step(self, loss: Tensor, samples: int) -> None:
        """Record a step on `samples` samples; the time that follows counts towards the next batch."""
        self.timer.enter("data")
        self.costs.gradient_steps += 1
        self.costs.samples_seen += samples
        self.losses.note(loss, self.costs, None if self.steps_before is None else rate_to_read(self.optimizer))
        if not self.boundaries:
            self.shown_experience = self._without_boundaries(begun=True)
        if self.evaluate is not None and self.costs.gradient_steps % self.evaluate_every == 0:
            self.timer.enter("evaluation")
            self.losses.check(self.costs)  # so that the losses of these steps are sent before the evaluation
            began = time.perf_counter()
            self.evaluate(self.costs.gradient_steps)
            self._evaluation_seconds += time.perf_counter() - began
            self.timer.enter("data")

    # -- what a batch asks for: base.batch.Source ---------------------------------------------------------------------

    def original(self, rows: Tensor) -> Tensor:
        """Return training images as they are stored; see base.batch.Source."""
        self._requests += len(rows)
        return self.data.images.read(rows)

    def prepare(self, images: Tensor) -> Tensor:
        """Augment and scale images that a strategy stored, and count them as seen; see base.batch.Source."""
        self._requests += len(images)
        self.costs.samples_seen += len(images)
        if self.recipe.augmentation.active:
            images = augment(images, self.recipe.augmentation, self._augmentation)
        return self.data.scaling(images)

    def logits_of(self, model: Network, x: Tensor) -> Tensor:
        """Return the network's output for images outside the batch; see base.batch.Source."""
        with self._precision():
            return cast(Tensor, model(x)).float()

    def note_cross_entropy(self, outputs: int) -> None:
        """Record how many outputs a cross-entropy ranges over; see base.batch.Source."""
        self.costs.informative_cross_entropy = bool(self.costs.informative_cross_entropy) or outputs > 1

    # -- validation ---------------------------------------------------------------------------------------------------

    def _validation_loss(self) -> float:
        """Return the strategy's mean loss on the validation data, in evaluation mode."""
        total = 0.0
        self.trained.eval()
        with torch.no_grad(), randomness_untouched():
            for x, y, rows, teacher_outputs in self._plateau_set.in_order(self.recipe.batch_size):
                if self._teacher is not None:
                    teacher_outputs = self._teacher_output(self._teacher, x)
                with self._precision():
                    logits = self.model(x).float()
                batch = Batch(x, y, rows, logits, teacher_outputs, self.model, self.experience)
                total += float(self.active_strategy.validation_loss(batch)) * len(y)
        self.trained.train()
        return total / len(self._plateau_set)

    @torch.no_grad()
    def validation_accuracy(self) -> float:
        """Return the accuracy on the current experience's validation data, among the experience's own outputs."""
        sizes = self.experience.classes_per_experience
        first = 0 if self.setting == "domain_incremental" else sum(sizes[: self.experience.index])
        network = copy.deepcopy(self.model).eval()
        correct = 0
        for x, y in self.validation_set.batches(self.data.images.inference_batch):
            with self._precision():
                logits = network(x)[:, first : first + sizes[self.experience.index]]
            correct += int((first + logits.argmax(dim=1) == y).sum())
        return correct / len(self.validation_set)

    def _precision(self) -> AbstractContextManager[Any]:
        if self.recipe.precision == "float32":
            return nullcontext()
        return torch.autocast(self.device.type, torch.bfloat16)
