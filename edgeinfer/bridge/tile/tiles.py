"""Layers divided among workers: spatial tiles with the right halo, and channels of a convolution."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgeinfer import _validate
from edgeinfer._extras import need
from edgeinfer.model import Node
from edgeinfer.network.flops import node_flops
from edgeinfer.network.graphs import Graph, extract, read_graph
from edgeinfer.network.loading import load_model

#: Operators whose every result depends on one place of the picture alone.
POINTWISE = ("BatchNormalization", "Clip", "Dropout", "Elu", "LRN", "LeakyRelu", "Relu", "Sigmoid", "Tanh")
#: Operators whose every result depends on a window.
WINDOWED = ("AveragePool", "Conv", "MaxPool")

Range = tuple[int, int]


@dataclass(frozen=True)
class Tile:
    """What one worker does.

    Attributes
    ----------
    model : onnx.ModelProto
        One input, one output.
    source, target : tuple of (start, stop)
        What it reads of the input and gives of the output, along all four axes.
    flops : int
    input_bits, output_bits : int
    """

    model: Any
    source: tuple[Range, ...]
    target: tuple[Range, ...]
    flops: int
    input_bits: int
    output_bits: int


@dataclass(frozen=True)
class Tiling:
    """A run of layers divided among workers.

    Attributes
    ----------
    name : str
        "2 x 3 tiles" or "4 parts of the channels".
    input, output : str
        Tensors of the network.
    shape : tuple of int
        Of the output.
    dtype : str
        Of the output.
    flops : int
        Of the undivided run.
    tiles : tuple of Tile
    input_shape : tuple of int
        Of the input.
    """

    name: str
    input: str
    output: str
    shape: tuple[int, ...]
    dtype: str
    flops: int
    tiles: tuple[Tile, ...]
    input_shape: tuple[int, ...]

    @property
    def redundant_flops(self) -> int:
        """FLOP of the halos, computed more than once, less those of results that a stride passes over."""
        return sum(tile.flops for tile in self.tiles) - self.flops

    @property
    def moved_bits(self) -> int:
        """Bits scattered and gathered, halos counted as often as they are sent."""
        return sum(tile.input_bits + tile.output_bits for tile in self.tiles)

    def time(self, node: Node, rate: float) -> float:
        """Predicted time, s: all tiles sent and gathered one after another at `rate` bit/s, the largest computed.

        Parameters
        ----------
        node : Node
            Each of the workers.
        rate : float, bit/s
            > 0, inf for none.
        """
        rate = _validate.scalar("rate", rate, 0, low_open=True, infinite=True, unit="bit/s")
        return self.moved_bits / rate + max(tile.flops for tile in self.tiles) / node.flops

    def speed_up(self, node: Node, rate: float) -> float:
        """Predicted time of the undivided run, on one such node without any transfer, over that of the tiling."""
        time = self.time(node, rate)
        return self.flops / node.flops / time if time else math.inf

    def scatter(self, array: NDArray[Any]) -> list[NDArray[Any]]:
        """Each worker's input; ValueError where the array has another shape than the network's tensor."""
        if array.shape != self.input_shape:
            raise ValueError(f"array of shape {array.shape}: must be {self.input_shape}")
        return [np.ascontiguousarray(array[_slices(tile.source)]) for tile in self.tiles]

    def gather(self, results: Sequence[NDArray[Any]]) -> NDArray[Any]:
        """The whole output."""
        output = np.empty(self.shape, self.dtype)
        for tile, result in zip(self.tiles, results, strict=True):
            output[_slices(tile.target)] = result
        return output


def _slices(ranges: Sequence[Range]) -> tuple[slice, ...]:
    return tuple(slice(*r) for r in ranges)


def tileable_runs(graph: Graph) -> list[tuple[int, ...]]:
    """Maximal chains of windowed and pointwise operations on pictures, each the only reader of the one before.

    Returns
    -------
    list of tuple of int
        Positions in `graph.operations`; chains without a window are left out.

    Examples
    --------
    >>> from edgeinfer.bridge import light_model, read_graph
    >>> runs = tileable_runs(read_graph(light_model("squeezenet")))
    >>> len(runs), runs[0]
    (25, (0, 1, 2, 3, 4))
    """
    runs: list[list[int]] = []
    ends: dict[str, int] = {}
    for i, operation in enumerate(graph.operations):
        if not _tileable(graph, i):
            continue
        before = ends.get(operation.inputs[0])
        alone = graph.consumers[operation.inputs[0]] == (i,) and operation.inputs[0] not in graph.outputs
        if before is not None and alone:
            runs[before].append(i)
        else:
            before = len(runs)
            runs.append([i])
        ends[operation.outputs[0]] = before
    return [tuple(run) for run in runs if any(graph.operations[i].kind in WINDOWED for i in run)]


def _tileable(graph: Graph, position: int) -> bool:
    operation = graph.operations[position]
    return (
        operation.kind in (*POINTWISE, *WINDOWED)
        and len(operation.inputs) == len(operation.outputs) == 1
        and len(graph.tensors[operation.inputs[0]].shape) == 4
    )


def spatial_tiles(
    model: Any,
    operations: Sequence[int],
    rows: int,
    columns: int = 1,
    shapes: Mapping[str, tuple[int, ...]] | None = None,
) -> Tiling:
    """Divide the output of a run of layers into a grid of tiles, each worker computing one from its part of the input.

    A result row o of a window of k rows, stride s, dilation d and padding p reads the input's rows o s - p to
    o s - p + (k - 1) d: going back through the run gives what each tile needs of each layer, and padding stays only
    where that goes beyond the layer's own border.

    Parameters
    ----------
    model : path or onnx.ModelProto
    operations : sequence of int
        Positions in `read_graph(model).operations`, one run, as `tileable_runs` gives them or a part of one.
    rows, columns : int
        Of the grid, >= 1 and at most the output's sizes.
    shapes : mapping, optional
        It is as for `read_graph`.

    Returns
    -------
    Tiling

    Raises
    ------
    ValueError
        Where the operations are no such run, or a tile would lie in the padding alone.

    Examples
    --------
    >>> from edgeinfer.bridge import light_model
    >>> halves = spatial_tiles(light_model("squeezenet"), range(5), rows=2)
    >>> [tile.source[2] for tile in halves.tiles]  # rows of the input: some are computed twice
    [(0, 111), (108, 223)]
    """
    graph = read_graph(model, shapes)
    loaded, _ = load_model(model)
    run = _run(graph, operations)
    layers = [_Layer.read(loaded, graph, i) for i in run]
    source, target = graph.operations[run[0]].inputs[0], graph.operations[run[-1]].outputs[0]
    read, given = graph.tensors[source], graph.tensors[target]
    shape = given.shape
    parts = [_divide(n, c, shape[2 + k]) for k, (n, c) in enumerate((("rows", rows), ("columns", columns)))]
    whole = extract(loaded, graph, run, [target])
    tiles = []
    for vertical in parts[0]:
        for horizontal in parts[1]:
            wanted = (vertical, horizontal)
            pads: list[tuple[int, ...]] = []
            regions = [wanted]
            for layer in reversed(layers):
                needed, pad = layer.back(wanted)
                pads.insert(0, pad)
                regions.insert(0, needed)
                wanted = needed
            tiles.append(_tile(whole, graph, run, regions, pads))
    flops = sum(graph.operations[i].flops or 0 for i in run)
    name = f"{rows} x {columns} tiles"
    return Tiling(name, source, target, shape, given.dtype, flops, tuple(tiles), read.shape)


def channel_tiles(
    model: Any, operation: int, parts: int, shapes: Mapping[str, tuple[int, ...]] | None = None
) -> Tiling:
    """Divide the output channels of a convolution; with groups whole groups, each worker reading their channels alone.

    Parameters
    ----------
    model : path or onnx.ModelProto
    operation : int
        Position of a Conv on pictures in `read_graph(model).operations`.
    parts : int
        In [1, channels], or [1, groups] where there are groups.
    shapes : mapping, optional
        It is as for `read_graph`.

    Returns
    -------
    Tiling

    Examples
    --------
    >>> from edgeinfer.bridge import light_model
    >>> halves = channel_tiles(light_model("squeezenet"), 0, parts=2)
    >>> [tile.target[1] for tile in halves.tiles]
    [(0, 32), (32, 64)]
    """
    onnx = need("onnx", "bridge")
    graph = read_graph(model, shapes)
    loaded, _ = load_model(model)
    (position,) = _run(graph, [operation])
    conv = graph.operations[position]
    if conv.kind != "Conv":
        raise ValueError(f"operation = {operation}: must be a Conv, is {conv.kind}")
    node = loaded.graph.node[conv.index]
    weights = {tensor.name: tensor for tensor in loaded.graph.initializer}
    missing = [name for name in node.input[1:] if name and name not in weights]
    if missing:
        raise ValueError(f"operation = {operation}: weight {missing[0]!r}: must be stored, not computed")
    groups = next((a.i for a in node.attribute if a.name == "group"), 1)
    before, after = graph.tensors[conv.inputs[0]], graph.tensors[conv.outputs[0]]
    whole = conv.flops or 0
    channels = after.shape[1]
    units = groups if groups > 1 else channels
    width = channels // units
    tiles = []
    for first, last in _divide("parts", parts, units):
        part = extract(loaded, graph, [position], [after.name])
        for tensor in part.graph.initializer:
            values = onnx.numpy_helper.to_array(weights[tensor.name])
            tensor.CopyFrom(onnx.numpy_helper.from_array(values[first * width : last * width], tensor.name))
        start, stop = 0, before.shape[1]
        if groups > 1:
            start, stop = (stop // groups * first, stop // groups * last)
            attribute = next(a for a in part.graph.node[-1].attribute if a.name == "group")
            attribute.i = last - first
        source = ((0, before.shape[0]), (start, stop), *((0, size) for size in before.shape[2:]))
        target = ((0, after.shape[0]), (first * width, last * width), *((0, size) for size in after.shape[2:]))
        _set_shape(part.graph.input[0], source)
        _set_shape(part.graph.output[0], target)
        flops = whole * (last - first) // units
        tiles.append(Tile(part, source, target, flops, _bits(source, before), _bits(target, after)))
    name = f"{parts} parts of the channels"
    return Tiling(name, before.name, after.name, after.shape, after.dtype, whole, tuple(tiles), before.shape)


def best_tiling(
    model: Any,
    operations: Sequence[int],
    workers: int,
    node: Node,
    rate: float,
    shapes: Mapping[str, tuple[int, ...]] | None = None,
) -> Tiling:
    """The tiling of the least predicted time among the grids and channel partitions for at most that many workers.

    Parameters
    ----------
    model, operations, shapes
        They are as for `spatial_tiles`.
    workers : int
        >= 1.
    node : Node
        Each of them.
    rate : float, bit/s
        It is as for `Tiling.time`.

    Returns
    -------
    Tiling

    Examples
    --------
    >>> from edgeinfer import Node
    >>> from edgeinfer.bridge import light_model
    >>> best_tiling(light_model("squeezenet"), range(5), 4, Node("worker", 5e9), 1e9).name
    '2 x 2 tiles'
    """
    workers = _validate.whole("workers", workers, 1)
    options = []
    refused: ValueError | None = None
    for rows in range(1, workers + 1):
        for columns in range(1, workers // rows + 1):
            try:
                options.append(spatial_tiles(model, operations, rows, columns, shapes))
            except ValueError as error:
                refused = error
    if not options:
        assert refused is not None
        raise refused
    if len(operations) == 1:
        for parts in range(2, workers + 1):
            try:
                options.append(channel_tiles(model, operations[0], parts, shapes))
            except ValueError:
                break
    return min(options, key=lambda option: option.time(node, rate))


@dataclass(frozen=True)
class _Layer:
    """Windows of one operation along both axes: sizes of the input, kernel, stride, dilation, padding before."""

    sizes: tuple[int, int]
    kernel: tuple[int, int]
    stride: tuple[int, int]
    dilation: tuple[int, int]
    before: tuple[int, int]
    pool: bool

    @classmethod
    def read(cls, model: Any, graph: Graph, position: int) -> "_Layer":
        onnx = need("onnx", "bridge")
        operation = graph.operations[position]
        given = graph.tensors[operation.inputs[0]].shape
        sizes = (given[2], given[3])
        ones = (1, 1)
        if operation.kind in POINTWISE:
            return cls(sizes, ones, ones, ones, (0, 0), False)
        node = model.graph.node[operation.index]
        values = {a.name: onnx.helper.get_attribute_value(a) for a in node.attribute}
        if values.get("ceil_mode") and values.get("count_include_pad"):
            raise ValueError(f"{operation.name}: ceil_mode with count_include_pad: must not be tiled")
        kernel = values.get("kernel_shape")
        if kernel is None:
            weight = next((t for t in model.graph.initializer if t.name == node.input[1]), None)
            if weight is None:
                raise ValueError(
                    f"{operation.name}: kernel_shape = (missing): must be given where weights are computed"
                )
            kernel = weight.dims[2:]
        kernel, stride = tuple(kernel), tuple(values.get("strides", ones))
        dilation = tuple(values.get("dilations", ones))
        auto = values.get("auto_pad", b"NOTSET").decode()
        before = tuple(values.get("pads", (0,) * 4)[:2])
        if auto == "VALID":
            before = (0, 0)
        elif auto != "NOTSET":
            results = graph.tensors[operation.outputs[0]].shape[2:]
            total = [
                max((out - 1) * s + (k - 1) * d + 1 - size, 0)
                for out, s, k, d, size in zip(results, stride, kernel, dilation, sizes, strict=True)
            ]
            before = tuple(t // 2 if auto == "SAME_UPPER" else t - t // 2 for t in total)
        pairs = [(int(pair[0]), int(pair[1])) for pair in (kernel, stride, dilation, before)]
        return cls(sizes, pairs[0], pairs[1], pairs[2], pairs[3], operation.kind != "Conv")

    def back(self, wanted: tuple[Range, Range]) -> tuple[tuple[Range, Range], tuple[int, ...]]:
        """Ranges of the input that give the wanted ranges of the output, and the padding: before, before, after,
        after.
        """
        ranges, before, after = [], [], []
        for axis, (start, stop) in enumerate(wanted):
            reach = (self.kernel[axis] - 1) * self.dilation[axis] + 1
            low = start * self.stride[axis] - self.before[axis]
            high = (stop - 1) * self.stride[axis] - self.before[axis] + reach
            first, last = max(low, 0), min(high, self.sizes[axis])
            # Pools refuse it; a window beyond the border alone comes with ceil_mode.
            if first >= last or (self.pool and max(first - low, high - last) >= self.kernel[axis]):
                raise ValueError(f"tile {start}:{stop}: a window must not lie in the padding alone")
            ranges.append((first, last))
            before.append(first - low)
            after.append(high - last)
        return (ranges[0], ranges[1]), (*before, *after)


def _run(graph: Graph, operations: Sequence[int]) -> list[int]:
    run = [_validate.whole("operations", i, 0) for i in operations]
    if not run or run[-1] >= len(graph.operations):
        raise ValueError(f"operations = {list(operations)}: must be positions below {len(graph.operations)}")
    if not any(set(run) <= set(known) for known in tileable_runs(graph)):
        raise ValueError(f"operations = {run}: must be (part of) one run of tileable_runs")
    for first, second in pairwise(run):
        if graph.operations[second].inputs != graph.operations[first].outputs:
            raise ValueError(f"operations = {run}: each must read what the one before gives")
    return run


def _divide(name: str, parts: Any, size: int) -> list[Range]:
    """`size` in ranges as equal as can be."""
    parts = _validate.whole(name, parts, 1)
    if parts > size:
        raise ValueError(f"{name} = {parts}: must be at most {size}")
    edges = [size * i // parts for i in range(parts + 1)]
    return list(pairwise(edges))


def _tile(whole: Any, graph: Graph, run: Sequence[int], regions: list[Any], pads: list[tuple[int, ...]]) -> Tile:
    onnx = need("onnx", "bridge")
    part = onnx.ModelProto()
    part.CopyFrom(whole)
    makers = {name: node for node in part.graph.node for name in node.output if name}
    flops = 0
    tensors = [graph.tensors[graph.operations[run[0]].inputs[0]]]
    tensors += [graph.tensors[graph.operations[i].outputs[0]] for i in run]
    spans = [
        ((0, tensor.shape[0]), (0, tensor.shape[1]), *region) for tensor, region in zip(tensors, regions, strict=True)
    ]
    sizes = {tensor.name: tuple(b - a for a, b in span) for tensor, span in zip(tensors, spans, strict=True)}
    sizes |= {tensor.name: tuple(tensor.dims) for tensor in part.graph.initializer}
    for i, pad in zip(run, pads, strict=True):
        node = makers[graph.operations[i].outputs[0]]
        if node.op_type in WINDOWED:
            kept = [a for a in node.attribute if a.name not in ("pads", "auto_pad", "ceil_mode")]
            del node.attribute[:]
            node.attribute.extend([*kept, onnx.helper.make_attribute("pads", pad)])
        if node.op_type == "Conv" and node.input[1] not in sizes:
            raise ValueError(f"{graph.operations[i].name}: weight {node.input[1]!r}: must be stored, not computed")
        flops += node_flops(node, sizes) or 0
    _set_shape(part.graph.input[0], spans[0])
    _set_shape(part.graph.output[0], spans[-1])
    return Tile(part, spans[0], spans[-1], flops, _bits(spans[0], tensors[0]), _bits(spans[-1], tensors[-1]))


def _set_shape(value: Any, ranges: Sequence[Range]) -> None:
    for dim, (start, stop) in zip(value.type.tensor_type.shape.dim, ranges, strict=True):
        dim.dim_value = stop - start


def _bits(ranges: Sequence[Range], tensor: Any) -> int:
    return math.prod(stop - start for start, stop in ranges) * tensor.bits // math.prod(tensor.shape)
