"""The commands `clbench run` and `clbench init`."""

from __future__ import annotations

import shlex
import sys
import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from clbench.cli.command import named_by_options
from clbench.cli.completion import studies
from clbench.cli.options import AsJson, Wide, run_options, starting, terminal
from clbench.cli.printing import answering, print_comparisons
from clbench.errors import UsageError
from clbench.runs.request import Request, options
from clbench.system.files import found_at
from clbench.system.output import legible, say, say_json

if TYPE_CHECKING:
    from clbench.results.run_spec import RunSpec
    from clbench.runs.planned_runs import Planned
    from clbench.runs.study import Section

_MOST_ORDERS = 10
"""How many class orders a dry run lists."""


@run_options(strategy=None, scenario=None)
def run(
    ctx: typer.Context,
    asked: dict[str, Any],
    study: Annotated[
        Path | None,
        typer.Argument(
            metavar="STUDY",
            help="A file that says what to run, instead of options; see docs/studies.md.",
            autocompletion=studies,
        ),
    ] = None,
    wide: Wide = False,
    as_json: AsJson = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Check everything, list the runs and estimate the time; train nothing.")
    ] = False,
    save_study: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Write these options as a study, and then run it.")
    ] = None,
) -> None:
    """Run strategies on scenarios, over several seeds.

    Finished runs are skipped and interrupted ones are resumed, so it is always safe to repeat a command.
    """
    sections = _sections(study, asked)
    request = sections[0].request
    if save_study is not None and study is not None:
        raise UsageError(f"--save-study writes the options of a command line, but {study} is a study", "Copy the file.")

    def checked() -> None:
        if save_study is not None:
            from clbench.runs.saved_study import save

            save(save_study, asked)
            say(f"{save_study} contains this study: clbench run {shlex.quote(str(save_study))}", sys.stderr)

    if dry_run:
        _print_plan(sections, as_json)
        checked()
        return
    with starting():
        from clbench.api.comparing import require_clean, run_sections

    outcomes = run_sections(sections, terminal(stderr=True), checked)
    compare = f"clbench compare {shlex.quote(str(request.out))}"
    with answering(outcomes, request.out, compare) as runs:
        print_comparisons(runs, as_json, wide)
        if runs and not as_json:
            say(f"\nStored in {request.out}/. To compare all runs there: {compare}")
    if request.strict:
        require_clean(runs)


def _sections(study: Path | None, asked: Mapping[str, Any]) -> Sequence[Section]:
    """Return what a study and the options given with it ask for, or options alone."""
    from clbench.runs.study import Section, read_study

    if study is None:
        missing = [f"--{name}/{short}" for name, short in (("strategy", "-s"), ("scenario", "-S")) if name not in asked]
        if missing:
            raise UsageError(
                f"{' and '.join(missing)} must be given, or a study",
                "For example: clbench run -s lwf -S splitdigits. All names: clbench list. A study: clbench init",
            )
        return [Section(Request(**asked))]
    if study.suffix != ".toml" and found_at(study) is None:
        raise named_by_options(str(study))
    if said := [name for name in asked if options()[name].option.belongs_to == "study"]:
        flags = ", ".join(f"--{name.replace('_', '-')}" for name in said)
        beside = ", ".join(
            each.option.flags[0] if each.option.flags else f"--{name.replace('_', '-')}"
            for name, each in options().items()
            if each.option.belongs_to != "study"
        )
        raise UsageError(f"{flags}: {study} says what to run; change it there", f"Options for a study: {beside}")
    return read_study(study, asked)


def _print_plan(sections: Sequence[Section], as_json: bool) -> None:
    with starting():
        from clbench.executors.choosing import open_executor
        from clbench.executors.executor import Command
        from clbench.results.record_model import to_json
        from clbench.results.run_spec import run_id
        from clbench.runs.checkpoint import has_begun
        from clbench.runs.expected_time import expected_time
        from clbench.runs.grid_search import FOLDER
        from clbench.runs.planning import Planning
        from clbench.system.signals import Interruption

    def notify(event: Any) -> None:
        say(getattr(event, "text", event), sys.stderr)

    request = sections[0].request
    with starting(), open_executor(Command(request, Interruption(), notify)):
        planning = Planning(sections, notify, bring=False)
    places = {run.name: request.out for run in planning.known} | {
        run.name: request.out / FOLDER for run in planning.trials
    }
    planned = [*planning.trials, *planning.known]
    if planning.trials:
        say(
            f"{len(planning.trials)} of these are trials; {planning.following} runs follow from what they choose.",
            sys.stderr,
        )
    done = {run.name for run in planned if (places[run.name] / run.name).is_dir()}
    begun = {run.name for run in planned if run.name not in done and has_begun(places[run.name], run_id(run.spec))}
    expected = expected_time([run for run in planned if run.name not in done], request)

    def in_json(run: Planned) -> dict[str, Any]:
        seconds, stored = expected.by_run.get(run.name, (None, 0))
        path = (places[run.name] / run.name).as_posix()
        state = {"done": run.name in done, "begun": run.name in begun}
        return {"run": path, **state, "expected_seconds": seconds, "from_stored_runs": stored}

    if as_json:
        say_json([{**to_json(run.spec), "planned": in_json(run)} for run in planned])
    else:
        orders = list(dict.fromkeys(_experiences(run.spec) for run in planned))
        for text in orders[:_MOST_ORDERS]:
            say(text, sys.stderr)
        if len(orders) > _MOST_ORDERS:
            say(f"… and {len(orders) - _MOST_ORDERS} more class orders; --json has all", sys.stderr)
        for run in planned:
            known = run.spec.scenario.dataset_sha256 != ""
            name = run.name if known else f"{run.name.rpartition('-')[0]}-…"  # the id depends on the data's hash
            state = "done" if run.name in done else "to resume" if run.name in begun else "to do"
            say(f"{places[run.name] / name}  {state}")
    if planned:  # without any, the reason has been printed
        resumed = f", {len(begun)} of them to resume" if begun else ""
        counts = f"{_counted(len(planned))}: {len(done)} done, {len(planned) - len(done)} to do{resumed}."
        say(f"{counts} {expected.text}".rstrip(), sys.stderr)


def _counted(runs: int) -> str:
    return "1 run" if runs == 1 else f"{runs} runs"


def _experiences(spec: RunSpec) -> str:
    """Return which classes, or which domain, each experience brings, by name."""
    from clbench.results.run_spec import experience_classes

    if spec.scenario.domains:
        return f"{spec.scenario.name}, seed {spec.seeds.run}, domains: {_few(spec.scenario.domains)}"
    brought = [" ".join(map(spec.scenario.class_name, classes)) or "–" for classes in experience_classes(spec)]
    return f"{spec.scenario.name}, seed {spec.seeds.run}, classes: {_few(brought)}"


def _few(brought: Sequence[str]) -> str:
    shown = [textwrap.shorten(legible(names), 60, placeholder=" …") for names in brought[:12]]
    more = f" | … ({len(brought)} experiences)" if len(brought) > 12 else ""
    return f"{' | '.join(shown)}{more}"


def init(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="The file to write.")] = Path("study.toml"),
) -> None:
    """Write a study: a commented file that says what to run.

    It runs as is, on the bundled digits, in about a minute.
    """
    from clbench.runs.saved_study import write_example

    write_example(file)
    study = shlex.quote(str(file))
    say(f"{file} is a study that runs as is.")
    say(f"To see its runs: clbench run {study} --dry-run")
    say(f"To run it: clbench run {study} --jobs auto")
