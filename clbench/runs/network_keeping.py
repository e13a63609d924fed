"""Stores the networks of a run with all that is needed to use them elsewhere; training stays unchanged."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from torch import nn

from clbench.base.experience import Experience
from clbench.base.strategy import Strategy
from clbench.data.batches import Scaling
from clbench.data.image_fit import Fit
from clbench.deployment.storing import network_files, storable
from clbench.errors import UsageError
from clbench.networks.network import Network
from clbench.results import manifests
from clbench.results.network_record import (
    ClassifierRecord,
    ImageShape,
    InputRecord,
    NetworkRecord,
    Origin,
    Versions,
)
from clbench.results.run_result import ExperienceResult
from clbench.results.run_spec import RunSpec, experience_classes, run_id
from clbench.runs.chosen_network import Shape, input_shape
from clbench.runs.kept_networks import Keep, files_of, last_trained, network_stem
from clbench.system.files import replace_file
from clbench.system.randomness import randomness_untouched
from clbench.system.tables import readable_bytes


def input_record(spec: RunSpec, shape: Shape, scaling: Scaling, fit: Fit) -> InputRecord:
    """Return how an image becomes the input of a run's network; `shape` is that of a padded image.

    Images of other sizes are made to fit in the same way as those of the dataset.
    """
    padding = spec.recipe.config.for_strategy(spec.strategy.name).padding
    height, width, channels = input_shape(spec.network, shape)
    image = ImageShape(height=shape[0] - 2 * padding, width=shape[1] - 2 * padding, channels=shape[2], fit=fit)
    return InputRecord(
        image=image,
        padding=padding,
        channels=channels,
        mean=scaling.mean,
        std=scaling.std,
        height=height,
        width=width,
        resizing=None if (height, width) == shape[:2] else "bilinear, antialiased",
    )


class NetworkKeeper:
    """Keeps the networks of one run: those of earlier experiences in its `work` folder until the run is published."""

    def __init__(
        self,
        spec: RunSpec,
        strategy: Strategy[Any],
        expected: InputRecord,
        frozen_trunk: Callable[[], nn.Module] | None,
        work: Path,
        keep: Keep,
    ) -> None:
        """`frozen_trunk` returns the trunk if the run's network has none because its inputs are features."""
        self.spec, self.strategy, self.expected = spec, strategy, expected
        self.frozen_trunk, self.work, self.keep = frozen_trunk, work, keep
        self.sizes = spec.scenario.classes_per_experience

    def check_resumed(self, finished: Sequence[ExperienceResult]) -> None:
        """Raise UsageError if the networks of finished experiences should have been kept but were not.

        That of the last experience is in the checkpoint.
        """
        earlier = [each.index for each in finished if each.trained and each.index < len(self.sizes) - 1]
        if self.keep == "all" and any(
            not (self.work / name).is_file() for index in earlier for name in self._files(index)
        ):
            raise UsageError(
                "the run was begun without --keep-networks all, and the networks of its first experiences are gone",
                "Resume with --keep-networks last or without it, or start again in another folder: --out DIR.",
            )

    def after_experience(self, index: int, model: Network, finished: Sequence[ExperienceResult]) -> None:
        """Keep the network in the work folder if each is kept. Raises PluginError for one that cannot be stored."""
        if not finished[-1].trained:
            return
        if self.keep == "all" and index < len(self.sizes) - 1:
            files = self._content(index, model, network_stem(index, len(self.sizes) - 1))
            self._check_size(sum(map(len, files.values())))
            for name, content in files.items():
                replace_file(self.work / name, content)
        else:
            self._classifier(index, model)

    def _check_size(self, size: int) -> None:
        if size * len(self.sizes) > manifests.LARGEST_RUN:
            raise UsageError(
                f"{len(self.sizes)} networks of {readable_bytes(size)} are more than a run may hold "
                f"({readable_bytes(manifests.LARGEST_RUN)})",
                "Keep the last one: --keep-networks last",
            )

    def files(self, model: Network, finished: Sequence[ExperienceResult]) -> dict[str, bytes | Path]:
        """Return the files of all networks that are kept, by name, once the last experience is over."""
        last = last_trained(finished)
        earlier = [each.index for each in finished if each.trained and each.index < last and self.keep == "all"]
        kept: dict[str, bytes | Path] = {name: self.work / name for index in earlier for name in self._files(index)}
        return kept | self._content(last, model, network_stem(last, last))

    def _files(self, index: int) -> tuple[str, str]:
        return files_of(index, len(self.sizes) - 1)

    def _content(self, index: int, model: Network, stem: str) -> dict[str, bytes]:
        classifier, record = self._classifier(index, model)
        trunk = model.blocks if self.frozen_trunk is None else self.frozen_trunk()
        return network_files(copy.deepcopy(trunk).cpu().eval(), classifier, self._record(index, record), stem)

    def _classifier(self, index: int, model: Network) -> tuple[nn.Module, ClassifierRecord]:
        """Return a copy of the classifier after an experience, and its record."""
        where = Experience(index, self.sizes, self.spec.scenario.setting)
        with torch.no_grad(), randomness_untouched():
            return storable(self.strategy.classifier(model.in_evaluation(), where), where.seen_classes)

    def _record(self, index: int, classifier: ClassifierRecord) -> NetworkRecord:
        spec = self.spec
        classes, experiences = self._outputs(index)
        return NetworkRecord(
            origin=Origin(
                run_id=run_id(spec),
                scenario=spec.scenario.name,
                dataset=spec.scenario.dataset,
                dataset_sha256=spec.scenario.dataset_sha256,
                strategy=spec.strategy.selector,
                recipe=spec.recipe.name,
                seed=spec.seeds.run,
                experience=index,
            ),
            network=spec.network,
            network_seed=spec.seeds.network,
            setting=spec.scenario.setting,
            classes=classes,
            experiences=experiences,
            input=self.expected,
            classifier=classifier,
            weights_sha256="0" * 64,
            probe=(),
            versions=Versions(clbench=version("clbench"), engine=spec.engine, torch=torch.__version__),
        )

    def _outputs(self, index: int) -> tuple[tuple[str, ...], tuple[int, ...]]:
        """Return the classes' names in the order of the scores, and how many outputs each experience added."""
        names = [
            [self.spec.scenario.class_name(each) for each in own] for own in experience_classes(self.spec)[: index + 1]
        ]
        if self.spec.scenario.setting != "domain_incremental":
            return tuple(name for own in names for name in own), self.sizes[: index + 1]
        if self.spec.scenario.domains:  # all have the same classes, prefixed with the domain's name
            return tuple(name.removeprefix(f"{self.spec.scenario.domains[0]}/") for name in names[0]), self.sizes[:1]
        return tuple(" | ".join(same) for same in zip(*names, strict=True)), self.sizes[:1]
