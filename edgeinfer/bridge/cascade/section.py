"""A part of a stage: some of its networks, and what the first of them begins from."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edgeinfer import _validate
from edgeinfer.bridge.cascade.manifest import CascadeNetwork, CascadeStage
from edgeinfer.bridge.cascade.packing import float32_array
from edgeinfer.bridge.cascade.schedulers import DenoisingStep


@dataclass(frozen=True, eq=False)
class Section:
    """Consecutive networks of a stage, which draw the noise that they draw in the whole stage.

    Parameters
    ----------
    networks : sequence of str, optional
        Names of their parts; all of the stage's by default.
    previous : (B, *shape) ndarray, float32, or callable, optional
        What the network before the first of them gave; needed where they are not the stage's first. A callable is asked
        before each step of the first network, previous(step) from 0 on, so that a walk may begin on a coarse image and
        go on with a finer one as more of it comes.
    start : (B, *shape) ndarray, float32, optional
        An image of the first network's shape to begin from, noised as far as `strength` says, in place of noise alone.
    strength : float
        In (0, 1]: the first network walks back from time step `strength` T on, which leaves that part of its steps.

    Examples
    --------
    >>> Section(strength=0.3)
    Traceback (most recent call last):
    ...
    ValueError: strength = 0.3: must be 1 without a start
    """

    networks: Sequence[str] | None = None
    previous: NDArray[np.float32] | Callable[[int], NDArray[np.float32]] | None = None
    start: NDArray[np.float32] | None = None
    strength: float = 1.0

    def __post_init__(self) -> None:
        strength = _validate.scalar("strength", self.strength, 0, 1, low_open=True)
        if self.start is None and strength != 1:
            raise ValueError(f"strength = {strength:g}: must be 1 without a start")
        object.__setattr__(self, "strength", strength)
        if isinstance(self.networks, str):
            raise ValueError(f"networks = {self.networks!r}: must be a sequence of names")

    def choose(self, stage: CascadeStage, batch: int) -> list[tuple[int, CascadeNetwork]]:
        """The networks and their numbers in the stage; ValueError where names or arrays do not fit it."""
        every = list(enumerate(stage.networks))
        names = [network.part.name for network in stage.networks]
        wanted = names if self.networks is None else list(self.networks)
        first = names.index(wanted[0]) if wanted and wanted[0] in names else 0
        if not wanted or names[first : first + len(wanted)] != wanted:
            raise ValueError(f"networks = {wanted}: must be consecutive ones of {names}")
        if (self.previous is None) != (first == 0):
            raise ValueError(f"previous: must be given for networks that are not the stage's first, here {wanted}")
        if self.previous is not None and not callable(self.previous):
            _check("previous", self.previous, (batch, *stage.networks[first - 1].shape))
        if self.start is not None:
            if not stage.networks[first].iterative:
                raise ValueError(f"start: must be left out, {wanted[0]} does not denoise")
            _check("start", self.start, (batch, *stage.networks[first].shape))
        return every[first : first + len(wanted)]

    def path(self, path: Sequence[DenoisingStep], total: int) -> Sequence[DenoisingStep]:
        """Those steps that are left to the first network; the last one at least."""
        return [step for step in path if step.timestep < self.strength * total] or path[-1:]


def _check(name: str, value: NDArray[np.float32], wanted: tuple[int, ...]) -> None:
    array = float32_array(name, value)
    if array.shape != wanted or not np.isfinite(array).all():
        raise ValueError(f"{name} of shape {array.shape}: must be {wanted}, and finite")
