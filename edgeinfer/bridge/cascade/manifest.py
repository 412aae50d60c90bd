"""A folder of ONNX networks read as a cascade: what runs where, with which ports, and whether the files agree."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any

from edgeinfer import _validate
from edgeinfer.bridge.cascade.schedulers import Scheduler
from edgeinfer.network.files import Part, Port, listed, read_json

#: What may cross the wire, and the bits of one element.
WIRE_BITS = MappingProxyType({"float32": 32, "float16": 16, "uint8": 8})
#: What a port of a network is for: the noisy sample, its time step, the text's context, what the network before gave.
ROLES = ("sample", "timestep", "context", "image")
_FLOATS = ("float32", "float16", "float64")
_INTEGERS = ("int64", "int32")


@dataclass(frozen=True, eq=False)
class Text(_validate.Value):
    """How captions become contexts.

    Attributes
    ----------
    part : Part
    input, output : str
        Ports: token ids (B, L), context (B, L, d).
    tokenizer : Path
        Folder of the tokenizer's files.
    length : int or None
        L where the file fixes it.
    """

    part: Part
    input: str
    output: str
    tokenizer: Path
    length: int | None


@dataclass(frozen=True, eq=False)
class CascadeNetwork(_validate.Value):
    """A network of a stage.

    Attributes
    ----------
    part : Part
    shape : tuple of int
        Of one output, without the batch.
    ports : mapping of role to str
        Names of the inputs; roles are sample, timestep, context, image. `image` takes what the network before gave.
    output : str
    scale, shift : float
        `image` is fed as scale * image + shift.
    """

    part: Part
    shape: tuple[int, ...]
    ports: Mapping[str, str]
    output: str
    scale: float = 1.0
    shift: float = 0.0

    @property
    def iterative(self) -> bool:
        """Whether it denoises step by step; otherwise it runs once."""
        return "timestep" in self.ports


@dataclass(frozen=True, eq=False)
class CascadeStage(_validate.Value):
    """Networks that run one after another in one place.

    Attributes
    ----------
    name : "prior" or "decode"
    place : "edge" or "device"
    guidance : float
        GS of the paper's (2), unless the caller says otherwise. 1 is the conditional pass alone.
    null : mapping of role to float or str
        The null condition: a port's constant value, or the caption whose context it is; other ports keep what they
        are given. Empty: no guidance.
    networks : tuple of CascadeNetwork
    """

    name: str
    place: str
    guidance: float
    null: Mapping[str, float | str]
    networks: tuple[CascadeNetwork, ...]

    @property
    def guided(self) -> bool:
        """Whether guidance can be chosen."""
        return bool(self.null)

    @property
    def iterative(self) -> bool:
        """Whether it takes a number of steps; otherwise each network runs once."""
        return any(network.iterative for network in self.networks)

    def passes(self, guidance: float | None = None) -> int:
        """Network passes a step: 2 under guidance, 1 without."""
        return 2 if self.guided and (self.guidance if guidance is None else guidance) != 1 else 1

    def encodings(self, guidance: float | None = None) -> int:
        """Passes of the text encoder: one if a network takes the context, another if the null condition is a
        caption.
        """
        if not any("context" in network.ports for network in self.networks):
            return 0
        return self.passes(guidance) if isinstance(self.null.get("context"), str) else 1


@dataclass(frozen=True, eq=False)
class Wire(_validate.Value):
    """What crosses the link in split inference.

    Attributes
    ----------
    name : str
    shape : tuple of int
        Of one latent, without the batch.
    dtype : "float32", "float16" or "uint8"
        How it travels unless the caller says otherwise.
    range : tuple of float or None
        Interval that uint8 quantises; None: uint8 is not offered.
    bits : mapping of str to int
        Of one latent, for each type that is offered.
    """

    name: str
    shape: tuple[int, ...]
    dtype: str
    range: tuple[float, float] | None
    bits: Mapping[str, int]


@dataclass(frozen=True)
class Image:
    """What comes out.

    Attributes
    ----------
    shape : tuple of int
        Channels, height, width.
    range : tuple of float
        Values of black and of full intensity.
    bits : int
        Of one image, 8 a channel.
    """

    shape: tuple[int, ...]
    range: tuple[float, float]
    bits: int


@dataclass(frozen=True)
class Flops:
    """Cost of one pass of batch 1, FLOP (two a multiply-add); guidance's second pass is not in it.

    Attributes
    ----------
    encoder, prior_step, feature, decode_step : float
        Text encoder on the edge, each prior network once, text encoder on the device, each decode network once.
    """

    encoder: float
    prior_step: float
    feature: float
    decode_step: float


@dataclass(frozen=True, eq=False)
class Manifest(_validate.Value):
    """A cascade as its folder describes it, checked against the ONNX files.

    Attributes
    ----------
    folder : Path
    name : str
    text : Text
    stages : tuple of CascadeStage
        prior on the edge, decode on the device.
    scheduler : Scheduler
    sampler : "ddim" or "ddpm"
    wire : Wire
    image : Image
    flops : Flops or None
        None where the folder does not say; `bridge.count_flops` counts.
    provenance : mapping
        How the weights came to be, as the folder tells it.
    """

    folder: Path
    name: str
    text: Text
    stages: tuple[CascadeStage, CascadeStage]
    scheduler: Scheduler
    sampler: str
    wire: Wire
    image: Image
    flops: Flops | None = None
    provenance: Mapping[str, Any] = field(default_factory=dict)

    @property
    def prior(self) -> CascadeStage:
        """The stage on the edge."""
        return self.stages[0]

    @property
    def decode(self) -> CascadeStage:
        """The stage on the device."""
        return self.stages[1]


def _fits(sizes: tuple[int | None, ...], wanted: tuple[int | None, ...]) -> bool:
    """Whether a port of `sizes` takes arrays of `wanted` sizes; the first, the batch, must be free."""
    pairs = zip(sizes, wanted, strict=False)
    return (
        len(sizes) == len(wanted)
        and sizes[0] is None
        and all(size is None or want is None or size == want for size, want in pairs)
    )


def _shown(sizes: tuple[int | None, ...]) -> str:
    names = ["free" if size is None else str(size) for size in sizes]
    return f"[{', '.join(names)}]"


def require(part: Part, port: Port, sizes: tuple[int | None, ...], dtypes: Sequence[str]) -> None:
    if port.dtype not in dtypes:
        raise ValueError(
            f"{part.name}/model.onnx: type of {port.name!r} = {port.dtype!r}: must be one of {listed(dtypes)}"
        )
    if not _fits(port.shape, sizes):
        raise ValueError(
            f"{part.name}/model.onnx: shape of {port.name!r} = {_shown(port.shape)}: must be {_shown(sizes)}"
        )


def check_text(text: Text) -> tuple[int | None, ...]:
    """The context's sizes without the batch."""
    require(text.part, text.part.inputs[text.input], (None, text.length), _INTEGERS)
    output = text.part.outputs[text.output]
    require(text.part, output, (None, text.length, None), _FLOATS)
    return text.length, output.shape[2]


def check_network(network: CascadeNetwork, context: tuple[int | None, ...], previous: tuple[int, ...] | None) -> None:
    part = network.part
    wanted: dict[str, tuple[int | None, ...]] = {
        "sample": (None, *network.shape),
        "context": (None, *context),
        "image": (None, *(previous or ())),
    }
    for role, name in network.ports.items():
        port = part.inputs[name]
        if role != "timestep":
            require(part, port, wanted[role], _FLOATS)
        elif port.dtype not in _INTEGERS + _FLOATS or port.shape not in ((), (1,), (None,)):
            raise ValueError(
                f"{part.name}/model.onnx: {name!r} = {port.dtype} {_shown(port.shape)}: must be a number for each "
                f"element"
            )
    require(part, part.outputs[network.output], (None, *network.shape), _FLOATS)


def read_scheduler(root: Path, name: str) -> Scheduler:
    file = f"{name}/scheduler_config.json"
    config = read_json(root, file)
    try:
        return Scheduler.from_config(config)
    except (ValueError, TypeError) as error:
        raise ValueError(f"{file}: {error}") from error
