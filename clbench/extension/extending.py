"""Implements `clbench extend`: adds classes to a network from a folder of images, without the data of the old ones."""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from clbench.base.events import Note, RunStarted
from clbench.base.strategy import Strategy
from clbench.data.datasets import data_folder
from clbench.data.image_folders import ImageFolder
from clbench.errors import Divergence, PluginError, UndefinedScores, UsageError
from clbench.extension import judging
from clbench.extension.around import Around, finished
from clbench.extension.brought_along import CannotExtend
from clbench.extension.candidates import (
    Entry,
    Made,
    Template,
    continued_state,
    identity_of,
    keep,
    read_made,
    trunk_sha256,
)
from clbench.extension.continuing import continued
from clbench.extension.expected_time import announce_closed_forms, announce_steps
from clbench.extension.explaining import explaining
from clbench.extension.folder import OutputFolder, read_result
from clbench.extension.given import as_network, lineage_of
from clbench.extension.image_sets import (
    UNLABELLED,
    ImageSet,
    read_images,
    refuse_shared_images,
    with_old_tests,
    without_copies,
)
from clbench.extension.learner import Inputs, Learned, Scores, Task, as_inputs, begin, learn, on_features
from clbench.extension.none_of_these import calibrated
from clbench.extension.planning import Plan, Tried, plan, refuse_all
from clbench.extension.publishing import publish
from clbench.extension.requests import ExtendRequest
from clbench.results.extension_result import Candidate, ExtensionResult, LeftOut, Role
from clbench.results.spec_building import ENGINE
from clbench.system.global_state import GlobalState

_WHOLE_NETWORK = (
    "the whole network is trained, although only its head was before; --set network.train=head trains only its head, "
    "much faster, and keeps the statistics of its features"
)


class Extension:
    """An extension whose images have been read."""

    def __init__(self, what: Plan, output: OutputFolder, around: Around) -> None:
        self.plan, self.output, self.around = what, output, around
        self.device = torch.device(what.machine.device)
        self.sets = self._read()
        self.entries = [self._entry(tried) for tried in what.tried if tried.prospect.refusal is None]
        self.prospects = {tried.spec.selector: tried.prospect for tried in what.tried}
        self.identity = identity_of(strategies=[entry.identity for entry in self.entries], export=what.request.export)

    def _read(self) -> dict[Role, ImageSet]:
        what, shape = self.plan, self.plan.parent.record.input.image
        position = {name: place for place, name in enumerate(what.classes)}
        files: dict[Role, tuple[Path, list[tuple[Path, int]]]] = {
            "new": (what.new.root, _labelled(what.new, what.new.train, position)),
            "new_test": (what.new.root, _labelled(what.new, what.new.test, position)),
        }
        if (old := what.old_test) is not None:
            tested = old.test if old.has_test_part else old.train
            files["old_test"] = (old.root, _labelled(old, tested, position))
        if (old := what.old_images) is not None:
            files["old_images"] = (old.root, _labelled(old, old.train, position))
        if what.unlabelled:
            assert what.request.unlabelled is not None
            files["unlabelled"] = (what.request.unlabelled, [(file, UNLABELLED) for file in what.unlabelled])
        sets = {
            role: read_images(role, root, own, shape, self.around.notify, self.output.work)
            for role, (root, own) in files.items()
            if own
        }
        if "new_test" in sets:
            sets["new_test"] = without_copies(sets["new_test"], sets["new"], self.around.notify)
        refuse_shared_images(sets, len(what.parent.classes))
        return with_old_tests(sets, len(what.parent.classes), what.new.root)

    def _entry(self, tried: Tried) -> Entry:
        what, state = self.plan, tried.state
        identity = identity_of(
            command="extend",
            engine=ENGINE,
            parent=what.parent.record.weights_sha256,
            classes=what.classes,
            images={role: own.sha256 for role, own in self.sets.items()},
            names={role: own.names for role, own in self.sets.items()},
            strategy=tried.spec,
            state=None if state is None else [state.sha256, state.trunk_sha256],
            recipe=what.recipe,
            train=what.use.train,
            seeds=what.seeds,
            device=what.machine.device,
            threads=what.machine.threads,
        )
        return Entry(tried.method, tried.spec, state, identity)

    def task(self) -> Task:
        """Return the task that every strategy is given."""
        what = self.plan
        inputs = as_inputs(self.sets, what.parent.record.input, self.device)
        if what.use.train == "head":
            self.around.notify(Note(f"computing the features of {sum(map(len, self.sets.values())):,} images"))
            inputs = on_features(inputs, what.parent.trunk)
        return Task(
            what.sizes,
            inputs,
            what.recipe.config,
            what.seeds,
            lambda: as_network(what.parent, what.use.train),
            self.around.interruption,
            self.around.notify,
        )

    def before(self, inputs: Inputs) -> dict[Role, judging.Answers]:
        """Return the predictions of the given network on all images that strategies are judged on."""
        if self.plan.use.train != "head":
            images = sum(len(self.sets[role]) for role in _judged(self.sets))
            self.around.notify(Note(f"running the network on {images:,} test images before it is extended"))
        parent = self.plan.parent.to(self.device)
        known = len(parent.classes)

        def score(x: Tensor) -> Tensor:
            scores: Tensor = parent.classifier(x if x.dim() == 2 else parent.trunk(x))[:, :known]
            return scores

        return {role: inputs.scores(role, score).argmax(axis=1) for role in _judged(self.sets)}

    def made(self, entry: Entry, task: Task, before: Mapping[Role, judging.Answers]) -> Made:
        """Train one strategy, or take what it made before the command was stopped. Raises CannotExtend."""
        if (kept := self.output.kept(entry.identity)) is not None:
            self.around.notify(Note(f"{entry.name}: taken from where the command was stopped"))
            return read_made(kept)
        state, began = GlobalState(), time.perf_counter()
        torch.set_num_threads(self.plan.machine.threads)
        try:
            with contextlib.redirect_stdout(sys.stderr), explaining(entry.name):
                trainer = begin(task, entry.method.strategy, entry.spec.config, entry.spec.name, entry.state)
                self.around.notify(RunStarted(entry.spec.name, 1, self.length(entry), 0))
                learned = learn(task, trainer)
                scores = {role: task.inputs.scores(role, learned.score) for role in _judged(self.sets)}
                candidate = self._candidate(entry, learned, scores, before, time.perf_counter() - began)
        finally:
            state.restore()
        what = self.plan
        template = Template(
            what.parent.record.model_copy(
                update={
                    "lineage": lineage_of(what.parent.record),
                    "network": what.parent.record.network.model_copy(update={"train": what.use.train}),
                    "experiences": (*what.parent.record.experiences, what.sizes[1]),
                }
            ),
            "extend",
            what.classes,
            what.sizes[1],
            candidate.train_images,
            what.seeds.run,
            what.parent.trunk if what.use.train == "head" else None,
            calibrated((own, self.sets[role].labels) for role, own in scores.items() if role != "unlabelled"),
        )
        trunk = what.parent.trunk if what.use.train == "head" else learned.network.blocks
        states = continued_state(learned, entry, trunk_sha256(trunk))
        made = keep(self.output, entry, candidate, template.files(learned, entry, states))
        finished(self.around.notify, candidate, str(made.folder))
        return made

    def keeps_much(self, name: str) -> bool:
        """Return whether a strategy keeps large statistics with the network."""
        return any(entry.method.strategy.statistics == "large" for entry in self.entries if entry.name == name)

    def closed_forms(self) -> dict[str, Strategy[Any]]:
        """Return the strategies that take no gradient steps, not started, by name."""
        return {
            entry.name: entry.method.instance(entry.spec.config)
            for entry in self.entries
            if not self.prospects[entry.name].takes_steps
        }

    def length(self, entry: Entry) -> str:
        """Return the length of a strategy's training, for display."""
        return self.plan.recipe.config.length if self.prospects[entry.name].takes_steps else "no gradient steps"

    def _candidate(
        self,
        entry: Entry,
        learned: Learned,
        scores: Mapping[Role, Scores],
        before: Mapping[Role, judging.Answers],
        seconds: float,
    ) -> Candidate:
        what, old = self.plan, self.plan.sizes[0]
        uses_old_images = self.prospects[entry.name].uses_old_images
        sets = {role: own for role, own in self.sets.items() if role != "old_images" or uses_old_images}
        after = {role: own.argmax(axis=1) for role, own in scores.items()}

        def compared(role: Role) -> Any:
            return judging.agreement(before[role], scores[role], old) if role in scores else None

        return Candidate(
            strategy=entry.spec,
            classes=judging.judged_classes(what.classes, old, sets, before, after),
            on_new=compared("new_test"),
            on_unlabelled=compared("unlabelled"),
            confusion=judging.confusion(what.classes, self.sets, after),
            changed=judging.changed_answers(what.classes, self.sets, before, after),
            gradient_steps=learned.costs.gradient_steps,
            samples_seen=learned.costs.samples_seen,
            seconds=seconds,
        )


def _labelled(
    folder: ImageFolder, files: Sequence[Sequence[Path]], position: Mapping[str, int]
) -> list[tuple[Path, int]]:
    return [(file, position[name]) for name, own in zip(folder.classes, files, strict=True) for file in own]


def _judged(sets: Mapping[Role, ImageSet]) -> Iterator[Role]:
    judged: tuple[Role, ...] = ("new_test", "old_test", "unlabelled")
    return (role for role in judged if role in sets)


def extend(request: ExtendRequest, defaults: Sequence[str], around: Around) -> ExtensionResult:
    """Extend a network and write the folder; see `plan`. Repeating the same command changes nothing.

    Raises UsageError if no strategy can extend the network, and the exceptions of training.
    """
    what = plan(request, defaults, around.notify)
    output = OutputFolder(request.out)
    with output.claimed():
        extension = Extension(what, output, around)
        if (there := output.finished(extension.identity)) is not None:
            around.notify(Note(f"{output.path} is finished already; nothing was done"))
            return there
        trains = any(extension.prospects[entry.name].trains_trunk for entry in extension.entries)
        if trains and what.use.train != "head" and what.parent.record.network.train == "head":
            around.notify(Note(_WHOLE_NETWORK))
        with explaining(f"the network {what.parent.record.network.name}"):
            task = extension.task()
            before = extension.before(task.inputs)
        if what.request.source is None and "old_test" in before:
            labels, answers = extension.sets["old_test"].labels, before["old_test"]
            for warning in judging.warnings_before(labels, answers, what.sizes[0]):
                around.notify(Note(warning))
        made: list[Made] = []
        left_out = what.left_out
        announce_closed_forms(extension.closed_forms(), task, len(extension.sets["new"]), what.sizes[1])
        for index, entry in enumerate(extension.entries):
            try:
                made.append(extension.made(entry, task, before))
                if extension.prospects[entry.name].takes_steps:
                    ahead = [each.name for each in extension.entries[index + 1 :]]
                    steps = sum(extension.prospects[name].takes_steps for name in ahead)
                    announce_steps(steps, made[-1].candidate.seconds, around.notify)
            except (CannotExtend, UsageError, Divergence, UndefinedScores, PluginError) as reason:
                left_out.append(LeftOut(strategy=entry.name, reason=getattr(reason, "message", str(reason))))
        if not made:
            refuse_all(left_out)
        result, chosen = _result(extension, made, left_out)
        (method,) = [each.method for each in extension.entries if each.spec.selector == result.chosen]
        exported = f", and exporting it to {request.export}" if request.export else ""
        around.notify(Note(f"writing the network and its report{exported}"))
        publish(
            output,
            chosen,
            continued(what, task, chosen, made, len(extension.sets["new"]), around.notify),
            result,
            method.plugin,
            extension.sets,
            around.page,
            request.export,
            what.request.network_file,
            data_folder(request.data),
        )
        return read_result(output.path)


def _result(extension: Extension, made: Sequence[Made], left_out: Sequence[LeftOut]) -> tuple[ExtensionResult, Made]:
    what, record = extension.plan, extension.plan.parent.record
    candidates = [each.candidate for each in made]
    light_first = sorted(made, key=lambda each: extension.keeps_much(each.candidate.strategy.selector))
    best, rule = judging.choose([each.candidate for each in light_first])
    chosen = made[candidates.index(best)]
    warnings = list(judging.warnings_after(best, len(what.classes), len(candidates)))
    for warning in warnings:
        extension.around.notify(Note(warning))
    result = ExtensionResult(
        id=extension.identity,
        command="extend",
        engine=ENGINE,
        network=record.network.model_copy(update={"train": what.use.train}),
        input=record.input,
        parent_sha256=record.weights_sha256,
        lineage=lineage_of(record),
        old_classes=what.parent.classes,
        new_classes=what.classes[len(what.parent.classes) :],
        held_out=0.0 if what.new.has_test_part else what.request.share_held_out,
        images=tuple(own.record for own in extension.sets.values()),
        recipe=what.recipe,
        seeds=what.seeds,
        device=what.machine.device,
        threads=what.machine.threads,
        candidates=tuple(candidates),
        left_out=tuple(left_out),
        chosen=best.strategy.selector,
        rule=rule,
        notes=(*what.notes, *warnings),
    )
    return result, chosen
