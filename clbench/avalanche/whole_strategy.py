"""Any of Avalanche's strategies as a clbench strategy: trained by Avalanche's loop and data path, evaluated by clbench.

It gets the recipe's network, optimizer, batch size and epochs, and the stream as an Avalanche benchmark with task label
0 throughout. Its random numbers come from torch, NumPy and Python, which the harness seeds at every experience. It is
Avalanche's dialect of the method, faults included: none of its code is replaced. See docs/avalanche.md.

Differences from its usual use:

- The head grows as the recipe says, in one layer, unless the strategy's code needs all outputs from the start.
- The optimizer's state is fresh or carried over as the recipe says; Avalanche alone would carry it over.
- Datasets of ended experiences keep only the samples that a buffer refers to; see kept_samples.py.
"""

from __future__ import annotations

import copy
import inspect
import math
import types
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from typing import Any, ClassVar, Optional, cast

import torch
from torch import Tensor, nn

from clbench.avalanche import catalogue
from clbench.base.config import config as as_config
from clbench.base.experience import Experience
from clbench.base.incremental_setting import Setting
from clbench.base.own_loop import Training
from clbench.base.recipe import Recipe
from clbench.base.strategy import ConfigT, Strategy
from clbench.errors import MachineError, UsageError
from clbench.networks.head import Head
from clbench.networks.network import Network
from clbench.system.seeds import derive

NEEDS_ALL_OUTPUTS = {"DER", "GDumb", "ICaRL"}
"""Strategies that compare outputs with older ones of the same width, or take up an older network again."""

ONLY_NEW_CLASSES = {"ICaRL"}
"""Strategies whose targets for every earlier class are old outputs, so that its labels teach nothing."""

NEEDS_PACKAGE = {"GEM": "quadprog"}

FOLLOWED = {
    "network",
    "network_config",
    "initialization",
    "optimizer",
    "optimizer_state",
    "lr",
    "momentum",
    "weight_decay",
    "batch_size",
    "epochs",
    "padding",
    "normalization",
    "head",
    "head_initialization",
    "class_order",
    "stream_options",
    "first",
    "of_strategy",
}
"""Recipe fields that Avalanche's loop follows; any other must have its default."""


class AvalancheLoop(Strategy[ConfigT]):
    """One of Avalanche's strategies; the subclasses are made by `strategy_class`."""

    described: ClassVar[catalogue.Described]
    memory_field = "mem_size"

    def __init__(self, config: ConfigT) -> None:
        super().__init__(config)
        self.learner: Any = None
        """Avalanche's strategy, once the first experience trains."""
        self.network: Network | None = None
        """The network in training, from which the learner's model is made."""
        self.datasets: list[Any] = []
        """The samples of the experiences so far that were kept."""
        self.budget = 0

    @classmethod
    def check_protocol(cls, config: ConfigT, recipe: Recipe, setting: Setting) -> None:
        """Refuse what Avalanche's loop cannot do, and missing parameters that must be given."""
        name = catalogue.PREFIX + cls.described.name
        if setting != "class_incremental":
            raise UsageError(f"{name} runs class-incrementally only (got the {setting.replace('_', '-')} setting)")
        usual = Recipe()
        for field in sorted(vars(usual).keys() - FOLLOWED):
            if getattr(recipe, field) != getattr(usual, field):
                raise UsageError(f"{name}: Avalanche's loop does not follow the recipe's {field}")
        for parameter in cls.described.parameters:
            if parameter.required and getattr(config, parameter.name) is None:
                raise UsageError(
                    f"{name} needs a value for {parameter.name}, for which Avalanche has no default",
                    f"Add --set {name}.{parameter.name}=VALUE",
                )
        package = NEEDS_PACKAGE.get(cls.described.name)
        if package and find_spec(package) is None:
            raise MachineError(f"{name} needs the package {package}, which is not installed", f"pip install {package}")

    @property
    def memory(self) -> int:
        """How many samples may be kept: set by a parameter or, if there is none, as many as the strategy keeps."""
        return self.budget

    def before_experience(self, model: Network, experience: Experience) -> None:
        """Give the network a head whose parameters keep their names."""
        if experience.index > 0 or model.head.fixed:
            return
        head = _OneLayerHead.of(model.head)
        if self.described.name in NEEDS_ALL_OUTPUTS:
            head.fix(sum(experience.classes_per_experience), derive(torch.initial_seed(), "head"))
            head.to(next(model.parameters()).device)
        model.head = head

    def train(self, training: Training) -> None:
        """Train the experience by Avalanche's loop."""
        from clbench.avalanche import kept_samples  # imports Avalanche, which takes seconds
        from clbench.avalanche.benchmark import class_incremental

        data, where = training.data, training.experience
        self.network = training.model
        if self.learner is None:
            self.learner = self._new_learner(training)
        for earlier in self.datasets:
            earlier.scale = data.scaling
        samples = kept_samples.OwnSamples(data.rows, data.labels, lambda rows: data.scaled(rows).cpu(), self.datasets)
        benchmark = class_incremental(where.classes_per_experience, train=samples)
        with self._prepared(training):
            self.learner.train(benchmark.train_stream[where.index], eval_streams=[])
        if isinstance(self.learner.model, Network) and self.learner.model is not training.model:
            training.model.load_state_dict(self.learner.model.state_dict())  # it was replaced by a copy
            self.learner.model = training.model
        kept_samples.let_go(self.datasets, self.learner, data.images.read)
        self.budget = self._budget(where)

    @contextmanager
    def _prepared(self, training: Training) -> Iterator[None]:
        """Let the learner train with the harness's optimizer and report to it; afterwards it can be pickled."""
        learner = self.learner
        learner.train_epochs, learner.train_mb_size = training.epochs, training.recipe.batch_size
        learner.optimizer = training.optimizer
        # As if Avalanche had made it; otherwise it would discard the state that the recipe carries over.
        learner.optimized_param_id = dict(learner.model.named_parameters())
        for plugin in learner.plugins:  # A-GEM keeps an iterator
            if getattr(plugin, "buffer_dataloader", None) is not None:
                plugin.buffer_dliter = iter(plugin.buffer_dataloader)
        with learner.plugins[0].listening(training, learner), warnings.catch_warnings(record=True):
            # Avalanche warns of deprecated functions that it calls itself, past every filter: hence `record`.
            warnings.simplefilter("ignore")
            yield
        learner.optimizer = learner.optimized_param_id = None
        for plugin in learner.plugins:
            if hasattr(plugin, "buffer_dliter"):
                plugin.buffer_dliter = iter(())

    def _new_learner(self, training: Training) -> Any:
        from clbench.avalanche.listener import Listener
        from clbench.avalanche.plugin_template import no_metrics
        from clbench.avalanche.quiet_import import importing_avalanche

        with importing_avalanche():
            from avalanche.training import supervised

        cls = getattr(supervised, self.described.name)
        offered = {
            "model": training.model,
            "feature_extractor": training.model.blocks,
            "classifier": training.model.head,
            "optimizer": training.optimizer,
            "criterion": nn.CrossEntropyLoss(),
            "buffer_transform": None,
            "train_mb_size": training.recipe.batch_size,
            "train_epochs": training.epochs,
            "eval_mb_size": training.recipe.batch_size,
            "device": training.device,
            "plugins": [Listener()],
            "evaluator": no_metrics(),
            **{each.name: getattr(self.config, each.name) for each in self.described.parameters},
        }
        taken = inspect.signature(cls).parameters
        return cls(**{name: value for name, value in offered.items() if name in taken})

    def _budget(self, where: Experience) -> int:
        values = {each.name: getattr(self.config, each.name) for each in self.described.parameters}
        if "patterns_per_exp" in values:
            return int(values["patterns_per_exp"]) * (where.index + 1)
        if "memory_size" in values:  # iCaRL's, divided by the classes and rounded up, or for each class
            per_class = values["memory_size"]
            if values["fixed_memory"]:
                per_class = math.ceil(per_class / where.seen_classes)
            return int(per_class) * where.seen_classes
        if "mem_size" in values:
            return int(values["mem_size"])
        return sum(dataset.count for dataset in self.datasets)

    def predict(self, model: Network, x: Tensor, experience: Experience) -> Tensor:
        """Return the scores of the learner's model in evaluation mode, with the trunk and head of `model`."""
        assert self.network is not None
        own, parts = self.network, {}
        for mine, theirs in ((own, model), (own.blocks, model.blocks), (own.head, model.head)):
            parts[id(mine)] = theirs
        answering = copy.deepcopy(self.learner.model, parts)
        scores: Tensor = answering.eval()(x)
        return scores


class _OneLayerHead(Head):
    """A head that grows in one layer, which Avalanche's strategies that compare weights by name expect."""

    @classmethod
    def of(cls, head: Head) -> _OneLayerHead:
        """Return the same head in one layer."""
        made = cls(head.features)
        made.seen, made.old, made.new, made.initialization = head.seen, head.old, head.new, head.initialization
        made._join()
        return made

    def grow(self, classes: int, seed: int) -> None:
        """Add rows as every head does, and join them to the others."""
        super().grow(classes, seed)
        if self.old is not None and self.new is not None:
            self.new.to(self.old.weight.device)
        self._join()

    def fix(self, classes: int, seed: int) -> None:
        """Create all rows."""
        super().fix(classes, seed)
        self.new = None

    def _join(self) -> None:
        if self.new is None:
            return
        joined: nn.Linear = nn.utils.skip_init(nn.Linear, self.features, self.classes)
        with torch.no_grad():
            joined.to(self.new.weight.device)
            joined.weight.copy_(self.weight)
            joined.bias.copy_(self.bias)
        self.old, self.new = joined, None


def strategy_class(name: str) -> type[AvalancheLoop[Any]]:
    """Return Avalanche's strategy `name` as a strategy class. Raises UsageError if there is none."""
    found = catalogue.described(name, catalogue.source_file(name).read_bytes())
    config = _config_class(found)
    made: Any = types.new_class(name, (AvalancheLoop[config],))  # type: ignore[valid-type]
    made.__module__, made.__doc__ = __name__, found.doc
    made.described = found
    made.only_new_classes = name in ONLY_NEW_CLASSES
    made.package = f"{catalogue.PACKAGE} {catalogue.package_version()}"
    return cast("type[AvalancheLoop[Any]]", made)


def _config_class(found: catalogue.Described) -> type[Any]:
    annotations, defaults = {}, {}
    for each in found.parameters:
        value_type = catalogue.value_type(each.annotation)
        annotations[each.name] = Optional[value_type] if each.default is None else value_type  # noqa: UP045
        defaults[each.name] = each.default
    return as_config(type(f"{found.name}Config", (), {"__annotations__": annotations, **defaults}))
