"""A folder of a classifier with exits, read and checked."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgeinfer import _validate
from edgeinfer.network.files import JsonObject, Part, listed, read_json, read_part

FORMAT = 1


@dataclass(frozen=True)
class Segment:
    """A segment of the backbone, or the head of an exit.

    Attributes
    ----------
    part : Part
        One input; the first output is what goes on: features or logits. A second output of a segment, if any, is
        the attention's gates, (B, channels).
    flops : float, FLOP
        Of one input.
    """

    part: Part
    flops: float


@dataclass(frozen=True)
class CodeParts:
    """A trained encoder and decoder of what crosses a cut.

    Attributes
    ----------
    cut : int
        Segments before it.
    values : int
        Numbers between the two.
    encoder, decoder : Part
    """

    cut: int
    values: int
    encoder: Part
    decoder: Part


@dataclass(frozen=True, eq=False)
class ExitManifest(_validate.Value):
    """A classifier with exits as its folder's exits.json describes it.

    Attributes
    ----------
    folder : Path
    name : str
    input : tuple of int
        Channels, height, width of one image.
    classes : int
    segments, exits : tuple of Segment
        One head a segment, the last one's the network's end.
    autoencoders : tuple of CodeParts
    accuracy : mapping of str to tuple of float
        Of each exit on each part of the data, as training measured it.
    split : mapping of str to tuple of int
        Indices of the data set in each part.
    provenance : mapping
    """

    folder: Path
    name: str
    input: tuple[int, ...]
    classes: int
    segments: tuple[Segment, ...]
    exits: tuple[Segment, ...]
    autoencoders: tuple[CodeParts, ...]
    accuracy: Mapping[str, tuple[float, ...]]
    split: Mapping[str, tuple[int, ...]]
    provenance: Mapping[str, Any] = field(default_factory=dict)

    @property
    def costs(self) -> NDArray[np.float64]:
        """FLOP of one input that leaves at each exit, the heads passed on the way counted, (exits,)."""
        segments = np.cumsum([segment.flops for segment in self.segments])
        return segments + np.cumsum([head.flops for head in self.exits])

    @property
    def full_cost(self) -> float:
        """FLOP of one input through all segments and the last head alone: the network without early exits."""
        return sum(segment.flops for segment in self.segments) + self.exits[-1].flops


def read_exits(folder: str | Path) -> ExitManifest:
    """Read and check the folder of a classifier with exits.

    Raises
    ------
    ValueError
        Naming the file, the field, its value and what is allowed.
    ImportError
        Without the `bridge` extra.
    """
    root = Path(folder)
    if not root.is_dir():
        raise ValueError(f"folder = {str(folder)!r}: must be a folder with an exits.json")
    root = root.resolve()
    data = JsonObject("exits.json", read_json(root, "exits.json"))
    if data.get("format") != FORMAT or isinstance(data.get("format"), bool):
        raise data.fail("format", str(FORMAT))

    def segment(item: JsonObject) -> Segment:
        part = read_part(root, item.text("part"), item.file, item.field("part"))
        if len(part.inputs) != 1:
            raise ValueError(f"{part.name}/model.onnx: inputs = {listed(part.inputs)}: must be one")
        return Segment(part, item.number("flops", low=0))

    def autoencoder(item: JsonObject) -> CodeParts:
        encoder, decoder = (read_part(root, item.text(k), item.file, item.field(k)) for k in ("encoder", "decoder"))
        return CodeParts(item.whole("cut"), item.whole("values"), encoder, decoder)

    segments, exits = (tuple(map(segment, data.objects(key))) for key in ("segments", "exits"))
    if len(segments) != len(exits):
        raise data.fail("exits", f"{len(segments)} heads, one a segment")
    rows = {key: data.object(key).value for key in ("accuracy", "split")}
    for key, parts in rows.items():
        for name, row in parts.items():
            kind = (float, int) if key == "accuracy" else (int,)
            if not isinstance(row, list) or not all(isinstance(x, kind) and not isinstance(x, bool) for x in row):
                raise data.object(key).fail(name, "a list of numbers")
    provenance = data.get("provenance", {})
    if not isinstance(provenance, dict):
        raise data.fail("provenance", "an object")
    return ExitManifest(
        folder=root,
        name=data.text("name"),
        input=data.shape("input"),
        classes=data.whole("classes", 2),
        segments=segments,
        exits=exits,
        autoencoders=tuple(map(autoencoder, data.objects("autoencoders"))) if data.get("autoencoders") else (),
        accuracy=MappingProxyType({name: tuple(row) for name, row in rows["accuracy"].items()}),
        split=MappingProxyType({name: tuple(row) for name, row in rows["split"].items()}),
        provenance=MappingProxyType(provenance),
    )
