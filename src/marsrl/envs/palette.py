"""The colours and the font that all pictures of environments share."""

from __future__ import annotations

from functools import cache
from typing import Any

from PIL import ImageFont

Colour = tuple[int, ...]
"""Red, green, blue, and opacity where it matters; 0 to 255 each."""

AGENT_COLOURS: tuple[Colour, ...] = (
    (230, 159, 0),
    (86, 180, 233),
    (0, 158, 115),
    (213, 94, 0),
    (0, 114, 178),
    (204, 121, 167),
    (240, 228, 66),
)
"""Those of Okabe and Ito, told apart with any colour vision; the eighth agent has the first."""
INK: Colour = (20, 20, 20)
PAPER: Colour = (255, 255, 255)


@cache
def font(size: int) -> Any:
    """Pillow's own font, `size` pixels high."""
    return ImageFont.load_default(size)
