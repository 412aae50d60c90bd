"""Whatever is given to a public function, it answers or raises a ValueError that says what is wrong; nothing else."""

import warnings
from datetime import timedelta
from decimal import Decimal

import numpy as np
import pytest
from click.testing import CliRunner
from hypothesis import given, settings
from hypothesis import strategies as st

import edgeinfer as ei
from edgeinfer import cell, cli, estimates, paper, plan, quality, study
from edgeinfer.model import bases, slotted
from edgeinfer.strategies import bodies, edits, messages, reviewing, rules, tables, votes

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
        [
            *(np.array([2.0, 1.0, 3.0])[::2], np.float32([0.5]), np.array([1, 2]), np.array(["x"]), np.zeros((2, 0))),
            *(1j, object(), 10**30, b"x", {"a": 1}, set(), [None], np.bool_(True), np.ma.masked_equal([1, 2], 2)),
            *(iter([1.0]), Decimal("0.5"), timedelta(seconds=1), np.datetime64("2020-01-01"), len, NODE, DEVICE),
        ]
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


TERMINALS = {"count": 3, "arrival_rate": 0.2, "pipeline": SPLIT, "edge": "a"}
CELL = cell.Cell(cell.Terminals(2, 0.2, DEVICE, edge="a"), cell.EdgeNode())
BATCHED = cell.Cell(CELL.terminals, cell.EdgeNode(batch=cell.Batching(2)))
TABLE = tables.Table.of_caption("a red circle")
#: What else is reached by name, and is as cheap.
FURTHER = [
    *(
        lambda a, b, name=name: cell.Terminals(**TERMINALS | {name: a, "arrival_shape": None})
        for name in "count arrival_rate pipeline edge name arrival priority deadline fallback nearest rounds".split()
    ),
    lambda a, b: cell.Terminals(**TERMINALS, rounds=[0.5, 0.5], repeated=a),
    lambda a, b: cell.Terminals(**TERMINALS, arrival=b, arrival_shape=a),
    lambda a, b: cell.EdgeNode(a, capacity=b),
    lambda a, b: cell.EdgeNode(1, a, b),
    lambda a, b: cell.Batching(a, b),
    lambda a, b: cell.Band(a, slot=b),
    lambda a, b: cell.Band(1000000.0, a, averaging=b),
    lambda a, b: CELL.with_count(a, b),
    lambda a, b: cell.Cell(a, b),
    lambda a, b: cell.Cell(CELL.terminals, CELL.edges, a, b),
    lambda a, b: cell.loads(a),
    lambda a, b: cell.cell_bracket(CELL, np.inf, a),
    lambda a, b: cell.cell_bracket(a, b),
    lambda a, b: cell.min_servers(CELL, a, b, most=None),
    lambda a, b: cell.min_servers(CELL, 1.0, 0.1, edge=a),
    lambda a, b: cell.min_bandwidth(CELL, 1.0, 0.1, band=a, most=b),
    lambda a, b: cell.best_batch(BATCHED, a, b, waits=[]),
    lambda a, b: cell.best_paradigms(CELL, a, b, most=1),
    lambda a, b: plan.split_conditions(a),
    lambda a, b: plan.gains(b),
    lambda a, b: plan.criterion_values(a, 1.0, "latency"),
    lambda a, b: plan.dominance(paper.scenario(), a, ("arrival_rate", b), deadline=1.0),
    lambda a, b: plan.allocate_steps(CASCADE, a, b, NODE, NODE, LINK),
    lambda a, b: ei.device_only(a, 1, 1, NODE, NODE, b),
    lambda a, b: ei.split(a, 1, 1, NODE, NODE, b),
    lambda a, b: ei.population_bracket(a, b, 1.0, 1.0),
    lambda a, b: study.sweep(a, paper.scenario(), {"prior_steps": b}, progress=False),
    lambda a, b: ei.Recorded.from_csv(a, "x"),
    lambda a, b: ei.Measured.from_csv(a, "x", "m"),
    lambda a, b: ei.TraceLink.from_csv(a, "x", 0.1),
    lambda a, b: ei.TraceLink.from_mahimahi(a, 0.001),
    lambda a, b: ei.OutageLink.from_rate(LINK, a),
    lambda a, b: ei.OutageLink.from_rate(a, b),
    lambda a, b: ei.OutageLink.from_outage(LINK, a),
    lambda a, b: ei.OutageLink.from_outage(a, b),
    lambda a, b: ei.MarkovLink.from_doppler(LINK, a, b),
    lambda a, b: LINK.at_rate(a),
    lambda a, b: ei.TransferTime(a, b),
    lambda a, b: ei.Gamma(1.0, 2.0).at_rate(a),
    lambda a, b: ei.MarkovModulated([1.0], [[0.0]]).at_rate(a),
    lambda a, b: ei.Recorded(a).index_of_dispersion,
    lambda a, b: ei.Batch(ei.Recorded(a), 2).at_rate(b),
    lambda a, b: estimates.shares(a, b),
    lambda a, b: estimates.cycles(a, b),
    lambda a, b: estimates.shares([True, False], [0, 1], a, resamples=2, seed=b),
    lambda a, b: estimates.proportion(a, b),
    lambda a, b: estimates.largest_share(a, b),
    lambda a, b: quality.attributes_right(a, b),
    lambda a, b: quality.clip_scores(a, b),
    lambda a, b: quality.lpips_scores(a, b, a),
    lambda a, b: ei.network.narrow(np.ones(2, np.float32), b),
    lambda a, b: ei.network.narrow(a, "int8"),
    lambda a, b: ei.network.widen(a, b, b, "float32"),
    lambda a, b: ei.network.widen(np.ones(2, np.int8), 1.0, 0.0, a),
    lambda a, b: ei.network.widen(np.ones(2, np.float32), 1.0, 0.0, a),
    lambda a, b: ei.network.read_json(a, b),
    lambda a, b: ei.network.read_part(a, b),
    lambda a, b: ei.network.random_feeds(a),
    lambda a, b: tables.Table(a, b),
    lambda a, b: TABLE.replace(layout=a, places=b),
    lambda a, b: TABLE.differences(a),
    lambda a, b: tables.Place(a, b, a),
    lambda a, b: tables.Table.of_caption(a),
    lambda a, b: bodies.Seed(TABLE, a, b),
    lambda a, b: bodies.Seed(a),
    lambda a, b: bodies.Plan(a),
    lambda a, b: bodies.Findings(a, b),
    lambda a, b: bodies.Verdict(0, True, a),
    lambda a, b: bodies.Picture(a),
    *(lambda a, b, body=body: body.from_bytes(a) for body in bodies.BODIES),
    lambda a, b: messages.Message(bodies.Seed(TABLE), a, b),
    lambda a, b: messages.Message.from_bytes(a),
    lambda a, b: rules.Rules(rules.Spreads(1.0, 2.0, 3.0), 0.1).passes(a),
    lambda a, b: rules.Rules.read(b),
    lambda a, b: rules.Spreads(1.0, 2.0, 3.0).lead(a, b),
    lambda a, b: rules.Spreads(a, b, 1.0),
    lambda a, b: votes.vote(a),
    lambda a, b: votes.nearest_to_vote(a),
    lambda a, b: votes.average(a),
    lambda a, b: votes.scan(a),
    lambda a, b: votes.damage(a, 0.5, b),
    lambda a, b: edits.edit(a, b),
    lambda a, b: reviewing.calibrate(a, b),
    lambda a, b: reviewing.ReviewRule(0.5, 0.1, 0.1, 0.1)(a),
]


def answers_or_value_error(call, a, b):
    # Beyond the largest double is infinity, which is what floating point says of it.
    with warnings.catch_warnings(), np.errstate(over="ignore"):
        warnings.simplefilter("ignore", ei.AccuracyWarning)
        try:
            call(a, b)
        except (ValueError, FileNotFoundError, IsADirectoryError) as error:
            assert str(error)


@settings(max_examples=100, deadline=None)
@given(a=anything, b=anything)
def test_values_are_made_or_value_error(a, b):
    for call in VALUES.values():
        answers_or_value_error(call, a, b)


@settings(max_examples=40, deadline=None)
@given(a=anything, b=anything)
def test_what_else_is_reached_by_name(a, b):
    for call in FURTHER:
        answers_or_value_error(call, a, b)


@pytest.mark.parametrize("name", CALLS)
@settings(max_examples=60, deadline=None)
@given(a=anything, b=anything)
def test_answers_or_value_error(name, a, b):
    answers_or_value_error(CALLS[name], a, b)


QUEUE = {"jobs": 5, "replications": 2, "warmup": 1}
FLAGS, UNITS, FEATURES = np.array([True, False, True, False]), np.arange(4) // 2, np.eye(4)
#: Whole numbers that memory or a counter of the core cannot hold where they are too large, by their names.
COUNTS = [
    *(("simulate", n, lambda x, n=n: ei.simulate(DEVICE, 1.0, 1.0, **QUEUE | {n: x})) for n in [*QUEUE, "threads"]),
    ("family", "replications", lambda x: ei.simulate(DEVICE, np.full(1000, 0.1), 1.0, **QUEUE | {"replications": x})),
    ("rare", "threads", lambda x: ei.rare_violation(DEVICE, 1.0, 1.0, threads=x)),
    ("cell", "replications", lambda x: cell.simulate_cell(CELL, 1.0, replications=x)),
    ("cell", "threads", lambda x: cell.simulate_cell(CELL, 1.0, jobs=5, replications=2, threads=x)),
    ("terminals", "count", lambda x: cell.Terminals(**TERMINALS | {"count": x})),
    ("edge", "servers", lambda x: cell.EdgeNode(x)),
    ("edge", "capacity", lambda x: cell.EdgeNode(capacity=x)),
    ("batch", "limit", lambda x: cell.Batching(x)),
    ("shares", "resamples", lambda x: estimates.shares(FLAGS, UNITS, resamples=x)),
    ("mean", "resamples", lambda x: estimates.mean([1.0, 2.0], resamples=x)),
    ("kid", "subsets", lambda x: quality.kid(FEATURES, FEATURES, resamples=0, subsets=x, subset_size=2)),
    ("kid", "resamples", lambda x: quality.kid(FEATURES, FEATURES, resamples=x)),
    ("rates", "size", lambda x: LINK.sample_rate(x)),
    ("transfers", "size", lambda x: LINK.transfer([1e6, 2e6]).sample(x)),
    ("figure8", "points", lambda x: paper.figure8.data(paper.scenario(), points=x)),
]


@pytest.mark.parametrize(("where", "name", "call"), COUNTS, ids=[f"{where} {name}" for where, name, _ in COUNTS])
def test_counts_beyond_all_memory_are_refused_by_name(where, name, call):
    for huge in (2**50, 2**63, 10**30):
        with pytest.raises(ValueError, match=rf"{name} = {huge}: must be a whole number in \[\d, \d+\]"):
            call(huge)


LACKING = np.ma.masked_array([True, False, True, False], [False, True, False, False])
LABELS = [0.0, np.nan, 1.0, 1.0]
#: What has flags or labels of its own, which may lack some: pandas and NumPy would count these as others.
INCOMPLETE = {
    "hits": [
        lambda: estimates.proportion(LACKING),
        lambda: estimates.proportion(np.array([True, None, False])),
        lambda: estimates.shares(LACKING, UNITS),
    ],
    "first": [lambda: estimates.paired_difference(LACKING, FLAGS)],
    "right": [lambda: reviewing.calibrate(np.arange(4.0), LACKING)],
    "groups": [
        lambda: estimates.shares(FLAGS, np.ma.masked_array(UNITS, LACKING.mask)),
        lambda: quality.mean_score([1.0, 2.0, 3.0, 4.0], groups=LABELS),
        lambda: quality.fid(FEATURES, FEATURES, groups=(LABELS, UNITS), singular="allow"),
        lambda: quality.fid(FEATURES, FEATURES, groups=(np.array(["a", None, "b", "b"]), UNITS), singular="allow"),
    ],
    "arrivals": [lambda: estimates.cycles([0.0, np.nan, 1.0], [1.0, 1.0, 1.0])],
}


@pytest.mark.parametrize("name", INCOMPLETE)
def test_flags_and_labels_that_lack_some_are_refused_by_name(name):
    for call in INCOMPLETE[name]:
        with pytest.raises(ValueError, match=rf"{name}\[1\] (is masked|= nan|= None): must be "):
            call()


def test_cycles_are_of_requests_in_order():
    with pytest.raises(ValueError, match=r"arrivals = .*: must ascend; sort the requests by them"):
        estimates.cycles([5.0, 3.0, 1.0], [1.0, 1.0, 1.0])


def test_shapes_beyond_all_memory_are_refused_by_name():
    with pytest.raises(ValueError, match=r"size = \(1048576, 1048576, 1048576\): must be of a product in \[0, \d+\]"):
        LINK.sample_rate((2**20, 2**20, 2**20))


def test_groups_are_as_many_as_requests_at_most():
    with pytest.raises(ValueError, match="groups: must have a request in each"):
        estimates.shares(FLAGS, [0, 0, 1, 2**62])


SAMPLED = {"method": "sampling", "relative_error": 0.3, "rng": 1}
#: The argument that is wrong is named, whatever it is handed on as.
NAMED = {
    "edge = 1.0: must be a Node": lambda: ei.split(CASCADE, 1, 1, 1.0, NODE, LINK),
    "device = None: must be a Node": lambda: ei.device_only(CASCADE, 1, 1, NODE, None, LINK),
    "snr = None: must be real": lambda: ei.RayleighLink.from_snr(None, 1e6, 0.01),
    "mean_snr = 1.0: must be None where": lambda: ei.RayleighLink(1e6, np.ones(2), None, None, 0.01, mean_snr=1.0),
    "guidance_passes = -1: must be in": lambda: paper.scenario().replace(guidance_passes=-1),
    "index = 2: must be a whole number": lambda: ei.Poisson([1.0, 2.0]).element(2),
    r"branches\[1\]: stages = 1: must be a sequence": lambda: ei.Fork([[ei.Constant(0.1, "x")], 1]),
    "seed = -1: must be what": lambda: estimates.shares(FLAGS, UNITS, seed=-1),
    r"size\[1\] = \[2, 3\]: must be a whole": lambda: LINK.sample_rate([1, [2, 3]]),
    "slot = 1e.308: must be in": lambda: ei.TraceLink.from_mahimahi(__file__, slot=1e308),
    # Below the normal range: what is computed of them has few digits, or is no number.
    r"arrival_rate = 1e-320: must be in \[2\.22507e-308, inf\)": lambda: ei.violation_bound(DEVICE, 1e-320, 1.0),
    r"rate\[1\] = 1e-320: must be in \[2\.22507e-308, inf\)": lambda: ei.Erlang([1.0, 1e-320], 2),
    r"latent_bits = 1e-320: must be in": lambda: ei.Cascade(1, 1, 1, 1, 1e-320, 1),
    "column = array.*: must be a str": lambda: ei.TraceLink.from_csv(__file__, np.ones(2), 0.1),
    r"pipeline = \[Constant.*: must be a Pipeline, as `Pipeline\(stages\)` makes one": lambda: ei.latency(
        [ei.Constant(1.0, "a")]
    ),
    "path_loss_db: is a PathLoss: must be real numbers, dB, such as its `los`": lambda: ei.RayleighLink(
        1e6, 23, -100, ei.path_loss.umi(100.0, 3.5e9), 0.01
    ),
    "pipeline = Cell.*; `cell_bracket` and `simulate_cell` take a Cell": lambda: ei.violation_bracket(CELL, 1.0, 1.0),
    r"pipeline = Scenario.*: must be a Pipeline, such as one of its `pipelines\(\)`": lambda: ei.latency(
        paper.scenario()
    ),
    "pipeline = {.*: must be a Pipeline, such as one of these": lambda: ei.latency(paper.scenario().pipelines()),
    r"arrival_rate = Batch\(\.\.\): .*`rare_violation` takes a Batch": lambda: ei.violation_bracket(
        DEVICE, ei.Batch(ei.Poisson(1.0), 2), 1.0
    ),
    r"power\['edge'\]: must be a Node, or a stage's name, 'a'": lambda: ei.energy(
        ei.Pipeline([ei.Constant(1.0, "a")]), {"edge": 1.0}
    ),
    "model = 'none.onnx': must be an ONNX file; there is no such file": lambda: ei.network.read_graph("none.onnx"),
    "what pipeline gives for a loss = None: must be a Pipeline": lambda: ei.population_bracket(
        lambda loss: None, ei.Population(ei.path_loss.inh(10.0, 1e9)), 1.0, 1.0
    ),
    "jobs = 1.*: must be in": lambda: cell.simulate_cell(CELL, 1.0, jobs=1e308),
    r"deadline of shape \(2,\): must be one number": lambda: cell.best_batch(BATCHED, [1.0, 2.0], [1]),
}


@pytest.mark.parametrize("said", NAMED)
def test_what_is_wrong_is_named(said):
    with pytest.raises(ValueError, match=f"^{said}"):
        NAMED[said]()


def test_what_a_generator_of_stages_raises_is_seen():
    with pytest.raises(TypeError, match="missing 1 required positional argument: 'name'"):
        ei.Pipeline(ei.Constant(seconds) for seconds in (0.1, 0.2))


def test_long_values_are_cut_short():
    many = [ei.Measured(np.arange(1000.0), "x")] * 100
    for call in (lambda: ei.latency(many), lambda: ei.simulate_cell(many), lambda: ei.Transfer(1.0, many, "x")):
        with pytest.raises(ValueError, match=r"\.\.\.: must be a ") as refused:
            call()
        assert len(str(refused.value)) < 300


def test_no_deadlines_are_none_when_sampled():
    assert ei.deadline_at(DEVICE, [], 0.01, **SAMPLED).value.shape == (0,)


@pytest.mark.parametrize("kind", [ei.ArrivalProcess, bases.Server, bases.Composed, slotted.ChannelLink])
def test_what_only_has_kinds_is_not_made(kind):
    with pytest.raises(TypeError, match="abstract"):
        kind()


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
    # What is said before the table goes to the other stream, which a runner joins to it.
    assert code == 0 and "\nbest,value" in "\n" + said
