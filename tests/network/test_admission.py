"""What ONNX Runtime runs is read: sizes that only a pass tells, bodies, functions, foreign domains, odd types."""

import numpy as np
import onnx
import onnxruntime
import pytest
from bridge import networks
from onnx import TensorProto, helper, numpy_helper

from edgeinfer import RayleighLink, bridge
from edgeinfer.bridge.cutting.cuts import divide
from edgeinfer.bridge.cutting.sessions import CutSessions
from edgeinfer.model import Node
from edgeinfer.network import read_graph
from edgeinfer.network.bodies import HOLDING
from edgeinfer.network.dependence import data_dependent
from edgeinfer.network.feeds import Missing

FLOAT, INT64 = TensorProto.FLOAT, TensorProto.INT64
OPSETS = [helper.make_opsetid("", 17)]
SYSTEM = {"device": Node("device", 1e9), "edge": Node("edge", 1e11), "link": RayleighLink(1e6, 31, -100, 128.1, 1e-3)}


def node(kind, reads, gives, domain="", **attributes):
    return helper.make_node(kind, reads.split(","), gives.split(","), domain=domain, **attributes)


def value(name, sizes, element=FLOAT):
    return helper.make_tensor_value_info(name, element, sizes)


def build(nodes, inputs, outputs, weights=None, functions=(), opsets=OPSETS):
    tensors = [numpy_helper.from_array(np.asarray(array), name) for name, array in (weights or {}).items()]
    graph = helper.make_graph(nodes, "graph", inputs, outputs, tensors)
    return helper.make_model(graph, opset_imports=opsets, ir_version=9, functions=list(functions))


def whole(model, feeds):
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return dict(zip([port.name for port in session.get_outputs()], session.run(None, feeds), strict=True))


def every_cut(model, feeds, shapes=None):
    """Reassembles the network at each allowed cut of the chain, to the last bit, and gives how many there are."""
    sessions = CutSessions(model, shapes, level="disabled")
    graph, expected = sessions.graph, whole(model, feeds)
    count = len(graph.operations)
    done = 0
    for length in range(count + 1):
        try:
            division = divide(graph, [0] * length + [1] * (count - length))
        except ValueError:
            continue
        carried = dict(feeds)
        if division.computed:
            carried |= sessions.get(graph.inputs, division.computed).run(feeds)[0]
        results = {name: carried[name] for name in division.kept}
        if division.returned:
            crossing = {name: carried[name] for name in division.crossing}
            results |= sessions.get(division.crossing, division.returned).run(crossing)[0]
        assert set(results) == set(expected)
        for name, array in expected.items():
            np.testing.assert_array_equal(results[name], array)
        done += 1
    return done


RNG = np.random.default_rng(0)
W = RNG.standard_normal((4, 4)).astype("f")
X = RNG.standard_normal((1, 4)).astype("f")


def test_branches_read_what_they_capture():
    yes = helper.make_graph([node("Mul", "h,two", "t")], "yes", [], [value("t", [1, 4])])
    no = helper.make_graph([node("Sub", "h,x", "e")], "no", [], [value("e", [1, 4])])
    nodes = [
        node("MatMul", "x,W", "h"),
        node("ReduceSum", "x", "s", keepdims=0),
        node("Greater", "s,zero", "c"),
        node("If", "c", "k", then_branch=yes, else_branch=no),
        node("MatMul", "k,W", "y"),
    ]
    weights = {"W": W, "two": np.float32(2), "zero": np.float32(0)}
    model = build(nodes, [value("x", [1, 4])], [value("y", [1, 4])], weights)
    graph = read_graph(model)
    assert graph.operations[3].inputs == ("c", "h", "x")
    assert graph.operations[3].weight_bytes == 4
    assert graph.flops == 2 * 2 * 16
    assert every_cut(model, {"x": X}) == every_cut(model, {"x": -X}) == 6


@pytest.mark.parametrize("rows", [3, "rows"])
def test_a_scan_that_does_not_say_its_sizes_is_cut_everywhere(rows):
    inner = [node("Add", "s,r", "t"), node("Identity", "t", "o")]
    body = helper.make_graph(inner, "body", [value("s", None), value("r", None)], [value("t", None), value("o", None)])
    nodes = [node("Neg", "x", "h"), node("Shape", "h", "n", start=1), node("ConstantOfShape", "n", "a")]
    nodes += [node("Scan", "a,h", "b,c", body=body, num_scan_inputs=1), node("Mul", "b,c", "y")]
    model = build(nodes, [value("x", [rows, 4])], [value("y", [rows, 4])])
    assert every_cut(model, {"x": RNG.standard_normal((3, 4)).astype("f")}, {"x": (3, 4)}) == 6


@pytest.mark.parametrize("data", [2.0, np.float32(2), [1.0, 2.0], (1, 2), np.float64([1, 2]), np.array([1, 2])])
def test_data_that_is_no_array_of_its_type_is_refused_by_name(data):
    model = build([node("Neg", "x", "h"), node("Relu", "h", "y")], [value("x", ["n"])], [value("y", ["n"])])
    with pytest.raises(ValueError, match=r"feeds\['x'\] = .*: must be an array of float32, as"):
        read_graph(model, feeds={"x": data})
    assert read_graph(model, feeds={"x": np.float32([1, 2])}).tensors["y"].shape == (2,)


def test_parts_of_a_cut_whose_sizes_come_from_the_data_it_was_read_with(tmp_path):
    nodes = [node("Relu", "x", "h"), node("ReduceSum", "h,axes", "s"), node("Neg", "s", "y")]
    model = build(nodes, [value("x", ["n", 4]), value("axes", [1], INT64)], [value("y", None)])
    feeds = {"x": RNG.standard_normal((3, 4)).astype("f"), "axes": np.int64([-2])}
    graph = read_graph(model, feeds=feeds)
    chosen = bridge.Cut(graph, (SYSTEM["device"], SYSTEM["edge"]), (SYSTEM["link"],), (SYSTEM["link"],), (0, 1, 1))
    for shapes in (None, {"n": 3}, {"x": (3, 4)}):
        bridge.write_parts(model, chosen, tmp_path, shapes)
        np.testing.assert_array_equal(bridge.Parts(tmp_path).run(feeds)["y"], whole(model, feeds)["y"])
    with pytest.raises(ValueError, match="with the same shapes"):
        bridge.write_parts(model, chosen, tmp_path, {"n": 2})


def loop(body_nodes, trips="n"):
    body = helper.make_graph(
        [node("Identity", "c", "d"), *body_nodes],
        "body",
        [value("i", [], INT64), value("c", [], TensorProto.BOOL), value("a", None)],
        [value("d", [], TensorProto.BOOL), value("b", None), value("r", None)],
    )
    nodes = [
        node("MatMul", "x,W", "h"),
        node("Loop", f"{trips},,h", "k,all", body=body),
        node("MatMul", "k,W", "y"),
        node("ReduceSum", "all", "z", keepdims=0),
    ]
    return nodes


def test_loops_of_a_known_and_of_a_counted_number_of_passes():
    nodes = loop([node("MatMul", "a,W", "b"), node("Identity", "b", "r")])
    outputs = [value("y", None), value("z", None)]
    fixed = build(nodes, [value("x", [1, 4])], outputs, {"W": W, "n": np.int64(3)})
    graph = read_graph(fixed)
    assert graph.tensors["all"].shape == (3, 1, 4) and not graph.tensors["all"].stays
    assert graph.flops is None and graph.uncounted == ("k",)
    assert every_cut(fixed, {"x": X}) == 5
    counted = build(nodes, [value("x", [1, 4]), value("n", [], INT64)], outputs, {"W": W})
    graph = read_graph(counted)
    assert graph.tensors["all"].stays == graph.tensors["k"].stays == "its size depends on the data"
    assert every_cut(counted, {"x": X, "n": np.asarray(5)}) == 3


def test_scans_take_their_length_from_sizes():
    body = helper.make_graph(
        [node("Add", "a,e", "b"), node("Identity", "b", "r")],
        "body",
        [value("a", [4]), value("e", [4])],
        [value("b", [4]), value("r", [4])],
    )
    nodes = [
        node("Tanh", "x", "h"),
        node("Scan", "zero,h", "last,all", body=body, num_scan_inputs=1),
        node("Exp", "all", "y"),
    ]
    model = build(nodes, [value("x", ["n", 4])], [value("y", None)], {"zero": np.zeros(4, "f")})
    graph = read_graph(model, {"x": (5, 4)})
    assert graph.tensors["all"].shape == (5, 4) and not any(tensor.stays for tensor in graph.tensors.values())
    assert graph.flops == 0
    assert every_cut(model, {"x": np.tile(X, (5, 1))}, {"x": (5, 4)}) == 4


def test_local_functions_go_along_and_count_in_the_digest():
    def local(operator):
        inner = helper.make_function("local", "Inner", ["a"], ["b"], [node(operator, "a,a", "b")], OPSETS)
        opsets = [*OPSETS, helper.make_opsetid("local", 1)]
        outer = helper.make_function("local", "Outer", ["a"], ["b"], [node("Inner", "a", "b", "local")], opsets)
        nodes = [node("MatMul", "x,W", "h"), node("Outer", "h", "k", "local"), node("MatMul", "k,W", "y")]
        return build(nodes, [value("x", [1, 4])], [value("y", [1, 4])], {"W": W}, [inner, outer], opsets)

    model = local("Add")
    assert every_cut(model, {"x": X}) == 4
    assert read_graph(model).digest != read_graph(local("Mul")).digest
    measured = bridge.profile(model, repetitions=3, warmup=1)
    assert measured.times.shape == (3,)


def test_nodes_out_of_order_and_the_long_name_of_the_domain():
    straight = build([node("Relu", "x", "h"), node("Neg", "h", "y")], [value("x", [1, 4])], [value("y", [1, 4])])
    nodes = [node("Neg", "h", "y", "ai.onnx"), node("Relu", "x", "h", "ai.onnx")]
    odd = build(nodes, [value("x", [1, 4])], [value("y", [1, 4])], opsets=[helper.make_opsetid("ai.onnx", 17)])
    before = odd.SerializeToString()
    graph = read_graph(odd)
    assert [operation.kind for operation in graph.operations] == ["Relu", "Neg"]
    assert graph.digest == read_graph(straight).digest
    assert every_cut(odd, {"x": X}) == 3
    assert odd.SerializeToString() == before


def test_other_domains():
    opsets = [*OPSETS, helper.make_opsetid("com.microsoft", 1)]
    nodes = [node("FusedMatMul", "x,W", "h", "com.microsoft", transB=1), node("BiasGelu", "h,b", "y", "com.microsoft")]
    weights = {"W": W, "b": W[0]}
    model = build(nodes, [value("x", [1, 4])], [value("y", [1, 4])], weights, opsets=opsets)
    assert read_graph(model).flops == 32
    assert every_cut(model, {"x": X}) == 3


def test_sizes_that_depend_on_the_data_are_not_cut_at():
    nodes = [
        node("MatMul", "x,W", "h"),
        node("NonZero", "h", "i"),
        node("Transpose", "i", "t"),
        node("GatherND", "h,t", "g"),
        node("MatMul", "h,W", "k"),
        node("ReduceSum", "g", "s"),
        node("Add", "k,s", "y"),
    ]
    model = build(nodes, [value("x", [1, 4])], [value("y", [1, 4]), value("g", ["m"])], {"W": W})
    graph = read_graph(model)
    assert {name for name, tensor in graph.tensors.items() if tensor.stays} == {"i", "t", "g"}
    assert graph.tensors["g"].returns
    assert every_cut(model, {"x": X}) == every_cut(model, {"x": np.zeros((1, 4), "f")}) == 4
    for cut in bridge.candidates(model, **SYSTEM, downlink=SYSTEM["link"]):
        assert len({cut.places[1], cut.places[2], cut.places[3]}) == 1


def test_types_that_no_message_carries_are_not_cut_at(tmp_path):
    nodes = [
        node("MatMul", "x,W", "h"),
        node("Cast", "h", "b", to=TensorProto.BFLOAT16),
        node("Cast", "b", "k", to=FLOAT),
        node("SplitToSequence", "k", "q", axis=1),
        node("ConcatFromSequence", "q", "u", axis=1),
        node("MatMul", "u,W", "y"),
    ]
    model = build(nodes, [value("x", [1, 4])], [value("y", [1, 4])], {"W": W})
    graph = read_graph(model)
    assert (graph.tensors["b"].dtype, graph.tensors["b"].bits) == ("bfloat16", 64)
    assert graph.tensors["q"].dtype == "seq(float32)"
    assert every_cut(model, {"x": X}) == 5
    with pytest.raises(ValueError, match="tensor 'b' cannot cross: it is of type bfloat16"):
        divide(graph, (0, 0, 1, 1, 1, 1))
    for solution in bridge.chain_cuts(model, **SYSTEM):
        bridge.write_parts(model, solution, tmp_path)
        np.testing.assert_array_equal(
            bridge.Parts(tmp_path, level="disabled").run({"x": X})["y"], whole(model, {"x": X})["y"]
        )


def test_strings_stay_where_they_are():
    nodes = [
        node("LabelEncoder", "word", "n", "ai.onnx.ml", keys_strings=["a", "b"], values_floats=[1.0, 2.0]),
        node("Mul", "n,x", "h"),
        node("MatMul", "h,W", "y"),
    ]
    opsets = [*OPSETS, helper.make_opsetid("ai.onnx.ml", 3)]
    inputs = [value("word", [1], TensorProto.STRING), value("x", [1, 4])]
    model = build(nodes, inputs, [value("y", [1, 4])], {"W": W}, opsets=opsets)
    graph = read_graph(model)
    assert graph.tensors["word"].dtype == "str" and graph.flops == 32
    assert every_cut(model, {"word": np.array(["b"], object), "x": X}) == 3
    assert all(cut.places[0] == 0 for cut in bridge.candidates(model, **SYSTEM))


def test_outputs_that_depend_on_no_input_and_inputs_that_are_outputs_are_kept(tmp_path):
    nodes = [node("MatMul", "x,W", "h"), node("Neg", "W", "grid"), node("Relu", "h", "y")]
    outputs = [value("y", [1, 4]), value("grid", [4, 4]), value("x", [1, 4]), value("W", [4, 4])]
    model = build(nodes, [value("x", [1, 4])], outputs, {"W": W})
    graph = read_graph(model)
    assert graph.outputs == ("y", "grid", "x", "W") and graph.results == ("y",) and graph.constants == {"grid", "W"}
    assert every_cut(model, {"x": X}) == 3
    for solution in bridge.chain_cuts(model, **SYSTEM, downlink=SYSTEM["link"]):
        bridge.write_parts(model, solution, tmp_path)
        assert list(bridge.Parts(tmp_path).run({"x": X})) == ["y", "grid", "x", "W"]


def test_sizes_against_static_inference_where_it_errs():
    # A window that begins in the padding behind the input gives nothing; static inference counts it.
    nodes = [
        node("Relu", "x", "h"),
        node("MaxPool", "h", "p", kernel_shape=[2, 2], strides=[2, 2], pads=[0, 0, 1, 1], ceil_mode=1),
    ]
    nodes += [node("Neg", "p", "y")]
    for size in (4, 5, 6, 7):
        model = build(nodes, [value("x", [1, 1, size, size])], [value("y", None)])
        expected = whole(model, {"x": np.ones((1, 1, size, size), "f")})["y"].shape
        assert read_graph(model).tensors["p"].shape == read_graph(model).tensors["y"].shape == expected


def test_sizes_given_by_their_names_or_by_data():
    nodes = [node("MatMul", "x,W", "h"), node("Add", "h,b", "y")]
    model = build(nodes, [value("x", ["n", 4]), value("b", ["n", 4])], [value("y", None)], {"W": W})
    with pytest.raises(Missing, match=r"size of input 'x' = \(missing\): graph leaves \[n, 4\] free") as missing:
        read_graph(model)
    assert missing.value.argument == "shapes"
    for shapes in ({"n": 3}, {"n": (3,)}, {"x": (3, 4)}, {"b": (3, 4)}):
        assert read_graph(model, shapes).tensors["y"].shape == (3, 4)
    feeds = {"x": np.ones((3, 4), "f")}
    assert read_graph(model, None, feeds).tensors["b"].shape == (3, 4)
    with pytest.raises(ValueError, match=r"feeds\['z'\]: graph has no such input"):
        read_graph(model, None, feeds | {"z": np.ones(1)})
    empty = build([node("Concat", "p,x", "y", axis=0)], [value("p", ["m", 4]), value("x", [1, 4])], [value("y", None)])
    assert read_graph(empty, {"m": 0}).tensors["p"].bits == 0


def test_integers_are_made_up_until_the_network_runs():
    nodes = [node("Div", "i,n", "q"), node("Cast", "q", "f", to=FLOAT), node("Tile", "f,n", "y")]
    inputs = [value("i", [4], INT64), value("n", [1], INT64)]
    graph = read_graph(build(nodes, inputs, [value("y", None)]))
    assert graph.feeds["n"].tolist() == [1]
    assert graph.tensors["y"].stays
    # A number that the network compares its input with.
    bad = helper.make_graph([node("Reshape", "x,wrong", "t")], "bad", [], [value("t", None)])
    good = helper.make_graph([node("Neg", "x", "e")], "good", [], [value("e", None)])
    nodes = [node("Equal", "rate,known", "c"), node("If", "c", "y", then_branch=good, else_branch=bad)]
    weights = {"known": np.int64(16000), "wrong": np.int64([3])}
    model = build(nodes, [value("x", [1, 4]), value("rate", [], INT64)], [value("y", None)], weights)
    assert read_graph(model).feeds["rate"] == 16000


@pytest.mark.parametrize(
    ("nodes", "moving"),
    [
        ([node("Shape", "x", "s"), node("Reshape", "x,s", "y")], set()),
        ([node("Size", "x", "s"), node("Range", "o,s,o", "y")], set()),
        ([node("Cast", "x", "s", to=INT64), node("Reshape", "x,s", "y"), node("Neg", "y", "z")], {"y", "z"}),
        ([node("NonZero", "x", "y"), node("Shape", "y", "s"), node("ConstantOfShape", "s", "z")], {"y", "z"}),
        ([node("TopK", "x,k", "y,i")], set()),
        ([node("TopK", "x,x", "y,i")], {"y", "i"}),
        ([node("Unknown", "x", "y", "com.example")], set()),
    ],
)
def test_dependence_by_hand(nodes, moving):
    model = build(nodes, [value("x", [4])], [])
    assert data_dependent(model, ["x"], []) == moving


def test_a_network_over_the_limit_of_one_message(tmp_path, monkeypatch):
    # The limit itself is 2 GB; a smaller one takes the same way.
    monkeypatch.setattr("edgeinfer.network.loading._LARGEST", 50_000)
    big = RNG.standard_normal((128, 128)).astype("f")
    nodes = [node("MatMul", "x,A", "h"), node("Relu", "h", "k"), node("MatMul", "k,B", "y")]
    model = build(nodes, [value("x", [1, 128])], [value("y", [1, 128])], {"A": big, "B": big.T})
    feeds = {"x": RNG.standard_normal((1, 128)).astype("f")}
    assert every_cut(model, feeds) == 4
    digest, expected = read_graph(model).digest, whole(model, feeds)
    onnx.save(model, tmp_path / "m.onnx", save_as_external_data=True, location="m.data", size_threshold=0)
    assert read_graph(tmp_path / "m.onnx").digest == digest
    measured = bridge.profile(tmp_path / "m.onnx", repetitions=3, warmup=1)
    solution = bridge.chain_cuts(measured, **SYSTEM)[1]
    bridge.write_parts(tmp_path / "m.onnx", solution, tmp_path / "parts")
    assert (tmp_path / "parts" / "edge.onnx.data").stat().st_size == big.nbytes
    parts = bridge.Parts(tmp_path / "parts", level="disabled")
    np.testing.assert_array_equal(parts.run(feeds)["y"], expected["y"])


def hub_cache(root, model):
    """A model with external data as a hub's cache holds it: links into blobs, under other names."""
    blobs, snapshot = root / "blobs", root / "snapshots" / "0f3a" / "onnx"
    blobs.mkdir(parents=True)
    snapshot.mkdir(parents=True)
    onnx.save(model, root / "m.onnx", save_as_external_data=True, location="m.onnx_data", size_threshold=0)
    for blob, file in (("1c2d", "m.onnx"), ("9e8f", "m.onnx_data")):
        (root / file).rename(blobs / blob)
        (snapshot / file).symlink_to(blobs / blob)
    return snapshot


def test_external_data_behind_the_links_of_a_hub_cache(tmp_path):
    model = build(
        [node("MatMul", "x,W", "h"), node("Relu", "h", "y")], [value("x", [1, 4])], [value("y", [1, 4])], {"W": W}
    )
    digest = read_graph(model).digest
    snapshot = hub_cache(tmp_path / "models--a--b", model)
    assert read_graph(snapshot / "m.onnx").digest == digest
    outside = tmp_path / "secret"
    outside.write_bytes(W.tobytes())
    (snapshot / "m.onnx_data").unlink()
    (snapshot / "m.onnx_data").symlink_to(outside)
    with pytest.raises(ValueError, match="must lie in the model's folder"):
        read_graph(snapshot / "m.onnx")


def test_a_link_to_a_model_finds_its_data_beside_the_model(tmp_path):
    model = build([node("MatMul", "x,W", "y")], [value("x", [1, 4])], [value("y", [1, 4])], {"W": W})
    digest = read_graph(model).digest
    (tmp_path / "there").mkdir()
    onnx.save(model, tmp_path / "there" / "m.onnx", save_as_external_data=True, location="w", size_threshold=0)
    (tmp_path / "m.onnx").symlink_to(tmp_path / "there" / "m.onnx")
    assert read_graph(tmp_path / "m.onnx").digest == digest


def test_weights_in_nodes_and_in_inputs_are_weights():
    kernel = RNG.standard_normal((6, 3, 3, 3)).astype("f")
    nodes = [
        helper.make_node("Constant", [], ["K"], value=numpy_helper.from_array(kernel)),
        helper.make_node("Constant", [], ["two"], value_float=2.0),
        node("Conv", "x,K", "c", pads=[1] * 4),
        node("Mul", "c,two", "y"),
    ]
    model = build(nodes, [value("x", [1, 3, 12, 12])], [value("y", None)])
    graph = read_graph(model)
    assert graph.weight_bytes == kernel.nbytes + 4 and len(graph.operations) == 2
    x = RNG.standard_normal((1, 3, 12, 12)).astype("f")
    tiling = bridge.spatial_tiles(model, [0], 2, 2)
    results = [
        whole(tile.model, {tile.model.graph.input[0].name: part})["c"]
        for tile, part in zip(tiling.tiles, tiling.scatter(x), strict=True)
    ]
    np.testing.assert_allclose(2 * tiling.gather(results), whole(model, {"x": x})["y"], rtol=1e-5, atol=1e-5)
    old = networks.model([node("MatMul", "x,W", "y")], {"x": [1, 4]}, {"y": [1, 4]}, {"W": W})
    old.ir_version, old.opset_import[0].version = 3, 7
    old.graph.input.append(value("W", [4, 4]))
    assert read_graph(old).inputs == ("x",)


def test_search_among_operations_that_must_stay_together():
    count = 400
    nodes = [node("MatMul", "x,W", "t0")]
    for i in range(count):
        nodes += [node("Cast", f"t{i}", f"b{i}", to=TensorProto.BFLOAT16), node("Cast", f"b{i}", f"t{i + 1}", to=FLOAT)]
    graph = read_graph(build(nodes, [value("x", [1, 4])], [value(f"t{count}", None)], {"W": W}))
    for objective in ("latency", "throughput"):
        found = bridge.cut(graph, objective=objective, **SYSTEM)
        divide(graph, found.places)
    found = bridge.best_cuts(graph, **SYSTEM, downlink=SYSTEM["link"])
    assert all(divide(graph, option.places) for option in found.cuts)


def test_which_operators_hold_graphs():
    """Only these are looked into: an operator that a later ONNX adds must be among them."""
    kinds = onnx.defs.OpSchema.AttrType.GRAPH, onnx.defs.OpSchema.AttrType.GRAPHS
    schemas = [schema for schema in onnx.defs.get_all_schemas_with_history() if schema.domain == ""]
    holding = {s.name for s in schemas if any(a.type in kinds for a in s.attributes.values())}
    assert holding == HOLDING
