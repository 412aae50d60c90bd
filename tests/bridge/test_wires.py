"""Tensors that cross in fewer bits: how they are rounded, what that changes, and which type is chosen."""

import json

import numpy as np
import onnx
import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from onnx import helper

from bridge import networks
from edgeinfer import Node, RayleighLink, bridge, cli
from edgeinfer.bridge.edge.server import listen
from edgeinfer.bridge.wire import tensors
from edgeinfer.network import Graph, Operation, Tensor, narrow, read_graph, widen
from edgeinfer.network.crossing import wire_bits

EPSILON = np.finfo(np.float32).eps


@given(arrays(np.float32, st.integers(0, 40), elements=st.floats(-1e6, 1e6, width=32)), st.floats(-1e4, 1e4))
def test_rounding_is_within_half_a_step(values, shift):
    values = values + np.float32(shift)
    packed, scale, offset = narrow(values, "int8")
    back = widen(packed, scale, offset, "float32")
    assert packed.dtype == np.int8 and back.dtype == np.float32 and back.shape == values.shape
    if values.size:
        least, greatest = float(values.min()), float(values.max())
        # Differences, products and sums in float32 round to half a unit in the last place of the largest number.
        bound = (greatest - least) / 510 + 8 * EPSILON * max(abs(least), abs(greatest), greatest - least)
        assert np.abs(back - values.astype(np.float64)).max() <= bound + np.finfo(np.float32).tiny


def test_what_crosses_as_it_is():
    for values in ([np.nan, 1], [np.inf, 1], [-np.inf, 0]):
        for wire in ("float16", "int8"):
            with pytest.raises(ValueError, match="must be finite"):
                narrow(np.float32(values), wire)
    with pytest.raises(ValueError, match="at most 65504 for float16"):
        narrow(np.float32([1e5]), "float16")
    assert narrow(np.float32([1e5]), "float32")[0] == np.float32(1e5)
    tensors = {
        "whole": Tensor("whole", "int64", (10,), 640),
        "half": Tensor("half", "float16", (10,), 160),
        "one": Tensor("one", "float32", (1,), 32),
        "double": Tensor("double", "float64", (100,), 6400),
    }
    bits = {name: [wire_bits(tensor, wire) for wire in ("float16", "int8")] for name, tensor in tensors.items()}
    assert bits == {"whole": [640, 640], "half": [160, 144], "one": [16, 32], "double": [1600, 864]}


def layered(rng, gains):
    """A chain of products: with a large gain, rounding before it is seen in the output."""
    nodes, weights, width = [], {}, 64
    for i, gain in enumerate(gains):
        weights[f"w{i}"] = (rng.standard_normal((width, width)) * gain / np.sqrt(width)).astype(np.float32)
        nodes += [
            helper.make_node("MatMul", [f"t{i}", f"w{i}"], [f"m{i}"]),
            helper.make_node("Tanh", [f"m{i}"], [f"t{i + 1}"]),
        ]
    last = f"t{len(gains)}"
    return networks.model(nodes, {"t0": (1, width)}, {last: (1, width)}, weights)


@pytest.mark.parametrize("tolerance", [0.0, 3e-4, 3e-3, 0.02, 1.0])
def test_the_narrowest_types_that_keep_to_the_tolerance(tolerance):
    rng = np.random.default_rng(3)
    model = layered(rng, [0.7, 4.0, 1.0])
    graph = read_graph(model)
    sessions = bridge.CutSessions(model)
    effect = bridge.WireEffect(sessions)
    nodes = {"device": Node("device", 1e6), "edge": Node("edge", 1e9)}
    link = RayleighLink.from_snr(1.0, 2e5, 1e-3)
    chosen = bridge.choose_wire(graph, lambda g: [bridge.cut(g, **nodes, link=link)], effect, tolerance=tolerance)
    best = bridge.cut(chosen, **nodes, link=link)
    assert effect(best.division, chosen.wire) <= tolerance
    # One tensor crosses in every cut of a chain: each with its narrowest type.
    least = np.inf
    for option in bridge.chain_cuts(graph, **nodes, link=link):
        for wire in ("int8", "float16", "float32"):
            kinds = dict.fromkeys(option.division.crossing, wire)
            if effect(option.division, kinds) <= tolerance:
                bits = sum(wire_bits(graph.tensors[name], wire) for name in kinds)
                least = min(least, sum(option.times) + bits / link.mean_rate())
    assert best.value == pytest.approx(least, rel=1e-12)


def test_the_change_of_the_outputs_by_hand():
    rng = np.random.default_rng(5)
    model = layered(rng, [1.0, 2.0])
    weights = [onnx.numpy_helper.to_array(tensor).astype(float) for tensor in model.graph.initializer]
    x = rng.standard_normal((1, 64)).astype(np.float32)
    sessions = bridge.CutSessions(model)
    effect = bridge.WireEffect(sessions, [{"t0": x}])
    division = bridge.divide(sessions.graph, (0, 0, 1, 1))
    middle = np.tanh(x @ weights[0]).astype(np.float32)
    exact = np.tanh(middle @ weights[1])
    for wire in ("float16", "int8"):
        rounded = widen(*narrow(middle, wire), "float32")
        change = np.abs(np.tanh(rounded @ weights[1]) - exact).max() / np.abs(exact).max()
        assert effect(division, {"t1": wire}) == pytest.approx(change, rel=1e-3)
    assert effect(division, {"t0": "int8"}) == effect(division, {}) == 0


def test_an_infinity_of_the_other_sign_is_no_small_change():
    nodes = [helper.make_node("Mul", ["x", "one"], ["h"]), helper.make_node("Div", ["sign", "h"], ["y"])]
    weights = {"one": np.float32(1), "sign": np.float32([1, -1, 1])}
    model = networks.model(nodes, {"x": (1, 3)}, {"y": (1, 3)}, weights)
    sessions = bridge.CutSessions(model)
    effect = bridge.WireEffect(sessions, [{"x": np.float32([[-0.0, 0.0, 255.0]])}])
    division = bridge.divide(sessions.graph, (0, 1))
    # Both begin as -inf; int8 has no -0, so that the first becomes inf.
    assert effect(division, {"h": "int8"}) == np.inf
    assert effect(division, {"h": "float16"}) == 0


def test_values_that_a_type_cannot_hold_keep_their_own():
    nodes = [helper.make_node("Mul", ["x", "big"], ["h"]), helper.make_node("Div", ["h", "big"], ["y"])]
    model = networks.model(nodes, {"x": (1, 100)}, {"y": (1, 100)}, {"big": np.float32(1e6)})
    sessions = bridge.CutSessions(model)
    effect = bridge.WireEffect(sessions)
    division = bridge.divide(sessions.graph, (0, 1))
    assert effect(division, {"h": "float16"}) == np.inf
    find = lambda g: [bridge.chain_cuts(g, device=Node("d", 1), edge=Node("e", 1), link=link)[1]]  # noqa: E731
    link = RayleighLink.from_snr(1.0, 1e6, 1e-3)
    assert "h" not in bridge.choose_wire(sessions.graph, find, effect, tolerance=1e-5).wire
    assert bridge.choose_wire(sessions.graph, find, effect, tolerance=0.1).wire["h"] == "int8"


def test_state_and_results_cross_as_they_are():
    graph = read_graph(layered(np.random.default_rng(0), [1.0, 1.0])).with_wire("int8")
    assert graph.wire["t1"] == "int8" and graph.uplink_bits["t1"] == 64 * 8 + 64 and graph.tensors["t1"].bits == 2048
    tensors = {name: Tensor(name, "float32", (8,), 256) for name in ("x", "h", "y", "hn")}
    operations = Operation(0, "f", "Add", ("x", "h"), ("y",), 0, 0), Operation(1, "g", "Neg", ("y",), ("hn",), 0, 0)
    kept = Graph("g", "", operations, tensors, ("x", "h"), ("y", "hn")).with_state({"hn": "h"}).with_wire("int8")
    assert set(kept.wire) == {"x", "y"}
    nodes = {"device": Node("device", 1e3), "edge": Node("edge", 1e9)}
    link = RayleighLink.from_snr(1.0, 2e7, 1e-3)
    cut = bridge.cut(graph, **nodes, link=link, downlink=link)
    assert (cut.bits, cut.returned_bits) == ((64 * 8 + 64,), (2048,))


def test_wire_on_the_command_line(tmp_path):
    path = tmp_path / "layers.onnx"
    onnx.save(layered(np.random.default_rng(3), [0.7, 4.0, 1.0]), path)

    def cut(*arguments):
        settings = ["--set", "device_flops=1e6", "--set", "edge_flops=1e9", "--set", "bandwidth=2e4", "--json"]
        return CliRunner().invoke(cli.group, ["cut", str(path), *settings, *arguments])

    plain = json.loads(cut().stdout)
    assert "wire" not in plain[0]
    narrow_rows = json.loads(cut("--wire", "int8").stdout)
    assert narrow_rows[0]["wire"] == "int8" and narrow_rows[0]["change"] > 0
    assert narrow_rows[0]["uplink_mbit"] == pytest.approx((64 * 8 + 64) * 1e-6)
    for tolerance in ("0", "0.003"):
        rows = json.loads(cut("--wire", "auto", "--tolerance", tolerance).stdout)
        assert all(row["change"] <= float(tolerance) for row in rows)
    assert "is what --wire auto keeps to" in cut("--wire", "int8", "--tolerance", "0.1").output


@pytest.mark.process
@pytest.mark.parametrize("wire", ["float16", "int8"])
def test_narrow_tensors_over_the_protocol(wire):
    model = layered(np.random.default_rng(5), [1.0, 2.0])
    sessions = bridge.CutSessions(model)
    server = bridge.CutEdge(bridge.CutSessions(model))
    listening, port = listen(server, "127.0.0.1", 0)
    x = np.random.default_rng(5).standard_normal((1, 64)).astype(np.float32)
    division = bridge.divide(sessions.graph, (0, 0, 1, 1))
    middle = sessions.get(("t0",), ("t1",)).run({"t0": x})[0]["t1"]
    rounded = widen(*narrow(middle, wire), "float32")
    expected = sessions.get(("t1",), ("t2",)).run({"t1": rounded})[0]["t2"]
    with bridge.Connection(f"127.0.0.1:{port}") as connection, bridge.CutDevice(sessions, connection) as device:
        device.use(division, {"t1": wire})
        done = device.infer({"t0": x})
        np.testing.assert_allclose(done.outputs["t2"], expected, rtol=1e-6)
        assert done.bits == 64 * (16 if wire == "float16" else 8) + 64 * 32
        # What the type cannot hold crosses as it is.
        device.use(bridge.divide(sessions.graph, (1, 1, 1, 1)), {"t0": wire})
        huge = np.float32([[3e38] * 32 + [-3e38] * 32])
        assert device.infer({"t0": huge}).bits == 2 * 64 * 32
        for parameters in ({}, {"scale": 1.0}, {"scale": np.inf, "offset": 0.0}):
            message = tensors.request("network", "1", {"t1": np.zeros((1, 64), np.int8)}, {})
            for name, value in parameters.items():
                message.inputs[0].parameters[name].double_param = value
            with pytest.raises(bridge.EdgeError, match="must have finite parameters scale and offset"):
                connection.ask(connection.infer, message, 10)
    listening.stop(0).wait()
    server.jobs.close()


def test_parts_carry_tensors_in_their_types(tmp_path):
    model = layered(np.random.default_rng(5), [1.0, 2.0])
    graph = read_graph(model).with_wire({"t1": "int8"})
    nodes, link = (Node("device", 1e9), Node("edge", 1e9)), RayleighLink.from_snr(1.0, 1e6, 1e-3)
    bridge.write_parts(model, bridge.Cut(graph, nodes, (link,), (), (0, 0, 1, 1)), tmp_path)
    (told,) = json.loads((tmp_path / "parts.json").read_text())["links"][0]
    assert (told["wire"], told["bits"]) == ("int8", 64 * 8 + 64)
    x = np.random.default_rng(5).standard_normal((1, 64)).astype(np.float32)
    sessions = bridge.CutSessions(model)
    middle = sessions.get(("t0",), ("t1",)).run({"t0": x})[0]["t1"]
    rounded = widen(*narrow(middle, "int8"), "float32")
    expected = sessions.get(("t1",), ("t2",)).run({"t1": rounded})[0]["t2"]
    np.testing.assert_allclose(bridge.Parts(tmp_path).run({"t0": x})["t2"], expected, rtol=1e-6)
    (tmp_path / "parts.json").write_text((tmp_path / "parts.json").read_text().replace('"int8"', '"int7"'))
    with pytest.raises(ValueError, match="int7"):
        bridge.Parts(tmp_path)
