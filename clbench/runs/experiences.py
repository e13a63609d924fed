"""Executes one run: tunes, trains, audits, evaluates and checkpoints each experience, then publishes the result.

Longer than other modules, because its steps share one state and are best read together.
"""

from __future__ import annotations

import contextlib
import hashlib
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from datetime import datetime, timezone
from functools import partial
from pathlib import Path
from typing import Any

import torch

from clbench.audit import object_graph
from clbench.audit.audit import Audit
from clbench.audit.per_sample_values import kept_rows
from clbench.audit.sample_search import SampleShape, hashes
from clbench.base.config import configure
from clbench.base.continual_tuning import ContinualTuning
from clbench.base.events import (
    CheckpointSaved,
    EvaluatedWithin,
    ExperienceFinished,
    Listener,
    Note,
    RunFinished,
    RunStarted,
)
from clbench.base.recipe import Recipe
from clbench.base.strategy import Strategy, config_class
from clbench.errors import PluginError, UsageError
from clbench.evaluation import metrics
from clbench.networks.network import Network
from clbench.networks.trunk import Blocks
from clbench.plugins.discovery import Plugin
from clbench.plugins.loading import load
from clbench.results import environment
from clbench.results.record_model import as_json, to_json
from clbench.results.run_result import Reads
from clbench.results.run_spec import RunSpec, experience_classes, folder_name, run_id
from clbench.runs import checkpoint, event_file
from clbench.runs.checkpoint import Checkpoint
from clbench.runs.context import RunContext
from clbench.runs.evaluating import Evaluator, state_of
from clbench.runs.frozen_features import frozen_features
from clbench.runs.initial_network import frozen_trunk, initial_network
from clbench.runs.network_keeping import NetworkKeeper, input_record
from clbench.runs.result_building import Recorder, experience_costs, experience_result
from clbench.runs.shared_start import learn_shared
from clbench.streams.kinds import stream_kind
from clbench.streams.stream import NetworkInput, Stream, on_features, open_stream
from clbench.streams.stream_kind import StreamKind
from clbench.system import peak_memory
from clbench.system.global_state import GlobalState
from clbench.system.signals import Interrupted
from clbench.training import continual_search
from clbench.training.costs import Costs
from clbench.training.cuda_graphs import GraphRecorder
from clbench.training.experience_data import ExperienceData
from clbench.training.loop import Trainer


class StrategyFailed(Exception):
    """The strategy's code raised; this concerns the run alone, unlike failures of the disk or the data."""

    def __init__(self, cause: BaseException, where: str) -> None:
        super().__init__(where)
        self.cause, self.where = cause, where


class ExperienceByExperience:
    """The state of a run between its experiences."""

    def __init__(self, spec: RunSpec, plugin: Plugin, around: RunContext, network: Path | None = None) -> None:
        self.spec, self.around, self.network_file = spec, around, network
        self.name, self.identity = folder_name(spec), run_id(spec)
        self.notify: Listener = around.notify
        self.tracked = around.track is not None
        self.started, self.began = datetime.now(timezone.utc), time.perf_counter()
        peak_memory.reset_peak_memory()
        torch.set_num_threads(spec.threads)
        # Only kernels that give the same sums every time; on a CPU, torch's always do.
        if torch.are_deterministic_algorithms_enabled() != (spec.device == "cuda"):  # setting it imports a compiler
            torch.use_deterministic_algorithms(spec.device == "cuda")
        self.state = GlobalState()

        self.recipe = spec.recipe.config.for_strategy(spec.strategy.name)
        self.classes = experience_classes(spec)
        stream = spec.scenario.stream
        self.kind = stream_kind(stream.name, stream.options) if stream else StreamKind()
        cls = load(plugin)
        self.source = plugin.path.read_bytes()
        if hashlib.sha256(self.source).hexdigest() != spec.strategy.sha256:
            raise PluginError(f"{plugin.path} changed after the run was planned", "Start the command again.")
        self.notes = [f"loading the strategy changed the {change}; it was put back" for change in self.state.restore()]
        self.stream = self._open_stream()
        self.known_features = hashes(self.stream.images.pixels) if spec.network.train == "head" else None
        self.recorder = Recorder(spec, self.stream.test_labels)
        self.audit = Audit(self.stream.rows, self.around.data.resolve())
        self.module = sys.modules[cls.__module__]
        try:
            self.strategy = cls(configure(config_class(cls), spec.strategy.config, plugin.name))
            self.initial = self._new_model()
            drawn = object_graph.weights_sha256(self.initial)
            with self.audit.watching_files(self.module):
                self.strategy.start(self.initial)
            self.evaluator = Evaluator(spec, self.stream.test_set, self.strategy, self.audit, self.recorder)
            self.own_weights = object_graph.weights_sha256(self.initial) != drawn
        except (UsageError, Interrupted, KeyboardInterrupt):  # UsageError: a configuration this network cannot meet
            raise
        except BaseException as error:
            raise StrategyFailed(error, "before training") from error

    def _open_stream(self) -> Stream:
        """Open the run's stream; if only the head trains, a stream of features that are computed beforehand."""
        scenario, network = self.spec.scenario, self.spec.network
        stream = open_stream(
            scenario.dataset,
            scenario.dataset_sha256,
            self.around.data,
            scenario.classes_per_experience,
            scenario.class_order,
            scenario.setting,
            self.recipe.padding,
            self.recipe.normalization,
            self.recipe.precision,
            self.spec.device,
            scenario.held_out,
            NetworkInput(network.size, network.channels, network.mean, network.std),
            self.kind,
            scenario.stream.split if scenario.stream else (),
            self.spec.seeds.class_order,
        )
        self.image_shape = stream.shape
        self.expected_input = input_record(self.spec, stream.shape, stream.scaling, stream.fit)
        if network.train != "head":
            return stream
        return on_features(stream, *frozen_features(self.spec, stream, self._frozen_trunk(), self.around))

    def _frozen_trunk(self) -> Blocks:
        return frozen_trunk(self.spec, self.image_shape, self.around.data, self.network_file)

    def _new_model(self) -> Network:
        return initial_network(self.spec, self.image_shape, self.around.data, self.network_file)

    def to_the_end(self) -> Path:
        """Train what is not trained yet and publish; return the folder of the published run."""
        work = self.around.results.work(self.identity)
        done = self._checkpoint(work) or Checkpoint(
            0, self.initial, {}, [], [], [], self.notes, list(self.audit.findings)
        )
        if done.finished:
            vars(self.strategy).update(done.strategy)
        self.resumed_after = done.finished
        keeper = self._keeper(work)
        if keeper:
            keeper.check_resumed(done.experiences)
        with self._keeping_events(work, done.finished):
            self._train(work, done, keeper)
        for note in done.notes:
            self.around.notify(Note(f"{self.name}: {note}"))
        for finding in self.audit.findings:
            self.around.notify(Note(f"{self.name}: {finding.severity}, {finding.name}: it {finding.what}"))
        self.around.results.keep_source(self.source)
        files: dict[str, bytes | Path] = {**self._files(done)}
        if keeper:
            files |= keeper.files(done.model, done.experiences)
        if self.around.track == "kept":
            files |= event_file.with_end(work, RunFinished(self.name, self.name))
        return self.around.results.publish(self.name, self.identity, files)

    def _checkpoint(self, work: Path) -> Checkpoint | None:
        try:
            return checkpoint.load(work)
        except checkpoint.OfAnotherVersion as version:
            self.around.notify(Note(f"{self.name} starts over: its checkpoint is from {version}"))
            return None

    def _train(self, work: Path, done: Checkpoint, keeper: NetworkKeeper | None) -> None:
        """Train and evaluate the experiences that are not finished yet."""
        self.notify(self._started(done))
        trainer = self._trainer(done.model, self.strategy, self.recipe)
        if self.kind.evaluate_every:
            trainer.evaluate_every = self.kind.evaluate_every
            trainer.evaluate = partial(self._evaluate_within, trainer, done)
        trainer.optimizer_state = done.optimizer
        self.start_up_seconds = time.perf_counter() - self.began
        self.audit.findings = list(done.findings)
        with self._watched():
            if self.evaluator.ahead and done.untrained is None:
                done.untrained = self.evaluator.before_training(self.initial, self.recipe)
            for index in range(done.finished, len(self.classes)):
                self._experience(trainer, index, done)
                if keeper:
                    keeper.after_experience(index, trainer.model, done.experiences)
                with self.around.interruption.deferred():  # torch would take it for a fault of the file
                    checkpoint.save(work, done)
                self.around.notify(CheckpointSaved(self.name, done.finished))

    @contextlib.contextmanager
    def _keeping_events(self, work: Path, finished: int) -> Iterator[None]:
        """Within this context, keep the run's events if they are to be kept."""
        if self.around.track != "kept":
            yield
            return
        with event_file.EventFile(work, finished, self.around.notify) as self.notify:
            yield

    def _started(self, done: Checkpoint) -> RunStarted:
        started = RunStarted(self.name, len(self.classes), self.recipe.length, done.finished)
        if not self.tracked:
            return started
        return replace(started, step=_steps(done), run_id=self.identity, spec=to_json(self.spec))

    def _keeper(self, work: Path) -> NetworkKeeper | None:
        if self.around.keep is None:
            return None
        trunk = self._frozen_trunk if self.spec.network.train == "head" else None
        return NetworkKeeper(self.spec, self.strategy, self.expected_input, trunk, work, self.around.keep)

    @contextlib.contextmanager
    def _watched(self) -> Iterator[None]:
        """Within this context, report everything that is read to the audit."""
        stream, audit = self.stream, self.audit
        stream.images.on_read, stream.test_set.images.on_read = audit.read_training, audit.read_test
        stream.test_set.on_labels_read = audit.read_test_labels
        try:
            with audit.watching_files(self.module):
                yield
        finally:
            stream.images.on_read = stream.test_set.images.on_read = stream.test_set.on_labels_read = None

    def _trainer(self, model: Network, strategy: Strategy[Any], recipe: Recipe) -> Trainer:
        return Trainer(
            model=model,
            strategy=strategy,
            recipe=recipe,
            data=self._data(),
            classes_per_experience=tuple(len(own) for own in self.classes),
            setting=self.spec.scenario.setting,
            seeds={"model": self.spec.seeds.network, "training": self.spec.seeds.training},
            new_model=self._new_model,
            run=self.name,
            interruption=self.around.interruption,
            notify=self.notify,
            wait=torch.cuda.synchronize if self.around.exact_phases and self._asynchronous else None,
            recorder=GraphRecorder() if self._asynchronous and not self.around.exact_phases else None,
            boundaries=self.kind.boundaries or self.strategy.reference == "upper",
        )

    @property
    def _asynchronous(self) -> bool:
        """Whether the device works asynchronously, so that only waiting for it shows what took the time."""
        return bool(self.spec.device == "cuda")

    def _data(self) -> ExperienceData:
        stream, labels = self.stream, self.stream.positions
        if self.spec.scenario.setting == "domain_incremental":
            labels = labels % len(self.classes[0])  # the experiences have equally many classes
        seed = self.spec.seeds.training
        return ExperienceData(stream.rows, stream.images, stream.scaling, labels.to(stream.images.device), seed)

    def _experience(self, trainer: Trainer, index: int, done: Checkpoint) -> None:
        watch = trainer.timer
        trainer.steps_before = _steps(done) if self.tracked else None
        watch.enter("bookkeeping")
        self.audit.begin_experience(index)
        copies = object_graph.kept_networks(state_of(self.strategy), trainer.model)
        rows = kept_rows(state_of(self.strategy), trainer.model)
        try:
            watch.enter("tuning")
            tuned = self._tune(trainer, index, done) if self._tunes else None
            costs = self._learn(trainer, index)
        except (Interrupted, KeyboardInterrupt):
            raise
        except BaseException as error:  # also SystemExit and GeneratorExit: a strategy may not end the command
            raise StrategyFailed(error, f"in experience {index}, step {trainer.costs.gradient_steps}") from error
        watch.enter("bookkeeping")
        if costs.past_data_bytes:
            self.audit.allow_past()
        reads = self.audit.end_experience()
        trained = {id(part) for module in self.strategy.trained_modules() for part in module.modules()}
        moved = any(
            id(network) not in trained and object_graph.weights_sha256(network) != before for network, before in copies
        )
        if moved:
            self.audit.add("warn", "moving copy", "trained, or left in training mode, a network that it keeps")
        watch.enter("evaluation")
        try:
            done.predictions.append(self.evaluator.after_experience(trainer) if costs.trained else None)
        except (Interrupted, KeyboardInterrupt):
            raise
        except BaseException as error:  # also SystemExit and GeneratorExit: a strategy may not end the command
            raise StrategyFailed(error, f"in the evaluation after experience {index}") from error
        watch.enter("bookkeeping")
        shape = SampleShape(*self.stream.shape, self.stream.scaling, self.known_features)
        state, allowed = state_of(self.strategy), self.strategy.memory
        kept = self.audit.count_exemplars(vars(self.strategy), self.module, trainer.model, allowed, shape)
        self.audit.check_growth(rows, state, trainer.model, allowed)
        tuned_seconds = tuned.seconds if tuned else 0.0
        done.experiences.append(
            experience_result(self.spec, index, trainer.model, state, costs, tuned, Reads(**reads), kept)
        )
        exact = self.around.exact_phases or not self._asynchronous
        done.costs.append(experience_costs(index, costs, watch.read(), tuned_seconds, exact))
        for change in self.state.restore():
            done.notes.append(f"the strategy changed the {change} in experience {index}; it was put back")
        done.findings = list(self.audit.findings)
        done.finished, done.model, done.strategy = index + 1, trainer.model, state_of(self.strategy)
        done.optimizer = trainer.optimizer_state
        counts = self.recorder.counts(done.predictions, self.spec.scenario.setting, after=[index])
        old, new = metrics.old_accuracy(counts)[index], metrics.new_accuracy(counts)[index]
        reached = self.recorder.metrics_so_far(done, bool(self.kind.evaluate_every)) if self.tracked else {}
        self.notify(ExperienceFinished(self.name, index, old, new, done.costs[-1].seconds, _steps(done), reached))

    def _evaluate_within(self, trainer: Trainer, done: Checkpoint, steps: int) -> None:
        """Evaluate after this many gradient `steps` of an experience, and report it to the run's trackers."""
        shares = self.evaluator.within_experience(trainer, done, steps)
        if self.tracked and shares:
            self.notify(EvaluatedWithin(self.name, trainer.experience.index, _steps(done) + steps, shares))

    def _learn(self, trainer: Trainer, index: int) -> Costs:
        """Train an experience; the first is reused if it has been trained for another strategy already."""
        # A strategy with weights of its own does not start where other runs do, and evaluations within the experience
        # use the strategy's own predictions.
        alone = self._tunes or self.own_weights or self.kind.evaluate_every
        if index == 0 and self.around.share and not alone:
            return learn_shared(trainer, self.spec, self.around.results, self.audit)
        return trainer.learn(index)

    @property
    def _tunes(self) -> bool:
        return isinstance(self.spec.tuning, ContinualTuning)

    def _tune(self, trainer: Trainer, index: int, done: Checkpoint) -> continual_search.Search:
        """Choose learning rate and stability weight for an experience."""
        tuning = self.spec.tuning
        assert isinstance(tuning, ContinualTuning)
        chosen = done.experiences[0].tuning if index else None
        first_rate = chosen.lr if chosen else None
        found = continual_search.search(index, trainer, self._trainer, self.recipe, tuning, first_rate)
        trainer.whole_recipe = continual_search.with_rate(self.recipe, found.lr)
        if found.weight is not None and tuning.weight is not None:
            self.strategy.config = continual_search.with_weight(self.strategy, tuning.weight, found.weight)
        return found

    def _imbalance(self) -> tuple[int, ...] | None:
        """Return how many training images each class has, in class order, if the most are over twice the fewest."""
        rows = torch.cat(self.stream.rows).unique()
        images = torch.bincount(self.stream.positions[rows], minlength=sum(map(len, self.classes))).tolist()
        return tuple(images) if max(images) > 2 * min(images) else None

    def _files(self, done: Checkpoint) -> dict[str, bytes]:
        curves = self.recorder.curves(done) if self.kind.evaluate_every else None
        result = self.recorder.result(done, self.audit, self.strategy.memory, self.source, curves, self._imbalance())
        costs = self.recorder.costs(done.costs, self.start_up_seconds)
        surroundings = environment.describe(self.spec.device) | {
            "executor": self.around.executor,
            "started": self.started.isoformat(timespec="seconds"),
            "finished": datetime.now(timezone.utc).isoformat(timespec="seconds"),
            "resumed_after_experiences": self.resumed_after,
        }
        return {
            "spec.json": as_json(self.spec),
            "result.json": as_json(result),
            "costs.json": as_json(costs),
            "environment.json": as_json(surroundings),
            "predictions.npz": self.recorder.predictions(done.predictions, done.untrained),
        }


def _steps(done: Checkpoint) -> int:
    return sum(each.gradient_steps for each in done.experiences)
