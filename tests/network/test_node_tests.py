"""The node tests of the onnx package: each that ONNX Runtime runs is read with its types and sizes, or refused for a
listed reason. One in seven in every run; all with EDGEINFER_EVERY_NODE_TEST=1."""

import os
import re
import warnings
from collections import Counter

import numpy as np
import onnx
import onnxruntime
from onnx.backend.test.loader import load_model_tests

from edgeinfer.network import read_graph
from edgeinfer.network.elements import numpy_name

EVERY = os.environ.get("EDGEINFER_EVERY_NODE_TEST") == "1"
#: Why a network that ONNX Runtime runs is not read.
REASONS = {
    "nothing to cut": r"it has 0 inputs and \d+ outputs: must be at least one",
    "data needed": r"on made-up data; give feeds$",
}


def cases():
    with warnings.catch_warnings():
        # The package computes what its tests expect as it is imported, infinities included.
        warnings.simplefilter("ignore")
        found = load_model_tests(kind="node")
    return sorted(found, key=lambda case: case.name)[:: 1 if EVERY else 7]


def session(model):
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.log_severity_level = 4
    serialised = model.SerializeToString()
    return onnxruntime.InferenceSession(serialised, options, providers=["CPUExecutionProvider"], enable_fallback=0)


def truth(model, feeds):
    """Type and shape of every tensor that a node gives, as ONNX Runtime finds them; None where it does not run."""
    watched = onnx.ModelProto()
    watched.CopyFrom(model)
    del watched.graph.output[:]
    names = [name for node in model.graph.node for name in node.output if name]
    watched.graph.output.extend(onnx.ValueInfoProto(name=name) for name in names)
    try:
        session(model).run(None, feeds)
    except Exception:
        return None
    try:
        running = session(watched)
        results = running.run(None, feeds)
    except Exception:
        # A type that NumPy has not.
        return {}
    return {port.name: (port.type, value) for port, value in zip(running.get_outputs(), results, strict=True)}


def check(graph, expected):
    compared = 0
    for name, (kind, value) in expected.items():
        tensor = graph.tensors.get(name)
        element = re.fullmatch(r"tensor\((\w+)\)", kind)
        if tensor is None or element is None:
            continue
        assert tensor.dtype == numpy_name(element[1])
        if isinstance(value, np.ndarray) and not tensor.stays.startswith("its size"):
            assert tensor.shape == value.shape
            compared += 1
    return compared


def reason(error):
    found = [name for name, pattern in REASONS.items() if re.search(pattern, str(error))]
    assert found, f"refused for no listed reason: {error}"
    return found[0]


def test_node_tests_are_read_as_onnx_runtime_runs_them(capsys):
    counts = Counter()
    for case in cases():
        names = [value.name for value in case.model.graph.input]
        feeds = dict(zip(names, case.data_sets[0][0], strict=False))
        expected = truth(case.model, feeds)
        if expected is None:
            counts["not run by ONNX Runtime"] += 1
            continue
        shapes = {name: value.shape for name, value in feeds.items() if isinstance(value, np.ndarray)}
        for what, arguments in (("with its data", (None, feeds)), ("with made-up data", (shapes,))):
            try:
                graph = read_graph(case.model, *arguments)
            except ValueError as error:
                why = reason(error)
                assert what == "with made-up data" or why == "nothing to cut", f"{case.name}: {error}"
                counts[f"refused {what}: {why}"] += 1
            else:
                try:
                    counts["tensors compared"] += check(graph, expected)
                except AssertionError as error:
                    raise AssertionError(f"{case.name}, {what}: {error}") from error
                counts[f"read {what}"] += 1
    with capsys.disabled():
        print("\nnode tests of onnx:", dict(sorted(counts.items())))
    assert counts["read with its data"] > 150
    assert counts["tensors compared"] > 250
