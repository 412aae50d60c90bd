"""Errors of the delay analysis."""

from typing import Any


class UnstableError(ValueError):
    """A queue without a stationary law: some load is >= 1.

    Attributes
    ----------
    loads : dict of str to float
        Load of each stage (or of the serial path) of the first unstable element.
    """

    def __init__(self, function: str, arrival_rate: float, loads: dict[str, Any]) -> None:
        self.loads = loads
        self._made_of = function, arrival_rate, loads
        text = ", ".join(f"{name} {load:.4g}" for name, load in loads.items())
        super().__init__(f"{function}: arrival_rate = {arrival_rate:g}: every load must be < 1, have {text}")

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), self._made_of, vars(self)


class AccuracyWarning(UserWarning):
    """A requested relative error was not reached within the largest number of replications."""


class LongRunWarning(UserWarning):
    """A simulation at a load near 1 will take long; the text says about how long."""
