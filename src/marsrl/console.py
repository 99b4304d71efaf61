"""The console, on which names out of files are text and nothing else."""

from __future__ import annotations

from typing import Any

from rich.console import Console
from rich.text import Text

from marsrl.errors import printable


class PlainConsole(Console):
    """A console that obeys neither markup nor control characters in what it prints."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(markup=False, emoji=False, **settings)

    def render_str(self, text: str, **settings: Any) -> Text:
        """Every string that is printed comes by here, the cells of tables too."""
        return super().render_str(printable(text), **settings)

    def on_broken_pipe(self) -> None:
        """Leaves it to the command line to say with which code it ends."""
        raise BrokenPipeError
