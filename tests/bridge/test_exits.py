"""Early exits: the shipped network, rules and their calibration, and the queue that they relieve."""

import itertools
import json
import math
import shutil

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import edgeinfer as ei
from edgeinfer import bridge
from edgeinfer.bridge import ExitRule
from edgeinfer.bridge.exit import digits
from edgeinfer.bridge.exit.rules import CRITERIA, scores

#: Rate of the node that turns FLOP into seconds where nothing is measured, FLOP/s.
RATE = 5e9


@pytest.fixture(scope="module")
def network():
    return bridge.load_exits()


@pytest.fixture(scope="module")
def data():
    return {part: digits.load_data(part) for part in ("train", "validation", "test")}


@pytest.fixture(scope="module")
def evaluations(network, data):
    return {part: network.evaluate(*data[part]) for part in ("validation", "test")}


@pytest.fixture(scope="module")
def rule(evaluations):
    return bridge.calibrate(evaluations["validation"], accuracy_loss=0.01)


@pytest.fixture(scope="module")
def timed(evaluations):
    """The test set with costs in seconds on a node of `RATE`."""
    test = evaluations["test"]
    return test.with_times(test.costs / RATE, test.full_cost / RATE)


def random_evaluation(seed, exits=3, n=60, classes=4):
    rng = np.random.default_rng(seed)
    labels = rng.integers(classes, size=n)
    # Later exits know more.
    logits = rng.normal(size=(exits, n, classes)) + 1.5 * np.arange(exits)[:, None, None] * np.eye(classes)[labels]
    powers = np.exp(logits)
    return bridge.Evaluation(powers / powers.sum(2, keepdims=True), labels, np.arange(1.0, exits + 1), exits - 0.1)


def test_the_shipped_network_is_what_it_says(network, data, evaluations):
    manifest = network.manifest
    assert sum(path.stat().st_size for path in manifest.folder.rglob("*") if path.is_file()) < 1e6
    parts = [np.array(manifest.split[part]) for part in ("train", "validation", "test")]
    assert sorted(np.concatenate(parts)) == list(range(1797))
    for part, evaluation in evaluations.items():
        assert tuple(evaluation.correct.mean(1)) == pytest.approx(manifest.accuracy[part], abs=1e-12)
    assert evaluations["test"].accuracy().value > 0.985
    for item, kind in itertools.product(range(3), ("segments", "exits")):
        segment = getattr(manifest, kind)[item]
        shape = [(1, 8, 8), (16, 8, 8), (32, 8, 8), (64, 4, 4)][item + (kind == "exits")]
        assert bridge.count_flops(segment.part.path, {"x": (1, *shape)}) == segment.flops
    assert manifest.costs[-1] > manifest.full_cost == sum(s.flops for s in manifest.segments) + manifest.exits[-1].flops
    assert data["test"].images.max() == 1 and {p.dtype for p in (data["test"].images,)} == {np.dtype(np.float32)}


def test_infer_stops_where_the_batch_says(network, data, evaluations, rule):
    test = evaluations["test"]
    expected = rule.exits(test.probabilities)
    for number in range(80):
        answer = network.infer(data["test"].images[number], rule)
        assert answer.exit == expected[number]
        # One image and a batch round differently.
        np.testing.assert_allclose(answer.probabilities, test.probabilities[answer.exit, number], atol=1e-4)
        assert answer.label == answer.probabilities.argmax()


def test_nothing_behind_the_exit_runs(network, data, monkeypatch):
    ran = []
    run = network._run
    monkeypatch.setattr(network, "_run", lambda part, *rest: ran.append(part.name) or run(part, *rest))
    image = data["test"].images[0]
    network.infer(image, ExitRule([0.0, 0.0]))
    assert ran == ["segment_1", "exit_1"]
    ran.clear()
    assert network.infer(image, ExitRule([math.inf, math.inf])).exit == 2
    assert ran == ["segment_1", "segment_2", "segment_3", "exit_3"]


def test_a_cut_reassembles(network, data, evaluations):
    images = data["test"].images[:50]
    for cut in (1, 2):
        whole = network.finish(network.features(images, cut), cut)
        np.testing.assert_allclose(whole, evaluations["test"].probabilities[-1, :50], atol=1e-6)
        gates = network.gates(images, cut)
        assert gates.shape == (50, (16, 32)[cut - 1]) and 0 < gates.min() and gates.max() < 1


@pytest.mark.parametrize("criterion", CRITERIA)
def test_thirty_percent_less_compute_at_one_percent_loss(evaluations, criterion):
    rule = bridge.calibrate(evaluations["validation"], accuracy_loss=0.01, criterion=criterion)
    assert evaluations["validation"].loss(rule).high <= 0.01
    test = evaluations["test"]
    saving, loss = test.saving(rule), test.loss(rule)
    assert saving.low >= 0.3
    assert loss.value <= 0.01 and loss.low <= 0
    assert saving.value == pytest.approx(1 - test.mean_cost(rule) / test.full_cost)
    # Neither "always leave at the first exit" nor "never leave" does it.
    assert test.loss(ExitRule([0.0, 0.0], criterion)).low > 0.01
    assert test.saving(ExitRule([math.inf, math.inf], criterion)).value < 0


@settings(deadline=None)
@given(st.integers(0, 10**6), st.sampled_from(CRITERIA), st.floats(0, 1))
def test_lowering_a_rule_makes_no_input_leave_later(seed, criterion, factor):
    p = random_evaluation(seed).probabilities
    high = ExitRule(np.random.default_rng(seed).uniform(0, 1.2, 2), criterion)
    assert (high.lowered(factor).exits(p) <= high.exits(p)).all()
    assert (high.lowered(0).exits(p) == 0).all()
    assert (ExitRule([math.inf] * 2, criterion).exits(p) == 2).all()
    assert ((scores(p, criterion) >= 0) & (scores(p, criterion) <= 1)).all()


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 10**6), st.sampled_from(CRITERIA), st.floats(0, 0.3))
def test_calibration_is_the_best_of_its_candidates(seed, criterion, loss):
    evaluation = random_evaluation(seed, n=25)
    found = bridge.calibrate(evaluation, accuracy_loss=loss, criterion=criterion, confidence=None, levels=25)
    assert evaluation.loss(found).value <= loss + 1e-9
    # All distinct behaviours: thresholds at every score.
    rows = scores(evaluation.probabilities, criterion)
    best = math.inf
    for chosen in itertools.product(*[[*row, math.inf] for row in rows[:-1]]):
        rule = ExitRule(chosen, criterion)
        if evaluation.loss(rule).value <= loss + 1e-9:
            best = min(best, evaluation.mean_cost(rule))
    assert evaluation.mean_cost(found) == pytest.approx(best)


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 10**6), st.floats(1.0, 3.0))
def test_calibration_for_a_mean_cost(seed, budget):
    evaluation = random_evaluation(seed, n=25)
    found = bridge.calibrate(evaluation, mean_cost=budget, levels=25)
    assert evaluation.mean_cost(found) <= budget + 1e-9
    cheaper = bridge.calibrate(evaluation, mean_cost=1.0, levels=5)
    assert evaluation.accuracy(found).value >= evaluation.accuracy(cheaper).value


def test_calibration_that_cannot_be_had(evaluations):
    with pytest.raises(ValueError, match="mean_cost = 1: must be at least 31"):
        bridge.calibrate(evaluations["validation"], mean_cost=1.0)
    with pytest.raises(ValueError, match=r"accuracy_loss = 0: must be at least 0\.00"):
        bridge.calibrate(evaluations["validation"], accuracy_loss=0.0)


def replications(evaluation, policy, rate, requests, count, warmup=2000):
    """Independent runs of the replayed queue, the first requests left out: mean sojourn times, and a run of each."""
    runs = []
    for seed in range(count):
        arrivals = bridge.poisson(rate, requests + warmup, seed)
        served = bridge.replay(evaluation, policy, arrivals, seed + 1000)
        runs.append(
            bridge.Served(
                *(getattr(served, name)[warmup:] for name in ("arrivals", "starts", "ends", "exits", "correct"))
            )
        )
    return runs


def test_the_core_predicts_the_replayed_queue(timed, rule):
    load = 0.8
    pipeline = ei.Pipeline([timed.stage(rule)])
    assert pipeline[0].mean() == pytest.approx(timed.mean_cost(rule))
    rate = load / pipeline[0].mean()
    runs = replications(timed, rule, rate, 20_000, 32)
    deadlines = np.array([2, 5, 10]) * pipeline[0].mean()
    predicted = ei.simulate(pipeline, rate, deadlines, jobs=20_000, replications=32, rng=4)
    bracket = ei.violation_bracket(pipeline, rate, deadlines)
    # Means of 32 independent runs: Student's t at 6 has a false alarm of 1e-6 for each of the four comparisons.
    sojourn = np.array([run.sojourn.mean() for run in runs])
    error = sojourn.std(ddof=1) / np.sqrt(len(runs))
    assert abs(sojourn.mean() - ei.mean_sojourn(pipeline, rate)) < 6 * error
    spread = np.hypot(error, (predicted.mean.high - predicted.mean.low)[0, 0] / 4)
    assert abs(sojourn.mean() - predicted.mean.value[0, 0]) < 6 * spread
    for deadline, lower, upper in zip(deadlines, bracket.lower, bracket.upper, strict=True):
        share = np.array([run.violation(deadline) for run in runs])
        slack = 6 * share.std(ddof=1) / np.sqrt(len(runs))
        assert lower - slack <= share.mean() <= upper + slack


def test_exits_save_backlog(timed, rule):
    # 95 % load without exits; Little's law ties the time average of the backlog to the mean sojourn time.
    rate = 0.95 / timed.full_cost
    arrivals = bridge.poisson(rate, 20_000, 5)
    plain, early = (bridge.replay(timed, policy, arrivals, 6) for policy in (None, rule))
    assert early.mean_backlog < 0.2 * plain.mean_backlog
    for run in (plain, early):
        assert run.mean_backlog == pytest.approx(run.sojourn.mean() * len(arrivals) / np.ptp(arrivals), rel=1e-2)
        assert (run.starts >= run.arrivals).all() and (run.starts[1:] >= run.ends[:-1] - 1e-12).all()
        assert run.backlog(run.ends[-1] + 1) == 0 and run.backlog(arrivals[0] - 1) == 0
    assert plain.accuracy - early.accuracy < 0.02
    times = np.linspace(*arrivals[[0, -1]], 20_000)
    assert plain.backlog(times).mean() == pytest.approx(plain.mean_backlog, rel=0.05)
    np.testing.assert_allclose(np.unique(plain.ends - plain.starts), timed.full_cost)


def test_a_deadline_policy_lowers_thresholds_as_the_queue_grows(evaluations, timed, rule):
    validation = evaluations["validation"]
    seconds = validation.with_times(validation.costs / RATE, validation.full_cost / RATE)
    deadline = 8 * seconds.mean_cost(rule)
    policy = bridge.deadline_policy(seconds, rule, deadline)
    chosen = [policy(waiting) for waiting in range(60)]
    thresholds = np.array([r.thresholds for r in chosen])
    assert (np.diff(thresholds, axis=0) <= 0).all() and (thresholds[0] == rule.thresholds).all()
    assert (thresholds[-1] == 0).all() and policy.level(10**9) == len(policy.rules) - 1
    for waiting, r in enumerate(chosen[:-1]):
        fits = (waiting + 1) * seconds.mean_cost(r) <= 0.5 * deadline
        assert fits or (r.thresholds == 0).all()
    # Under overload of the fixed rule the policy keeps nearly all deadlines, and pays in accuracy.
    arrivals = bridge.poisson(1.2 / timed.mean_cost(rule), 20_000, 7)
    fixed, adapted = (bridge.replay(timed, p, arrivals, 8) for p in (rule, policy))
    assert fixed.violation(deadline) > 0.9 and adapted.violation(deadline) < 0.05
    assert 0.92 < adapted.accuracy < fixed.accuracy


def test_a_real_run(network, data, rule):
    arrivals = bridge.poisson(400, 60, 9)
    for policy in (rule, lambda waiting: rule.lowered(1 / (1 + waiting))):
        run = bridge.serve_exits(network, data["test"].images, data["test"].labels, policy, arrivals, 10)
        assert (run.starts >= run.arrivals).all() and (run.ends > run.starts).all()
        assert (run.starts[1:] >= run.ends[:-1]).all()
        assert run.accuracy > 0.8 and set(run.exits) <= {0, 1, 2}
    times, full = network.exit_times(data["test"].images[:5], repetitions=1)
    assert times.shape == (3,) and (times > 0).all() and full > 0
    assert network.service_times(data["test"].images[:4], rule, repetitions=2).shape == (2, 4)


def test_one_run_from_one_seed(timed, rule):
    arrivals = bridge.poisson(1e3, 500, 1)
    one, other = (bridge.replay(timed, rule, arrivals, 2) for _ in range(2))
    assert all(np.array_equal(a, b) for a, b in zip(vars(one).values(), vars(other).values(), strict=True))


@pytest.fixture
def copy(network, tmp_path):
    return shutil.copytree(network.manifest.folder, tmp_path / "digits")


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"format": 2}, "format = 2: must be 1"),
        ({"input": [8, 8]}, "input"),
        ({"exits": []}, "exits"),
        ({"exits": [{"part": "exit_1", "flops": 1}]}, "exits = .*3 heads"),
        ({"segments": [{"part": "../digits", "flops": 1}]}, r"segments\[0\].part"),
        ({"segments": [{"part": "segment_1", "flops": -1}]}, "flops = -1"),
        ({"split": {"test": ["a"]}}, "split.test"),
        ({"classes": 1}, "classes = 1"),
        ({"autoencoders": [{"cut": 0}]}, "autoencoders"),
        ({"provenance": 3}, "provenance = 3"),
    ],
)
def test_manifests_that_lie(copy, change, text):
    path = copy / "exits.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    with pytest.raises(ValueError, match=text):
        bridge.read_exits(copy)


def test_broken_folders(copy):
    with pytest.raises(ValueError, match="folder"):
        bridge.read_exits(copy / "nothing")
    (copy / "segment_2" / "model.onnx").write_bytes(b"torn")
    with pytest.raises(ValueError, match=r"segment_2/model.onnx: not an ONNX model"):
        bridge.read_exits(copy)
    (copy / "exits.json").unlink()
    with pytest.raises(ValueError, match=r"exits.json: missing"):
        bridge.read_exits(copy)


EVALUATION = random_evaluation(0)


@pytest.mark.parametrize(
    ("call", "text"),
    [
        (lambda n: n.infer(np.zeros((1, 8, 9)), ExitRule([0, 0])), "images of shape"),
        (lambda n: n.infer(np.full((1, 8, 8), np.nan), ExitRule([0, 0])), "images: must be finite"),
        (lambda n: n.infer("x", ExitRule([0, 0])), "image = 'x': is text"),
        (lambda n: n.infer(np.zeros((1, 8, 8)), ExitRule([0])), "rule has 1 thresholds"),
        (lambda n: n.features(np.zeros((1, 1, 8, 8)), 3), "cut = 3: must be below 3"),
        (lambda n: n.finish(np.zeros((1, 3, 8, 8)), 1), "segment_2/model.onnx"),
        (lambda n: ExitRule([-0.1]), r"thresholds\[0\] = -0.1"),
        (lambda n: ExitRule([0.1], "mood"), "criterion = 'mood'"),
        (lambda n: ExitRule([0.1]).lowered(2), "factor = 2"),
        (lambda n: ExitRule([0.1]).exits(EVALUATION.probabilities), "probabilities of 3 exits"),
        (lambda n: bridge.Evaluation([[[0.5, 0.5]]], [2], [1.0], 1.0), "labels in 2"),
        (lambda n: bridge.Evaluation([[[0.5, 0.5]]], [0.5], [1.0], 1.0), "labels of type"),
        (lambda n: bridge.Evaluation([[[0.5, 0.5]]] * 2, [0], [2.0, 1.0], 1.0), "costs"),
        (lambda n: bridge.calibrate(EVALUATION), "must be one of the two"),
        (lambda n: bridge.calibrate(EVALUATION, accuracy_loss=0.1, mean_cost=1), "must be one of the two"),
        (lambda n: bridge.calibrate(EVALUATION, accuracy_loss=0.1, levels=10**4), "levels = 10000"),
        (lambda n: bridge.DeadlinePolicy([ExitRule([0.0])], [1.0, 2.0], 1.0), "mean_times"),
        (lambda n: bridge.DeadlinePolicy([ExitRule([0.0])], [1.0], 0.0), "deadline = 0"),
        (lambda n: bridge.poisson(0, 3), "rate = 0"),
        (lambda n: bridge.replay(EVALUATION, None, [2.0, 1.0]), "arrivals"),
        (lambda n: digits.load_data("nonsense"), "part = 'nonsense'"),
    ],
)
def test_bad_input_is_named(network, call, text):
    with pytest.raises(ValueError, match=text):
        call(network)
