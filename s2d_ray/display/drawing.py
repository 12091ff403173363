"""How the report's plots are drawn: colours, shapes, the style, and the figure as an SVG text.

Colours are Okabe and Ito's, which people of every colour vision tell apart; arms differ in shape as well.
"""

import re
from collections.abc import Iterable
from io import StringIO
from itertools import cycle
from typing import Any, NamedTuple

from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from s2d_ray.arms import is_further

INK, MUTED, HAIRLINE = "#1c2430", "#66717d", "#dfe3e8"
KEPT, REJECTED, FAILED = "#009E73", "#E69F00", "#D55E00"


class Look(NamedTuple):
    """How one arm is drawn."""

    colour: str
    marker: str
    filled: bool


LOOKS = {
    "base": Look("#7d8791", "o", True),
    "base_few_shot": Look("#7d8791", "<", True),
    "teacher": Look("#0072B2", "s", True),
    "student": Look("#D55E00", "D", True),
    "student_answer": Look("#CC79A7", "p", True),
    "student_shortest": Look("#CC79A7", "^", True),
    "student_shortened": Look("#CC79A7", "v", True),
    "student_internalised": Look("#CC79A7", ">", True),
    "student_of_base": Look("#7d8791", "^", False),
    "student_uncurated": Look("#0072B2", "v", False),
}
FURTHER_COLOUR, FURTHER_MARKERS = "#56B4E9", "PXph*8"
"""Of System 2 methods beside the distilled one: System 2's colour but lighter, a shape for each."""
STYLE: Any = {
    # Text stays text: it can be searched and read aloud, and the file stays small.
    "svg.fonttype": "none",
    "svg.hashsalt": "s2d_ray",
    "font.family": "DejaVu Sans",
    "font.size": 9,
    "text.color": INK,
    "axes.labelcolor": MUTED,
    "axes.edgecolor": HAIRLINE,
    "xtick.color": MUTED,
    "ytick.color": MUTED,
    "axes.titlesize": 10,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "grid.color": HAIRLINE,
    "grid.linewidth": 0.7,
    "axes.axisbelow": True,
}


def looks_of(arms: Iterable[str]) -> dict[str, Look]:
    """How each of the arms is drawn."""
    markers = cycle(FURTHER_MARKERS)
    return {arm: Look(FURTHER_COLOUR, next(markers), True) if is_further(arm) else LOOKS[arm] for arm in arms}


def legend_handle(look: Look, name: str) -> Line2D:
    """What stands for an arm in a legend."""
    fill = look.colour if look.filled else "white"
    return Line2D([], [], color=look.colour, marker=look.marker, markerfacecolor=fill, markersize=5.5, label=name)


def legend_columns(arms: int) -> int:
    """What fits beside each other: further arms have longer names."""
    return arms if arms <= 5 else 4


def as_svg(figure: Figure) -> str:
    """As it stands inside a page."""
    buffer = StringIO()
    figure.savefig(
        buffer, format="svg", metadata=dict.fromkeys(("Creator", "Date", "Format", "Type")), transparent=True
    )
    svg = buffer.getvalue()
    # Inside HTML the prolog and the namespaces mean nothing.
    return re.sub(r'\s+xmlns(:\w+)?="[^"]*"', "", svg[svg.index("<svg") :])
