"""Networks with state: which pairs are state, what it costs where, and what either half of a cut does with it."""

import json
import signal
import time
from contextlib import contextmanager
from itertools import product

import numpy as np
import onnx
import onnxruntime
import pytest
from click.testing import CliRunner
from onnx import TensorProto, helper, numpy_helper

from bridge import networks, system
from edgeinfer import Node, RayleighLink, bridge, cli
from edgeinfer.bridge.edge.server import listen
from edgeinfer.bridge.wire import tensors
from edgeinfer.bridge.wire.processes import Process
from edgeinfer.bridge.work import sequences
from edgeinfer.network import Graph, Operation, Tensor, find_state, read_graph


def tensor(name, bits=32, stays=""):
    return Tensor(name, "float32", (bits // 32,), bits, stays)


def ports(*names, shape=(2,)):
    return tuple(helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name in names)


def recurrent():
    """y = relu(x) + tanh(h W), hn = y W."""
    nodes = [
        helper.make_node("Relu", ["x"], ["r"]),
        helper.make_node("MatMul", ["h", "w"], ["m"]),
        helper.make_node("Tanh", ["m"], ["t"]),
        helper.make_node("Add", ["r", "t"], ["y"]),
        helper.make_node("MatMul", ["y", "w"], ["hn"]),
    ]
    weight = numpy_helper.from_array(np.float32([[0.5, -0.3], [0.2, 0.4]]), "w")
    inputs, outputs = ports("x", "h", shape=(1, 2)), ports("y", "hn", shape=(1, 2))
    graph = helper.make_graph(nodes, "recurrent", inputs, outputs, [weight])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


@pytest.mark.parametrize(
    "inputs, outputs, pairs",
    [
        (["input", "state", "sr"], ["output", "stateN"], {"stateN": "state"}),
        (["x", "h0", "c0"], ["y", "hn", "cn"], {"hn": "h0", "cn": "c0"}),
        (["x", "h", "c"], ["y", "hn", "cn"], {"hn": "h", "cn": "c"}),
        (
            ["input_ids", "past_key_values.0.key", "past_key_values.1.key"],
            ["logits", "present.0.key", "present.1.key"],
            {"present.0.key": "past_key_values.0.key", "present.1.key": "past_key_values.1.key"},
        ),
        (["audio", "cache_in"], ["mask", "cache_out"], {"cache_out": "cache_in"}),
        (["image_in"], ["image_out"], {}),
        (["input"], ["output"], {}),
        (["hidden"], ["hidden_states"], {}),
    ],
)
def test_names_that_say_what_is_state(inputs, outputs, pairs):
    tensors = {name: tensor(name) for name in (*inputs, *outputs)}
    assert find_state(Graph("g", "", (), tensors, tuple(inputs), tuple(outputs))) == pairs


def test_pairs_that_do_not_fit():
    graph = read_graph(recurrent())
    assert find_state(graph) == {"hn": "h"}
    for state, text in [
        ({"z": "h"}, "must be an output"),
        ({"hn": "r"}, "must be an input"),
        ({"hn": "h", "y": "h"}, "each input once"),
        ({"hn": "h", "y": "x"}, "must leave an output"),
    ]:
        with pytest.raises(ValueError, match=text):
            graph.with_state(state)
    wide = helper.make_graph(
        [helper.make_node("Concat", ["h", "h"], ["hn"], axis=0), helper.make_node("Neg", ["h"], ["y"])],
        "wide",
        ports("h"),
        [*ports("y"), *ports("hn", shape=(4,))],
    )
    with pytest.raises(
        ValueError,
        match=r"float32 \[4\]: must be of the input's type and sizes, float32 \[2\], or longer along an axis",
    ):
        read_graph(helper.make_model(wide, ir_version=8), state={"hn": "h"})


def chain(rng, count, pairs):
    """A random network of `count` operations with pairs of state, some read by several and made anywhere."""
    names = ["x", *(f"s{i}" for i in range(pairs))]
    tensors = {name: tensor(name, 32 * int(rng.integers(1, 50))) for name in names}
    operations, available = [], list(names)
    for i in range(count):
        read = {available[k] for k in rng.integers(0, len(available), 2)} | ({available[-1]} if i else {"x"})
        given = f"t{i}"
        tensors[given] = tensor(given, 32 * int(rng.integers(1, 50)))
        operations.append(Operation(i, given, "Relu", tuple(sorted(read)), (given,), int(rng.integers(1, 2000)), 0))
        available.append(given)
    state = {}
    for i, position in enumerate(rng.choice(count - 1, pairs, replace=False)):
        state[f"t{position}"] = f"s{i}"
        old = tensors[f"t{position}"]
        tensors[f"t{position}"] = Tensor(old.name, "float32", tensors[f"s{i}"].shape, tensors[f"s{i}"].bits)
    outputs = (*state, f"t{count - 1}")
    return Graph("random", "", tuple(operations), tensors, tuple(names), outputs).with_state(state)


def cost(graph, places, flops, rates, back):
    """Computing and transfers of one of many requests, told tensor by tensor; None where it cannot be."""
    total = sum(o.flops / flops[p] for o, p in zip(graph.operations, places, strict=True))
    before = {taken: given for given, taken in graph.state.items()}
    for name in graph.tensors:
        source = name if name in graph.producer else before.get(name)
        start = places[graph.producer[source]] if source else 0
        ends = [places[i] for i in graph.consumers[name]]
        if name not in before and any(end < start for end in ends):
            return None
        for end in range(start, max(ends, default=start)):
            total += graph.tensors[name].bits / rates[end]
        for hop in range(min(ends, default=start), start):
            if not back:
                return None
            total += graph.tensors[name].bits / back[hop]
    for hop in range(places[graph.producer[graph.outputs[-1]]] if back else 0):
        total += graph.tensors[graph.outputs[-1]].bits / back[hop]
    return total


@pytest.mark.parametrize("nodes", [2, 3])
@pytest.mark.parametrize("returned", [False, True])
def test_the_search_finds_the_best_of_all_cuts(nodes, returned):
    rng = np.random.default_rng(7)
    for _ in range(12):
        graph = chain(rng, 6 if nodes == 2 else 5, int(rng.integers(1, 3)))
        places = [Node(f"n{i}", 1e3 * 4.0**i) for i in range(nodes)]
        links = [RayleighLink.from_snr(1.0, float(b), 1e-3) for b in rng.uniform(100, 3000, nodes - 1)]
        found = bridge.cut(graph, device=places[0], edge=places[1:], link=links, downlink=links if returned else None)
        rates = [link.mean_rate() for link in links]
        flops = [node.flops for node in places]
        costs = {
            option: value
            for option in product(range(nodes), repeat=len(graph.operations))
            if (value := cost(graph, option, flops, rates, rates if returned else [])) is not None
        }
        assert found.value == pytest.approx(min(costs.values()), rel=1e-12)
        assert costs[found.places] == pytest.approx(found.value, rel=1e-12)
        moved = [bits / rate for bits, rate in zip(found.bits, rates, strict=True)]
        moved += [bits / rate for bits, rate in zip(found.returned_bits, rates, strict=False)]
        assert sum(found.times) + sum(moved) == pytest.approx(found.value, rel=1e-12)
        if nodes == 2:
            for option in bridge.chain_cuts(
                graph, device=places[0], edge=places[1], link=links[0], downlink=links[0] if returned else None
            ):
                assert option.places in costs
            envelope = bridge.best_cuts(
                graph, device=places[0], edge=places[1], link=links[0], downlink=links[0] if returned else None
            )
            assert costs[envelope.at(rates[0]).places] == pytest.approx(found.value, rel=1e-9)


def test_what_either_half_keeps():
    graph = read_graph(recurrent(), state={"hn": "h"})
    names = [operation.kind for operation in graph.operations]
    assert names == ["Relu", "MatMul", "Tanh", "Add", "MatMul"]
    edge = bridge.divide(graph, (0, 1, 1, 1, 1))
    assert (edge.crossing, edge.returned, edge.remembered) == (("r",), ("y",), (("hn", "h"),))
    # Made on the edge and read on the device: it comes back; made on the device and read on the edge cannot be here.
    both = bridge.divide(graph, (0, 0, 0, 1, 1))
    assert (both.crossing, both.returned, both.remembered) == (("r", "t"), ("y", "hn"), ())
    alone = bridge.divide(graph, (0,) * 5)
    assert (alone.crossing, alone.kept, alone.remembered) == ((), ("y", "hn"), ())


def test_state_on_the_command_line(tmp_path):
    path = tmp_path / "recurrent.onnx"
    onnx.save(recurrent(), path)

    def cut(*arguments):
        settings = ["--set", "device_flops=1", "--set", "edge_flops=1e9", "--json"]
        return CliRunner().invoke(cli.group, ["cut", str(path), *settings, *arguments])

    found = cut()
    assert found.exit_code == 0 and "state, by the names: hn=h; --state none" in found.stderr
    best = json.loads(found.stdout)[0]
    assert (best["crossing"], best["uplink_mbit"], best["state"]) == ("x", 64e-6, "edge")
    named = cut("--state", "hn=h")
    assert not named.stderr and json.loads(named.stdout)[0] == best
    without = cut("--state", "none")
    assert not without.stderr and "state" not in json.loads(without.stdout)[0]
    assert json.loads(without.stdout)[0]["uplink_mbit"] == 128e-6
    for pair, text in [("hn", "must be OUT=IN"), ("hn=z", "'z' must be an input: 'x', 'h'")]:
        failed = cut("--state", pair)
        assert failed.exit_code and text in (failed.output + str(failed.exception))
    assert cut("--out", str(tmp_path / "parts")).exit_code == 0
    assert bridge.Parts(tmp_path / "parts").state == {"hn": "h"}
    profile = str(tmp_path / "profile.json")
    assert cut("--measure", "--profile", profile).exit_code == 0
    read = cut("--profile", profile)
    assert json.loads(read.stdout)[0]["state"] == "edge"


def windowed(layers=2, width=8, window=5):
    """A language model's decoder of one head, whose caches hold the keys and values of the latest tokens."""
    rng = np.random.default_rng(4)
    nodes, weights = [], {"one": np.int64([1]), "end": np.int64([window]), "axis": np.int64([1])}
    inputs, outputs, x = {"x": (1, 1, width)}, {}, "x"
    for layer in range(layers):
        for kind in ("query", "key", "value"):
            weights[f"w{kind}{layer}"] = (rng.standard_normal((width, width)) / np.sqrt(width)).astype(np.float32)
            nodes.append(helper.make_node("MatMul", [x, f"w{kind}{layer}"], [f"{kind}{layer}"]))
        for kind in ("key", "value"):
            past, present = f"past_key_values.{layer}.{kind}", f"present.{layer}.{kind}"
            inputs[past] = outputs[present] = (1, window, width)
            nodes.append(helper.make_node("Slice", [past, "one", "end", "axis"], [f"late{kind}{layer}"]))
            nodes.append(helper.make_node("Concat", [f"late{kind}{layer}", f"{kind}{layer}"], [present], axis=1))
        nodes.append(helper.make_node("Transpose", [f"present.{layer}.key"], [f"k{layer}"], perm=[0, 2, 1]))
        nodes.append(helper.make_node("MatMul", [f"query{layer}", f"k{layer}"], [f"s{layer}"]))
        nodes.append(helper.make_node("Softmax", [f"s{layer}"], [f"p{layer}"], axis=-1))
        nodes.append(helper.make_node("MatMul", [f"p{layer}", f"present.{layer}.value"], [f"a{layer}"]))
        nodes.append(helper.make_node("Add", [x, f"a{layer}"], [f"y{layer}"]))
        x = f"y{layer}"
    outputs[x] = (1, 1, width)
    return networks.model(nodes, inputs, outputs, weights)


@pytest.mark.process
def test_a_decoder_keeps_the_caches_of_its_layers_where_they_run():
    model = windowed()
    state = find_state(read_graph(model))
    assert len(state) == 4 and state["present.1.value"] == "past_key_values.1.value"
    sessions = bridge.CutSessions(model, state=state)
    graph, tokens = sessions.graph, np.random.default_rng(3).standard_normal((8, 1, 1, 8)).astype(np.float32)
    run, caches = bridge.CutSessions(model).get(graph.inputs, graph.outputs).run, {}
    caches = {name: np.zeros((1, 5, 8), np.float32) for name in state.values()}
    expected = []
    for token in tokens:
        given = run({"x": token, **caches})[0]
        caches = {taken: given[name] for name, taken in state.items()}
        expected.append(given["y1"])
    count, half = len(graph.operations), graph.producer["y0"] + 1
    middle = bridge.divide(graph, [0] * half + [1] * (count - half))
    # A layer's caches stay where the layer runs: only the hidden state crosses.
    assert middle.crossing == ("y0",) and middle.returned == ("y1",) and len(middle.remembered) == 2
    with edge(bridge.CutSessions(model)) as (connection, _), bridge.CutDevice(sessions, connection) as device:
        for first in range(0, count + 1, 2):
            device.use(bridge.divide(graph, [0] * first + [1] * (count - first)))
            device.restart()
            found = [device.infer({"x": token}).outputs["y1"] for token in tokens]
            np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-6)


def growing(layers=2, width=8, masked=False):
    """A language model's decoder of one head: tokens (1, n, width) attend to caches that grow by n, and to themselves.

    `masked` adds to the scores what an input of sizes (1, past + n) holds, as decoders with padding do.
    """
    rng = np.random.default_rng(4)
    nodes, weights, x = [], {"scale": np.float32(width**-0.5)}, "x"
    inputs, outputs = {"x": (1, "n", width)}, {}
    if masked:
        inputs["mask"] = (1, "total")
    for layer in range(layers):
        for kind in ("query", "key", "value"):
            weights[f"w{kind}{layer}"] = (rng.standard_normal((width, width)) / np.sqrt(width)).astype(np.float32)
            nodes.append(helper.make_node("MatMul", [x, f"w{kind}{layer}"], [f"{kind}{layer}"]))
        for kind in ("key", "value"):
            past, present = f"past_key_values.{layer}.{kind}", f"present.{layer}.{kind}"
            inputs[past], outputs[present] = (1, "past", width), (1, "total", width)
            nodes.append(helper.make_node("Concat", [past, f"{kind}{layer}"], [present], axis=1))
        nodes.append(helper.make_node("Transpose", [f"present.{layer}.key"], [f"k{layer}"], perm=[0, 2, 1]))
        nodes.append(helper.make_node("MatMul", [f"query{layer}", f"k{layer}"], [f"raw{layer}"]))
        nodes.append(helper.make_node("Mul", [f"raw{layer}", "scale"], [f"s{layer}"]))
        scores = f"s{layer}"
        if masked:
            nodes.append(helper.make_node("Add", [scores, "mask"], [f"m{layer}"]))
            scores = f"m{layer}"
        nodes.append(helper.make_node("Softmax", [scores], [f"p{layer}"], axis=-1))
        nodes.append(helper.make_node("MatMul", [f"p{layer}", f"present.{layer}.value"], [f"a{layer}"]))
        nodes.append(helper.make_node("Add", [x, f"a{layer}"], [f"y{layer}"]))
        x = f"y{layer}"
    outputs[x] = (1, "n", width)
    return networks.model(nodes, inputs, outputs, weights)


def decoded(model, chunks, **more):
    """The last output of each chunk of tokens by ONNX Runtime alone, each cache put back by hand."""
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    names = [port.name for port in session.get_outputs()]
    caches = {p.name: np.zeros((1, 0, 8), np.float32) for p in session.get_inputs() if p.name.startswith("past")}
    found, total = [], 0
    for chunk in chunks:
        total += chunk.shape[1]
        mask = {"mask": more["mask"][:, :total]} if more else {}
        given = dict(zip(names, session.run(None, {"x": chunk, **mask, **caches}), strict=True))
        caches = {name: given[name.replace("past_key_values", "present")] for name in caches}
        found.append(given["y1"])
    return found


@pytest.mark.process
@pytest.mark.parametrize("masked", [False, True])
def test_caches_that_grow_stay_where_their_layers_run(masked, tmp_path):
    model, rng = growing(masked=masked), np.random.default_rng(3)
    # A prompt of five tokens, then one after the other.
    chunks = [rng.standard_normal((1, n, 8)).astype(np.float32) for n in (5, 1, 1, 1, 2)]
    totals = np.cumsum([chunk.shape[1] for chunk in chunks])
    mask = rng.standard_normal((1, 10)).astype(np.float32)
    masks = [{"mask": mask[:, :total]} if masked else {} for total in totals]
    expected = decoded(model, chunks, **({"mask": mask} if masked else {}))
    sizes = {"past": 16, "n": 1} | ({"total": 17} if masked else {})
    state = find_state(read_graph(model, sizes))
    assert len(state) == 4 and state["present.1.value"] == "past_key_values.1.value"
    sessions = bridge.CutSessions(model, sizes, state=state)
    graph = sessions.graph
    assert graph.grows and graph.first_state["past_key_values.0.key"] == (1, 0, 8)
    count, half = len(graph.operations), graph.producer["y0"] + 1
    middle = bridge.divide(graph, [0] * half + [1] * (count - half))
    assert middle.returned == ("y1",) and len(middle.remembered) == 2
    with (
        edge(bridge.CutSessions(model, sizes)) as (connection, _),
        bridge.CutDevice(sessions, connection) as device,
    ):
        for first in range(0, count + 1, 3):
            device.use(bridge.divide(graph, [0] * first + [1] * (count - first)))
            device.restart()
            for chunk, more, y in zip(chunks, masks, expected, strict=True):
                found = device.infer({"x": chunk, **more}).outputs["y1"]
                np.testing.assert_allclose(found, y, rtol=1e-4, atol=1e-6)
        # Caches that the edge keeps come home with the cut, at the length that they have by then.
        device.use(middle)
        device.restart()
        for number, (chunk, more, y) in enumerate(zip(chunks, masks, expected, strict=True)):
            device.use(middle if number % 2 else bridge.divide(graph, [number // 2 % 2] * count))
            np.testing.assert_allclose(device.infer({"x": chunk, **more}).outputs["y1"], y, rtol=1e-4, atol=1e-6)
        with pytest.raises(ValueError, match=r"input 'x' = float32 \[1, 1, 7\]: must be float32 \[1, any, 8\]"):
            device.infer({"x": np.zeros((1, 1, 7), np.float32), **masks[0]})
    cut = bridge.Cut(
        graph, (Node("device", 1e3), Node("edge", 1e9)), (RayleighLink.from_snr(1.0, 1e6, 1e-3),), None, middle.places
    )
    bridge.write_parts(model, cut, tmp_path, sizes)
    parts = bridge.Parts(tmp_path)
    for chunk, more, y in zip(chunks, masks, expected, strict=True):
        np.testing.assert_allclose(parts.run({"x": chunk, **more})["y1"], y, rtol=1e-4, atol=1e-6)


@pytest.mark.process
def test_a_cache_that_grows_on_the_command_line(tmp_path):
    path, inputs, outputs = tmp_path / "decoder.onnx", tmp_path / "tokens.npz", tmp_path / "out.npz"
    onnx.save(growing(), path)
    tokens = np.random.default_rng(3).standard_normal((6, 1, 1, 8)).astype(np.float32)
    np.savez(inputs, x=tokens)
    sizes = ["--shape", "past=16"]
    with edge(bridge.CutSessions(growing(), {"past": 16, "n": 1})) as (_, server):
        for where in ("device", "edge", "8"):
            there = [] if where == "device" else ["--edge", server.address]
            arguments = [str(path), *sizes, "--input", str(inputs), "--cut", where, *there, "-o", str(outputs)]
            done = CliRunner().invoke(cli.group, ["infer", *arguments])
            assert done.exit_code == 0, done.output
            with np.load(outputs) as found:
                np.testing.assert_allclose(found["y1"], decoded(growing(), tokens), rtol=1e-4, atol=1e-6)
    profile = str(tmp_path / "profile.json")
    command = ["cut", str(path), *sizes, "--shape", "n=1", "--measure", "--profile", profile, "--json"]
    assert CliRunner().invoke(cli.group, command).exit_code == 0
    graph = bridge.NetworkProfile.load(profile).graph
    assert graph.with_state(find_state(graph)).grows


@pytest.fixture(scope="module")
def stream():
    return np.random.default_rng(2).standard_normal((7, 1, 2)).astype(np.float32)


@pytest.fixture(scope="module")
def expected(stream):
    """Of the network run here as a whole, each state put back by hand."""
    sessions = bridge.CutSessions(recurrent())
    run, h, found = sessions.get(("x", "h"), ("y", "hn")).run, np.zeros((1, 2), np.float32), []
    for x in stream:
        given = run({"x": x, "h": h})[0]
        h = given["hn"]
        found.append(given["y"])
    return np.array(found)


@contextmanager
def edge(sessions=None):
    """An edge in this process, and a connection to it."""
    server = bridge.CutEdge(sessions or bridge.CutSessions(recurrent()))
    server.warm_up()
    listening, port = listen(server, "127.0.0.1", 0)
    server.address = f"127.0.0.1:{port}"
    with bridge.Connection(server.address) as connection:
        yield connection, server
    listening.stop(0).wait()
    server.jobs.close()


CUTS = [(0,) * 5, (1,) * 5, (0, 1, 1, 1, 1), (0, 0, 0, 1, 1), (0, 0, 0, 0, 1), (0, 0, 1, 1, 1)]


@pytest.mark.process
def test_a_stream_gives_the_same_wherever_it_is_cut(stream, expected):
    sessions = bridge.CutSessions(recurrent(), state={"hn": "h"})
    with edge() as (connection, _):
        for places in CUTS:
            with bridge.CutDevice(sessions, connection) as device:
                device.use(bridge.divide(sessions.graph, places))
                for x, y in zip(stream, expected, strict=True):
                    done = device.infer({"x": x})
                    assert set(done.outputs) == {"y"}
                    np.testing.assert_allclose(done.outputs["y"], y, rtol=1e-6)
                device.restart()
                np.testing.assert_allclose(device.infer({"x": stream[0]}).outputs["y"], expected[0], rtol=1e-6)


@pytest.mark.process
def test_state_moves_with_the_cut(stream, expected):
    sessions = bridge.CutSessions(recurrent(), state={"hn": "h"})
    with edge() as (connection, server), bridge.CutDevice(sessions, connection) as device:
        for number, (x, y) in enumerate(zip(stream, expected, strict=True)):
            device.use(bridge.divide(sessions.graph, CUTS[number % len(CUTS)]))
            np.testing.assert_allclose(device.infer({"x": x}).outputs["y"], y, rtol=1e-6)
        # What came home is not kept.
        assert len(server.work._kept._kept) <= 1


@pytest.mark.process
def test_state_crosses_once_and_then_stays(stream):
    sessions = bridge.CutSessions(recurrent(), state={"hn": "h"})
    sent = []
    with edge() as (connection, _), bridge.CutDevice(sessions, connection) as device:
        device.use(bridge.divide(sessions.graph, (1,) * 5))
        send = device._stream.send
        device._stream.send = lambda message, deliver: (sent.append(message), send(message, deliver))
        for x in stream[:3]:
            device.infer({"x": x})
    assert [[port.name for port in message.inputs] for message in sent] == [["x", "h"], ["x"], ["x"]]
    assert [[port.name for port in message.outputs] for message in sent] == [["y"]] * 3


@pytest.mark.process
def test_state_that_is_lost_is_begun_anew_and_said(stream, expected):
    sessions = bridge.CutSessions(recurrent(), state={"hn": "h"})
    with edge() as (connection, server), bridge.CutDevice(sessions, connection) as device:
        device.use(bridge.divide(sessions.graph, (1,) * 5))
        for x in stream[:3]:
            device.infer({"x": x})
        server.work._kept.end(device._state.sequence)
        with pytest.raises(bridge.EdgeError, match=r"is not here.*is lost, and begun anew"):
            device.infer({"x": stream[3]})
        np.testing.assert_allclose(device.infer({"x": stream[0]}).outputs["y"], expected[0], rtol=1e-6)
        server.work._kept.end(device._state.sequence)
        done = device.infer({"x": stream[0]}, fallback=True)
        assert done.ran == "device" and "begun anew" in done.reason
        np.testing.assert_allclose(done.outputs["y"], expected[0], rtol=1e-6)
        # From here on the state is on the device, and goes to the edge with the next request.
        np.testing.assert_allclose(device.infer({"x": stream[1]}).outputs["y"], expected[1], rtol=1e-6)


@pytest.mark.process
def test_two_streams_do_not_meet(stream, expected):
    sessions = bridge.CutSessions(recurrent(), state={"hn": "h"})
    with (
        edge() as (connection, _),
        bridge.CutDevice(sessions, connection) as one,
        bridge.CutDevice(sessions, connection) as two,
    ):
        for device in (one, two):
            device.use(bridge.divide(sessions.graph, (1,) * 5))
        two.infer({"x": 5 * stream[3]})
        for x, y in zip(stream, expected, strict=True):
            np.testing.assert_allclose(one.infer({"x": x}).outputs["y"], y, rtol=1e-6)
            two.infer({"x": 3 * x})


@pytest.mark.process
def test_what_a_request_may_say_of_state():
    sessions = bridge.CutSessions(recurrent())
    x = {"x": np.zeros((1, 2), np.float32)}
    with edge(sessions) as (connection, _):
        for told, text in [
            ({"sequence_id": "a", "state": "[1"}, "pairs as JSON"),
            ({"sequence_id": "", "state": '{"hn": "h"}'}, "must be a name"),
            ({"sequence_id": "a", "state": '{"y": "r"}'}, "must be an input"),
            ({"sequence_id": "a", "state": '{"hn": "h"}'}, "is not here"),
            ({"sequence_id": "a", "state": '{"hn": "h"}', "sequence_end": True}, "is not here"),
        ]:
            message = tensors.request("network", "1", x, told)
            message.outputs.add(name="y")
            with pytest.raises(bridge.EdgeError, match=text):
                connection.ask(connection.infer, message, 10)


@pytest.mark.process
def test_a_stream_on_the_command_line(tmp_path, stream, expected):
    path, inputs, outputs = tmp_path / "recurrent.onnx", tmp_path / "stream.npz", tmp_path / "out.npz"
    onnx.save(recurrent(), path)
    np.savez(inputs, x=stream)
    with edge() as (_, server):
        for where in ("device", "edge", "3", "4"):
            there = [] if where == "device" else ["--edge", server.address]
            arguments = [str(path), "--input", str(inputs), "--cut", where, *there, "-o", str(outputs), "--json"]
            done = CliRunner().invoke(cli.group, ["infer", *arguments])
            assert done.exit_code == 0 and "state, by the names: hn=h" in done.stderr
            assert len(json.loads(done.stdout)) == len(stream)
            with np.load(outputs) as found:
                assert found.files == ["y"]
                np.testing.assert_allclose(found["y"], expected, rtol=1e-6)
        np.savez(inputs, x=stream[3:], h=np.float32([[0.3, -0.2]]))
        arguments = [str(path), "--input", str(inputs), "--cut", "edge", "--edge", server.address, "-o", str(outputs)]
        assert CliRunner().invoke(cli.group, ["infer", *arguments, "--state", "hn=h"]).exit_code == 0
        run, h = bridge.CutSessions(recurrent()).get(("x", "h"), ("y", "hn")).run, np.float32([[0.3, -0.2]])
        with np.load(outputs) as found:
            for x, y in zip(stream[3:], found["y"], strict=True):
                given = run({"x": x, "h": h})[0]
                h = given["hn"]
                np.testing.assert_allclose(y, given["y"], rtol=1e-6)
    too_many = CliRunner().invoke(
        cli.group, ["infer", str(path), "--input", str(inputs), "--cut", "device", "--requests", "9"]
    )
    assert "must be at most 4" in str(too_many.exception)


@pytest.mark.process
@pytest.mark.parametrize("places", [(1,) * 5, (0, 0, 0, 1, 1)])
def test_state_measured_beside_predicted(places):
    profile = bridge.profile(recurrent(), repetitions=5).with_state({"hn": "h"})
    link = RayleighLink(1e5, 23, -100, 103, 0.001)
    cut = bridge.Cut(profile, (profile.node("device"), profile.node("edge")), (link,), (link,), places)
    cut = bridge.profile_cut(recurrent(), cut, repetitions=5)
    run = bridge.measure_cut(recurrent(), cut, requests=8)
    assert not run.failures
    # The message without the state, and what the protocol puts around it.
    bits = [stage.bits for stage in run.pipeline if hasattr(stage, "bits")]
    assert len(bits) == 2 and all(64 < bit < 8 * 1000 for bit in bits)
    with pytest.raises(ValueError, match="arrival_rate = 1 1/s: must be None with state"):
        bridge.measure_cut(recurrent(), cut, arrival_rate=1.0)


def test_an_edge_keeps_the_latest_sequences_and_none_for_long(monkeypatch):
    kept = sequences.KeptState()
    for number in range(sequences.SEQUENCES + 5):
        kept.put(str(number), {"h": np.zeros(1)})
    assert len(kept._kept) == sequences.SEQUENCES
    with pytest.raises(ValueError, match="is not here"):
        kept.get("4", ["h"])
    assert set(kept.get("5", ["h"])) == {"h"}
    monkeypatch.setattr(sequences, "IDLE", 0.0)
    kept.put("late", {"h": np.zeros(1)})
    with pytest.raises(ValueError, match="is not here"):
        kept.get("5", ["h"])


def served(path, port=0):
    """An edge as a process of its own."""
    return Process(("-m", "edgeinfer.cli", "serve", str(path), "--port", str(port), "--exit-with-stdin"), "edge")


@pytest.mark.process
def test_kill_of_an_edge_that_keeps_state(tmp_path, stream, expected):
    path = tmp_path / "recurrent.onnx"
    onnx.save(recurrent(), path)
    sessions = bridge.CutSessions(path, state={"hn": "h"})
    with served(path) as first:
        port = first.port(system.SOON)
        with bridge.Connection(f"127.0.0.1:{port}") as connection, bridge.CutDevice(sessions, connection) as device:
            device.use(bridge.divide(sessions.graph, (1,) * 5))
            for x, y in zip(stream[:3], expected, strict=False):
                np.testing.assert_allclose(device.infer({"x": x}).outputs["y"], y, rtol=1e-6)
            first.signal(signal.SIGKILL)
            first.wait(system.SOON)
            with pytest.raises(bridge.EdgeError, match="begun anew"):
                device.infer({"x": stream[3]}, deadline=system.SOON)
            done = device.infer({"x": stream[0]}, deadline=system.SOON, fallback=True)
            assert done.ran == "device"
            np.testing.assert_allclose(done.outputs["y"], expected[0], rtol=1e-6)
            with served(path, port) as again:
                again.port(system.SOON)
                end = time.monotonic() + system.SOON
                while True:
                    try:
                        device.prepare(device.division, timeout=2.0)
                        break
                    except bridge.EdgeError:
                        # gRPC tries again ever more slowly.
                        assert time.monotonic() < end
                        time.sleep(0.2)
                # The state goes from the device to the new edge.
                for x, y in zip(stream[1:], expected[1:], strict=True):
                    done = device.infer({"x": x}, deadline=system.SOON)
                    np.testing.assert_allclose(done.outputs["y"], y, rtol=1e-6)


@pytest.mark.process
def test_a_device_that_goes_away_leaves_the_others_their_state(stream, expected):
    sessions = bridge.CutSessions(recurrent(), state={"hn": "h"})
    with edge() as (connection, server), bridge.CutDevice(sessions, connection) as stays:
        stays.use(bridge.divide(sessions.graph, (1,) * 5))
        for x, y in zip(stream, expected, strict=True):
            with bridge.Connection(server.address) as other, bridge.CutDevice(sessions, other) as goes:
                goes.use(bridge.divide(sessions.graph, (1,) * 5))
                goes.infer({"x": 2 * x})
            np.testing.assert_allclose(stays.infer({"x": x}).outputs["y"], y, rtol=1e-6)


@pytest.mark.parametrize("places", [*CUTS, (0, 1, 1, 2, 2), (0, 0, 0, 1, 2), (0, 0, 2, 2, 2)])
def test_parts_keep_state(places, stream, expected, tmp_path):
    graph = read_graph(recurrent(), state={"hn": "h"})
    nodes = tuple(Node(name, 1e9) for name in ("device", "near", "far")[: max(places) + 1 if max(places) else 2])
    link = RayleighLink.from_snr(1.0, 1e6, 1e-3)
    links = (link,) * (len(nodes) - 1)
    bridge.write_parts(recurrent(), bridge.Cut(graph, nodes, links, links, places), tmp_path)
    parts = bridge.Parts(tmp_path)
    for _ in range(2):
        for x, y in zip(stream, expected, strict=True):
            found = parts.run({"x": x})
            assert set(found) == {"y"}
            np.testing.assert_allclose(found["y"], y, rtol=1e-6)
        parts.restart()


def test_a_part_alone_keeps_its_state(stream, expected, tmp_path):
    graph = read_graph(recurrent(), state={"hn": "h"})
    nodes, link = (Node("device", 1e9), Node("edge", 1e9)), RayleighLink.from_snr(1.0, 1e6, 1e-3)
    bridge.write_parts(recurrent(), bridge.Cut(graph, nodes, (link,), (link,), (0, 1, 1, 1, 1)), tmp_path)
    device, far = bridge.Parts(tmp_path, only=0), bridge.Parts(tmp_path, only=1)
    for x, y in zip(stream, expected, strict=True):
        np.testing.assert_allclose(far.step(1, device.step(0, {"x": x}))["y"], y, rtol=1e-6)
    # What another machine makes has to come.
    bridge.write_parts(recurrent(), bridge.Cut(graph, nodes, (link,), (link,), (0, 0, 0, 1, 1)), tmp_path)
    with pytest.raises(ValueError, match="tensors: must have 'h'"):
        bridge.Parts(tmp_path, only=0).step(0, {"x": stream[0]})
    far = bridge.Parts(tmp_path, only=1)
    with pytest.raises(ValueError, match="tensors: must have"):
        far.step(1, {})
