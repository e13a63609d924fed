"""clbench measures how much a classifier forgets while it learns classes a few at a time.

    runs = clbench.run(strategy="lwf", scenario="splitmnist", seeds=3)
    frame = clbench.load("results")

Names are brought in when first used, so that `import clbench` imports neither torch nor Avalanche.
"""

from importlib import import_module
from typing import TYPE_CHECKING

# `config` the decorator and `run` the function are why no module here is called config.py or run.py: importing such
# a module would put it in their place.
if TYPE_CHECKING:
    from clbench.api import Runs, load, report, run
    from clbench.errors import ClbenchError, DataError, MachineError, PluginError, UsageError
    from clbench.hyperparameters import config
    from clbench.memory import ExemplarMemory
    from clbench.models import Network
    from clbench.recipe import Augmentation, Changes, Recipe
    from clbench.scenario import Scenario
    from clbench.strategy import Batch, Classes, Experience, Samples, Strategy, TrainingData

    __version__: str

_HOME = {
    "Augmentation": "recipe",
    "Batch": "strategy",
    "Changes": "recipe",
    "Classes": "strategy",
    "ClbenchError": "errors",
    "DataError": "errors",
    "ExemplarMemory": "memory",
    "Experience": "strategy",
    "MachineError": "errors",
    "Network": "models",
    "PluginError": "errors",
    "Recipe": "recipe",
    "Runs": "api",
    "Samples": "strategy",
    "Scenario": "scenario",
    "Strategy": "strategy",
    "TrainingData": "strategy",
    "UsageError": "errors",
    "config": "hyperparameters",
    "load": "api",
    "report": "api",
    "run": "api",
}

__all__ = [
    "Augmentation",
    "Batch",
    "Changes",
    "Classes",
    "ClbenchError",
    "DataError",
    "ExemplarMemory",
    "Experience",
    "MachineError",
    "Network",
    "PluginError",
    "Recipe",
    "Runs",
    "Samples",
    "Scenario",
    "Strategy",
    "TrainingData",
    "UsageError",
    "config",
    "load",
    "report",
    "run",
]


def __getattr__(name: str) -> object:
    if name == "__version__":
        return import_module("importlib.metadata").version("clbench")
    if name not in _HOME:
        raise AttributeError(f"module 'clbench' has no attribute '{name}'")
    return getattr(import_module(f"clbench.{_HOME[name]}"), name)


def __dir__() -> list[str]:
    return __all__
