"""The command `clbench`. Imports here are light: help, completion and lists load neither torch nor Avalanche."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import IO, TYPE_CHECKING, Annotated, Any, NoReturn

import typer

from clbench.cli.data import data_app, print_dataset
from clbench.cli.options import AsJson, DataFolder, complete, terminal
from clbench.errors import ClbenchError, MachineError, UsageError
from clbench.system import gc_freeze
from clbench.system.signals import Interrupted, Interruption

if TYPE_CHECKING:
    from clbench.checks.contract import Result
    from clbench.plugins.discovery import Kind
    from clbench.reproduction.targets import Target
    from clbench.runs.grid import Request
    from clbench.runs.outcome import Outcome

app = typer.Typer(
    name="clbench",
    help="Measure how much a classifier forgets while it learns classes a few at a time.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)
new_app = typer.Typer(help="Write a new strategy or scenario file.", no_args_is_help=True, rich_markup_mode=None)
app.add_typer(new_app, name="new")
app.add_typer(data_app, name="data")


def program() -> None:
    """The command as a process of its own."""
    gc_freeze.this_process_is_ours()
    main()


def main() -> None:
    """Run the command; end with the exit code that its failure has, and a message rather than a traceback."""
    _open_streams()
    try:
        with Interruption():
            try:
                app()
            except SystemExit:  # as it always ends
                with contextlib.suppress(OSError):
                    _write_out(sys.stderr)
                with contextlib.suppress(BrokenPipeError):
                    _write_out(sys.stdout)  # here, where it can still be said that something is lost
                raise
    except ClbenchError as error:
        _fail(error)
        sys.exit(error.exit_code)
    except Interrupted as interruption:
        _stop(interruption)
    except OSError as error:
        _output_failed(error)
    except SystemExit as ended:
        # Click makes exit code 1 of it, which here says that a run failed.
        if isinstance(ended.__context__, BrokenPipeError):
            _output_failed(ended.__context__)
        raise
    except RuntimeError as error:
        # While a class is made, Python before 3.12 hides what interrupts it behind an error of its own.
        if not isinstance(error.__cause__, Interrupted):
            raise
        _stop(error.__cause__)


def _open_streams() -> None:
    """Put something in the place of standard streams that the caller has closed."""
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, "w"))  # noqa: SIM115, PTH123 - open until the end


def _write_out(stream: IO[str]) -> None:
    """Write out what was printed. Where that fails the rest goes nowhere, or Python would try again and complain."""
    try:
        stream.flush()
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
        raise


def _output_failed(error: OSError) -> NoReturn:
    """End after standard output could not be written; raise any other error."""
    with contextlib.suppress(OSError):
        _write_out(sys.stdout)
    if isinstance(error, BrokenPipeError):
        sys.exit(0)  # the reader has seen enough, and has gone
    if error.errno not in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO) or error.filename:
        raise error
    failure = MachineError(f"the output could not be written: {error.strerror}")
    _fail(failure)
    sys.exit(failure.exit_code)


def _stop(interruption: Interrupted) -> NoReturn:
    kept = "What is finished is kept; the same command goes on from there." if interruption.kept else "Nothing is kept."
    print(f"\nStopped. {kept}", file=sys.stderr)
    sys.exit(interruption.exit_code)


def _fail(error: ClbenchError) -> None:
    from rich.text import Text

    console = terminal(stderr=True)
    console.print(Text.assemble(("Error: ", "bold red"), error.message), soft_wrap=True)
    if error.hint:
        console.print(Text(error.hint), soft_wrap=True)


def _version(wanted: bool) -> None:
    if wanted:
        import clbench

        print(f"clbench {clbench.__version__}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version and end.")
    ] = False,
) -> None:
    """Only options of the command as a whole."""


@app.command()
def run(
    strategy: Annotated[
        str,
        typer.Option(
            "--strategy",
            "-s",
            metavar="NAME[:PRESET][,NAME…]|all",
            help="Strategies, by name or file; see `show` for presets.",
            autocompletion=complete("strategy"),
        ),
    ],
    scenario: Annotated[
        str,
        typer.Option(
            "--scenario",
            "-S",
            metavar="NAME[,NAME…]",
            help="Scenarios, by name or file.",
            autocompletion=complete("scenario"),
        ),
    ],
    recipe: Annotated[str | None, typer.Option(metavar="NAME", help="Training protocol [default: quick].")] = None,
    seeds: Annotated[str, typer.Option(metavar="N|LIST", help="5: seeds 0 to 4. 0,3: these. 7,: this one.")] = "1",
    values: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="STRATEGY.NAME=VALUE", help="A hyper-parameter; repeat for more."),
    ] = None,
    split: Annotated[
        str | None, typer.Option(metavar="SPLIT", help="Classes per experience: 5, 50+10x5, or 4,3,3.")
    ] = None,
    class_order: Annotated[
        str | None, typer.Option(metavar="seed|natural|LIST", help="Order in which classes are learned.")
    ] = None,
    epochs: Annotated[
        int | None, typer.Option(metavar="N", help="Epochs per experience, in place of the recipe's.")
    ] = None,
    setting: Annotated[
        str | None, typer.Option(metavar="class|task|domain", help="Incremental in what [default: class].")
    ] = None,
    tune: Annotated[
        str | None, typer.Option(metavar="chf|grid", help="Choose hyper-parameters; see the README. [default: do not]")
    ] = None,
    device: Annotated[str, typer.Option(metavar="auto|cpu|cuda", help="Where to train.")] = "auto",
    threads: Annotated[
        int | None, typer.Option(metavar="N", help="Threads of a run; part of what a run is [default: all cores].")
    ] = None,
    jobs: Annotated[
        str, typer.Option(metavar="N|auto", help="Runs at once. auto: one on each core, with one thread each.")
    ] = "1",
    share: Annotated[
        bool, typer.Option("--share/--no-share", help="Train a first experience that runs learn alike only once.")
    ] = True,
    out: Annotated[Path, typer.Option(metavar="DIR", help="Results folder.")] = Path("results"),
    data: DataFolder = None,
    strict: Annotated[
        bool, typer.Option("--strict", help="End with exit code 6 where a strategy broke the rules; see the README.")
    ] = False,
    as_json: AsJson = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Check everything and list the runs; train nothing.")
    ] = False,
) -> None:
    """Run strategies on scenarios, over several seeds.

    Finished runs are skipped and interrupted ones go on, so the same command again is always safe.
    """
    from clbench.runs.grid import Request, seeds_from
    from clbench.runs.parallelism import jobs_from

    request = Request(
        strategies=strategy.split(","),
        scenarios=scenario.split(","),
        recipe=recipe,
        seeds=seeds_from(seeds),
        values=_assignments(values or []),
        split=split,
        class_order=class_order,
        epochs=epochs,
        setting=setting,
        tune=tune,
        device=device,
        threads=threads,
        jobs=jobs_from(jobs),
        share=share,
        results=out,
        data=data,
    )
    if dry_run:
        _print_plan(request, as_json)
        return
    from clbench.api import require_clean, run_request, stored

    outcomes = run_request(request, terminal(stderr=True))
    runs = stored(outcomes)
    try:
        _print_comparisons(runs, as_json)
        if runs and not as_json:
            print(f"\nStored in {out}/. Compare with all that is there: clbench compare {out}")
    finally:  # whether or not the table was read to its end
        _end_if_some_failed(outcomes)
    if strict:
        require_clean(runs)


def _end_if_some_failed(outcomes: Sequence[Outcome]) -> None:
    failed = [outcome for outcome in outcomes if outcome.failed]
    if failed:
        names = "\n".join(f"  {outcome.run} {outcome.message}" for outcome in failed)
        others = "; the others are stored" if len(failed) < len(outcomes) else ""
        print(f"{len(failed)} of {len(outcomes)} runs failed{others}:\n{names}", file=sys.stderr)
        raise typer.Exit(1)


def _print_targets(targets: Sequence[Target]) -> None:
    from clbench.system.tables import print_table

    rows = []
    for t in targets:
        spread = "" if t.spread is None else f" ±{t.spread:.2f}"
        rows.append([t.protocol, t.method, t.setting.replace("_", "-"), f"{t.mean:.2f}{spread}", str(t.n), t.source])
    headings = ["protocol", "method", "setting", "published, %", "n", "source"]
    print_table(terminal(), "published numbers", headings, rows, numbers=(3, 4))
    print("One of them: clbench reproduce PROTOCOL")


def _assignments(texts: Sequence[str]) -> dict[str, str]:
    values: dict[str, str] = {}
    for text in texts:
        name, equals, value = text.partition("=")
        if not equals or not name:
            raise UsageError(f"--set {text}: write it as STRATEGY.NAME=VALUE, for example lwf.alpha=2")
        if name in values:
            raise UsageError(f"--set {name} is given twice")
        values[name] = value
    return values


def _print_plan(request: Request, as_json: bool) -> None:
    from clbench.results.record import to_json
    from clbench.runs.grid import plan

    def notify(event: Any) -> None:
        print(getattr(event, "text", event), file=sys.stderr)

    place = request.results
    if request.tune == "grid":
        from clbench.runs.grid_search import FOLDER, plan_trials

        planned = [run for tuning in plan_trials(request, notify) for runs in tuning.trials for run in runs]
        place = place / FOLDER
        print("These are the trials; the runs follow from what they choose.", file=sys.stderr)
    else:
        planned = plan(request, notify)
    if as_json:
        print(json.dumps([to_json(run.spec) for run in planned], indent=1, ensure_ascii=False))
        return
    for run in planned:
        state = "is there already" if (place / run.name).is_dir() else "to do"
        print(f"{place / run.name}  {state}")


def _print_comparisons(runs: Any, as_json: bool) -> None:
    from clbench.comparison.comparison import compare as group
    from clbench.comparison.table import print_comparison, rows_for_json
    from clbench.results.record import to_json

    comparisons = group(runs)
    if as_json:
        rows = [
            {"comparison": c.title, "warnings": c.warnings, "notes": c.notes, "rows": rows_for_json(c)}
            for c in comparisons
        ]
        paths = [{"run": run.path.as_posix(), **to_json(run.result), "costs": to_json(run.costs)} for run in runs]
        print(json.dumps({"comparisons": rows, "runs": paths}, indent=1, ensure_ascii=False))
        return
    console = terminal()
    for comparison in comparisons:
        console.print()
        print_comparison(console, comparison)


@app.command()
def compare(
    results: Annotated[
        list[Path] | None, typer.Argument(metavar="[RESULTS]…", help="Folders [default: results].")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Compare stored runs in a table: a row per strategy, mean and interval over the seeds."""
    from clbench.results.stored_runs import failures, read_all

    places = results or [Path("results")]
    runs, unreadable = read_all(places)
    for fault in unreadable:
        print(f"Left out: {fault.path}: {fault.problem}", file=sys.stderr)
    for failed in failures(places):
        print(f"Left out, for it failed: {failed.run}: {failed.message}", file=sys.stderr)
    if not runs:
        raise UsageError(
            f"no runs in {', '.join(map(str, places))}", "Make some: clbench run -s naive,lwf -S splitdigits"
        )
    _print_comparisons(runs, as_json)


@app.command()
def reproduce(
    protocol: Annotated[str, typer.Argument(metavar="[PROTOCOL]", help="A published protocol; see --list.")] = "",
    listing: Annotated[bool, typer.Option("--list", help="List the protocols and their published numbers.")] = False,
    seeds: Annotated[str, typer.Option(metavar="N|LIST", help="As of `run`.")] = "10",
    setting: Annotated[
        str | None, typer.Option(metavar="class|task|domain", help="Only the cells of this setting.")
    ] = None,
    method: Annotated[str | None, typer.Option(metavar="NAME", help="Only the cells of this method.")] = None,
    device: Annotated[str, typer.Option(metavar="auto|cpu|cuda", help="Where to train.")] = "auto",
    threads: Annotated[int, typer.Option(metavar="N", help="Threads of a run.")] = 1,
    jobs: Annotated[str, typer.Option(metavar="N|auto", help="Runs at once. auto: one on each core.")] = "1",
    out: Annotated[Path, typer.Option(metavar="DIR", help="Results folder.")] = Path("results"),
    data: DataFolder = None,
) -> None:
    """Run a published table's protocol and set what is measured beside what was published.

    Finished runs are skipped, as by `run`. A cell agrees if the means differ by at most two combined standard errors.
    """
    from clbench.reproduction.targets import targets

    if listing or not protocol:
        _print_targets(targets(protocol or None))
        return
    from clbench.api import execute_planned, stored
    from clbench.reproduction.campaign import chosen, plan_targets
    from clbench.runs.grid import Request, seeds_from
    from clbench.runs.parallelism import jobs_from

    wanted = chosen(targets(protocol), setting, method)
    request = Request(
        strategies=[],
        scenarios=[],
        seeds=seeds_from(seeds),
        device=device,
        threads=threads,
        jobs=jobs_from(jobs),
        results=out,
        data=data,
    )
    outcomes = execute_planned(lambda notify: plan_targets(wanted, request, notify), request, terminal(stderr=True))
    runs = stored(outcomes)
    from clbench.reproduction import table
    from clbench.reproduction.targets import cells
    from clbench.system.tables import print_table

    found = cells(wanted, runs)
    print_table(terminal(), f"{protocol}: {wanted[0].source}", table.HEADINGS, table.rows(found), numbers=range(2, 7))
    print("Percent; ± is the standard deviation over runs as published, and as measured.")
    file = out / "reproduction" / f"{protocol}.csv"
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(table.as_csv(found), encoding="utf-8")
    print(f"Stored in {out}/, this table in {file}. Also in the report: clbench report {out}")
    _end_if_some_failed(outcomes)


@app.command()
def profile(
    strategy: Annotated[
        str,
        typer.Option(
            "--strategy",
            "-s",
            metavar="NAME[:PRESET]",
            help="A strategy, by name or file.",
            autocompletion=complete("strategy"),
        ),
    ],
    scenario: Annotated[
        str,
        typer.Option(
            "--scenario",
            "-S",
            metavar="NAME",
            help="A scenario, by name or file.",
            autocompletion=complete("scenario"),
        ),
    ],
    recipe: Annotated[str | None, typer.Option(metavar="NAME", help="As of `run`.")] = None,
    values: Annotated[list[str] | None, typer.Option("--set", metavar="NAME=VALUE", help="As of `run`.")] = None,
    split: Annotated[str | None, typer.Option(metavar="SPLIT", help="As of `run`.")] = None,
    epochs: Annotated[int | None, typer.Option(metavar="N", help="As of `run`; fewer tell as much, sooner.")] = None,
    setting: Annotated[str | None, typer.Option(metavar="class|task|domain", help="As of `run`.")] = None,
    device: Annotated[str, typer.Option(metavar="auto|cpu|cuda", help="Where to train.")] = "auto",
    threads: Annotated[int | None, typer.Option(metavar="N", help="As of `run`.")] = None,
    data: DataFolder = None,
    as_json: AsJson = False,
) -> None:
    """Show where a run's time goes: data, forward, backward, optimizer, strategy, evaluation, start-up.

    Does the run with seed 0, and keeps nothing of it.
    """
    from clbench.diagnostics.profile import HEADINGS
    from clbench.diagnostics.profile import profile as measure
    from clbench.runs.grid import Request
    from clbench.system.tables import print_table

    request = Request(
        strategies=strategy.split(","),
        scenarios=scenario.split(","),
        recipe=recipe,
        values=_assignments(values or []),
        split=split,
        epochs=epochs,
        setting=setting,
        device=device,
        threads=threads,
        data=data,
    )
    found = measure(request, terminal(stderr=True))
    if as_json:
        print(json.dumps(found.to_json(), indent=1, ensure_ascii=False))
        return
    threads_used = f"{found.threads} thread{'s' if found.threads > 1 else ''}"
    print_table(terminal(), f"{found.run}, {found.device}, {threads_used}", HEADINGS, found.rows(), numbers=(1, 2, 3))
    print(found.summary())


@app.command()
def report(
    results: Annotated[
        list[Path] | None, typer.Argument(metavar="[RESULTS]…", help="Folders [default: results].")
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Folder of the report [default: reports/NAME, as the first folder]."),
    ] = None,
    strategy: Annotated[
        str, typer.Option("--strategy", "-s", metavar="NAME[,NAME…]", help="Only runs of these strategies.")
    ] = "",
    scenario: Annotated[
        str, typer.Option("--scenario", "-S", metavar="NAME[,NAME…]", help="Only runs on these scenarios.")
    ] = "",
    recipe: Annotated[str, typer.Option(metavar="NAME[,NAME…]", help="Only runs under these recipes.")] = "",
) -> None:
    """Write the comparison of stored runs as a page, with its figures and tables as files.

    The page stands alone: it asks nothing of any network. Nothing is trained.
    """
    from clbench.reporting.publication import Selection, write_report

    names = (tuple(filter(None, given.split(","))) for given in (strategy, scenario, recipe))
    written = write_report(results or [Path("results")], out, Selection(*names))
    for text in written.left_out:
        print(text, file=sys.stderr)
    comparisons = f"{written.comparisons} comparison{'s' if written.comparisons > 1 else ''}"
    print(f"{written.page}: {written.runs} run{'s' if written.runs > 1 else ''} in {comparisons}")


@app.command("list")
def list_(
    what: Annotated[str, typer.Argument(metavar="[strategies|scenarios|runs]")] = "",
    out: Annotated[Path, typer.Option(metavar="DIR", help="Results folder, for runs.")] = Path("results"),
    as_json: AsJson = False,
) -> None:
    """List strategies and scenarios, or stored runs."""
    from clbench.system.suggestions import did_you_mean

    kinds = ("strategies", "scenarios", "runs")
    if what and what not in kinds:
        raise UsageError(f"cannot list '{what}'{did_you_mean(what, kinds)} (known: {', '.join(kinds)})")
    if what == "runs":
        _list_runs(out, as_json)
        return
    listed: dict[str, list[dict[str, str]]] = {}
    if what != "scenarios":
        listed["strategies"] = _described("strategy")
    if what != "strategies":
        listed["scenarios"] = _described("scenario")
    if as_json:
        print(json.dumps(listed, indent=1, ensure_ascii=False))
        return
    from clbench.system.tables import print_table

    for kind, rows in listed.items():
        headings = list(rows[0]) if rows else ["name"]
        print_table(terminal(), kind, headings, [list(row.values()) for row in rows])
        print()
    print("One in full: clbench show NAME")


def _described(kind: Kind) -> list[dict[str, str]]:
    from clbench.plugins.discovery import discover, without_dialects

    rows = []
    for plugin in without_dialects(discover(kind)):
        row = {"name": plugin.name, "what": f"broken: {plugin.problem}" if plugin.problem else plugin.summary}
        if kind == "strategy":
            row |= {"presets": ", ".join(plugin.all_presets)}
        if kind == "scenario":
            row |= {
                "recipes": ", ".join(plugin.recipes),
                "aliases": ", ".join(plugin.attributes.get("aliases", ())),
            }
        rows.append(row | {"from": plugin.source})
    return rows


def _list_runs(out: Path, as_json: bool) -> None:
    from clbench.results.stored_runs import StoredRun, read_all
    from clbench.system.tables import print_table

    runs, unreadable = read_all([out])

    def row(run: StoredRun) -> dict[str, Any]:
        return {
            "run": run.path.as_posix(),
            "status": run.result.status,
            "final_accuracy": run.metric("final_accuracy"),
            "forgetting": run.metric("forgetting"),
        }

    rows = [row(run) for run in runs]
    rows += [
        {"run": f.path.as_posix(), "status": f"damaged: {f.problem}", "final_accuracy": None, "forgetting": None}
        for f in unreadable
    ]
    if as_json:
        print(json.dumps(rows, indent=1, ensure_ascii=False))
        return
    cells = [[str(v) if not isinstance(v, float) else f"{100 * v:.1f}" for v in row.values()] for row in rows]
    print_table(terminal(), f"runs in {out}", ["run", "status", "final accuracy", "forgetting"], cells, numbers=(2, 3))


@app.command()
def show(
    name: Annotated[str, typer.Argument(metavar="NAME", help="A strategy, a scenario, or a file.")],
    as_json: AsJson = False,
) -> None:
    """Show a strategy's source, equation and hyper-parameters, or a scenario's split and recipes."""
    from clbench.plugins.description import describe_in_full, find

    plugin = find(name)
    if as_json:
        print(json.dumps(describe_in_full(plugin), indent=1, ensure_ascii=False))
        return
    from clbench.plugins.description import print_in_full

    print_in_full(plugin)


@app.command()
def check(
    name: Annotated[
        str, typer.Argument(metavar="NAME_OR_FILE", help="A strategy.", autocompletion=complete("strategy"))
    ],
    as_json: AsJson = False,
) -> None:
    """Hold a strategy to the contract: run it on small data in many ways, and say what is wrong and how to mend it."""
    from clbench.plugins.discovery import select

    plugin = select("strategy", name)
    from clbench.checks.contract import examine

    results = []
    for result in examine(plugin):
        results.append(result)
        if not as_json:
            _print_check(result)
    failed = [result for result in results if result.status == "failed"]
    if as_json:
        print(json.dumps([vars(result) for result in results], indent=1, ensure_ascii=False))
    else:
        print(f"{plugin.name}: {len(results) - len(failed)} of {len(results)} checks hold")
        if not failed:
            print(f"Run it beside others: clbench run -s naive,{name} -S splitmnist --seeds 5")
    if failed:
        raise typer.Exit(1)


@new_app.command("strategy")
def new_strategy(
    name: Annotated[str, typer.Argument(metavar="NAME", help="Of the strategy and its file, for example my_idea.")],
    original: Annotated[
        str | None,
        typer.Option("--from", metavar="NAME", help="A strategy to begin with.", autocompletion=complete("strategy")),
    ] = None,
) -> None:
    """Write strategies/NAME.py here: a commented skeleton that runs, or a copy of another strategy."""
    from clbench.plugins.scaffold import new_strategy as write

    path = write(name, original)
    print(f"{path} is written and runs: clbench run -s naive,{name} -S splitdigits")
    print(f"Is it held to the contract? clbench check {name}")


@new_app.command("scenario")
def new_scenario(
    name: Annotated[str, typer.Argument(metavar="NAME", help="Of the scenario and its file, for example my_data.")],
    path: Annotated[
        Path, typer.Argument(metavar="PATH", help="An .npz file, or a folder train/CLASS/*.png, test/CLASS/*.png.")
    ],
    data: DataFolder = None,
) -> None:
    """Import a dataset of your own and write scenarios/NAME.py for it here."""
    from clbench.data.datasets import data_folder
    from clbench.data.importing import import_dataset
    from clbench.plugins.scaffold import new_scenario as write

    written = write(name, name, 2)  # the name is found to be free before anything is imported
    try:
        info = import_dataset(name, path, data_folder(data), lambda text: print(text, file=sys.stderr))
    finally:
        written.unlink()
    print_dataset(info)
    print(f"{write(name, name, len(info.classes))} is written and runs: clbench run -s naive,lwf -S {name}")


def _print_check(result: Result) -> None:
    marks = {"passed": "ok  ", "failed": "FAIL", "skipped": "skip"}
    print(f"{marks[result.status]}  {result.check}")
    for text in (result.found, result.mend):
        for line in text.splitlines():
            print(f"      {line}")


@app.command()
def doctor(
    results: Annotated[
        list[Path] | None, typer.Argument(metavar="[RESULTS]…", help="Folders [default: results].")
    ] = None,
    data: DataFolder = None,
) -> None:
    """Check the installation, the machine, the data and the stored runs; say how to mend what is wrong."""
    from clbench.diagnostics.doctor import examine

    findings = examine(results, data)
    for finding in findings:
        print(f"{'ok  ' if finding.healthy else 'FAIL'}  {finding.what}")
        if finding.mend:
            print(f"      {finding.mend}")
    codes = [finding.exit_code for finding in findings if not finding.healthy]
    if codes:
        raise typer.Exit(max(codes))
