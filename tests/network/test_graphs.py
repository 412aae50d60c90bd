"""Reading ONNX networks as graphs, and refusing what is none."""

import numpy as np
import onnx
import pytest
from bridge import networks
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

from edgeinfer.bridge import count_flops, light_path, read_graph


def two():
    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["h"]),
        helper.make_node("Relu", ["h"], ["y"]),
    ]
    return networks.model(nodes, {"x": ["n", 3]}, {"y": ["n", 5]}, {"w": np.ones((3, 5), np.float32)})


@pytest.mark.parametrize("name", networks.LIGHT_NAMES)
def test_light_models(name):
    graph = read_graph(networks.LIGHT / f"light_{name}.onnx")
    assert len(graph.inputs) == len(graph.outputs) == 1
    assert graph.tensors[graph.inputs[0]].shape == (1, 3, 224, 224)
    assert np.prod(graph.tensors[graph.outputs[0]].shape) == 1000
    assert {operation.kind for operation in graph.operations} & {"ConstantOfShape", "Unsqueeze"} == set()


@pytest.mark.parametrize("name", ["shufflenet", "squeezenet"])
def test_flops_are_those_that_are_counted_by_running(name):
    path = networks.LIGHT / f"light_{name}.onnx"
    graph = read_graph(path)
    assert graph.flops == count_flops(path, {name: graph.tensors[name].shape for name in graph.inputs})


def test_flops_against_onnx_tool():
    onnx_tool = pytest.importorskip("onnx_tool")
    path = networks.LIGHT / "light_squeezenet.onnx"
    model = onnx_tool.Model(str(path))
    model.graph.shape_infer({"data_0": np.zeros((1, 3, 224, 224), np.float32)})
    model.graph.profile()
    # onnx-tool counts one for a multiply-add of a convolution, and one more for each result's bias.
    graph = read_graph(path)
    compared = 0
    for operation in graph.operations:
        if operation.kind == "Conv":
            compared += 1
            theirs = model.graph.nodemap[operation.name].macs[0]
            results = graph.tensors[operation.outputs[0]].bits // 32
            assert operation.flops == 2 * (theirs - results)
    assert compared == 26


def test_free_sizes():
    missing = r"size of input 'x' = \(missing\): graph leaves \[n, 3\] free; give shapes, such as {'x': \(1, 3\)}"
    with pytest.raises(ValueError, match=missing):
        read_graph(two())
    with pytest.raises(ValueError, match=r"shapes = \(7, 3\): must be a mapping of 'x' to sizes"):
        read_graph(two(), (7, 3))
    graph = read_graph(two(), {"x": (7, 3)})
    assert (graph.flops, graph.weight_bytes) == (2 * 7 * 5 * 3, 60)
    assert graph.activation_peak() == 4 * (7 * 5 * 2)
    for shapes, message in (
        ({"x": (7, 4)}, "fixes a size of 3"),
        ({"x": (7,)}, "must have 2 sizes"),
        ({"x": (-1, 3)}, "must be a whole number >= 0"),
        ({"x": 7}, "must be whole numbers"),
        ({"x": (7, 3), "z": (1,)}, "has no such input; it has 'x', or a size: 'n'"),
    ):
        with pytest.raises(ValueError, match=message):
            read_graph(two(), shapes)


def refused():
    """Models that are none, each with what is said of it."""
    branches = two()
    body = helper.make_graph([], "body", [], [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 5])])
    branches.graph.node.append(helper.make_node("If", ["c"], ["z"], then_branch=body, else_branch=body))
    yield branches, "ONNX Runtime cannot load it"
    custom = two()
    custom.graph.node[1].domain = "com.example"
    yield custom, "ONNX Runtime cannot load it"
    unknown = two()
    unknown.graph.node[1].op_type = "Nonsense"
    yield unknown, "ONNX Runtime cannot load it"
    cycle = two()
    cycle.graph.node[0].input[0] = "y"
    yield cycle, "2 nodes: must not read each other in a circle"
    wrong = two()
    wrong.graph.node[1].op_type = "LSTM"
    yield wrong, "ONNX Runtime cannot load it"
    mismatched = networks.model(
        [helper.make_node("MatMul", ["x", "w"], ["y"])],
        {"x": [2, 4]},
        {"y": [2, 5]},
        {"w": np.ones((3, 5), np.float32)},
    )
    yield mismatched, "ONNX Runtime cannot load it"
    picky = networks.model(
        [helper.make_node("Gather", ["w", "i"], ["h"]), helper.make_node("Reshape", ["x", "h"], ["y"])],
        {"x": [6], "i": [2]},
        {"y": [None, None]},
        {"w": np.int64([5] * 17 + [2, 3])},
    )
    picky.graph.input[1].type.tensor_type.elem_type = TensorProto.INT64
    yield picky, "on made-up data; give feeds"
    constant = networks.model([helper.make_node("Relu", ["w"], ["y"])], {"x": [1]}, {"y": [2]}, {"w": np.ones(2, "f")})
    yield constant, "no output depends on an input: there is nothing to cut"
    nothing = networks.model([helper.make_node("Relu", ["x"], ["h"])], {"x": [2]}, {"y": [2]})
    yield nothing, "output 'y': must be given by an operation"
    empty = two()
    del empty.graph.input[:]
    yield empty, "it has 0 inputs"
    yield onnx.ModelProto(), "it has 0 inputs"
    external = two()
    tensor = external.graph.initializer[0]
    tensor.data_location = TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value="pyproject.toml")
    yield external, "external data"


@pytest.mark.parametrize(("model", "message"), list(refused()), ids=range(12))
def test_refuses(model, message):
    free = any(dim.dim_param for value in model.graph.input for dim in value.type.tensor_type.shape.dim)
    with pytest.raises(ValueError, match=message):
        read_graph(model, {"x": (1, 3)} if free else None)


def test_refuses_files(tmp_path):
    for bad in (3, None, tmp_path, tmp_path / "none.onnx"):
        with pytest.raises(ValueError, match=r"model = .*: must be"):
            read_graph(bad)
    folder = tmp_path / "model"
    folder.mkdir()
    for location in ("../secret", "/etc/hostname", "link"):
        model = two()
        tensor = model.graph.initializer[0]
        tensor.ClearField("raw_data")
        tensor.data_location = TensorProto.EXTERNAL
        tensor.external_data.add(key="location", value=location)
        (tmp_path / "secret").write_bytes(bytes(60))
        (folder / "link").unlink(missing_ok=True)
        (folder / "link").symlink_to(tmp_path / "secret")
        (folder / "model.onnx").write_bytes(model.SerializeToString())
        with pytest.raises(ValueError, match="must lie in the model's folder"):
            read_graph(folder / "model.onnx", {"x": (1, 3)})


def test_external_data_in_the_folder(tmp_path):
    model = two()
    onnx.save_model(model, tmp_path / "m.onnx", save_as_external_data=True, location="weights", size_threshold=0)
    assert (tmp_path / "weights").stat().st_size == 60
    graph = read_graph(tmp_path / "m.onnx", {"x": (1, 3)})
    (tmp_path / "weights").write_bytes(numpy_helper.from_array(np.zeros((3, 5), np.float32)).raw_data)
    assert read_graph(tmp_path / "m.onnx", {"x": (1, 3)}).digest != graph.digest
    (tmp_path / "weights").write_bytes(b"short")
    with pytest.raises(ValueError, match="external data"):
        read_graph(tmp_path / "m.onnx", {"x": (1, 3)})
    (tmp_path / "weights").unlink()
    with pytest.raises(ValueError, match="external data = 'weights': missing"):
        read_graph(tmp_path / "m.onnx", {"x": (1, 3)})


WHOLE = networks.random_model(np.random.default_rng(1), 10).SerializeToString()


@settings(max_examples=150, deadline=None)
@given(at=st.integers(0, len(WHOLE) - 1), change=st.binary(min_size=1, max_size=4), cut=st.booleans())
def test_corrupt_files_are_read_or_refused(tmp_path_factory, at, change, cut):
    path = tmp_path_factory.getbasetemp() / "corrupt.onnx"
    path.write_bytes(WHOLE[:at] if cut else WHOLE[:at] + change + WHOLE[at + len(change) :])
    try:
        graph = read_graph(path)
    except ValueError as error:
        assert str(error)
    else:
        assert graph.operations


def test_a_graph_is_shown_in_a_few_lines():
    assert len(repr(read_graph(light_path("squeezenet")))) < 500
