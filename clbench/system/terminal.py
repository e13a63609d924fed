"""A terminal for rich to write to, in which no text from outside can move the cursor or clear the screen."""

from __future__ import annotations

from collections.abc import Iterable

from rich.console import Console, ConsoleOptions, RenderableType
from rich.segment import Segment
from rich.text import Text

from clbench.system.output import legible


class Terminal(Console):
    """Where tables, errors and progress are printed."""

    def on_broken_pipe(self) -> None:
        """Raise BrokenPipeError; rich would end the process, and standard output with it."""
        raise BrokenPipeError

    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterable[Segment]:
        """Yield what is printed: rich's own control codes unchanged, and all text made legible."""
        for segment in super().render(renderable, options):
            if segment.control:
                yield segment
            else:
                yield Segment("\n".join(map(legible, segment.text.split("\n"))), segment.style)


def print_lines(console: Console, text: Text) -> None:
    """Print a text: on a terminal its lines are broken between words, elsewhere each stays whole."""
    console.print(text, soft_wrap=not console.is_terminal)
