"""Implements `clbench train`: a first network from a folder of images, which `clbench extend` can add classes to."""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Mapping, Sequence
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

from clbench.base.events import Note, RunStarted
from clbench.base.experience import Experience
from clbench.data.datasets import data_folder
from clbench.data.measuring import Moments
from clbench.deployment.strategy_states import NotStorable, StrategyState, state_of
from clbench.errors import UsageError
from clbench.extension import judging
from clbench.extension.around import Around, finished
from clbench.extension.candidates import (
    Entry,
    Made,
    Template,
    identity_of,
    keep,
    read_made,
    strategy_spec,
    trunk_sha256,
)
from clbench.extension.explaining import explaining
from clbench.extension.first_network_planning import Plan, plan
from clbench.extension.folder import OutputFolder, read_result
from clbench.extension.image_sets import ImageSet, read_images, without_copies
from clbench.extension.learner import Learned, Scores, Task, as_inputs, begin, learn, on_features
from clbench.extension.none_of_these import calibrated
from clbench.extension.publishing import publish
from clbench.extension.requests import TrainRequest
from clbench.networks.network import Network
from clbench.results.extension_result import Candidate, ExtensionResult, Role
from clbench.results.network_record import ClassifierRecord, InputRecord, NetworkRecord, NoneBelow, Versions
from clbench.results.spec_building import ENGINE
from clbench.runs.chosen_network import input_shape
from clbench.runs.initial_network import initial_trunk
from clbench.system.global_state import GlobalState
from clbench.system.tables import listed
from clbench.training.closed_form_time import closed_form_time
from clbench.training.experience_data import ExperienceData

_WHOLE_NETWORK = "the whole network is trained; --set network.train=head trains only its head, much faster"
"""Said of a network with pretrained weights, whose features may suffice as is."""


def train(request: TrainRequest, strategy: str, around: Around) -> ExtensionResult:
    """Train a first network and write the folder. Repeating the same command changes nothing."""
    what = plan(request, strategy, around.notify)
    output = OutputFolder(request.out)
    with output.claimed():
        first = _First(what, output, around)
        if (there := output.finished(first.identity)) is not None:
            around.notify(Note(f"{output.path} is finished already; nothing was done"))
            return there
        made = first.made()
        publish(
            output,
            made,
            {},
            first.result(made.candidate),
            what.method.plugin,
            first.sets,
            around.page,
            request.export,
            what.file,
            data_folder(request.data),
        )
        return read_result(output.path)


class _First:
    """A first network whose images have been read."""

    def __init__(self, what: Plan, output: OutputFolder, around: Around) -> None:
        self.plan, self.output, self.around = what, output, around
        self.device = torch.device(what.machine.device)
        position = {name: place for place, name in enumerate(what.images.classes)}
        parts: tuple[tuple[Role, Sequence[Sequence[Path]]], ...]
        parts = (("new", what.images.train), ("new_test", what.images.test))
        self.sets: dict[Role, ImageSet] = {}
        for role, files in parts:
            labelled = [
                (file, position[name]) for name, own in zip(what.images.classes, files, strict=True) for file in own
            ]
            if labelled:
                self.sets[role] = read_images(role, what.images.root, labelled, what.shape, around.notify, output.work)
        if "new_test" in self.sets:
            self.sets["new_test"] = without_copies(self.sets["new_test"], self.sets["new"], around.notify)
        self.input = self._input()
        spec = strategy_spec(what.method, what.recipe.base or what.recipe.name, None)
        identity = partial(
            identity_of,
            command="train",
            engine=ENGINE,
            classes=what.images.classes,
            images={role: own.sha256 for role, own in self.sets.items()},
            names={role: own.names for role, own in self.sets.items()},
            network=what.network,
            input=self.input,
            strategy=spec,
            prepared=[strategy_spec(each, "train", None) for each in what.prepared],
            recipe=what.recipe,
            seeds=what.seeds,
            device=what.machine.device,
            threads=what.machine.threads,
        )
        self.identity = identity(export=what.request.export)
        # Whatever the format, the same network is trained: one that is kept in the work folder suits any.
        self.entry = Entry(what.method, spec, None, identity(export=None))

    def _input(self) -> InputRecord:
        network, shape = self.plan.network, self.plan.shape
        height, width, channels = input_shape(network, (shape.height, shape.width, shape.channels))
        mean, std = network.mean, network.std
        if mean is None or std is None:
            mean, std = _statistics(self.sets["new"])
        return InputRecord(
            image=shape,
            padding=0,
            channels=channels,
            mean=mean,
            std=std,
            height=height,
            width=width,
            resizing=None if (height, width) == (shape.height, shape.width) else "bilinear, antialiased",
        )

    def _network(self) -> Network:
        what = self.plan
        if what.use.train == "head":
            return Network([], self.features)
        trunk, features = self._trunk()
        network = Network(trunk, features).to(memory_format=torch.channels_last)
        if isinstance(what.use.train, int):
            network.hold(network.blocks[: len(network.blocks) - what.use.train])
        return network

    def _trunk(self) -> tuple[Any, int]:
        what, shape = self.plan, self.plan.shape
        size = (shape.height, shape.width, shape.channels)
        folder = data_folder(what.request.data)
        return initial_trunk(what.network, size, what.seeds.network, "architecture", folder, what.file)

    def made(self) -> Made:
        """Train the network, or take it from where the command was stopped."""
        if (kept := self.output.kept(self.entry.identity)) is not None:
            self.around.notify(Note("taken from where the command was stopped"))
            return read_made(kept)
        what, state, began = self.plan, GlobalState(), time.perf_counter()
        torch.set_num_threads(what.machine.threads)
        try:
            with contextlib.redirect_stdout(sys.stderr), explaining(f"the training of {what.network.name}"):
                frozen, self.features = self._trunk()
                frozen.eval()
                inputs = as_inputs(self.sets, self.input, self.device)
                if what.use.train == "head":
                    inputs = on_features(inputs, frozen)
                task = Task(
                    (len(what.images.classes),),
                    inputs,
                    what.recipe.config,
                    what.seeds,
                    self._network,
                    self.around.interruption,
                    self.around.notify,
                )
                if what.use.train == "all" and what.network.weights is not None:
                    self.around.notify(Note(_WHOLE_NETWORK))
                trainer = begin(task, what.method.strategy, self.entry.spec.config, self.entry.spec.name, None)
                self.around.notify(RunStarted(self.entry.spec.name, 1, task.recipe.length, 0))
                learned = learn(task, trainer)
                roles: list[Role] = ["new_test"] if "new_test" in self.sets else []
                scores = {role: inputs.scores(role, learned.score) for role in roles}
                candidate = self._candidate(learned, scores, time.perf_counter() - began)
                trunk = frozen if what.use.train == "head" else learned.network.blocks
                states = self._states(learned, trainer.data, trunk_sha256(trunk))
        finally:
            state.restore()
        none_below = calibrated((own, self.sets[role].labels) for role, own in scores.items())
        template = self._template(frozen if what.use.train == "head" else None, none_below)
        files = template.files(learned, self.entry, states)
        made = keep(self.output, self.entry, candidate, files)
        finished(self.around.notify, candidate, str(made.folder))
        return made

    def _states(self, learned: Learned, data: ExperienceData, trunk: str) -> dict[str, StrategyState]:
        """Return what the prepared strategies keep of the training images."""
        network, classes = learned.network.eval(), len(self.plan.images.classes)
        samples, _ = data.divided(0, self.plan.recipe.config)
        configs = [method.values("class_incremental", "train") for method in self.plan.prepared]
        names = [method.plugin.name for method in self.plan.prepared]
        strategies = [method.instance(config) for method, config in zip(self.plan.prepared, configs, strict=True)]
        if time_ := closed_form_time(strategies, [(len(samples), classes)], network.head.features, self.device):
            self.around.notify(Note(f"keeping the statistics for {listed(names)}: {time_}"))
        found = {}
        for method, config, strategy in zip(self.plan.prepared, configs, strategies, strict=True):
            with explaining(method.plugin.name):
                strategy.start(network)
                # A second experience follows: some strategies keep nothing after the last.
                strategy.after_experience(network, Experience(0, (classes, 1), samples=samples))
            try:
                name = method.plugin.name
                found[name] = state_of(strategy, name, method.plugin.sha256, config, trunk)
            except NotStorable as why:
                raise UsageError(
                    f"--prepare {method.plugin.name}: it keeps state that cannot be stored ({why})"
                ) from None
        return found

    def _candidate(self, learned: Learned, scores: Mapping[Role, Scores], seconds: float) -> Candidate:
        classes = self.plan.images.classes
        after = {role: own.argmax(axis=1) for role, own in scores.items()}
        return Candidate(
            strategy=self.entry.spec,
            classes=judging.judged_classes(classes, 0, self.sets, {}, after),
            on_new=None,
            on_unlabelled=None,
            confusion=judging.confusion(classes, self.sets, after),
            changed=(),
            gradient_steps=learned.costs.gradient_steps,
            samples_seen=learned.costs.samples_seen,
            seconds=seconds,
        )

    def _template(self, trunk: Any, none_below: NoneBelow | None) -> Template:
        what = self.plan
        record = NetworkRecord(
            origin=None,
            network=what.network,
            network_seed=what.seeds.network,
            setting="class_incremental",
            classes=what.images.classes,
            experiences=(len(what.images.classes),),
            input=self.input,
            classifier=ClassifierRecord(name="Linear"),
            weights_sha256="0" * 64,
            probe=(),
            versions=Versions(clbench=version("clbench"), engine=ENGINE, torch=torch.__version__),
        )
        images = len(self.sets["new"])
        classes, seed = what.images.classes, what.seeds.run
        return Template(record, "train", classes, len(classes), images, seed, trunk, none_below)

    def result(self, candidate: Candidate) -> ExtensionResult:
        """Return result.json."""
        what = self.plan
        return ExtensionResult(
            id=self.identity,
            command="train",
            engine=ENGINE,
            network=what.network,
            input=self.input,
            parent_sha256=None,
            lineage=(),
            old_classes=(),
            new_classes=what.images.classes,
            held_out=0.0 if what.images.has_test_part else what.request.share_held_out,
            images=tuple(own.record for own in self.sets.values()),
            recipe=what.recipe,
            seeds=what.seeds,
            device=what.machine.device,
            threads=what.machine.threads,
            candidates=(candidate,),
            left_out=(),
            chosen=candidate.strategy.selector,
            rule="the only strategy that was tried",
        )


def _statistics(images: ImageSet) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Return mean and standard deviation of the pixels in 0..1, per channel; for a constant channel exactly 0."""
    moments = Moments(images.images.shape[3])
    for start in range(0, len(images), 500):
        moments.add(images.images[start : start + 500].reshape(-1))
    mean, std = zip(*moments.means_and_deviations(), strict=True)
    return mean, std
