"""Parts of a cut run one after another against the whole network."""

import json
import os

import numpy as np
import onnx
import pytest

from bridge import networks
from edgeinfer import Node, RayleighLink
from edgeinfer.bridge import Cut, Parts, candidates, read_graph, write_parts
from edgeinfer.network.feeds import random_feeds
from edgeinfer.network.graphs import extract
from edgeinfer.network.sessions import open_session, session_options

LINK = RayleighLink(1e6, 31, -100, 128.1, 1e-3)
#: Every cut of every light model takes a quarter of an hour; CI goes through a part of them.
EVERY = os.environ.get("EDGEINFER_EVERY_CUT") == "1"
SOME = {"squeezenet": 4, "shufflenet": 25, "inception_v1": 40}


def of(graph, places):
    count = max(max(places), 1)
    nodes = tuple(Node(f"node{i}", 1e9) for i in range(count + 1))
    return Cut(graph, nodes, (LINK,) * count, (), tuple(places))


def session(model, level="disabled"):
    return open_session(model.SerializeToString(), "test", session_options(level))


def random_places(rng, graph, nodes):
    """A random valid division: no operation before what it reads."""
    places = []
    for operation in graph.operations:
        least = max((places[graph.producer[n]] for n in operation.inputs if n in graph.producer), default=0)
        places.append(int(rng.integers(least, nodes)) if rng.random() < 0.4 else least)
    return places


def close(value, wanted):
    """Within 1e-5 of the largest, for fused kernels that round otherwise."""
    assert value.dtype == wanted.dtype and value.shape == wanted.shape
    assert np.abs(value - wanted).max(initial=0) <= 1e-5 * max(np.abs(wanted).max(initial=0), 1e-30)


def test_random_cuts_of_random_graphs(tmp_path):
    rng = np.random.default_rng(5)
    shared = 0
    for number in range(300):
        model = networks.random_model(rng, int(rng.integers(1, 15)))
        graph = read_graph(model)
        places = random_places(rng, graph, 2 + number % 2)
        cut = of(graph, places)
        write_parts(model, cut, tmp_path)
        feeds = random_feeds(graph, number)
        names = list(graph.outputs)
        whole = session(model).run(names, feeds)
        parts = Parts(tmp_path, level="disabled").run(feeds)
        assert list(parts) == names
        assert all(np.array_equal(parts[name], value) for name, value in zip(names, whole, strict=True))
        fused = Parts(tmp_path).run(feeds)
        for name, value in zip(names, whole, strict=True):
            close(fused[name], value)
        shared += any(len(graph.consumers[name]) > 1 for names in cut.crossing for name in names)
    assert shared > 30


@pytest.mark.slow
@pytest.mark.parametrize("name", networks.LIGHT_NAMES if EVERY else SOME)
def test_chain_cuts_of_light_models(name):
    model = networks.light(name)
    graph = read_graph(model)
    feeds = random_feeds(graph)
    (output,) = graph.outputs
    whole = session(model).run([output], feeds)[0]
    assert np.isfinite(whole).all() and np.ptp(whole) > 0
    count = len(graph.operations)
    for length in range(1, count, 1 if EVERY else SOME[name]):
        cut = of(graph, [0] * length + [1] * (count - length))
        crossing = list(cut.crossing[0])
        inner = [name for name in crossing if name in graph.producer]
        first = session(extract(model, graph, range(length), inner))
        given = dict(zip(inner, first.run(inner, {p.name: feeds[p.name] for p in first.get_inputs()}), strict=True))
        second = session(extract(model, graph, range(length, count), [output]))
        carried = {name: value for name, value in (feeds | given).items() if name in crossing}
        assert {port.name for port in second.get_inputs()} == set(crossing)
        assert np.array_equal(second.run([output], carried)[0], whole), length


@pytest.mark.slow
def test_fused_parts_of_a_light_model(tmp_path):
    model = networks.light("squeezenet")
    graph = read_graph(model)
    feeds = random_feeds(graph)
    whole = session(model, "all").run(None, feeds)[0]
    options = candidates(graph, device=Node("device", 1e9), edge=Node("edge", 1e10), link=LINK)
    assert len({option.places for option in options}) > 3
    for option in options:
        write_parts(model, option, tmp_path)
        close(Parts(tmp_path).run(feeds)["softmaxout_1"], whole)


def test_extractor_of_onnx_gives_the_same_operations():
    rng = np.random.default_rng(9)
    for _ in range(20):
        model = networks.random_model(rng, 10)
        graph = read_graph(model)
        inferred = onnx.shape_inference.infer_shapes(model)
        cut = of(graph, random_places(rng, graph, 2))
        edge = [i for i, place in enumerate(cut.places) if place == 1]
        outputs = [name for name in graph.outputs if name in graph.producer and graph.producer[name] in edge]
        if not outputs:
            continue
        mine = extract(model, graph, edge, outputs)
        theirs = onnx.utils.Extractor(inferred).extract_model([value.name for value in mine.graph.input], outputs)
        mine_by_output = {node.output[0]: node for node in mine.graph.node}
        for node in theirs.graph.node:
            node.name = node.name or node.output[0]
            assert mine_by_output[node.output[0]] == node
        assert {t.name for t in theirs.graph.initializer} <= {t.name for t in mine.graph.initializer}


def written(tmp_path):
    model = networks.random_model(np.random.default_rng(2), 8)
    graph = read_graph(model)
    return model, graph, write_parts(model, of(graph, random_places(np.random.default_rng(1), graph, 2)), tmp_path)


def test_manifest(tmp_path):
    _, graph, path = written(tmp_path)
    data = json.loads(path.read_text())
    assert data["digest"] == graph.digest and data["outputs"] == list(graph.outputs)
    assert [sum(t["bits"] for t in link) for link in data["links"]] == list(
        of(graph, random_places(np.random.default_rng(1), graph, 2)).bits
    )
    assert {p.name for p in tmp_path.iterdir()} == {"parts.json", *(p["file"] for p in data["parts"] if p["file"])}
    alone = Parts(tmp_path, only=1)
    with pytest.raises(ValueError, match="place = 0: must be the part that was loaded"):
        alone.step(0, random_feeds(graph))


def test_refuses(tmp_path):
    model, graph, path = written(tmp_path)
    other = networks.random_model(np.random.default_rng(3), 8)
    with pytest.raises(ValueError, match="must be the network that was cut"):
        write_parts(other, of(graph, [0] * len(graph.operations)), tmp_path)
    bad = Cut(graph, (Node("../x", 1e9), Node("edge", 1e9)), (LINK,), (), (0,) * len(graph.operations))
    with pytest.raises(ValueError, match=r"name of node = '\.\./x'"):
        write_parts(model, bad, tmp_path)
    with pytest.raises(ValueError, match="feeds: must have 'x"):
        Parts(tmp_path).run({})
    data = json.loads(path.read_text())
    for change, message in (
        ({"format": 9}, "format = 9"),
        ({"parts": data["parts"][:1]}, "must be one more than"),
        ({"parts": [data["parts"][0] | {"file": "../device.onnx"}, data["parts"][1]]}, "file = '../device.onnx'"),
        ({"parts": [data["parts"][0] | {"inputs": ["q"]}, data["parts"][1]]}, "inputs: must be 'q'"),
        ({"links": 3}, "not the parts of a cut"),
    ):
        path.write_text(json.dumps(data | change))
        with pytest.raises(ValueError, match=message):
            Parts(tmp_path)
    path.write_text("[")
    with pytest.raises(ValueError, match="not JSON"):
        Parts(tmp_path)
