"""Everything public pickles and copies, errors too; what is frozen stays so, and what is equal has equal hashes."""

import copy
import dataclasses
import importlib
import inspect
import pickle
import pkgutil
from types import MappingProxyType

import numpy as np
import pytest

import edgeinfer as ei
from edgeinfer import bridge, paper
from edgeinfer.bridge.exit import queue, rules

ROOMS = (ei.model, ei.delay, ei.quality, ei.bridge, ei.plan, ei.study, ei.paper)
COPIES = {
    "pickle": lambda value: pickle.loads(pickle.dumps(value)),
    "first protocol": lambda value: pickle.loads(pickle.dumps(value, 0)),
    "copy": copy.copy,
    "deepcopy": copy.deepcopy,
}
LINK = ei.RayleighLink([5e6, 10e6], 31, -100, 128.1, 0.01)
NODE = ei.Node("n", [1.0, 2.0])
SESSION = ei.Session([ei.Exponential(0.1, "e")], [[0.6, 0.1], [0.2, 0.1]])
PIPELINE = ei.Pipeline([ei.Compute([0.1, 0.2], NODE, "a"), ei.Transfer([1e6, 2e6], LINK, "b")])
RULE = rules.ExitRule([0.8])
EVALUATION = rules.Evaluation([[[0.9, 0.1], [0.6, 0.4]], [[0.9, 0.1], [0.2, 0.8]]], [0, 1], [1.0, 3.0], 2.5)
QUANTISER = bridge.uniform(np.array([[0.0, 1.0]]), 4)
PCA = bridge.fit_pca(np.random.default_rng(1).normal(size=(30, 2, 2, 2)), 1)


def values():
    run = ei.simulate(PIPELINE, 0.5, [1.0, 2.0], jobs=9, replications=2, rng=1, threads=1)
    row = np.array([0.0, 1.0])
    kind = ei.Terminals(2, 0.1, ei.Pipeline([ei.Exponential(0.1, "gpu")]), edge="gpu")
    shared = ei.simulate_cell(ei.Cell(kind, ei.EdgeNode()), 1.0, jobs=20, replications=2, rng=1, threads=1)
    return [
        *(shared, shared["terminals"], *shared.edges),
        bridge.Run(1.0, row, ("a",), row[:, None], row[:, None], {1: "late"}, {"seed": 1}),
        *(
            NODE,
            LINK,
            PIPELINE,
            *PIPELINE,
            ei.Exponential([0.1, 0.2], "e"),
            ei.Constant([0.1, 0.2], "c"),
            *(ei.Rayleigh(), ei.Nakagami([0.5, 2.0]), ei.Rician([1.0, 2.0]), ei.MaximalRatio([1, 2])),
            *(ei.ConstantLink([1e6, 2e6], 0.1), ei.MarkovLink([2.0, 1.0], [[0.5, 0.5], [0.1, 0.9]], 0.01)),
            *(ei.OutageLink([1e6, 2e6], 0.1, 0.01), ei.OutageLink(1e6, 0.1, 0.01).transfer([1e4, 1e5])),
            *(ei.TraceLink([1.0, 2.0], 0.1), ei.Population(ei.path_loss.uma([100.0, 200.0], 2e9), [1.0, 2.0])),
            ei.PopulationBracket(0.1, 0.2, "population", "population", 0.01),
            ei.PopulationGuarantee(0.1, 0.2, "population", "population", 0.95, 0.01),
            *(ei.BestOf([1, 2]), ei.FadingLink.from_snr([1.0, 2.0], 1e6, 0.01, fading=ei.Rician([1.0, 2.0]))),
            ei.Measured([0.2, 0.1], "m"),
            SESSION,
            ei.Delay(ei.Constant([0.1, 0.2], "d")),
            ei.Review(ei.Exponential(0.1, "r"), [0.1, 0.2]),
            ei.Fork([SESSION, ei.Constant(0.1, "c")], "any"),
            ei.Measured([0.2, 0.1], "m", confidence=0.5, longest=1.0),
        ),
        paper.scenario().cascade,
        paper.scenario(),
        paper.scenario().replace(slot=[0.01, 0.02]),
        paper.measured_scenario(),
        ei.latency(PIPELINE),
        ei.best_rounds(ei.Pipeline([SESSION]), 0.5, [1.0, 2.0]),
        ei.violation_bracket(PIPELINE, 0.5, [1.0, 2.0]),
        ei.violation_bracket(ei.Pipeline([ei.Measured([0.2, 0.1], "m", 0.5, 1.0)]), 0.5, [1.0, 2.0]),
        run,
        run.mean,
        ei.plan.Allocation(np.array([1, 2]), np.array([3, 4]), row, row),
        RULE,
        EVALUATION,
        queue.DeadlinePolicy([RULE], [0.4], 1.0),
        queue.Served(row, row, row, np.array([0, 1]), row > 0),
        QUANTISER,
        PCA,
        bridge.Channels([0, 2], np.ones((3, 2, 2))),
        bridge.Codec((2, 2, 2), [], QUANTISER),
        ei.Estimate(0.5, 0.4, 0.6, 0.95, 9),
        bridge.RatePoint("a", *[ei.Estimate(1.0, 0.5, 2.0, 0.95, 9)] * 4),
        bridge.Order("a"),
        bridge.WorkLoad("tally", "bridge.tally:Work", {"first": 1}, {"together": True}),
        bridge.Scheduler(),
        *bridge.Scheduler().steps(2, "ddim"),
        bridge.Division((0, 1), ("h",), ("y",), (), ("y",)),
        bridge.LinkRate(),
        bridge.Generation(np.zeros((1, 1, 3), np.uint8), "r", "split", 1, 2, 0.5, ""),
        *bridge_values(),
        *(
            ei.Poisson([0.5, 1.0]),
            ei.Periodic(1.0),
            ei.Erlang(0.5, [2, 3]),
            ei.Hyperexponential(0.5, 3.0),
            ei.Gamma(0.5, 2.0),
            ei.MarkovModulated([0.5, 1.0], [[-1.0, 1.0], [2.0, -2.0]]),
            ei.Batch(ei.Periodic([1.0, 2.0]), [0.5, 0.5]),
            ei.Recorded([0.0, 1.0, 3.0]),
        ),
    ]


def bridge_values():
    pytest.importorskip("onnx")
    manifest = bridge.read_manifest(bridge.shipped("scenes"))
    network = manifest.stages[0].networks[0]
    yield from (manifest, manifest.text, manifest.wire, manifest.image, manifest.flops, *manifest.stages)
    yield from (network, network.part, next(iter(network.part.inputs.values())))


def arrays(value):
    """Arrays and mappings within a value, as far down as its fields, tuples and mappings go."""
    if isinstance(value, np.ndarray | MappingProxyType | dict):
        yield value
    if dataclasses.is_dataclass(value) or isinstance(value, dict | MappingProxyType):
        for part in (vars(value) if dataclasses.is_dataclass(value) else value).values():
            yield from arrays(part)
    elif isinstance(value, tuple | list):
        for part in value:
            yield from arrays(part)


@pytest.fixture(scope="module")
def examples():
    return list(values())


@pytest.mark.parametrize("way", COPIES)
def test_values_copy_and_stay_frozen(examples, way):
    for value in examples:
        twin = COPIES[way](value)
        assert type(twin) is type(value)
        if type(value).__eq__ is not object.__eq__:
            assert twin == value, value
            if type(value).__hash__ is not None:
                assert hash(twin) == hash(value), value
        for one, other in zip(arrays(value), arrays(twin), strict=True):
            assert type(one) is type(other)
            if isinstance(one, np.ndarray):
                assert other.flags.writeable == one.flags.writeable, (type(value), one)
                assert one.shape == other.shape and (one == other).all()
        if isinstance(value, ei._validate.Frozen):
            assert not any(part.flags.writeable for part in arrays(twin) if isinstance(part, np.ndarray)), value


def test_every_public_value_is_among_the_examples(examples):
    """But for those that need a network's run, or hold a session, a socket or a model."""
    elsewhere = (
        "BestCuts Cut CutRun Inference LoadTest NetworkProfile Profile Graph Operation Tensor Tile Tiling "
        "Autoencoder ExitManifest ImageMeasure SetMeasure"
    ).split()
    here = {type(value).__name__ for value in examples} | {
        "Interval",
        "ChannelLink",
    }  # other name, base
    for room in ROOMS:
        for name in room.__all__:
            found = getattr(room, name)
            if dataclasses.is_dataclass(found) and inspect.isclass(found):
                assert name in here or name in elsewhere, f"{room.__name__}.{name}"


def test_networks_and_cuts_copy():
    onnx = pytest.importorskip("onnx")
    helper = onnx.helper
    ports = [helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, [1, 2]) for name in "xy"]
    nodes = [helper.make_node("Relu", ["x"], ["h"]), helper.make_node("Abs", ["h"], ["y"])]
    graph = helper.make_graph(nodes, "two", ports[:1], ports[1:])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    network = bridge.read_graph(model)
    assert network.producer and network.consumers  # kept once computed
    link = ei.RayleighLink(1e6, 31, -100, 100, 0.01)
    parts = {"device": ei.Node("d", 1e3), "edge": ei.Node("e", 1e6), "link": link}
    cut, best = bridge.cut(network, **parts), bridge.best_cuts(network, **parts)
    times = [0.1, 0.2]
    profile = bridge.NetworkProfile(network, times, times, times, [0.3], {}, {"a": 1})
    for value in (network, *network.operations, network.tensors["h"], cut, best, profile):
        for way in COPIES.values():
            twin = way(value)
            assert repr(twin) == repr(value)
            for part in arrays(twin):
                assert not isinstance(part, dict) and not (isinstance(part, np.ndarray) and part.flags.writeable)


def test_replaced_values_are_frozen():
    value = dataclasses.replace(
        ei.Estimate(np.zeros(2), np.zeros(2), np.ones(2), 0.95, np.ones(2)), low=np.full(2, -1.0)
    )
    own = np.zeros(2)
    other = dataclasses.replace(value, high=own)
    for part in (*arrays(value), *arrays(other)):
        assert not part.flags.writeable
    own[0] = 1.0  # the caller's own array is left as it was
    with pytest.raises(ValueError, match="read-only"):
        dataclasses.replace(NODE, name="m").flops[0] = 1.0


def test_long_arrays_are_cut_short_where_they_are_printed():
    text = repr(ei.Pipeline([ei.Measured(np.arange(1.0, 900.0), "detect")]))
    assert len(text) < 200 and "..., 897., 898., 899.]" in text and "name='detect'" in text
    assert repr(ei.Latency(np.arange(3.0), 2.0)) == "Latency(stages=array([0., 1., 2.]), total=2.0)"


def test_values_of_many_parts_are_printed_short():
    run = ei.simulate(ei.Pipeline([ei.Constant(0.1, f"stage {k}") for k in range(8)]), 1.0, [1.0, 2.0], jobs=100, rng=1)
    assert repr(run).startswith("Simulation(mean=Estimate(...), violation=Estimate(...), ") and len(repr(run)) < 300
    link = ei.RayleighLink(5e6, 23, -100, 105, 0.005)
    stages = [ei.Transfer(1e5 * k, link, f"hop {k}") for k in range(1, 9)]
    few = "Transfer(...), Transfer(...), Transfer(...), ..., Transfer(...), Transfer(...)"
    assert repr(ei.Pipeline(stages)) == f"Pipeline(stages=({few}))"


EQUAL = {
    "zero": (ei.Compute([0.0, 1.0], NODE, "x"), ei.Compute([-0.0, 1.0], NODE, "x")),
    "scalar zero": (ei.Compute(0.0, NODE, "x"), ei.Compute(-0.0, NODE, "x")),
    "types": (ei.Latency(np.array([1, 2]), 3), ei.Latency(np.array([1.0, 2.0]), 3.0)),
    "precision": (ei.Latency(np.float32([1, 2]), np.float32(3)), ei.Latency(np.array([1.0, 2.0]), 3)),
    "shape ()": (ei.Latency(np.array(1.0), 3.0), ei.Latency(1.0, np.array(3))),
    "text": (
        ei.Bracket(0.0, 1.0, np.array(["a"], "U1"), "b"),
        ei.Bracket(0.0, 1.0, np.array(["a"], "U9"), np.str_("b")),
    ),
    "no number": (ei.Latency(np.array([np.nan, 1.0]), np.nan), ei.Latency(np.array([-np.nan, 1]), float("nan"))),
    "strides": (ei.Latency(np.arange(6.0)[::2], 0), ei.Latency(np.array([0.0, 2.0, 4.0]), 0)),
    "bool": (ei.Latency(np.array([True]), 1), ei.Latency(np.array([1.0]), True)),
}


@pytest.mark.parametrize("case", EQUAL)
def test_equal_values_have_equal_hashes(case):
    one, other = EQUAL[case]
    assert one == other and hash(one) == hash(other) and len({one, other}) == 1


def test_simulations_are_equal_where_all_of_them_is():
    one, same, other = (ei.simulate(PIPELINE, 0.5, 1.0, jobs=9, replications=2, rng=seed) for seed in (1, 1, 2))
    assert one == same and hash(one) == hash(same) and one != other


def test_unequal_values():
    assert ei.Latency(np.array([1.0]), 1) != ei.Latency(np.array([1.0, 1.0]), 1)
    assert ei.Latency(np.array([1.0]), 1) != ei.Latency(1.0, 1)
    assert ei.Latency(np.array([np.nan]), 1) != ei.Latency(np.array([0.0]), 1)
    assert ei.Latency(np.array([1.0]), None) != ei.Latency(np.array([1.0]), 0.0)


def errors():
    """Every class of error and warning that the package makes."""
    found = set()
    for module in pkgutil.walk_packages(ei.__path__, "edgeinfer."):
        if module.name.endswith("__main__"):
            continue
        try:
            loaded = importlib.import_module(module.name)
        except ImportError:
            continue
        found |= {
            kind
            for _, kind in inspect.getmembers(loaded, inspect.isclass)
            if issubclass(kind, BaseException) and kind.__module__.startswith("edgeinfer")
        }
    return sorted(found, key=lambda kind: kind.__qualname__)


@pytest.mark.parametrize("way", COPIES)
def test_every_error_copies(way):
    made = {
        "UnstableError": ("f", 1.0, {"a": 2.0}),
        "EdgeError": ("UNAVAILABLE", "no answer"),
        "Missing": ("size of x", "shapes"),
        "Refusal": ("INVALID", "no"),
        "LimitReached": ("deadline", "no time is left"),
    }
    kinds = errors()
    assert len(kinds) >= 5
    for kind in kinds:
        error = kind(*made.get(kind.__name__, ("said",)))
        error.note = "kept"
        twin = COPIES[way](error)
        assert type(twin) is kind and str(twin) == str(error) and twin.args == error.args
        assert vars(twin) == vars(error)
