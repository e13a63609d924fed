"""The options of a run, declared once: the command line, `clbench.run` and studies all take them from `Request`."""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from clbench.errors import UsageError
from clbench.runs.option import Declared, Option, accepted, options_of, parsed
from clbench.runs.option_values import (
    assignments,
    jobs_in,
    jobs_of,
    name_or_path,
    names_in,
    names_of,
    seeds_in,
    seeds_of,
    trackers_in,
    trackers_of,
    values_of,
)
from clbench.runs.parallelism import DEFAULT_THREADS, Jobs
from clbench.streams.splits import as_text

if TYPE_CHECKING:
    from clbench.results.run_spec import GridTuning


DEVICE = Option("Device to train on.", "auto|cpu|cuda", belongs_to="both")
DATA_FOLDER = Option("Data folder.", "DIR", unset="$CLBENCH_DATA, or the platform's cache", belongs_to="machine")


@dataclass(frozen=True)
class Request:
    """What the user asks for, before anything is looked up. Fields with an `Option` are the options of a run."""

    strategy: Annotated[
        Sequence[str],
        Option(
            "Strategies, by name or file, or avalanche:NAME; see `show` for presets.",
            "NAME[:PRESET][,NAME…]|all",
            ("--strategy", "-s"),
            parse=names_in,
            accept=names_of,
            repeated=True,
        ),
    ]
    scenario: Annotated[
        Sequence[str],
        Option(
            "Scenarios, by name or file, a folder of images, an .npz, or avalanche:NAME.",
            "NAME[,NAME…]",
            ("--scenario", "-S"),
            parse=names_in,
            accept=names_of,
            repeated=True,
        ),
    ]
    recipe: Annotated[str | None, Option("Training protocol.", "NAME", unset="the scenario's first")] = None
    network: Annotated[
        str | None,
        Option(
            "Network, by name or file, timm:NAME or torchvision:NAME.",
            "NAME",
            unset="the recipe's",
            accept=name_or_path,
        ),
    ] = None
    weights: Annotated[
        str | None,
        Option(
            "Initial weights of the network: .safetensors or .pt.",
            "FILE|pretrained|none",
            unset="the network's own, if it has any, or drawn from the seed",
            accept=name_or_path,
        ),
    ] = None
    seeds: Annotated[
        Sequence[int],
        Option(
            "Number of seeds (5: seeds 0 to 4), or a list of them (0,3).",
            "N|LIST",
            unset="1",
            parse=seeds_in,
            accept=seeds_of,
            default=None,
        ),
    ] = ()
    """(0,) or `seed` if none are given."""

    seed: Annotated[int | None, Option("A single seed, instead of --seeds.", "N")] = None
    set: Annotated[
        Mapping[str, Any],
        Option(
            "Set a hyper-parameter, or recipe., network. or stream.NAME=VALUE; repeatable.",
            "STRATEGY.NAME=VALUE",
            parse=assignments,
            accept=values_of,
            repeated=True,
            default=None,
        ),
    ] = field(default_factory=dict)
    """By `strategy.name`, `recipe.name`, `network.name` or `stream.name`, or by `name` if there is only one
    strategy."""

    split: Annotated[
        str | None,
        Option(
            "Number of equal experiences (5), or classes per experience (4,3,3 or 50+10x5).",
            "SPLIT",
            unset="the scenario's",
            accept=as_text,
        ),
    ] = None
    class_order: Annotated[
        str | None,
        Option(
            "Order in which classes are learned; a LIST of names or ids, or a FILE with one per line.",
            "seed|natural|LIST|FILE",
            unset="the recipe's",
            accept=lambda given: name_or_path(as_text(given)),
        ),
    ] = None
    stream: Annotated[
        str | None,
        Option("Kind of stream, by name; see `list streams`.", "NAME", unset="the scenario's"),
    ] = None
    epochs: Annotated[int | None, Option("Epochs per experience.", "N", unset="the recipe's")] = None
    setting: Annotated[
        str | None, Option("The incremental-learning setting.", "class|task|domain", unset="the scenario's")
    ] = None
    tune: Annotated[
        str | None, Option("Tune hyper-parameters; see docs/recipes-and-tuning.md.", "chf|grid", unset="off")
    ] = None
    device: Annotated[str, DEVICE] = "auto"
    threads: Annotated[int, Option("Threads per run; part of what identifies a run.", "N", belongs_to="both")] = (
        DEFAULT_THREADS
    )
    jobs: Annotated[
        Jobs | None,
        Option(
            "Runs at once; auto: as many as there is room for.",
            "N|auto",
            unset="1, or auto on a cluster",
            parse=jobs_in,
            accept=jobs_of,
            belongs_to="machine",
        ),
    ] = None
    on: Annotated[
        str,
        Option(
            "Where to execute runs; see docs/executors.md.",
            "local|ray[:ADDRESS]|slurm[:KEY=VALUE,…]",
            belongs_to="machine",
        ),
    ] = "local"
    gpus_per_run: Annotated[
        float | None,
        Option("With --on ray and a GPU: GPUs per run, or a fraction.", "N", unset="1", belongs_to="machine"),
    ] = None
    allow_mixed: Annotated[
        bool,
        Option(
            "Also use nodes with other versions of torch and other packages.",
            flags=("--allow-mixed",),
            belongs_to="machine",
        ),
    ] = False
    share: Annotated[
        bool,
        Option(
            "Train the first experience only once for runs that have it in common.",
            flags=("--share/--no-share",),
            belongs_to="machine",
        ),
    ] = True
    keep_networks: Annotated[
        str | None,
        Option(
            "Keep trained networks with the run: the last, or one per experience.",
            "last|all",
            unset="none",
            belongs_to="both",
        ),
    ] = None
    track: Annotated[
        Sequence[str],
        Option(
            "Track runs with tensorboard, wandb, mlflow or events (a file in each run); see docs/trackers.md.",
            "NAME[,NAME…]",
            unset="none",
            parse=trackers_in,
            accept=trackers_of,
            repeated=True,
            default=None,
            belongs_to="machine",
        ),
    ] = ()
    out: Annotated[Path, Option("Results folder.", "DIR", belongs_to="machine")] = Path("results")
    data: Annotated[
        Path | None,
        DATA_FOLDER,
    ] = None
    strict: Annotated[
        bool,
        Option(
            "Exit with code 6 if a strategy broke the rules; see docs/audit.md.",
            flags=("--strict",),
            belongs_to="machine",
        ),
    ] = False

    held_out: float = 0.0
    """Share of the training data that replaces the test set, for judging candidates."""

    tuning: GridTuning | None = None
    """The search that chose the hyper-parameters of these runs, for their specs."""

    def __post_init__(self) -> None:
        if self.seed is not None and self.seeds:
            raise UsageError("--seed and --seeds are both given", "Give one of them.")
        if not self.seeds:
            object.__setattr__(self, "seeds", (0 if self.seed is None else self.seed,))
            object.__setattr__(self, "seed", None)  # so that a copy may have other seeds

    @classmethod
    def from_command_line(cls, given: Mapping[str, Any]) -> Request:
        """Return the request for options as the command line reads them; a command may choose the runs itself."""
        return cls(**{"strategy": (), "scenario": (), **parsed(options(), given)})

    @classmethod
    def from_python(cls, given: Mapping[str, Any]) -> Request:
        """Return the request for the arguments of `clbench.run`. Raises UsageError for one of the wrong type."""
        return cls(**{name: accepted(options(), name, value) for name, value in given.items()})


@functools.cache
def options() -> Mapping[str, Declared]:
    """Return the options of a run by name, in the order in which they are declared."""
    return options_of(Request)
