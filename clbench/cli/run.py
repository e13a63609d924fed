"""`clbench run`."""

from __future__ import annotations

import sys
import textwrap
from typing import TYPE_CHECKING, Annotated, Any

import typer

from clbench.cli.options import AsJson, Wide, run_options, terminal
from clbench.cli.printing import answering, print_comparisons
from clbench.runs.request import Request
from clbench.system.output import legible, say, say_json

if TYPE_CHECKING:
    from clbench.results.run_spec import RunSpec


@run_options()
def run(
    request: Request,
    wide: Wide = False,
    as_json: AsJson = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Check everything and list the runs; train nothing.")
    ] = False,
) -> None:
    """Run strategies on scenarios, over several seeds.

    Finished runs are skipped and interrupted ones are resumed, so it is always safe to repeat a command.
    """
    if dry_run:
        _print_plan(request, as_json)
        return
    if sys.stderr.isatty():  # importing torch takes a second or more; the first line that follows replaces this one
        print("Starting …", end="\r", file=sys.stderr, flush=True)
    from clbench.api.comparing import require_clean, run_request

    outcomes = run_request(request, terminal(stderr=True))
    with answering(outcomes, request.out, f"clbench compare {request.out}") as runs:
        print_comparisons(runs, as_json, wide)
        if runs and not as_json:
            say(f"\nStored in {request.out}/. To compare all runs there: clbench compare {request.out}")
    if request.strict:
        require_clean(runs)


def _print_plan(request: Request, as_json: bool) -> None:
    from clbench.results.record_model import to_json
    from clbench.runs.grid import plan

    def notify(event: Any) -> None:
        say(getattr(event, "text", event), sys.stderr)

    place = request.out
    if request.tune == "grid":
        from clbench.runs.grid_search import FOLDER, plan_trials

        planned = [run for tuning in plan_trials(request, notify) for runs in tuning.trials for run in runs]
        place = place / FOLDER
        say("These are the trials; the runs follow from what they choose.", sys.stderr)
    else:
        planned = plan(request, notify, bring=False)
    if as_json:
        say_json([to_json(run.spec) for run in planned])
        return
    for text in dict.fromkeys(_experiences(run.spec) for run in planned):
        say(text, sys.stderr)
    for run in planned:
        state = "done" if (place / run.name).is_dir() else "to do"
        known = run.spec.scenario.dataset_sha256 != ""
        name = run.name if known else f"{run.name.rpartition('-')[0]}-…"  # the id depends on the data's hash
        say(f"{place / name}  {state}")


def _experiences(spec: RunSpec) -> str:
    """Return which classes each experience brings, by name."""
    from clbench.results.run_spec import experience_classes

    brought = [" ".join(map(spec.scenario.class_name, classes)) for classes in experience_classes(spec)]
    shown = [textwrap.shorten(legible(names), 60, placeholder=" …") for names in brought[:12]]
    more = f" | … ({len(brought)} experiences)" if len(brought) > 12 else ""
    return f"{spec.scenario.name}, seed {spec.seeds.run}, classes: {' | '.join(shown)}{more}"
