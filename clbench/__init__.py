"""clbench measures how much a classifier forgets while it learns classes a few at a time.

    runs = clbench.run(strategy="lwf", scenario="splitmnist", seeds=3)
    frame = clbench.load("results")

Names are imported on first use, so that `import clbench` imports neither torch nor Avalanche.
"""

from importlib import import_module
from typing import TYPE_CHECKING

# No module here is called config.py or run.py: importing it would replace the decorator `config` or the function `run`.
if TYPE_CHECKING:
    from clbench.api.comparing import Runs, RunsFailed, load, report, run, run_study
    from clbench.api.extending import Extended, extend, train
    from clbench.base.batch import Batch, Classes
    from clbench.base.config import config
    from clbench.base.exemplars import ExemplarMemory
    from clbench.base.experience import Experience, Samples
    from clbench.base.feature_strategy import FeatureStrategy
    from clbench.base.incremental_setting import Setting
    from clbench.base.recipe import Augmentation, Overrides, Recipe
    from clbench.base.scenario import Scenario
    from clbench.base.strategy import Strategy, TrainingData
    from clbench.deployment.loading import load_network
    from clbench.errors import AuditError, ClbenchError, DataError, MachineError, PluginError, UsageError
    from clbench.networks.network import Network
    from clbench.networks.traits import network
    from clbench.trackers.tracker import TrackedRun, Tracker

    __version__: str

_HOME = {
    "AuditError": "errors",
    "Augmentation": "base.recipe",
    "Batch": "base.batch",
    "Overrides": "base.recipe",
    "Classes": "base.batch",
    "ClbenchError": "errors",
    "DataError": "errors",
    "ExemplarMemory": "base.exemplars",
    "Extended": "api.extending",
    "Experience": "base.experience",
    "FeatureStrategy": "base.feature_strategy",
    "MachineError": "errors",
    "Network": "networks.network",
    "PluginError": "errors",
    "Recipe": "base.recipe",
    "Runs": "api.comparing",
    "RunsFailed": "api.comparing",
    "Samples": "base.experience",
    "Scenario": "base.scenario",
    "Setting": "base.incremental_setting",
    "Strategy": "base.strategy",
    "TrackedRun": "trackers.tracker",
    "Tracker": "trackers.tracker",
    "TrainingData": "base.strategy",
    "UsageError": "errors",
    "config": "base.config",
    "extend": "api.extending",
    "load": "api.comparing",
    "load_network": "deployment.loading",
    "network": "networks.traits",
    "report": "api.comparing",
    "run": "api.comparing",
    "run_study": "api.comparing",
    "train": "api.extending",
}

__all__ = [
    "AuditError",
    "Augmentation",
    "Batch",
    "Classes",
    "ClbenchError",
    "DataError",
    "ExemplarMemory",
    "Experience",
    "Extended",
    "FeatureStrategy",
    "MachineError",
    "Network",
    "Overrides",
    "PluginError",
    "Recipe",
    "Runs",
    "RunsFailed",
    "Samples",
    "Scenario",
    "Setting",
    "Strategy",
    "TrackedRun",
    "Tracker",
    "TrainingData",
    "UsageError",
    "config",
    "extend",
    "load",
    "load_network",
    "network",
    "report",
    "run",
    "run_study",
    "train",
]


def __getattr__(name: str) -> object:
    if name == "__version__":
        return import_module("importlib.metadata").version("clbench")
    if name == "Changes":
        raise AttributeError("clbench.Changes is now called clbench.Overrides")
    if name not in _HOME:
        raise AttributeError(f"module 'clbench' has no attribute '{name}'")
    return getattr(import_module(f"clbench.{_HOME[name]}"), name)


def __dir__() -> list[str]:
    return __all__
