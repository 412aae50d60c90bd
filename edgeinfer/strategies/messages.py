"""What agents say to each other, as bytes: versioned, each kind with its longest length, checked when it is read.

A message has a header of 11 bytes and a body. The header is, big-endian: version (1), kind (1), sender (1), round (1),
limit on rounds (1), length of the body (2), time left until the deadline in 10 ms (2), CRC-16 (2). The checksum covers
header and body; of a latent, which outlives wrong bits, the header alone.
"""

from __future__ import annotations

import binascii
import math
import struct
from dataclasses import dataclass
from functools import cached_property

from edgeinfer import _validate
from edgeinfer.strategies.bodies import BODIES, Body, Latent

VERSION = 1
#: Who speaks, and where.
ROLES = (
    "user",
    "interpreter",
    "planner",
    "painter",
    "mapper",
    "checker",
    "judge",
    "arbiter",
    "reviewer",
    "sketcher",
    "refiner",
)
PLACES = ("device", "edge")
#: Bytes that the agents of one session may share: all messages that are not pictures, latents or the user's request.
CONTEXT_BYTES = 256
#: Most rounds of a session; longest time that a header can say, s.
ROUNDS, LONGEST = 255, 655.0

_HEADER = struct.Struct(">BBBBBHHH")
HEADER_BYTES = _HEADER.size
_TICK = 0.01
_ON_EDGE = 0x80
_CODE = {body.kind: number for number, body in enumerate(BODIES, 1)}


@dataclass(frozen=True, eq=False)
class Message:
    """One message.

    Parameters
    ----------
    body : Body
    role : str
        Who speaks, one of `ROLES`.
    place : {"device", "edge"}
    round, rounds : int
        The round that it belongs to, from 1, and the most there may be, <= 255.
    left : float, s
        Until the session's deadline, in [0, 655]; kept to 10 ms, rounded down.

    Examples
    --------
    >>> from edgeinfer.strategies import Seed, Table
    >>> seed = Seed(Table.of_caption("a red circle"), 7)
    >>> data = Message(seed, "interpreter", left=2.5).to_bytes()
    >>> len(data), Message.from_bytes(data).body == seed
    (23, True)
    >>> Message.from_bytes(data[:-1])
    Traceback (most recent call last):
    ...
    ValueError: message: body of 11 bytes: must be 12, as its header says
    """

    body: Body
    role: str
    place: str = "device"
    round: int = 1
    rounds: int = 1
    left: float = LONGEST

    def __post_init__(self) -> None:
        if type(self.body) not in BODIES:
            raise ValueError(
                f"body = {type(self.body).__name__}: must be {', '.join(each.__name__ for each in BODIES)}"
            )
        _validate.choice("role", self.role, ROLES)
        _validate.choice("place", self.place, PLACES)
        _validate.whole("rounds", self.rounds, 1, ROUNDS)
        if not 1 <= _validate.whole("round", self.round, 1) <= self.rounds:
            raise ValueError(f"round = {self.round}: must be in [1, {self.rounds}], the limit on rounds")
        object.__setattr__(self, "left", _validate.scalar("left", self.left, 0, LONGEST, unit="s"))

    def to_bytes(self) -> bytes:
        """Header and body, as it came where it was read; ValueError where the body is longer than its kind allows."""
        return self._data

    @cached_property
    def _data(self) -> bytes:
        data = self.body.to_bytes()
        _check_length(type(self.body), len(data))
        sender = ROLES.index(self.role) | (_ON_EDGE if self.place == "edge" else 0)
        ticks = math.floor(self.left / _TICK + 1e-6)
        head = (VERSION, _CODE[self.body.kind], sender, self.round, self.rounds, len(data), ticks)
        return _HEADER.pack(*head, _checksum(_HEADER.pack(*head, 0), type(self.body), data)) + data

    @classmethod
    def from_bytes(cls, data: bytes) -> Message:
        """The message of `to_bytes`.

        Raises
        ------
        ValueError
            Naming what is wrong: another version, an unknown kind or sender, a body that is longer than its kind
            allows or not as long as the header says, a wrong checksum, a round over the limit, or a body that is none.
        """
        if len(_validate.octets("data", data)) < HEADER_BYTES:
            raise ValueError(f"message: {len(data)} bytes: must be at least {HEADER_BYTES}, its header")
        version, kind, sender, number, rounds, length, ticks, checksum = _HEADER.unpack_from(data)
        if version != VERSION:
            raise ValueError(f"message: version {version}: must be {VERSION}")
        if not 1 <= kind <= len(BODIES):
            raise ValueError(f"message: kind {kind}: must be in [1, {len(BODIES)}]")
        body = BODIES[kind - 1]
        _check_length(body, max(length, len(data) - HEADER_BYTES))
        if len(data) - HEADER_BYTES != length:
            raise ValueError(f"message: body of {len(data) - HEADER_BYTES} bytes: must be {length}, as its header says")
        content = data[HEADER_BYTES:]
        if checksum != _checksum(data[: HEADER_BYTES - 2] + b"\0\0", body, content):
            raise ValueError(f"message: checksum of the {body.kind} is wrong: bits were changed on the way")
        if (role := sender & ~_ON_EDGE) >= len(ROLES):
            raise ValueError(f"message: sender {role}: must be below {len(ROLES)}")
        place = PLACES[bool(sender & _ON_EDGE)]
        message = cls(body.from_bytes(content), ROLES[role], place, number, rounds, min(ticks * _TICK, LONGEST))
        vars(message)["_data"] = data
        return message


def _check_length(body: type[Body], length: int) -> None:
    if length > body.limit:
        raise ValueError(f"message: {body.kind} of {length} bytes: must be at most {body.limit}")


def _checksum(header: bytes, body: type[Body], data: bytes) -> int:
    return binascii.crc_hqx(header if body is Latent else header + data, 0xFFFF)
