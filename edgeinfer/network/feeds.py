"""Data that are made up for a network's inputs, where none are given."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgeinfer import _validate
from edgeinfer._extras import need
from edgeinfer.network.elements import CROSSING

#: What integers are made up as, one after another until the network runs: a divisor must not be 0, an index must be
#: small.
FILLS = (1, 0, 2, 16)


class Missing(ValueError):
    """Something that a network needs and that was not given.

    Attributes
    ----------
    text : str
        What is wrong, without the way on.
    argument : {"shapes", "feeds"}
        What to give.
    example : str
        What that may look like; may be empty.
    """

    def __init__(self, text: str, argument: str, example: str = "") -> None:
        super().__init__(text, argument, example)
        self.text, self.argument, self.example = text, argument, example

    def __str__(self) -> str:
        return f"{self.text}; give {self.argument}{self.example and f', such as {self.example}'}"


def made_up(
    inputs: Mapping[str, Any],
    given: Mapping[str, Any] | None = None,
    seed: int = 0,
    fills: Sequence[int] = FILLS,
) -> Iterator[dict[str, Any]]:
    """Feeds to try one after another: standard normal floats, then floats in [0.5, 1), integers all alike.

    Parameters
    ----------
    inputs : mapping of str to Tensor or Size
    given : mapping of str to array, optional
        What need not be made up.
    seed : int
        The seed of the floats, >= 0.
    fills : sequence of int
        What integers are to be.

    Examples
    --------
    >>> from edgeinfer.network import Tensor
    >>> [feeds["n"].tolist() for feeds in made_up({"n": Tensor("n", "int64", (2,), 128)})]
    [[1, 1], [0, 0], [2, 2], [16, 16], [1, 1], [0, 0], [2, 2], [16, 16]]
    """
    known = dict(given or {})
    left = {name: size for name, size in inputs.items() if name not in known}
    fixed = all(size.dtype.startswith(("float", "bfloat", "str")) for size in left.values())
    tries = fills[: 1 if fixed else None]
    for positive, fill in [(False, fill) for fill in tries] + [(True, fill) for fill in tries]:
        rng = np.random.default_rng(_validate.whole("seed", seed, 0))
        # A number too large for its type would not be that number.
        with suppress(OverflowError):
            yield known | {name: _array(size.dtype, size.shape, fill, rng, positive) for name, size in left.items()}


def other_data(feeds: Mapping[str, Any], seed: int = 1) -> dict[str, Any]:
    """Feeds of the same sizes and of values from the same range, but otherwise arranged.

    Examples
    --------
    >>> other_data({"x": np.arange(8)})["x"].tolist()
    [5, 0, 1, 4, 2, 6, 3, 7]
    """
    rng = np.random.default_rng(seed)
    other = {}
    for name, value in feeds.items():
        other[name] = value
        if isinstance(value, np.ndarray) and value.dtype.kind in "fiub" and value.size > 1:
            other[name] = rng.permutation(value.ravel()).reshape(value.shape)
        if isinstance(value, np.ndarray) and value.dtype.kind == "f":
            other[name] = (other[name] * 0.5).astype(value.dtype)
    return other


def feeds_that_run(
    run: Callable[[dict[str, Any]], Any],
    inputs: Mapping[str, Any],
    given: Mapping[str, Any] | None = None,
    seed: int = 0,
    fills: Sequence[int] = FILLS,
) -> tuple[dict[str, Any], Any]:
    """The first made-up feeds that a network takes, and what `run` gave.

    Parameters
    ----------
    run : callable
        Of feeds; ValueError where the network does not run.
    inputs, given, seed, fills
        They are as for `made_up`.

    Raises
    ------
    Missing
        None runs: data must be given. ValueError where all were.
    """
    failure: ValueError | None = None
    alternatives = made_up(inputs, given, seed, fills)
    while True:
        try:
            feeds = next(alternatives)
            return feeds, run(feeds)
        except StopIteration:
            break
        except ValueError as error:
            failure = failure or error
    assert failure is not None
    if set(inputs) <= set(given or ()):
        raise failure
    raise Missing(f"{failure}, on made-up data", "feeds") from failure


def _array(dtype: str, shape: tuple[int, ...], fill: int, rng: np.random.Generator, positive: bool) -> Any:
    if dtype.endswith(")"):
        # Of a sequence two elements.
        kind, inner = dtype[:3], dtype[4:-1]
        element = _array(inner, shape, fill, rng, positive)
        return [element, _array(inner, shape, fill, rng, positive)] if kind == "seq" else element
    if dtype == "str":
        return np.full(shape, "text", object)
    if dtype.startswith("float") and dtype in CROSSING:
        values: NDArray[Any] = rng.uniform(0.5, 1, shape) if positive else rng.standard_normal(shape)
        return np.asarray(values, dtype)
    if dtype in ("complex64", "complex128"):
        return np.asarray(rng.standard_normal(shape) + 1j * rng.standard_normal(shape), dtype)
    if dtype in CROSSING:
        return np.full(shape, min(fill, 1) if dtype == "bool" else fill, dtype)
    return _unknown_to_numpy(dtype, shape, rng)


def _unknown_to_numpy(dtype: str, shape: tuple[int, ...], rng: np.random.Generator) -> Any:
    """Elements of a type that NumPy has not, as ONNX Runtime takes them: by their bits."""
    onnx, runtime = need("onnx", "bridge"), need("onnxruntime", "bridge")
    bits = np.zeros(shape, np.uint8)
    if dtype == "bfloat16":
        bits = np.asarray(np.asarray(rng.standard_normal(shape), np.float32).view(np.uint32) >> 16, np.uint16)
    try:
        element = onnx.TensorProto.DataType.Value(dtype.upper())
        return runtime.OrtValue.ortvalue_from_numpy_with_onnx_type(bits, element)
    except Exception as error:  # ONNX Runtime has types of its own for it
        raise ValueError(f"data of type {dtype}: cannot be made up: {error}") from error


def random_feeds(graph: Any, seed: int = 0) -> dict[str, Any]:
    """Inputs for a network: those it is known to take, and else standard normal floats and ones.

    Where it does not take them, `feeds_that_run` tries others, too.
    """
    if not hasattr(graph, "tensors"):
        raise ValueError(f"graph = {graph!r}: must be a Graph, as read_graph gives")
    return next(made_up({name: graph.tensors[name] for name in graph.inputs}, graph.feeds, seed))
