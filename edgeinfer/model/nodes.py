"""Compute nodes."""

from dataclasses import dataclass
from typing import Any

from edgeinfer import _validate


@dataclass(frozen=True, eq=False)
class Node(_validate.Value):
    """A node that computes.

    Parameters
    ----------
    name : str
    flops : (...,) array_like, FLOP/s
        Effective rate, what a real network reaches, not the peak. > 0.

    Examples
    --------
    >>> Node("edge", 150e12).flops
    150000000000000.0
    """

    name: str
    flops: Any

    def __post_init__(self) -> None:
        object.__setattr__(self, "flops", _validate.positive("flops", self.flops, "FLOP/s"))
