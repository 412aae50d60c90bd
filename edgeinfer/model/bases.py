"""What every stage says of itself, and one stage of a family."""

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import fields, is_dataclass, replace
from typing import Any, Self

import numpy as np

from edgeinfer import _validate

#: A stage with a service law as the core takes it, and the delay behind it, s, where there is one.
CoreStage = tuple[str, Any] | tuple[str, Any, float]


def propagation_of(core: Any) -> float:
    """What a link adds behind a stage as the core takes it without keeping the server, s."""
    return float(sum(core[2:]))


class Server(_validate.Value, ABC):
    """A stage with one server, first come, first served."""

    name: str
    #: Servers of its queue.
    servers: int = 1
    #: Time from the end of the service to the other end of the stage, s.
    propagation: Any = 0.0

    @property
    @abstractmethod
    def shape(self) -> tuple[int, ...]:
        """Broadcast shape of the stage's parameters."""

    @abstractmethod
    def mean(self) -> Any:
        """Mean service time, s."""

    @abstractmethod
    def core_stages(self) -> list[CoreStage]:
        """The stage as the core takes it, one for each element of `shape`."""


def is_single(stage: Any) -> bool:
    """Whether a stage is one server, which has a service law as the core takes it."""
    return isinstance(stage, Server) and stage.servers == 1


class Composed(_validate.Value, ABC):
    """A stage made of others. What each kind has to say of itself; `edgeinfer.model.composition` has the kinds."""

    name: str

    @property
    @abstractmethod
    def shape(self) -> tuple[int, ...]:
        """Broadcast shape of the stage's parameters."""

    @abstractmethod
    def mean(self) -> Any:
        """Mean time of a request that is alone, s."""

    @abstractmethod
    def moments(self) -> tuple[Any, Any]:
        """Mean (s) and variance (s^2) of the time of a request that is alone."""

    @abstractmethod
    def slowest(self) -> Any:
        """Mean work (s) that a request brings to the busiest of the stage's servers."""

    @property
    @abstractmethod
    def inner(self) -> tuple[Server, ...]:
        """The stages that it is made of."""

    @abstractmethod
    def map(self, function: Callable[[Server], Server]) -> Self:
        """The same of what `function` makes of its stages."""

    def element(self, shape: tuple[int, ...], index: int) -> Self:
        """The stage whose arrays are replaced by their elements."""
        return self.map(lambda stage: pick(stage, shape, index) if stage.shape else stage)

    def core_stages(self) -> list[CoreStage]:
        """Refused: such a stage is more than one server."""
        raise ValueError(
            f"stage {self.name!r} is a {type(self).__name__}: must be a stage with one server here; "
            "`violation_bracket`, `deadline_at`, `max_arrival_rate`, `mean_sojourn(service='tandem')`, `timely` and "
            "`simulate` take others"
        )


def pick(value: Any, shape: tuple[int, ...], index: int) -> Any:
    """A value of a family's stage with every array in it replaced by its element."""
    if isinstance(value, np.ndarray):
        return float(np.broadcast_to(value, shape).reshape(-1)[index])
    if is_dataclass(value) and getattr(value, "shape", None) != ():
        parts = {part.name: pick(getattr(value, part.name), shape, index) for part in fields(value) if part.init}
        return replace(value, **parts)  # type: ignore[type-var]
    return value
