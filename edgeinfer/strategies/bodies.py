"""The contents of messages: what each kind says, as bytes, and its longest length."""

from __future__ import annotations

import io
import struct
from dataclasses import dataclass
from typing import ClassVar, Protocol

import numpy as np
from numpy.typing import NDArray

from edgeinfer import _validate, scenes
from edgeinfer._extras import need
from edgeinfer.bridge.wire.signalling import CAPTION_LENGTH
from edgeinfer.strategies.tables import GEOMETRY_BYTES, TABLE_BYTES, Table

#: Most pictures of a storyboard, and proposals that a verdict is about.
FRAMES, SCORES = 8, 16
_LAST = 255
_NOISE_BYTES = 7
#: Seeds of noise are below.
NOISES = 2 ** (8 * _NOISE_BYTES)
_STEPS = 255
_SIDE = 64
_PNG_BYTES = 3 * _SIDE**2 + 1024


class Body(Protocol):
    """The content of one kind of message.

    Attributes
    ----------
    kind : str
        Its name.
    limit : int
        Longest length, bytes.
    shared : bool
        Whether it counts towards the context of the session.
    """

    kind: ClassVar[str]
    limit: ClassVar[int]
    shared: ClassVar[bool]

    def to_bytes(self) -> bytes:
        """The content as bytes."""

    @classmethod
    def from_bytes(cls, data: bytes) -> Body:
        """The content of `to_bytes`; ValueError naming what is wrong."""


def _exactly(what: str, data: bytes, *lengths: int) -> None:
    if len(data) not in lengths:
        raise ValueError(f"{what}: {len(data)} bytes: must be {' or '.join(map(str, lengths))}")


def _check_noise(asked: Request | Seed) -> None:
    if _validate.whole("noise", asked.noise, 0) >= NOISES:
        raise ValueError(f"noise = {asked.noise}: must be in [0, 2**{8 * _NOISE_BYTES})")
    for name in ("prior_steps", "decode_steps"):
        _validate.whole(name, getattr(asked, name), 1, _STEPS)


def _noise_bytes(asked: Request | Seed) -> bytes:
    return bytes([asked.prior_steps, asked.decode_steps]) + asked.noise.to_bytes(_NOISE_BYTES, "big")


def _noise_of(data: bytes) -> tuple[int, int, int]:
    return int.from_bytes(data[2 : 2 + _NOISE_BYTES], "big"), data[0], data[1]


@dataclass(frozen=True, eq=False)
class Picture:
    """An image; crosses as PNG, without loss.

    Parameters
    ----------
    pixels : (64, 64, 3) ndarray, uint8
    """

    pixels: NDArray[np.uint8]

    kind: ClassVar[str] = "picture"
    limit: ClassVar[int] = _PNG_BYTES
    shared: ClassVar[bool] = False

    def __post_init__(self) -> None:
        pixels = np.asarray(self.pixels)
        if pixels.shape != (_SIDE, _SIDE, 3) or pixels.dtype != np.uint8:
            raise ValueError(f"pixels = {pixels.dtype} {pixels.shape}: must be uint8 {(_SIDE, _SIDE, 3)}")

    def to_bytes(self) -> bytes:
        """PNG."""
        with io.BytesIO() as file:
            need("PIL.Image", "bridge").fromarray(self.pixels).save(file, format="PNG", optimize=True)
            return file.getvalue()

    @classmethod
    def from_bytes(cls, data: bytes) -> Picture:
        """The picture of a PNG; its size is read before its pixels are."""
        _validate.octets("data", data)
        library = need("PIL.Image", "bridge")
        try:
            with library.open(io.BytesIO(data), formats=("PNG",)) as image:
                if image.size != (_SIDE, _SIDE) or image.mode != "RGB":
                    raise ValueError(f"{image.mode} {image.size}: must be RGB {(_SIDE, _SIDE)}")
                return cls(np.array(image))
        except (OSError, SyntaxError, ValueError, library.DecompressionBombError) as error:
            raise ValueError(f"picture: {str(error)[:200]}") from None


@dataclass(frozen=True, eq=False)
class Request:
    """What a user wants: a caption, or a sentence that edits an image.

    Parameters
    ----------
    text : str
        1 to 1024 characters.
    image : (64, 64, 3) ndarray, uint8, optional
        What the sentence edits.
    noise, prior_steps, decode_steps
        As for `Seed`.

    Examples
    --------
    >>> len(Request("a red circle above a small blue square").to_bytes())
    49
    """

    text: str
    image: NDArray[np.uint8] | None = None
    noise: int = 0
    prior_steps: int = 8
    decode_steps: int = 4

    kind: ClassVar[str] = "request"
    limit: ClassVar[int] = _NOISE_BYTES + 4 + 4 * CAPTION_LENGTH + _PNG_BYTES
    shared: ClassVar[bool] = False

    def __post_init__(self) -> None:
        if not isinstance(self.text, str) or not 1 <= len(self.text) <= CAPTION_LENGTH:
            shown = f"{len(self.text)} characters" if isinstance(self.text, str) else repr(self.text)
            raise ValueError(f"text = {shown}: must be a str of 1 to {CAPTION_LENGTH} characters")
        if self.image is not None:
            object.__setattr__(self, "image", Picture(self.image).pixels)
        _check_noise(self)

    def to_bytes(self) -> bytes:
        """Steps, noise, length of the text, the text in UTF-8, the image as PNG."""
        text = self.text.encode()
        image = b"" if self.image is None else Picture(self.image).to_bytes()
        return _noise_bytes(self) + len(text).to_bytes(2, "big") + text + image

    @classmethod
    def from_bytes(cls, data: bytes) -> Request:
        """The request."""
        _validate.octets("data", data)
        start = _NOISE_BYTES + 4
        end = start + int.from_bytes(data[start - 2 : start], "big")
        if len(data) < max(start, end):
            raise ValueError(f"request: {len(data)} bytes: must be at least {max(start, end)}")
        try:
            text = data[start:end].decode()
        except UnicodeDecodeError:
            raise ValueError("request: text must be UTF-8") from None
        image = Picture.from_bytes(data[end:]).pixels if len(data) > end else None
        return cls(text, image, *_noise_of(data))


@dataclass(frozen=True)
class Plan:
    """The tables of the pictures to be made: one, or a storyboard's.

    Parameters
    ----------
    tables : tuple of Table
        1 to 8.
    """

    tables: tuple[Table, ...]

    kind: ClassVar[str] = "plan"
    limit: ClassVar[int] = FRAMES * (1 + GEOMETRY_BYTES)
    shared: ClassVar[bool] = True

    def __post_init__(self) -> None:
        object.__setattr__(self, "tables", _validate.each("tables", self.tables, Table))
        if not 1 <= len(self.tables) <= FRAMES:
            raise ValueError(f"tables: {len(self.tables)} of them: must be 1 to {FRAMES}")

    def to_bytes(self) -> bytes:
        """Each table behind its length."""
        parts = [table.to_bytes() for table in self.tables]
        return b"".join(bytes([len(part)]) + part for part in parts)

    @classmethod
    def from_bytes(cls, data: bytes) -> Plan:
        """The plan."""
        _validate.octets("data", data)
        tables, at = [], 0
        while at < len(data):
            end = at + 1 + data[at]
            tables.append(Table.from_bytes(data[at + 1 : end]))
            at = end
        return cls(tuple(tables))


@dataclass(frozen=True)
class Seed:
    """All that a painter needs: a table, its noise and its steps.

    Parameters
    ----------
    table : Table
    noise : int
        Seed of the noise, in [0, 2**56).
    prior_steps, decode_steps : int
        In [1, 255].

    Examples
    --------
    >>> len(Seed(Table.of_caption("a red circle"), 7).to_bytes())
    12
    """

    table: Table
    noise: int = 0
    prior_steps: int = 8
    decode_steps: int = 4

    kind: ClassVar[str] = "seed"
    limit: ClassVar[int] = GEOMETRY_BYTES + _NOISE_BYTES + 2
    shared: ClassVar[bool] = True

    def __post_init__(self) -> None:
        _validate.check_kind("table", self.table, Table)
        _check_noise(self)

    def to_bytes(self) -> bytes:
        """Steps, noise, table."""
        return _noise_bytes(self) + self.table.to_bytes()

    @classmethod
    def from_bytes(cls, data: bytes) -> Seed:
        """The seed."""
        _validate.octets("data", data)
        start = _NOISE_BYTES + 2
        _exactly("seed", data, start + TABLE_BYTES, start + GEOMETRY_BYTES)
        return cls(Table.from_bytes(data[start:]), *_noise_of(data))


@dataclass(frozen=True, eq=False)
class Latent:
    """A small image of a cascade on its way to the next network, in equal steps over [-1, 1].

    Parameters
    ----------
    values : (3, 16, 16) or (3, 32, 32) ndarray, float32
        Finite; clipped to [-1, 1] when it crosses.
    bits : int
        Of each value, in [1, 8].
    """

    values: NDArray[np.float32]
    bits: int = 6

    kind: ClassVar[str] = "latent"
    limit: ClassVar[int] = 2 + 3 * 32**2
    shared: ClassVar[bool] = False

    def __post_init__(self) -> None:
        values = np.asarray(self.values)
        if values.shape not in ((3, 16, 16), (3, 32, 32)) or values.dtype != np.float32:
            raise ValueError(f"values = {values.dtype} {values.shape}: must be float32 (3, 16, 16) or (3, 32, 32)")
        if not np.isfinite(values).all():
            raise ValueError("values: must be finite")
        _validate.whole("bits", self.bits, 1, 8)

    def to_bytes(self) -> bytes:
        """Side, bits, then the highest bits of all values, their next ones, and so on, the least last."""
        top = 2**self.bits - 1
        codes = np.rint((np.clip(self.values, -1, 1) + 1) * (top / 2)).astype(np.uint8)
        planes = np.unpackbits(codes.reshape(-1, 1), axis=1)[:, 8 - self.bits :].T
        return bytes([self.values.shape[-1], self.bits]) + np.packbits(planes).tobytes()

    @classmethod
    def from_bytes(cls, data: bytes) -> Latent:
        """The latent, rounded."""
        _validate.octets("data", data)
        side, bits = cls._layout(data)
        _exactly("latent", data, 2 + 3 * side**2 * bits // 8)
        return cls.from_prefix(data)

    @classmethod
    def from_prefix(cls, data: bytes) -> Latent:
        """The latent of as many bytes of it as have come: each value the middle of what its missing bits leave open.

        Bits of a highest place that has come in part count where they have come.
        """
        side, bits = cls._layout(data)
        count, come = 3 * side**2, np.frombuffer(data[2:], np.uint8)[: 3 * side**2 * bits // 8]
        planes = np.zeros(count * bits, np.uint8)
        planes[: 8 * len(come)] = np.unpackbits(come)
        known = (np.arange(count * bits) < 8 * len(come)).reshape(bits, count).sum(0)
        weights = 2.0 ** np.arange(bits - 1, -1, -1)
        # The codes that missing bits leave open are 0 .. 2**missing - 1 above the known ones.
        codes = weights @ planes.reshape(bits, count) + (2.0 ** (bits - known) - 1) / 2
        values = codes.astype(np.float32) * np.float32(2 / (2**bits - 1)) - np.float32(1)
        return cls(values.reshape(3, side, side), bits)

    def refinement(self, values: NDArray[np.float32], bits: int) -> Latent:
        """What the values add to this latent, which is theirs in fewer bits, in its steps: with `bits` more."""
        left = (np.clip(values, -1, 1) - self.values) * np.float32(2**self.bits - 1)
        return Latent(np.asarray(left, np.float32), bits)

    def refined(self, by: Latent) -> Latent:
        """This latent with its `refinement`.

        Examples
        --------
        >>> values = np.linspace(-1, 1, 768, dtype=np.float32).reshape(3, 16, 16)
        >>> coarse = Latent.from_bytes(Latent(values, 2).to_bytes())
        >>> fine = coarse.refined(Latent.from_bytes(coarse.refinement(values, 4).to_bytes()))
        >>> fine.bits, bool((abs(fine.values - values) <= 1 / 3 / 15 + 1e-6).all())
        (6, True)
        """
        values = self.values + by.values / np.float32(2**self.bits - 1)
        return Latent(np.asarray(values, np.float32), min(self.bits + by.bits, 8))

    @staticmethod
    def _layout(data: bytes) -> tuple[int, int]:
        side, bits = (data[0], data[1]) if len(data) > 1 else (0, 0)
        if side not in (16, 32) or not 1 <= bits <= 8:
            raise ValueError(f"latent: side {side} with {bits} bits: must be 16 or 32, 1 to 8 bits")
        return side, bits


@dataclass(frozen=True)
class Finding:
    """A head that a picture shows otherwise than was asked.

    Parameters
    ----------
    head : str
    seen, wanted : int
        Classes of the head; -1: none.
    """

    head: str
    seen: int
    wanted: int

    def __post_init__(self) -> None:
        _validate.choice("head", self.head, tuple(scenes.HEADS))
        for name in ("seen", "wanted"):
            value, last = _validate.whole(name, getattr(self, name), -1), len(scenes.HEADS[self.head]) - 1
            if value > last:
                raise ValueError(f"{self.head} {name} = {value}: must be in [-1, {last}]")


@dataclass(frozen=True)
class Findings:
    """What a checker found wrong with a picture; empty: nothing.

    Parameters
    ----------
    found : tuple of Finding
    margin : float
        How sure the checker is: least lead of an asked class over its rival, in logits; negative where one is wrong.
    """

    found: tuple[Finding, ...] = ()
    margin: float = 0.0

    kind: ClassVar[str] = "findings"
    limit: ClassVar[int] = 4 + 3 * len(scenes.HEADS)
    shared: ClassVar[bool] = True

    def __post_init__(self) -> None:
        object.__setattr__(self, "found", _validate.each("found", self.found, Finding))
        object.__setattr__(self, "margin", _validate.scalar("margin", self.margin))

    def to_bytes(self) -> bytes:
        """The margin as float32, three bytes a finding."""
        heads = list(scenes.HEADS)
        parts = (bytes([heads.index(each.head), each.seen + 1, each.wanted + 1]) for each in self.found)
        return struct.pack(">f", self.margin) + b"".join(parts)

    @classmethod
    def from_bytes(cls, data: bytes) -> Findings:
        """The findings."""
        _validate.octets("data", data)
        if len(data) < 4 or (len(data) - 4) % 3:
            raise ValueError(f"findings: {len(data)} bytes: must be 4 and 3 for each")
        heads = list(scenes.HEADS)
        rows = np.frombuffer(data[4:], np.uint8).reshape(-1, 3).astype(int).tolist()
        if rows and max(row[0] for row in rows) >= len(heads):
            raise ValueError(f"findings: head {max(row[0] for row in rows)}: must be below {len(heads)}")
        found = tuple(Finding(heads[head], seen - 1, wanted - 1) for head, seen, wanted in rows)
        return cls(found, struct.unpack(">f", data[:4])[0])


@dataclass(frozen=True)
class Verdict:
    """What a judge or arbiter decided about proposals.

    Parameters
    ----------
    chosen : int
        Number of the proposal, from 0.
    passed : bool
        Whether it is good enough to be released.
    scores : tuple of float
        Of the proposals, the higher the better; at most 16, kept as float32.
    """

    chosen: int
    passed: bool
    scores: tuple[float, ...] = ()

    kind: ClassVar[str] = "verdict"
    limit: ClassVar[int] = 2 + 4 * SCORES
    shared: ClassVar[bool] = True

    def __post_init__(self) -> None:
        _validate.whole("chosen", self.chosen, 0, _LAST)
        object.__setattr__(self, "scores", _validate.in_order("scores", self.scores))
        if len(self.scores) > SCORES:
            raise ValueError(f"scores: {len(self.scores)} of them: must be at most {SCORES}")
        object.__setattr__(self, "scores", tuple(_validate.scalar("scores", score) for score in self.scores))

    def to_bytes(self) -> bytes:
        """Number, whether passed, scores."""
        return bytes([self.chosen, self.passed]) + struct.pack(f">{len(self.scores)}f", *self.scores)

    @classmethod
    def from_bytes(cls, data: bytes) -> Verdict:
        """The verdict."""
        _validate.octets("data", data)
        if len(data) < 2 or (len(data) - 2) % 4 or data[1] > 1:
            raise ValueError(f"verdict: {len(data)} bytes: must be a number, 0 or 1, and 4 bytes a score")
        return cls(data[0], bool(data[1]), struct.unpack(f">{(len(data) - 2) // 4}f", data[2:]))


#: Kinds of contents in the order of their codes in messages, from 1.
BODIES: tuple[type[Body], ...] = (Request, Plan, Seed, Latent, Picture, Findings, Verdict)


def _class(head: str, number: int) -> str:
    return scenes.HEADS[head][number] if number >= 0 else "none"


def describe(body: Body) -> str:
    """A body in words."""
    match body:
        case Request(text=text, image=image):
            return repr(text) + ("" if image is None else " of an image")
        case Plan(tables=tables):
            return "; ".join(table.caption for table in tables)
        case Seed(table=table, noise=noise):
            where = "" if table.places is None else " ".join(f"({p.x:g}, {p.y:g}, {p.width:g})" for p in table.places)
            return f"{table.caption}{' at ' if where else ''}{where}, noise {noise}"
        case Latent(values=values, bits=bits):
            return f"{values.shape[-1]} x {values.shape[-1]} values of {bits} bits"
        case Picture(pixels=pixels):
            return f"{pixels.shape[1]} x {pixels.shape[0]} pixels"
        case Findings(found=found, margin=margin):
            names = ", ".join(f"{f.head} {_class(f.head, f.seen)}, not {_class(f.head, f.wanted)}" for f in found)
            return f"{names or 'right'}, margin {margin:.2f}"
        case Verdict(chosen=chosen, passed=passed):
            return f"proposal {chosen} {'passes' if passed else 'does not pass'}"
    return body.kind
