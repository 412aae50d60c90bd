"""What a user wants of a cascade, and what came of it."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edgeinfer import _validate
from edgeinfer.bridge.wire.tensors import STEPS

PARADIGMS = ("split", "edge", "device")

#: progress(stage, steps done, steps in all)
StageProgress = Callable[[str, int, int], None]


@dataclass(frozen=True, eq=False)
class Generation:
    """What a request gave.

    Attributes
    ----------
    image : (H, W, 3) ndarray, uint8
    request : str
        Its id in the traces.
    paradigm : str
        What ran in the end: "device" after a fallback.
    prior_steps, decode_steps : int
        As asked for or allocated.
    seconds : float
        From the call to the image.
    reason : str
        Why the device finished alone; empty otherwise.
    """

    image: NDArray[np.uint8]
    request: str
    paradigm: str
    prior_steps: int
    decode_steps: int
    seconds: float
    reason: str = ""


@dataclass(frozen=True)
class Order:
    """What a user wants, checked.

    Parameters
    ----------
    caption : str
    seed : int
        In [0, 2**63).
    paradigm : {"split", "edge", "device"}
    prior_steps, decode_steps : int or None
        L_prior, L_dec in [1, 1000]; both None leaves them to the edge.
    wire : str or None
        Type of the tensor on the link; None takes the manifest's.
    quality : float or None
        Least quality when the edge decides.
    """

    caption: str
    seed: int = 0
    paradigm: str = "split"
    prior_steps: int | None = None
    decode_steps: int | None = None
    wire: str | None = None
    quality: float | None = None

    def __post_init__(self) -> None:
        _validate.choice("paradigm", self.paradigm, PARADIGMS)
        if _validate.whole("seed", self.seed, 0) >= 2**63:
            raise ValueError(f"seed = {self.seed}: must be in [0, 2**63)")
        if (self.prior_steps is None) != (self.decode_steps is None):
            raise ValueError(
                f"prior_steps, decode_steps = {self.prior_steps}, {self.decode_steps}: must be given both or neither"
            )
        for name in ("prior_steps", "decode_steps"):
            value = getattr(self, name)
            if value is not None:
                _validate.whole(name, value, 1, STEPS)
        if self.quality is not None:
            object.__setattr__(self, "quality", _validate.scalar("quality", self.quality))
