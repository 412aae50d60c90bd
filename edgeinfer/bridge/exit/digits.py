"""The data of the shipped classifier: scikit-learn's handwritten digits, in the parts that training used."""

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from edgeinfer import _validate
from edgeinfer._extras import need
from edgeinfer.bridge.exit.manifest import ExitManifest, read_exits
from edgeinfer.network.zoo import shipped

#: Grey levels of a pixel.
LEVELS = 17


class Digits(NamedTuple):
    """Labelled images.

    Attributes
    ----------
    images : (n, 1, 8, 8) ndarray, float32
        Whole multiples of 1/16 in [0, 1].
    labels : (n,) ndarray of int
    """

    images: NDArray[np.float32]
    labels: NDArray[Any]


def load_data(part: str, manifest: ExitManifest | None = None) -> Digits:
    """A part of the digits: 1,797 real images of 8 x 8 pixels, few and small; writers are not kept apart.

    Parameters
    ----------
    part : {"train", "validation", "test"}
        808, 450 or 539 images.
    manifest : ExitManifest, optional
        Whose split; the shipped network's where left out.

    Raises
    ------
    ImportError
        Without scikit-learn, which carries the data.

    Examples
    --------
    >>> load_data("test").images.shape
    (539, 1, 8, 8)
    """
    split = (read_exits(shipped("digits")) if manifest is None else manifest).split
    _validate.choice("part", part, tuple(split))
    data = need("sklearn.datasets", "paper").load_digits()
    chosen = np.array(split[part], np.int64)
    if not chosen.size or chosen.min() < 0 or chosen.max() >= len(data.target):
        raise ValueError(f"split of {part!r}: must be indices in 0 .. {len(data.target) - 1}")
    return Digits((data.images[chosen] / 16).astype(np.float32)[:, None], data.target[chosen])


def network() -> Any:
    """The shipped classifier of digits without its early exits, as one ONNX network.

    Returns
    -------
    onnx.ModelProto
        From x, (batch, 1, 8, 8), to logits, (batch, 10).

    Examples
    --------
    >>> from edgeinfer.bridge import read_graph
    >>> read_graph(network(), {"x": (1, 1, 8, 8)}).outputs
    ('logits',)
    """
    onnx = need("onnx", "bridge")
    folder = shipped("digits")
    parts = [onnx.load(folder / name / "model.onnx") for name in ("segment_1", "segment_2", "segment_3", "exit_3")]
    merged = parts[0]
    for number, part in enumerate(parts[1:], 2):
        joint = [("features" if number == 2 else f"{number - 1}/features", f"{number}/x")]
        named = onnx.compose.add_prefix(part, f"{number}/")
        last = [f"{number}/{value.name}" for value in part.graph.output if value.name != "gates"]
        merged = onnx.compose.merge_models(merged, named, joint, outputs=last)
    merged.graph.name, result = "digits", merged.graph.output[0]
    for node in merged.graph.node:
        node.output[:] = ["logits" if name == result.name else name for name in node.output]
    result.name = "logits"
    return merged
