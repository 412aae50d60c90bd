"""How many steps each side takes, when a device leaves that to the edge."""

import json
import math
import os
from collections.abc import Sequence
from dataclasses import dataclass

from edgeinfer import _validate


@dataclass(frozen=True)
class StepChoice:
    """A choice that the edge may make.

    Parameters
    ----------
    prior_steps, decode_steps : int
        >= 1.
    quality : float or None
        What the choice yields on the scale that requests wish on; None where nobody measured it.
    """

    prior_steps: int
    decode_steps: int
    quality: float | None = None

    def __post_init__(self) -> None:
        for name in ("prior_steps", "decode_steps"):
            object.__setattr__(self, name, _validate.whole(name, getattr(self, name), 1))
        if self.quality is not None:
            object.__setattr__(self, "quality", _validate.scalar("quality", self.quality))


#: Used where no measured table is given: more steps are taken to be better, two on the edge for one on the device.
DEFAULT = (StepChoice(4, 2), StepChoice(8, 4), StepChoice(16, 8), StepChoice(32, 16))


def read_allocations(path: str | os.PathLike[str]) -> tuple[StepChoice, ...]:
    """Choices from a JSON file: a list of {"prior_steps": .., "decode_steps": .., "quality": ..}, quality optional."""
    try:
        with open(path, encoding="utf-8") as file:
            choices = tuple(StepChoice(**entry) for entry in json.load(file))
    except (TypeError, ValueError) as error:
        raise ValueError(f"{os.fspath(path)}: {error}") from None
    if not choices:
        raise ValueError(f"{os.fspath(path)}: must hold at least one allocation")
    return choices


def allocate(
    choices: Sequence[StepChoice],
    *,
    deadline: float,
    quality: float | None,
    prior_step_seconds: float,
    decode_step_seconds: float,
    waiting_seconds: float,
) -> StepChoice:
    """The edge's decision.

    With a wish for quality: the fastest choice that yields it. Without: the best one whose expected time is within the
    deadline, where the last of `choices` counts as best unless qualities say otherwise; the fastest if none is.

    Parameters
    ----------
    choices : sequence of StepChoice
    deadline : float, s
        From now to the image on the device; the transfer is not in the estimate.
    quality : float or None
    prior_step_seconds, decode_step_seconds : float, s
        Measured time of a step on the edge and on the device; 0 where unknown.
    waiting_seconds : float, s
        Expected wait in both queues.

    Raises
    ------
    ValueError
        Where no choice is known to yield the quality.

    Examples
    --------
    >>> common = dict(quality=None, prior_step_seconds=0.1, decode_step_seconds=0.2, waiting_seconds=0.5)
    >>> allocate(DEFAULT, deadline=4.0, **common)
    StepChoice(prior_steps=16, decode_steps=8, quality=None)
    >>> allocate(DEFAULT, deadline=1.0, **common).prior_steps
    4
    """

    deadline = _validate.scalar("deadline", deadline, 0, infinite=True, unit="s")
    prior_step_seconds = _validate.scalar("prior_step_seconds", prior_step_seconds, 0, unit="s")
    decode_step_seconds = _validate.scalar("decode_step_seconds", decode_step_seconds, 0, unit="s")
    waiting_seconds = _validate.scalar("waiting_seconds", waiting_seconds, 0, unit="s")
    quality = None if quality is None else _validate.scalar("quality", quality)

    def seconds(choice: StepChoice) -> float:
        own = choice.prior_steps * prior_step_seconds + choice.decode_steps * decode_step_seconds
        return waiting_seconds + own

    def cost(choice: StepChoice) -> tuple[float, int]:
        return seconds(choice), choice.prior_steps + choice.decode_steps

    if quality is not None:
        enough = [choice for choice in choices if choice.quality is not None and choice.quality >= quality]
        if not enough:
            best = max((c.quality for c in choices if c.quality is not None), default=-math.inf)
            raise ValueError(f"quality = {quality:g}: must be at most {best:g}, the best that this edge knows of")
        return min(enough, key=cost)
    timely = [choice for choice in choices if seconds(choice) <= deadline]
    if not timely:
        return min(choices, key=cost)
    ranked = sorted(timely, key=lambda choice: -math.inf if choice.quality is None else choice.quality)
    return ranked[-1]
