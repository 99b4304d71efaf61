"""The console, on which names out of files are text and nothing else."""

from __future__ import annotations

from typing import Any

from rich.console import Console, ConsoleDimensions, ConsoleOptions, RenderResult
from rich.segment import Segment
from rich.table import Table
from rich.text import Text

from marsrl.errors import printable

_WIDE = 10_000  # columns of a pipe or a file, in which nothing is wrapped


class PlainTable(Table):
    """A table without the lines of spaces that some of rich's boxes have above and below."""

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """Its rows."""
        parts = super().__rich_console__(console, options)
        for line in Segment.split_lines(part for part in parts if isinstance(part, Segment)):
            if any(segment.text.strip() for segment in line):
                yield from line
                yield Segment.line()


class PlainConsole(Console):
    """A console that obeys neither markup nor control characters in what it prints.

    On a terminal, and where COLUMNS is set, tables fit its width; elsewhere they are as wide as
    they need.
    """

    def __init__(self, **settings: Any) -> None:
        super().__init__(markup=False, emoji=False, **settings)

    def say(self, text: str) -> None:
        """Prints a text whose lines stay lines, however long they are."""
        self.print(text, highlight=False, soft_wrap=True)

    @property
    def wraps(self) -> bool:
        """Whether lines have a width here: a terminal's, the one asked for, or COLUMNS."""
        return self.is_terminal or self._width is not None

    @property
    def size(self) -> ConsoleDimensions:
        """Columns and lines."""
        if self.wraps:
            return super().size
        return ConsoleDimensions(_WIDE, 25)

    @size.setter
    def size(self, new_size: tuple[int, int]) -> None:
        self._width, self._height = new_size

    def render_str(self, text: str, **settings: Any) -> Text:
        """Every string that is printed comes by here, the cells of tables too."""
        return super().render_str(printable(text), **settings)

    def on_broken_pipe(self) -> None:
        """Leaves it to the command line to say with which code it ends."""
        raise BrokenPipeError
