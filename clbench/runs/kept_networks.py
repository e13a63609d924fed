"""Which networks a run keeps, and what is refused before training because it cannot be kept."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, cast, get_args

from clbench.base.strategy import Strategy
from clbench.errors import UsageError
from clbench.results import manifests
from clbench.results.network_record import STEM
from clbench.results.run_result import ExperienceResult, RunResult
from clbench.system.files import read_plain
from clbench.system.suggestions import did_you_mean

if TYPE_CHECKING:
    from clbench.results.spec_building import Method

Keep = Literal["last", "all"]
"""The network after the last experience, or after each."""


def kept(asked: str | None) -> Keep | None:
    """Return what `--keep-networks` asks for. Raises UsageError for anything but last and all."""
    known = get_args(Keep)
    if asked is not None and asked not in known:
        raise UsageError(f"--keep-networks must be 'last' or 'all' (got '{asked}'){did_you_mean(asked, known)}")
    return cast("Keep | None", asked)


def refuse_what_cannot_be_kept(methods: Sequence[Method]) -> None:
    """Raise UsageError for strategies that predict with code of their own, which no file can hold."""
    own = [each.plugin.name for each in methods if _predicts_itself(each.strategy)]
    if own:
        raise UsageError(
            f"the networks of {', '.join(own)} cannot be kept: {'it predicts' if len(own) == 1 else 'they predict'} "
            "with code of the strategy (`predict` without `classifier`), which is not part of a network",
            "Leave out --keep-networks, or run the other strategies by themselves.",
        )


def _predicts_itself(strategy: type[Strategy[Any]]) -> bool:
    """Whether `predict` is overridden in a subclass of the one that defines `classifier`."""
    first = next(cls for cls in strategy.__mro__ if vars(cls).keys() & {"predict", "classifier"})
    return "classifier" not in vars(first)


def network_stem(experience: int, last: int) -> str:
    """Return the name, without suffix, of the files of the network after an experience; `last` is the last one."""
    return STEM if experience == last else f"{STEM}-experience-{experience}"


def files_of(experience: int, last: int) -> tuple[str, str]:
    """Return the names of the two files of a network."""
    stem = network_stem(experience, last)
    return f"{stem}.safetensors", f"{stem}.json"


def last_trained(experiences: Sequence[ExperienceResult]) -> int:
    """Return the experience that was trained last; a strategy may skip some."""
    return max((each.index for each in experiences if each.trained), default=0)


def check_kept(run: Path, name: str, keep: Keep | None) -> None:
    """Raise UsageError if the finished `run` has not kept what `keep` asks for: it is never written again."""
    if keep is None:
        return
    wanted = [STEM]
    if keep == "all":
        experiences = RunResult.model_validate_json(read_plain(run / "result.json", manifests.LARGEST_JSON)).experiences
        last = last_trained(experiences)
        wanted = [network_stem(each.index, last) for each in experiences if each.trained]
    if not all((run / f"{stem}.json").is_file() for stem in wanted):
        what = "has not kept the network of each experience" if keep == "all" else "has kept no network"
        raise UsageError(
            f"{name} is finished and {what}",
            "A finished run is never changed. To get its networks, use the same command with another --out DIR.",
        )
