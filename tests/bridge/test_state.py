"""Networks with state: which pairs are state, what it costs where, and what either half of a cut does with it."""

import json
from itertools import product

import numpy as np
import onnx
import pytest
from click.testing import CliRunner
from onnx import TensorProto, helper, numpy_helper

from edgeinfer import Node, RayleighLink, bridge, cli
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
        ValueError, match=r"output of float32 \[4\]: must be of the input's type and sizes, float32 \[2\]"
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
    profile = str(tmp_path / "profile.json")
    assert cut("--measure", "--profile", profile).exit_code == 0
    read = cut("--profile", profile)
    assert json.loads(read.stdout)[0]["state"] == "edge"
