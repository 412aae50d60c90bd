"""Damaged and hostile files: a clear error, or a graph whose cut computes what the whole does; never a crash, within
limits.

A hundred examples in every run; five thousand new ones with EDGEINFER_FUZZ=1.
"""

import os
import resource
from contextlib import contextmanager

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

from edgeinfer.bridge.cutting.cuts import divide
from edgeinfer.bridge.cutting.sessions import CutSessions
from edgeinfer.network import open_session, run_session, session_options
from edgeinfer.network.loading import load_model

pytestmark = pytest.mark.process
EXAMPLES = 5000 if os.environ.get("EDGEINFER_FUZZ") == "1" else 100
#: Beyond what the process has already, bytes.
MEMORY = 4 * 2**30
#: Of one example, s.
SECONDS = 20
FLOAT, INT64, BOOL = TensorProto.FLOAT, TensorProto.INT64, TensorProto.BOOL
W = np.random.default_rng(0).standard_normal((4, 4)).astype("f")


def node(kind, reads, gives, domain="", **attributes):
    return helper.make_node(kind, reads.split(","), gives.split(","), domain=domain, **attributes)


def value(name, sizes, element=FLOAT):
    return helper.make_tensor_value_info(name, element, sizes)


def model(nodes, functions=(), **weights):
    arrays = {"W": W, "two": np.int64([2, 2]), "n": np.int64(3), **weights}
    tensors = [numpy_helper.from_array(np.asarray(array), name) for name, array in arrays.items()]
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("local", 1)]
    graph = helper.make_graph(nodes, "g", [value("x", [1, 4])], [value("y", None)], tensors)
    return helper.make_model(graph, opset_imports=opsets, ir_version=9, functions=list(functions))


def sound():
    """Networks of each kind of node that is read in a way of its own."""
    yes = helper.make_graph([node("Mul", "h,h", "t")], "yes", [], [value("t", None)])
    no = helper.make_graph([node("Sub", "h,x", "e")], "no", [], [value("e", None)])
    branch = [node("ReduceSum", "x", "s", keepdims=0), node("Cast", "s", "c", to=BOOL)]
    body = helper.make_graph(
        [node("Identity", "c", "d"), node("MatMul", "a,W", "b")],
        "body",
        [value("i", [], INT64), value("c", [], BOOL), value("a", None)],
        [value("d", [], BOOL), value("b", None)],
    )
    function = helper.make_function(
        "local", "Twice", ["a"], ["b"], [node("Add", "a,a", "b")], [helper.make_opsetid("", 17)]
    )
    head = node("MatMul", "x,W", "h")
    yield model([head, *branch, node("If", "c", "y", then_branch=yes, else_branch=no)])
    yield model([head, node("Loop", "n,,h", "k", body=body), node("Relu", "k", "y")])
    yield model([head, node("Twice", "h", "k", "local"), node("Tanh", "k", "y")], [function])
    yield model([head, node("NonZero", "h", "i"), node("Cast", "i", "y", to=FLOAT)])
    yield model(
        [
            head,
            node("Reshape", "h,two", "k"),
            node("SplitToSequence", "k", "q"),
            node("ConcatFromSequence", "q", "y", axis=0),
        ]
    )
    yield model([head, node("Shape", "h", "s"), node("ConstantOfShape", "s", "z"), node("Add", "z,h", "y")])
    yield model(
        [
            head,
            node("Einsum", "h,W", "k", equation="ij,jk->ik"),
            node("Cast", "k", "b", to=TensorProto.BFLOAT16),
            node("Cast", "b", "y", to=FLOAT),
        ]
    )


SOUND = [made.SerializeToString() for made in sound()]


def hostile():
    """Files that ask for too much, or never end."""
    endless = helper.make_graph(
        [node("Identity", "c", "d"), node("MatMul", "a,W", "b")],
        "body",
        [value("i", [], INT64), value("c", [], BOOL), value("a", None)],
        [value("d", [], BOOL), value("b", None)],
    )
    head = node("MatMul", "x,W", "h")
    yield model(
        [head, node("Loop", ",,h", "k", body=endless), node("NonZero", "k", "q"), node("Cast", "q", "y", to=FLOAT)]
    )
    huge = np.int64([2**40, 2**10])
    yield model(
        [
            head,
            node("ConstantOfShape", "big", "z"),
            node("ReduceSum", "z", "s"),
            node("NonZero", "s", "q"),
            node("Cast", "q", "f", to=FLOAT),
            node("Concat", "h,h", "k", axis=0),
            node("Add", "k,k", "y"),
        ],
        big=huge,
    )
    yield model(
        [head, node("Shape", "h", "s"), node("Mul", "s,big", "t"), node("Expand", "h,t", "y")], big=np.int64([2**30, 1])
    )
    yield model([node("Neg", "h", "y"), node("Neg", "y", "h")])
    yield model([head, node("Einsum", "h,W", "y", equation="ij,j.k->ik")])
    yield model([node("Relu", "x", "x"), node("Relu", "x", "y")])
    deep = helper.make_graph([node("Identity", "h", "e")], "b0", [], [value("e", None)])
    for _ in range(7):
        inner = node("If", "c", "e", then_branch=deep, else_branch=deep)
        deep = helper.make_graph([inner], "b", [], [value("e", None)])
    yield model(
        [
            head,
            node("ReduceSum", "x", "s", keepdims=0),
            node("Cast", "s", "c", to=BOOL),
            node("If", "c", "y", then_branch=deep, else_branch=deep),
        ]
    )
    call = helper.make_function(
        "local", "Twice", ["a"], ["b"], [node("Twice", "a", "b", "local")], [helper.make_opsetid("local", 1)]
    )
    yield model([head, node("Twice", "h", "y", "local")], [call])


@contextmanager
def bounded():
    """Within `MEMORY` more than the process holds."""
    with open("/proc/self/statm") as file:
        held = int(file.read().split()[0]) * resource.getpagesize()
    before = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (held + MEMORY, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, before)


def check(data, path):
    """Read, cut in the middle and compare; what is wrong must be a ValueError or a TimeoutError with a text."""
    path.write_bytes(data)
    try:
        sessions = CutSessions(path, level="disabled")
        graph = sessions.graph
        assert graph.operations and set(graph.results) <= set(graph.tensors)
        feeds = sessions.feeds()
        whole = open_session(load_model(path)[0], "whole", session_options("disabled"))
        expected = run_session(whole, feeds, "whole", list(graph.outputs), seconds=SECONDS)
    except (ValueError, TimeoutError) as error:
        assert str(error).strip()
        return "refused"
    count = len(graph.operations)
    for length in range(count // 2, count + 1):
        try:
            division = divide(graph, [0] * length + [1] * (count - length))
            break
        except ValueError:
            continue
    carried = dict(feeds)
    if division.computed:
        carried |= sessions.get(graph.inputs, division.computed).run(feeds)[0]
    if division.returned:
        carried |= sessions.get(division.crossing, division.returned).run(carried)[0]
    for name, array in zip(graph.outputs, expected, strict=True):
        if isinstance(array, np.ndarray):
            np.testing.assert_array_equal(carried[name], array)
    return "read"


@pytest.mark.parametrize("number", range(7))
def test_sound_files_are_read(number, tmp_path):
    assert check(SOUND[number], tmp_path / "sound.onnx") == "read"


@pytest.mark.parametrize("number", range(8))
def test_hostile_files_end_in_an_error(number, tmp_path, monkeypatch):
    monkeypatch.setattr("edgeinfer.network.sizes._LONGEST", 1.0)
    made = list(hostile())[number]
    with bounded():
        check(made.SerializeToString(), tmp_path / "hostile.onnx")


@settings(max_examples=EXAMPLES, deadline=1000 * SECONDS, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    which=st.integers(0, len(SOUND) - 1),
    changes=st.lists(
        st.tuples(st.floats(0, 1, exclude_max=True), st.binary(min_size=1, max_size=3)), min_size=1, max_size=4
    ),
    cut=st.floats(0, 1),
    shorten=st.booleans(),
)
def test_damaged_files(which, changes, cut, shorten, tmp_path, monkeypatch):
    monkeypatch.setattr("edgeinfer.network.sizes._LONGEST", 1.0)
    data = bytearray(SOUND[which])
    for at, change in changes:
        start = int(at * len(data))
        data[start : start + len(change)] = change
    if shorten:
        data = data[: int(cut * len(data))]
    with bounded():
        check(bytes(data), tmp_path / "damaged.onnx")
