"""The base class of all commands: nothing that is typed is dropped silently, and mistakes come with their remedy."""

from __future__ import annotations

import re
from collections.abc import Collection
from pathlib import Path
from typing import Any

import typer
from typer.core import TyperCommand

from clbench.errors import UsageError
from clbench.system.files import from_home

_TypingError: Any = typer.BadParameter.__bases__[0]
"""What typer raises for arguments that it cannot parse."""


class Command(TyperCommand):
    """Refuses an option that is given twice (typer would take the last), and explains unknown and missing ones."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Parse the arguments. Raises UsageError if there is more to say than typer does."""
        try:
            if not ctx.resilient_parsing:  # True while a word is completed
                self._refuse_what_would_be_dropped(ctx, args)
            rest = super().parse_args(ctx, args)
            ctx.params = {name: _from_home(value) for name, value in ctx.params.items()}
            return rest
        except _TypingError as error:
            unknown = getattr(error, "option_name", None)
            if unknown is not None and (hint := _remedy(unknown, {name for each in self.params for name in each.opts})):
                raise UsageError(f"there is no option {unknown}", hint) from None
            raise

    def format_options(self, ctx: Any, formatter: Any) -> None:
        """Write arguments and options without the Python types that typer appends to the names of arguments."""
        for kind in ("argument", "option"):
            each = [one.get_help_record(ctx) for one in self.get_params(ctx) if one.param_type_name == kind]
            if records := [(re.sub(r" <\S+>$", "", record[0]), record[1]) for record in each if record]:
                with formatter.section(f"{kind.capitalize()}s"):
                    formatter.write_dl(records)

    def collect_usage_pieces(self, ctx: Any) -> list[str]:
        """Return the pieces of the usage line, with required arguments as NAME instead of typer's {NAME}."""
        return [re.sub(r"[{}]", "", piece) for piece in super().collect_usage_pieces(ctx)]

    def _refuse_what_would_be_dropped(self, ctx: Any, args: list[str]) -> None:
        given, rest, order = self.make_parser(ctx).parse_args(args=list(args))
        if self.name == "run" and rest:
            raise named_by_options(" ".join(rest))
        required = [each for each in self.params if each.param_type_name == "option" and each.required]
        missing = ["/".join(each.opts) for each in required if each.name not in given]
        if missing and "help" not in given:
            raise UsageError(
                f"{' and '.join(missing)} must be given",
                f"{(self.epilog or '').replace('Example', 'For example')}. All names: clbench list",
            )
        for parameter in self.params:
            label = parameter.metavar if parameter.param_type_name == "argument" else "/".join(parameter.opts)
            if _is_empty(given.get(parameter.name)):
                raise UsageError(f"{label} is given without a value", _EMPTY)
            ways = [way for way in (parameter.opts, parameter.secondary_opts) if not set(way).isdisjoint(args)]
            if len(ways) > 1:
                raise UsageError(f"{' and '.join(way[0] for way in ways)} are both given", "Give one of them.")
        for parameter in order:
            repeatable = getattr(parameter, "multiple", False) or getattr(parameter, "is_flag", False)
            if parameter.param_type_name == "option" and not repeatable and order.count(parameter) > 1:
                raise UsageError(f"{'/'.join(parameter.opts)} is given {order.count(parameter)} times", "Give it once.")


def _from_home(given: Any) -> Any:
    """Return a value that was typed, or several, with the home folder for `~`, as in `--out=~/x`."""
    if isinstance(given, list | tuple):
        return type(given)(map(_from_home, given))
    return type(given)(from_home(given)) if isinstance(given, str | Path) else given


_EMPTY = "Leave it out, or give it one. In a script, a shell variable that is not set is an empty value."


def _is_empty(given: Any) -> bool:
    """Return whether a value that was typed, or one of several, is an empty text."""
    values = given if isinstance(given, list | tuple) else [given]
    return any(isinstance(value, str) and not value.strip() for value in values)


def named_by_options(text: str) -> UsageError:
    """Return the error for a word after `clbench run` that is not a study."""
    return UsageError(
        f"'{text}': strategies and scenarios are named by options",
        "For example: clbench run -s lwf -S splitdigits. A study, a file, needs no options: clbench run study.toml",
    )


_ELSEWHERE = {
    **dict.fromkeys(("approach", "method", "methods", "strategies"), "--strategy NAME"),
    **dict.fromkeys(("dataset", "datasets", "benchmark", "scenarios"), "--scenario NAME"),
    **dict.fromkeys(("model", "arch", "backbone"), "--network NAME"),
    **dict.fromkeys(("experiences", "n_experiences", "tasks", "n_tasks", "num_tasks"), "--split N"),
    **dict.fromkeys(("n_epochs", "nepochs"), "--epochs N"),
    **dict.fromkeys(("n_seeds", "num_seeds", "repeat"), "--seeds N"),
    **dict.fromkeys(("gpu", "cuda"), "--device cuda"),
    **dict.fromkeys(("workers", "processes"), "--jobs N"),
    **dict.fromkeys(("output", "output_dir", "results", "results_path"), "--out DIR"),
    **dict.fromkeys(("learning_rate",), "--set recipe.lr=VALUE"),
    **dict.fromkeys(("bs", "batchsize"), "--set recipe.batch_size=VALUE"),
    **dict.fromkeys(("wd",), "--set recipe.weight_decay=VALUE"),
    **dict.fromkeys(("exemplars", "memory_size", "buffer_size", "mem_size"), "--set STRATEGY.memory=VALUE"),
    **dict.fromkeys(("preset",), "--strategy NAME:PRESET"),
}
"""What other suites call an option, and what it is here."""


def _remedy(option: str, options: Collection[str]) -> str | None:
    """Return how to set what an unknown option seems to mean, given the existing options."""
    from clbench.base.recipe import Recipe
    from clbench.plugins.discovery import discover, without_dialects
    from clbench.system.tables import listed

    name = option.lstrip("-").replace("-", "_")
    if (here := _ELSEWHERE.get(name)) and here.partition(" ")[0] in options:
        return f"Here it is {here}"
    if (spelled := f"--{name.replace('_', '-')}") in options:
        return f"It is written {spelled}"
    if "--set" not in options:
        return None
    if name in Recipe.__dataclass_fields__:
        return f"It is a field of the recipe: --set recipe.{name}=VALUE"
    known = without_dialects(discover("strategy"))
    owners = [plugin.name for plugin in known if name in {field.name for field in plugin.fields}]
    if owners:
        one = owners[0] if len(owners) == 1 else "STRATEGY"
        return f"It is a hyper-parameter of {listed(owners)}: --set {one}.{name}=VALUE"
    return None
