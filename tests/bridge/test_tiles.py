"""Tiles and channels of layers against the undivided layers."""

import math
import os
import signal
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from bridge import networks
from edgeinfer import Node
from edgeinfer.bridge import TileWorkers, best_tiling, channel_tiles, read_graph, spatial_tiles, tileable_runs
from edgeinfer.network.sessions import open_session, run_session, session_options

helper = networks.helper


def run(model, feeds):
    options = session_options("disabled")
    return run_session(open_session(model.SerializeToString(), "test", options), feeds, "test")[0]


def tiled(tiling, array):
    parts = tiling.scatter(array)
    results = []
    for tile, part in zip(tiling.tiles, parts, strict=True):
        results.append(run(tile.model, {tile.model.graph.input[0].name: part}))
        # The sizes that a tile states are those it gives.
        assert part.shape == tuple(b - a for a, b in tile.source)
        assert results[-1].shape == tuple(b - a for a, b in tile.target)
        assert (part.size * 32, results[-1].size * 32) == (tile.input_bits, tile.output_bits)
    return tiling.gather(results)


def same(value, wanted):
    """Sums of at most some thousand float32 products, in another order."""
    assert value.shape == wanted.shape and value.dtype == wanted.dtype
    assert np.abs(value - wanted).max() <= 1e-5 * max(1, np.abs(wanted).max())


@st.composite
def layer(draw, number, channels):
    """A node, its weights and its channels: every kernel, stride, dilation, padding and grouping that ONNX knows."""
    source, target = f"t{number}", f"t{number + 1}"
    kind = draw(st.sampled_from(["Conv", "Conv", "MaxPool", "AveragePool", "Relu", "BatchNormalization"]))
    if kind == "Relu":
        return helper.make_node(kind, [source], [target]), {}, channels
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    if kind == "BatchNormalization":
        names = [f"b{number}_{i}" for i in range(4)]
        weights = {name: rng.uniform(0.5, 1.5, channels).astype(np.float32) for name in names}
        return helper.make_node(kind, [source, *names], [target]), weights, channels
    kernel = [draw(st.integers(1, 3)) for _ in range(2)]
    values = {"kernel_shape": kernel, "strides": [draw(st.integers(1, 3)) for _ in range(2)]}
    dilation = [draw(st.integers(1, 2)) for _ in range(2)]
    if kind != "AveragePool":
        values["dilations"] = dilation
    if draw(st.booleans()):
        auto = draw(st.sampled_from(["SAME_UPPER", "SAME_LOWER", "VALID"]))
        # ONNX Runtime takes no dilation there.
        if auto != "VALID":
            values["dilations"] = [1, 1]
        if kind == "AveragePool":
            values.pop("dilations", None)
        values["auto_pad"] = auto
    else:
        reach = [k if kind != "Conv" else (k - 1) * d + 1 for k, d in zip(kernel, dilation, strict=True)]
        values["pads"] = [draw(st.integers(0, r - 1)) for r in (*reach, *reach)]
        if kind == "AveragePool":
            values["count_include_pad"] = draw(st.integers(0, 1))
        if kind == "MaxPool":
            values["ceil_mode"] = draw(st.integers(0, 1))
    if kind != "Conv":
        return helper.make_node(kind, [source], [target], **values), {}, channels
    groups = draw(st.sampled_from([g for g in (1, 2, 3, 6) if channels % g == 0]))
    after = groups * draw(st.integers(1, 3))
    weights = {f"w{number}": rng.standard_normal((after, channels // groups, *kernel)).astype(np.float32)}
    names = [f"w{number}"]
    if draw(st.booleans()):
        names.append(f"c{number}")
        weights[names[-1]] = rng.standard_normal(after).astype(np.float32)
    if draw(st.booleans()):
        del values["kernel_shape"]
    return helper.make_node("Conv", [source, *names], [target], group=groups, **values), weights, after


@st.composite
def network(draw, layers=4, first=None):
    channels, nodes, weights = draw(st.sampled_from([1, 2, 3, 6])), [], {}
    shape = [draw(st.integers(1, 2)), channels, draw(st.integers(6, 16)), draw(st.integers(6, 16))]
    for number in range(draw(st.integers(1, layers))):
        node, more, channels = draw(layer(number, channels).filter(lambda made: first in (None, made[0].op_type)))
        nodes.append(node)
        weights |= more
    return networks.model(nodes, {"t0": shape}, {f"t{len(nodes)}": [None] * 4}, weights)


@settings(max_examples=100, deadline=None)
@given(model=network(), rows=st.integers(1, 4), columns=st.integers(1, 3), seed=st.integers(0, 99))
def test_spatial_tiles(model, rows, columns, seed):
    try:
        graph = read_graph(model)
    except ValueError:
        assume(False)
    runs = tileable_runs(graph)
    assume(runs)
    assert len(runs) == 1 and runs[0] == tuple(range(len(graph.operations)))
    x = np.random.default_rng(seed).standard_normal(graph.tensors["t0"].shape).astype(np.float32)
    try:
        wanted = run(model, {"t0": x})
    except ValueError:
        assume(False)
    height, width = wanted.shape[2:]
    if rows > height or columns > width:
        # ONNX counts a last window that lies in the padding alone, ONNX Runtime leaves it out.
        with pytest.raises(ValueError, match=r"must be at most|padding alone"):
            spatial_tiles(model, runs[0], rows, columns)
        return
    try:
        tiling = spatial_tiles(model, runs[0], rows, columns)
    except ValueError as error:
        assert "padding alone" in str(error)
        return
    same(tiled(tiling, x), wanted)
    assert sum(math.prod(b - a for a, b in tile.target) for tile in tiling.tiles) == wanted.size


@settings(max_examples=60, deadline=None)
@given(model=network(layers=1, first="Conv"), parts=st.integers(1, 4), seed=st.integers(0, 99))
def test_channel_tiles(model, parts, seed):
    try:
        graph = read_graph(model)
    except ValueError:
        assume(False)
    x = np.random.default_rng(seed).standard_normal(graph.tensors["t0"].shape).astype(np.float32)
    wanted = run(model, {"t0": x})
    groups = next(a.i for a in model.graph.node[0].attribute if a.name == "group")
    if parts > (groups if groups > 1 else wanted.shape[1]):
        with pytest.raises(ValueError, match=r"parts = .: must be at most"):
            channel_tiles(model, 0, parts)
        return
    tiling = channel_tiles(model, 0, parts)
    same(tiled(tiling, x), wanted)
    # Channels have no halo.
    assert tiling.redundant_flops == 0


def three_layers():
    rng = np.random.default_rng(0)
    nodes, weights = [], {}
    for i, kind in enumerate(["Conv", "Relu", "Conv", "MaxPool"]):
        inputs = [f"t{i}"]
        if kind == "Conv":
            inputs.append(f"w{i}")
            weights[f"w{i}"] = rng.standard_normal((4, 4, 3, 3)).astype(np.float32)
        values = {"Conv": {"pads": [1] * 4}, "MaxPool": {"kernel_shape": [2, 2], "strides": [2, 2]}}.get(kind, {})
        nodes.append(helper.make_node(kind, inputs, [f"t{i + 1}"], **values))
    return networks.model(nodes, {"t0": [1, 4, 16, 16]}, {"t4": [1, 4, 8, 8]}, weights)


def test_halo_by_hand():
    model = three_layers()
    tiling = spatial_tiles(model, [0, 1, 2, 3], 2)
    # Four rows of the result are eight of t3; those take nine of t1 (one of the halo), those ten of t0.
    assert [tile.source[2] for tile in tiling.tiles] == [(0, 10), (6, 16)]
    row = 2 * 4 * 16 * 4 * 9
    assert tiling.flops == 2 * 16 * row
    assert tiling.redundant_flops == 2 * row
    assert tiling.moved_bits == 32 * 4 * (2 * 10 * 16 + 8 * 8)
    node = Node("worker", 1e9)
    assert tiling.time(node, math.inf) == pytest.approx(17 * row / 1e9)
    assert tiling.speed_up(node, math.inf) == pytest.approx(32 / 17)
    assert tiling.time(node, 1e6) == pytest.approx(17 * row / 1e9 + tiling.moved_bits / 1e6)


def test_choice():
    model, node = three_layers(), Node("worker", 1e9)
    # Over a slow link one worker is best; over a fast one as many as there are.
    assert len(best_tiling(model, [0, 1, 2, 3], 4, node, 1e3).tiles) == 1
    best = best_tiling(model, [0, 1, 2, 3], 4, node, math.inf)
    assert len(best.tiles) == 4
    assert best.time(node, math.inf) <= spatial_tiles(model, [0, 1, 2, 3], 4).time(node, math.inf)
    # Groups read channels of their own: nothing is sent twice, where tiles overlap.
    node_of_groups = helper.make_node("Conv", ["x", "w"], ["y"], group=4)
    weights = {"w": np.ones((4, 1, 3, 3), np.float32)}
    depthwise = networks.model([node_of_groups], {"x": [1, 4, 6, 6]}, {"y": [1, 4, 4, 4]}, weights)
    assert best_tiling(depthwise, [0], 2, node, 1e9).name == "2 parts of the channels"


def test_runs_of_a_light_model():
    graph = read_graph(networks.light("squeezenet"))
    runs = tileable_runs(graph)
    for positions in runs:
        for first, second in pairwise(positions):
            assert graph.consumers[graph.operations[first].outputs[0]] == (second,)
    kinds = {graph.operations[i].kind for positions in runs for i in positions}
    assert kinds == {"Conv", "Relu", "MaxPool", "Dropout"}


@pytest.mark.process
def test_workers():
    model = three_layers()
    tiling = spatial_tiles(model, [0, 1, 2, 3], 2)
    x = np.random.default_rng(1).standard_normal((1, 4, 16, 16)).astype(np.float32)
    with TileWorkers(tiling) as workers:
        same(workers.run(x), run(model, {"t0": x}))
        same(workers.run(-x), run(model, {"t0": -x}))
        for other in (x[:, :, :3], x[0], np.concatenate([x, x]), np.pad(x, ((0, 0), (0, 0), (0, 1), (0, 0)))):
            with pytest.raises(ValueError, match=r"array of shape .* must be \(1, 4, 16, 16\)"):
                workers.run(other)
        with pytest.raises(ValueError, match="ONNX Runtime cannot run it"):
            workers.run(x.astype(np.float64))
    with TileWorkers(tiling, timeout=20) as workers:
        os.kill(workers._processes[1].pid, signal.SIGKILL)
        with pytest.raises(RuntimeError, match="worker 1 of 2 has died"):
            workers.run(x)


@pytest.mark.process
def test_a_late_answer_is_not_taken_for_the_next():
    tiling = spatial_tiles(three_layers(), [0, 1, 2, 3], 2)
    x = np.ones((1, 4, 16, 16), np.float32)
    with TileWorkers(tiling) as workers:
        workers.timeout = 0.0
        with pytest.raises(RuntimeError, match="does not answer within 0 s"):
            while True:
                workers.run(x)
        workers.timeout = 20.0
        with pytest.raises(RuntimeError, match="the workers have ended: start anew"):
            workers.run(-x)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda m: spatial_tiles(m, [], 2), "operations = "),
        (lambda m: spatial_tiles(m, [0, 9], 2), "operations = "),
        (lambda m: spatial_tiles(m, [0, 2], 2), "must read what the one before gives"),
        (lambda m: spatial_tiles(m, [0, 1], 17), "rows = 17: must be at most 16"),
        (lambda m: spatial_tiles(m, [0, 1], 0), "rows = 0"),
        (lambda m: channel_tiles(m, 1, 2), "must be"),
        (lambda m: channel_tiles(m, 0, 5), "parts = 5: must be at most 4"),
        (lambda m: best_tiling(m, [0], 0, Node("w", 1.0), 1.0), "workers = 0"),
        (lambda m: spatial_tiles(m, [0], 2).time(Node("w", 1.0), 0), "rate = 0"),
    ],
)
def test_bad_input(call, message):
    with pytest.raises(ValueError, match=message):
        call(three_layers())
