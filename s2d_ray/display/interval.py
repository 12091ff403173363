"""What is drawn and written of a figure, whoever worked it out."""

from typing import Protocol


class Estimate(Protocol):
    """A figure with the ends of its interval, in the figure's unit."""

    @property
    def value(self) -> float: ...

    @property
    def low(self) -> float: ...

    @property
    def high(self) -> float: ...
