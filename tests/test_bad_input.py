"""Whatever is given to a public function, it answers or raises a ValueError that says what is wrong; nothing else."""

import warnings

import numpy as np
import pytest
from click.testing import CliRunner
from hypothesis import given, settings
from hypothesis import strategies as st

import edgeinfer as ei
from edgeinfer import cli

NODE = ei.Node("unit", 1.0)
LINK = ei.RayleighLink(10e6, 31, -100, 128.1, 0.01)
CASCADE = ei.Cascade(0.194e12, 6.7598e12, 1.117e12, 3.5492e12, 1.0486e6, 5.2429e6)
SPLIT = ei.Pipeline([ei.Compute(0.3, NODE, "a"), ei.Transfer(1e6, LINK, "b"), ei.Compute(0.2, NODE, "c")])
DEVICE = ei.Pipeline([ei.Compute(0.3, NODE, "a")])

number = st.one_of(
    st.floats(), st.floats(0, 3), st.integers(-3, 3), st.sampled_from([1e300, -1e300, 1e-300, 0.0, np.inf, np.nan])
)
anything = st.one_of(
    number,
    st.none(),
    st.text(max_size=2),
    st.booleans(),
    st.lists(number, max_size=3),
    st.lists(st.lists(number, min_size=1, max_size=2), max_size=2),
    st.sampled_from(
        [np.array([2.0, 1.0, 3.0])[::2], np.float32([0.5]), np.array([1, 2]), np.array(["x"]), 1j, object()]
    ),
)

#: What is cheap to call, so that one example serves for all.
VALUES = {
    "Node": lambda a, b: ei.Node("x", a),
    "RayleighLink": lambda a, b: ei.RayleighLink(a, 31, b, 100, 0.01),
    "slot": lambda a, b: ei.RayleighLink(1e6, 31, -100, 100, a, b),
    "Cascade": lambda a, b: ei.Cascade(a, b, 1, 1, 1, 1),
    "Compute": lambda a, b: ei.Compute(a, NODE, "x").mean(),
    "Measured": lambda a, b: ei.Measured(a, "m").mean(),
    "Exponential": lambda a, b: ei.Exponential(a, "m").mean(),
    "Constant": lambda a, b: ei.Pipeline([ei.Constant(a, b)]).loads(1.0),
    "Compute on": lambda a, b: ei.Compute(1.0, a, "x", b),
    "Transfer": lambda a, b: ei.Transfer(a, b, "x"),
    "confidence": lambda a, b: ei.Measured([0.1] * 100, "m", a, b),
    "Pipeline": lambda a, b: ei.Pipeline([a, b]),
    "stages": lambda a, b: ei.Pipeline(a),
    "Session": lambda a, b: ei.Session(a, b),
    "rounds": lambda a, b: ei.Session([ei.Constant(0.1, "x")], a).capped(b),
    "Fork": lambda a, b: ei.Fork(a, b),
    "join": lambda a, b: ei.Fork([ei.Constant(0.1, "x")] * 2, a),
    "Review": lambda a, b: (ei.Delay(a), ei.Review(ei.Constant(0.1, "x"), b)),
    "Fading": lambda a, b: (ei.Nakagami(a), ei.Rician(a), ei.BestOf(a, ei.MaximalRatio(a, b))),
    "ConstantLink": lambda a, b: ei.ConstantLink(a, b).transfer(1.0).mean(),
    "OutageLink": lambda a, b: ei.OutageLink(1.0, a, b).transfer(1.0).mean(),
    "TraceLink": lambda a, b: ei.TraceLink(a, 0.1, b).transfer(1.0).mean(),
    "MarkovLink": lambda a, b: ei.MarkovLink(a, b, 0.1),
    "Markov chain": lambda a, b: ei.MarkovLink.gilbert_elliott(1.0, 2.0, a, b, 0.1).transfer(1.0).mean(),
    "Erlang": lambda a, b: ei.Erlang(a, b).mean_rate,
    "uneven arrivals": lambda a, b: (ei.Hyperexponential(a, b).mean_rate, ei.Gamma(a, b).mean_rate),
    "Periodic": lambda a, b: ei.Periodic(a).at_rate(b).mean_rate,
    "MarkovModulated": lambda a, b: ei.MarkovModulated(a, b).mean_rate,
    "Batch": lambda a, b: (ei.Batch(ei.Poisson(1.0), a).at_rate(b), ei.Batch(a, b)),
    "Recorded": lambda a, b: ei.Recorded(a).at_rate(b),
    "power_law": lambda a, b: ei.path_loss.power_law(a, 1e9, exponent=b, shadowing=a),
    "indoor": lambda a, b: ei.path_loss.inh(a, 1e9, base_height=b),
    "outdoor": lambda a, b: (ei.path_loss.uma(a, 1e9, base_height=b), ei.path_loss.umi(100.0, a, terminal_height=b)),
    "Population": lambda a, b: ei.Population(ei.path_loss.inh([10.0, 20.0], 1e9), a).above(b),
    "finite_blocklength_rate": lambda a, b: ei.finite_blocklength_rate(a, b, a),
    "split": lambda a, b: ei.split(CASCADE, a, b, NODE, NODE, LINK),
    "edge_only": lambda a, b: ei.edge_only(CASCADE, a, b, NODE, NODE, LINK),
    "device_only": lambda a, b: ei.device_only(CASCADE, a, b, NODE, NODE, LINK),
}
CALLS = {
    "mean_rate": lambda a, b: ei.RayleighLink(1e6, 31, a, b, 0.01).mean_rate(),
    "sample_rate": lambda a, b: LINK.sample_rate(10, a),
    "transfer": lambda a, b: LINK.transfer(a).sf(b),
    "law": lambda a, b: (LINK.transfer(1e6).cdf(a), LINK.transfer(1e6).mgf(b)),
    "latency": lambda a, b: ei.latency(SPLIT, a),
    "mean_sojourn": lambda a, b: ei.mean_sojourn(SPLIT, a),
    "bracket": lambda a, b: ei.violation_bracket(DEVICE, a, b),
    "union": lambda a, b: ei.violation_bound(SPLIT, a, b, "union"),
    "lundberg": lambda a, b: ei.violation_bound(SPLIT, a, b, "lundberg", log=True),
    "method": lambda a, b: ei.violation_bound(SPLIT, 1.0, 2.0, a),
    "deadline_at": lambda a, b: ei.deadline_at(DEVICE, a, b, tolerance=0.1),
    "max_arrival_rate": lambda a, b: ei.max_arrival_rate(DEVICE, a, b, tolerance=0.1),
    "min_bandwidth": lambda a, b: ei.min_bandwidth(SPLIT, 0.1, a, b, tolerance=0.1, method="union"),
    "simulate": lambda a, b: ei.simulate(DEVICE, a, b, jobs=5, replications=2, warmup=1),
    "jobs": lambda a, b: ei.simulate(DEVICE, 1.0, 1.0, jobs=5, replications=2, warmup=1, confidence=a, rng=b),
    "rare_violation": lambda a, b: ei.rare_violation(DEVICE, a, b, relative_error=0.3, max_replications=2000),
    "best_paradigm": lambda a, b: ei.plan.best_paradigm(ei.paper.scenario(), a, deadline=b),
    "replace": lambda a, b: ei.paper.scenario().replace(prior_steps=a, bandwidth=b).pipelines(),
}


def answers_or_value_error(call, a, b):
    # Beyond the largest double is infinity, which is what floating point says of it.
    with warnings.catch_warnings(), np.errstate(over="ignore"):
        warnings.simplefilter("ignore", ei.AccuracyWarning)
        try:
            call(a, b)
        except ValueError as error:
            assert str(error)


@settings(max_examples=100, deadline=None)
@given(a=anything, b=anything)
def test_values_are_made_or_value_error(a, b):
    for call in VALUES.values():
        answers_or_value_error(call, a, b)


@pytest.mark.parametrize("name", CALLS)
@settings(max_examples=60, deadline=None)
@given(a=anything, b=anything)
def test_answers_or_value_error(name, a, b):
    answers_or_value_error(CALLS[name], a, b)


@pytest.fixture(scope="module")
def network(tmp_path_factory):
    """Two layers, the sizes of the input left free but for the channels."""
    onnx = pytest.importorskip("onnx")
    helper = onnx.helper
    shapes = {"x": ["batch", 2, "side", "side"], "y": ["batch", 3, "less", "less"]}
    ports = [helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, shape) for name, shape in shapes.items()]
    weight = onnx.numpy_helper.from_array(np.ones((3, 2, 3, 3), np.float32), "w")
    nodes = [helper.make_node("Conv", ["x", "w"], ["h"]), helper.make_node("Relu", ["h"], ["y"])]
    graph = helper.make_graph(nodes, "two", ports[:1], ports[1:], [weight])
    path = tmp_path_factory.mktemp("bad") / "network.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)
    return path


def cut(model, *arguments):
    """The command's exit code, as `main` would give it, and what it said."""
    result = CliRunner().invoke(cli.group, ["cut", str(model), *arguments])
    if isinstance(result.exception, ValueError | OSError):
        return 2, str(result.exception)
    # Anything else that escapes is a fault of the command.
    assert result.exception is None or isinstance(result.exception, SystemExit), repr(result.exception)
    return result.exit_code, result.output


word = st.one_of(
    number.map(str), st.text(max_size=4), st.sampled_from(["1,2,8,8", "1,3,8,8", "0,2,8,8", "1,2,2,2", "1", ","])
)


@settings(max_examples=80, deadline=None)
@given(
    shape=st.one_of(st.just("1,2,8,8"), word),
    option=st.sampled_from(["device_flops", "edge_flops", "bandwidth", "path_loss_db", "arrival_rate", "slot", "mass"]),
    value=word,
    objective=st.sampled_from([[], ["--objective", "throughput"], ["--objective", "violation"], ["--returned"]]),
    deadline=st.one_of(st.none(), word),
)
def test_cut_answers_or_says_what_is_wrong(network, shape, option, value, objective, deadline):
    arguments = [f"--shape=x={shape}", f"--set={option}={value}", *objective]
    if deadline is not None:
        arguments.append(f"--deadline={deadline}")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ei.AccuracyWarning)
        code, said = cut(network, *arguments)
    assert code in (0, 2) and said.strip()


@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_cut_reads_or_refuses_damaged_files(network, data):
    whole = network.read_bytes()
    kept = whole[: data.draw(st.integers(0, len(whole)))]
    at = data.draw(st.integers(0, len(kept)))
    path = network.with_name("damaged.onnx")
    path.write_bytes(kept[:at] + data.draw(st.binary(max_size=3)) + kept[at + data.draw(st.integers(0, 3)) :])
    code, said = cut(path, "--shape=x=1,2,8,8")
    assert code in (0, 2) and said.strip()


def test_cut_works_on_this_network(network):
    code, said = cut(network, "--shape=x=1,2,8,8", "--csv")
    assert code == 0 and said.startswith("best,value")
