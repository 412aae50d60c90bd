"""What came of a request: pictures, why it stopped, and all that was said and done on the way."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgeinfer.strategies.bodies import Findings, Latent, Picture, Seed, describe
from edgeinfer.strategies.messages import Message

#: Why a strategy stopped: its own checks passed; or a limit was met, and the best so far is returned.
REASONS = ("right", "round limit", "deadline", "context limit", "edge lost")
# What a summary says of a message.
_SAID = (
    *("kind", "sender", "receiver", "round", "bytes", "raw_bytes", "wire_bytes"),
    *("direction", "time", "summary"),
)


@dataclass(frozen=True)
class Said:
    """A message that was sent; one that its place has already is not said again when it is handed on there.

    What it holds is written as bytes, and told in words, when that is first asked for: a request does not wait for it.

    Attributes
    ----------
    message : Message
    sender, receiver : str
        Role and place, ``interpreter@device`` say; the receiver of an answer is the "device", where the strategy runs.
    wire_bytes : int
        With what the protocol puts around it; of several messages in one call, with the first. 0 in one process.
    direction : {"up", "down", ""}
        Over the link, or within one place.
    time : float, s
        After the request came: when it was sent, or when an answer was there.
    """

    message: Message
    sender: str
    receiver: str
    wire_bytes: int
    direction: str
    time: float

    @property
    def kind(self) -> str:
        """As in `bodies.BODIES`."""
        return self.message.body.kind

    @property
    def round(self) -> int:
        """That it belongs to."""
        return self.message.round

    @property
    def bytes(self) -> int:
        """Header and body."""
        return len(self.message.to_bytes())

    @property
    def raw_bytes(self) -> int:
        """Of a picture or latent: of its values as they are, one byte each; else the same as `bytes`."""
        match self.message.body:
            case Picture(pixels=pixels):
                return pixels.nbytes
            case Latent(values=values):
                return values.size
        return self.bytes

    @property
    def summary(self) -> str:
        """What it says, in words."""
        return describe(self.message.body)


@dataclass(frozen=True)
class Worked:
    """A step of an agent.

    Attributes
    ----------
    role, place : str
    round : int
    begin, end : float, s
        After the request came; of an agent beyond the link, from sending to the answer.
    seconds : float
        That it computed, without link and queue; NaN where the edge did not tell.
    """

    role: str
    place: str
    round: int
    begin: float
    end: float
    seconds: float


@dataclass(frozen=True, eq=False)
class Proposal:
    """A picture that was made on the way.

    Attributes
    ----------
    pixels : (64, 64, 3) ndarray, uint8
    painter : str
        Role and place.
    round : int
    frame : int
        Which picture of a storyboard, from 0.
    seed : Seed or None
        What it was made from.
    findings : Findings or None
        What a checker found; None where nobody looked.
    """

    pixels: NDArray[np.uint8]
    painter: str
    round: int
    frame: int
    seed: Seed | None
    findings: Findings | None = None

    @property
    def margin(self) -> float:
        """How sure the checker is that it is right; negative: wrong, NaN: nobody looked."""
        return math.nan if self.findings is None else self.findings.margin


@dataclass(frozen=True, eq=False)
class Collaboration:
    """What a strategy returns.

    Attributes
    ----------
    strategy : str
    images : tuple of (64, 64, 3) ndarray, uint8
        One, or one a frame of a storyboard.
    reason : str
        One of `REASONS`.
    rounds : int
        That were begun.
    proposals : tuple of Proposal
        In the order in which they were made.
    chosen : tuple of int
        The proposal that each image is.
    messages : tuple of Said
        Those within one place too.
    steps : tuple of Worked
    seconds : float
        From the request to the images.
    context_bytes : int
        Of the session's shared context.
    failures : tuple of str
        What went wrong on the way and was got over.
    """

    strategy: str
    images: tuple[NDArray[np.uint8], ...]
    reason: str
    rounds: int
    proposals: tuple[Proposal, ...]
    chosen: tuple[int, ...]
    messages: tuple[Said, ...]
    steps: tuple[Worked, ...]
    seconds: float
    context_bytes: int
    failures: tuple[str, ...] = ()

    @property
    def image(self) -> NDArray[np.uint8]:
        """The last image, the only one where there is one."""
        return self.images[-1]

    @property
    def best_so_far(self) -> bool:
        """Whether a limit was met before all checks passed."""
        return self.reason != "right"

    @property
    def up_bytes(self) -> int:
        """Bytes of all messages to the edge."""
        return sum(said.bytes for said in self.messages if said.direction == "up")

    @property
    def down_bytes(self) -> int:
        """Bytes of all messages from the edge."""
        return sum(said.bytes for said in self.messages if said.direction == "down")

    def summary(self) -> dict[str, Any]:
        """All but the pictures, as values of JSON."""
        return {
            "strategy": self.strategy,
            "reason": self.reason,
            "best_so_far": self.best_so_far,
            "rounds": self.rounds,
            "seconds": self.seconds,
            "up_bytes": self.up_bytes,
            "down_bytes": self.down_bytes,
            "context_bytes": self.context_bytes,
            "chosen": list(self.chosen),
            "messages": [{name: getattr(said, name) for name in _SAID} for said in self.messages],
            "steps": [{k: None if v != v else v for k, v in vars(step).items()} for step in self.steps],
            "proposals": [_proposal(each) for each in self.proposals],
            "failures": list(self.failures),
        }


def _proposal(each: Proposal) -> dict[str, Any]:
    return {
        "painter": each.painter,
        "round": each.round,
        "frame": each.frame,
        "asked": None if each.seed is None else each.seed.table.caption,
        "noise": None if each.seed is None else each.seed.noise,
        "findings": None if each.findings is None else describe(each.findings),
    }
