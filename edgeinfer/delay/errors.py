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
    """A sampled probability may not have the relative error that was asked for, or a quantile be anywhere near.

    The text says which of these it is:

    - too few samples to have a quantile, so that it is about the longest of them;
    - the largest number of replications did not reach the relative error;
    - it did, but there are too few replications for an interval: fewer than 64 for one stage or
      128 a stage of several, or than 100 times the squared skewness of the weights;
    - it did, but one weight is more than 5 % of their sum;
    - the probability is below the normal range of a double, 2.2e-308, so that it loses digits or is 0;
    - transfers that are rarer than 1e-15, which are not sampled, may make most of it, so that it is larger.
    """


class LongRunWarning(UserWarning):
    """A simulation at a load near 1 will take long; the text says about how long."""
