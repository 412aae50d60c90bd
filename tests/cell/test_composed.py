"""Stages made of others and links of any law in a cell: beside the pipeline that it is with one terminal, beside what
is known of many, and beside each other. Intervals are of 99.9 %, seeds are fixed.
"""

import numpy as np
import pytest

import edgeinfer as ei
from edgeinfer import model
from edgeinfer.cell import Band, Cell, EdgeNode, Terminals, loads, simulate_cell

LINK = ei.RayleighLink.from_snr(2.0, 10e6, 0.01)
FAR = model.ConstantLink(20e6, latency=0.3)
SESSION = model.Session([ei.Constant(0.1, "paint"), ei.Exponential(0.05, "check")], [0.6, 0.3, 0.1], "painter")
FORK = model.Fork(
    [ei.Exponential(0.2, "one"), [ei.Constant(0.1, "two"), model.Delay(ei.Exponential(0.1, "far"))]], "all", "vote"
)
NESTED = model.Fork(
    [model.Fork([SESSION, ei.Constant(0.2, "a")], "any", "inner"), ei.Exponential(0.1, "b")], 1, "outer"
)
JUDGE = model.Review(ei.Exponential(0.4, "judge"), 0.3)
GPU = ei.Constant(0.1, "gpu")
LAST = ei.Exponential(0.1, "c")
MEMORY = model.MarkovLink([8e6, 1e6], [[0.9, 0.1], [0.3, 0.7]], 0.05)


def run(cell, deadlines=(), jobs=20_000, seed=1, **options):
    options = {"replications": 4, "threads": 1, "confidence": 0.999} | options
    return simulate_cell(cell, deadlines, jobs=jobs, rng=seed, **options)


def same(ours, theirs):
    """Whether intervals have values in common."""
    return bool(np.all(ours.low <= theirs.high) and np.all(theirs.low <= ours.high))


def holds(estimate, truth, index=...):
    low, high = np.asarray(estimate.low)[index], np.asarray(estimate.high)[index]
    return bool(np.all((low <= truth) & (truth <= high)))


@pytest.mark.parametrize(
    "stages",
    [
        [GPU, SESSION],
        [SESSION, GPU, ei.Transfer(1e6, FAR, "far"), LAST],
        [model.Delay(ei.Exponential(0.5, "user")), GPU, FORK],
        [
            model.Delay(ei.Transfer(1e6, FAR, "up")),
            GPU,
            model.Delay(ei.Constant(0.2, "rest")),
            ei.Exponential(0.1, "c"),
        ],
        [ei.Exponential(0.1, "a"), NESTED, GPU, LAST, ei.Measured([0.1, 0.2], "d"), JUDGE],
        [
            GPU,
            ei.Transfer(1e6, model.MarkovLink([8e6, 1e6], [[0.9, 0.1], [0.3, 0.7]], 0.05), "down"),
            ei.Constant(0.1, "c"),
        ],
        [ei.Transfer(1e6, model.TraceLink([8e6, 1e6, 12e6, 4e6], 0.2), "up"), GPU],
        [model.Fork([[ei.Transfer(1e6, FAR, "x"), ei.Constant(0.2, "y")], JUDGE.stage], "all", "pair"), GPU],
    ],
)
def test_one_terminal_is_the_pipeline(stages):
    pipeline = ei.Pipeline(stages)
    ours = run(Cell(Terminals(1, 1.2, pipeline, edge="gpu"), EdgeNode()), [0.6, 1.2])["terminals"]
    theirs = ei.simulate(pipeline, 1.2, [0.6, 1.2], jobs=20_000, replications=8, rng=2, threads=1, confidence=0.999)
    number = len(stages)
    for name in ("mean", "stage_waiting", "utilisation"):
        left, right = getattr(ours, name), getattr(theirs, name)
        assert (left.low[:number] <= right.high).all() and (right.low <= left.high[:number]).all(), name
    left, right = ours.violation, theirs.violation
    assert (left.low[..., :number] <= right.high).all() and (right.low <= left.high[..., :number]).all()


def test_the_edge_serves_sessions_and_reviews():
    for stage in (SESSION, JUDGE):
        pipeline = ei.Pipeline([ei.Exponential(0.1, "a"), stage])
        ours = run(Cell(Terminals(1, 1.5, pipeline, edge=1), EdgeNode()), [0.6])["terminals"]
        theirs = ei.simulate(pipeline, 1.5, [0.6], jobs=20_000, replications=8, rng=2, threads=1, confidence=0.999)
        for name in ("mean", "stage_waiting"):
            left, right = getattr(ours, name), getattr(theirs, name)
            assert (left.low[:2] <= right.high).all() and (right.low <= left.high[:2]).all(), name
    # A session at a faster node: its computing is done there, what it sends stays.
    session = model.Session([ei.Compute(1.0, ei.Node("edge", 4.0), "paint"), ei.Constant(0.1, "check")], [0.5, 0.5])
    cell = Cell(Terminals(2, 0.5, ei.Pipeline([session]), edge=0), EdgeNode(flops=10.0))
    assert loads(cell)["edge"] == pytest.approx(1.5 * 0.2)
    assert run(cell).edges[0].utilisation.value == pytest.approx(0.3, rel=0.1)


def test_a_queue_behind_a_review_or_a_random_delay_is_met_out_of_order():
    """What `simulate` refuses: Poisson arrivals displaced are Poisson, and a review's two streams come together."""
    for stage in (model.Delay(ei.Exponential(0.7, "user")), model.Review(ei.Exponential(0.3, "judge"), 0.5)):
        pipeline = ei.Pipeline([GPU, stage, ei.Exponential(0.5, "c")])
        with pytest.raises(ValueError, match="or simulate a `Cell`"):
            ei.simulate(pipeline, 1.2, 1.0)
        cell = Cell(Terminals(1, 1.2, pipeline, edge="gpu"), EdgeNode(8))
        answer = run(cell)["terminals"]
        # What comes to the last server is Poisson but for the constant, which spreads nothing, and the review's queue,
        # whose departures are Poisson (Burke).
        assert holds(answer.stage_waiting, 1.2 * 0.25 / 0.4, 2)


@pytest.mark.parametrize("capacity", [None, 2])
def test_who_needs_no_review_overtakes_on_the_way_to_an_edge(capacity):
    """Both streams behind the review are Poisson, so that the edge is Erlang's; its wait was 40 times too long."""
    pipeline = ei.Pipeline([model.Review(ei.Exponential(1.0, "judge"), 0.5), ei.Exponential(0.25, "gpu")])
    answer = run(Cell(Terminals(1, 1.6, pipeline, edge="gpu"), EdgeNode(2, capacity=capacity)))["terminals"]
    if capacity is None:
        assert holds(answer.stage_waiting, 0.25 / 24, 1)
    else:
        assert holds(answer.loss, 0.08 / 1.48)


def test_delays_before_a_shared_edge_are_added_exactly():
    stages = [model.Delay(ei.Exponential(0.3, "device")), GPU, ei.Exponential(0.05, "c"), model.Delay(JUDGE.stage)]
    cell = Cell(Terminals(20, 0.3, ei.Pipeline(stages), edge="gpu"), EdgeNode())
    bracket = ei.cell_bracket(cell, [0.8, 1.5])
    assert bracket.method[0].startswith("M/D/c") and (bracket.upper / bracket.lower < 1.1).all()
    violation = run(cell, [0.8, 1.5])["terminals"].violation
    assert (violation.low[:, -1] <= bracket.upper).all() and (bracket.lower <= violation.high[:, -1]).all()
    far = ei.Pipeline([GPU, ei.Transfer(1e6, FAR, "down")])
    near = ei.Pipeline([GPU, ei.Transfer(1e6, model.ConstantLink(20e6), "down")])
    ends = [
        ei.cell_bracket(Cell(Terminals(20, 0.3, way, edge="gpu"), EdgeNode()), deadline)
        for way, deadline in ((far, 0.3 + 0.25), (near, 0.25))
    ]
    assert ends[0].upper == pytest.approx(float(ends[1].upper), rel=1e-9)
    assert ei.cell_bracket(Cell(Terminals(20, 0.3, far, edge="gpu"), EdgeNode()), 0.2).lower == 1


@pytest.mark.parametrize("before", [True, False])
def test_delays_of_sessions_are_bracketed(before):
    """On one terminal it is a pipeline; on several it was refused."""
    delay = model.Delay(SESSION)
    stages = [delay, GPU] if before else [GPU, delay]
    alone, shared = (
        ei.cell_bracket(Cell(Terminals(count, 1.2 / count, ei.Pipeline(stages), edge="gpu"), EdgeNode()), [0.8, 1.5])
        for count in (1, 12)
    )
    assert (alone.lower <= shared.upper).all() and (shared.lower <= alone.upper).all()
    assert (shared.upper / shared.lower < 1.1).all()


def test_sessions_at_a_shared_edge_are_bracketed():
    cell = Cell(Terminals(10, 0.25, ei.Pipeline([SESSION, ei.Constant(0.05, "c")]), edge=0), EdgeNode())
    limits = [0.5, 1.0, 2.0]
    bracket = ei.cell_bracket(cell, limits)
    assert bracket.method[0].startswith("M/G/1") and (bracket.upper / bracket.lower < 1.3).all()
    violation = run(cell, limits)["terminals"].violation
    assert (violation.low[:, -1] <= bracket.upper).all() and (bracket.lower <= violation.high[:, -1]).all()


def test_what_is_not_bracketed_says_so():
    for stages in ([GPU, FORK], [JUDGE, GPU], [GPU, model.Delay(JUDGE.stage), ei.Constant(0.1, "c")]):
        cell = Cell(Terminals(4, 0.3, ei.Pipeline(stages), edge="gpu"), EdgeNode())
        bracket = ei.cell_bracket(cell, [0.6])
        violation = run(cell, [0.6], jobs=5_000)["terminals"].violation
        assert (bracket.upper == 1).all() and (bracket.lower <= violation.high[:, -1]).all()
    # A terminal that shares nothing has the bracket of its pipeline, with all of these.
    fork = ei.cell_bracket(Cell(Terminals(4, 0.3, ei.Pipeline([FORK]))), 1.0)
    assert fork.method == "pipeline / pipeline" and fork.upper < 0.5


def test_parts_of_a_dedicated_band():
    """Transfers within a stage go over the terminal's part of the band, as those that are a stage do."""
    down = ei.Transfer(1e6, LINK, "down")
    plain, within = (
        Cell(Terminals(4, 0.5, ei.Pipeline([GPU, stage]), edge="gpu"), EdgeNode(), downlink=Band(20e6, "dedicated"))
        for stage in (down, model.Session([down], [1.0], "s"))
    )
    assert loads(plain)["terminals: down"] == pytest.approx(loads(within)["terminals: s"], rel=1e-9)
    assert same(run(plain, jobs=5_000)["terminals"].mean, run(within, jobs=5_000)["terminals"].mean)


def test_energy_of_parts():
    """Of every passage its mean computing and sending, and what is kept idle but for that."""
    up = ei.Transfer(1e6, ei.RayleighLink(10e6, 31, -100, 128.1, 0.01), "up")
    fork = model.Fork([ei.Constant(0.2, "a"), [up, ei.Constant(0.1, "b")]], "all")
    session = model.Session([up, ei.Constant(0.1, "c")], [0.5, 0.5], "session")
    cell = Cell(Terminals(3, 0.4, ei.Pipeline([fork, session]), busy_power=5.0, idle_power=1.0))
    answer = run(cell)["terminals"]
    rates = answer.throughput.value
    busy, sent = rates * (0.3 + 0.15), rates * up.mean() * (1 + 1.5) * 10 ** (0.1)
    # Two servers of the fork compute, the third sends; that of the session does both.
    expected = {"busy": 5 * busy, "transmit": sent, "idle": 3 * 3 - busy}
    for name, value in expected.items():
        assert getattr(answer.energy, name) == pytest.approx(float(value), rel=1e-3), name
    assert answer.energy.total == pytest.approx(sum(getattr(answer.energy, name) for name in expected), rel=1e-12)


def test_the_fallback_shares_what_the_pipeline_holds():
    device = ei.Node("device", 1.0)
    held = model.Session([ei.Compute(0.2, device, "look")], [1.0], "held")
    way = ei.Pipeline([held, ei.Constant(0.4, "gpu")])
    alone = ei.Pipeline([ei.Compute(0.3, device, "all")])
    cell = Cell(Terminals(1, 2.0, way, edge="gpu", fallback=alone), EdgeNode(capacity=1))
    answer = run(cell)["terminals"]
    # The two need the device for less than all of the time, and wait for each other.
    assert answer.stage_waiting.low[2] > 0.01
    forked = ei.Pipeline([model.Fork([ei.Compute(0.2, device, "look"), ei.Constant(0.1, "x")]), GPU])
    with pytest.raises(ValueError, match="fallback: stage 'all' is on the node of a part of 'fork', a Fork"):
        simulate_cell(Cell(Terminals(1, 2.0, forked, edge="gpu", fallback=alone), EdgeNode(capacity=1)))


def test_refused_by_name():
    def kind(*stages, **options):
        return Terminals(2, 0.5, ei.Pipeline(stages), **({"edge": "gpu"} | options))

    for stage, name in ((model.Delay(GPU), "Delay"), (model.Fork([GPU], name="gpu"), "Fork")):
        with pytest.raises(ValueError, match=f"edge = 'gpu': is a {name}: must be a stage with one server"):
            kind(stage)
    bad = model.Fork([[model.Delay(ei.Exponential(0.1, "x")), ei.Constant(0.1, "y")]], name="f")
    with pytest.raises(ValueError, match=r"Delay 'x': must not be a random delay between queues.*constant time$"):
        kind(bad, GPU)
    with pytest.raises(ValueError, match="stage 'm' in a branch of 'f' goes over a MarkovLink"):
        kind(model.Fork([ei.Transfer(1e6, MEMORY, "m")], name="f"), GPU)
    inside = model.Session([ei.Transfer(1e6, LINK, "up")], [1.0], "gpu")
    with pytest.raises(ValueError, match="stage 'gpu' has the transfer 'up' in it: must have none where"):
        Cell(kind(inside), EdgeNode(), Band(1e7, "dedicated"))
    with pytest.raises(ValueError, match="has the transfer 'up' in it, which cannot share a band"):
        Cell(kind(model.Session([ei.Transfer(1e6, LINK, "up")], [1.0], "s"), GPU), EdgeNode(), Band(1e7))
    with pytest.raises(ValueError, match="stage 'up' shares a band: must go over a FadingLink, not a ConstantLink"):
        Cell(kind(model.Delay(ei.Transfer(1e6, FAR, "up")), GPU), EdgeNode(), Band(1e7, "dedicated"))
