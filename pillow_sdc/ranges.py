"""Ranges of numbers that options and settings allow, and their wording in error messages."""

from numbers import Integral, Real
from typing import NamedTuple


class Range(NamedTuple):
    """Numbers from one to another, both included.

    Attributes:
        type: ``int`` for integers, without ``bool``; ``float`` for all numbers.
        lowest, highest: The ends.
    """

    type: type[int] | type[float]
    lowest: float
    highest: float

    def allows(self, value: object) -> bool:
        """Return whether a value of any type is a number in the range; numpy's numbers count."""
        if self.type is int:
            is_number = isinstance(value, Integral) and not isinstance(value, bool)
        else:
            is_number = isinstance(value, Real)
        return is_number and self.lowest <= value <= self.highest  # type: ignore[operator]

    def __str__(self) -> str:
        kind = "whole number" if self.type is int else "number"
        return f"a {kind} from {self.lowest:g} to {self.highest:g}"
