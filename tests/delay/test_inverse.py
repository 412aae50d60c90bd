import logging
from dataclasses import replace

import numpy as np
import pytest

import edgeinfer as ei
from edgeinfer import paper


def test_deadline_is_certified_and_tight():
    pipeline = paper.scenario().pipelines()["split"]
    probabilities = np.array([1e-2, 1e-6])
    deadlines = ei.deadline_at(pipeline, 0.35, probabilities)
    assert (ei.violation_bound(pipeline, 0.35, deadlines) <= probabilities).all()
    assert (ei.violation_bound(pipeline, 0.35, deadlines * 0.998) > probabilities).all()
    assert np.isinf(ei.deadline_at(pipeline, 5.0, 1e-3))


def test_rate_and_bandwidth_families():
    scenario = paper.scenario().replace(bandwidth=np.array([5e6, 10e6]))
    pipeline = scenario.pipelines()["edge_only"]
    rates = ei.max_arrival_rate(pipeline, 8.0, 1e-3, method="lundberg", tolerance=1e-2)
    assert rates.shape == (2,) and rates[0] < rates[1]
    assert ei.max_arrival_rate(pipeline, 0.1, 1e-3, method="lundberg")[0] == 0
    bandwidth = ei.min_bandwidth(paper.scenario().pipelines()["split"], 0.35, 1.3, 1e-2, method="lundberg")
    assert np.isinf(bandwidth)


def test_bandwidth_needs_a_link():
    with pytest.raises(ValueError, match="no Transfer"):
        ei.min_bandwidth(paper.scenario().pipelines()["device_only"], 0.1, 5.0, 0.1)


NODE = ei.Node("unit", 1.0)


def random_stage(rng, name):
    mean = 10 ** rng.uniform(-1, 0.3)
    kind = rng.integers(4)
    if kind == 0:
        return ei.Compute(mean * (rng.random() > 0.3), NODE, name)
    if kind == 1:
        link = ei.RayleighLink(1e6, rng.uniform(-5, 30), 0, 0, mean * 10 ** rng.uniform(-1.5, 0.5))
        return ei.Transfer(link.mean_rate() * mean, link, name)
    if kind == 2:
        return ei.Exponential(mean, name)
    return ei.Measured(mean * rng.gamma(rng.uniform(1, 30), 1, rng.integers(1, 40)), name)


@pytest.mark.parametrize("seed", range(10))
def test_the_promise_is_kept_at_random_pipelines(seed):
    rng = np.random.default_rng([11, seed])
    pipeline = ei.Pipeline([random_stage(rng, f"stage {k}") for k in range(rng.integers(1, 5))])
    slowest = pipeline.moments()[0].max()
    rate = rng.choice([0.05, 0.5, 0.9, 0.9999]) / slowest if slowest else 1.0
    for method in ("bracket", "lundberg"):
        probabilities = 10.0 ** -rng.uniform([0, 1, 8, 300], [1, 4, 12, 323])
        # A promise is one at any tolerance; a fine one takes twice as many brackets.
        deadlines = ei.deadline_at(pipeline, rate, probabilities, method=method, tolerance=0.1)
        assert np.isfinite(deadlines).all()
        for deadline, probability in zip(deadlines, probabilities, strict=True):
            assert ei.violation_bound(pipeline, rate, deadline, method) <= probability
    best = ei.max_arrival_rate(pipeline, 2 * deadlines[1], probabilities[1], method="lundberg", tolerance=1e-2)
    assert best == np.inf or ei.violation_bound(pipeline, best, 2 * deadlines[1], "lundberg") <= probabilities[1]


def test_heavy_loads_have_a_deadline():
    queue = ei.Pipeline([ei.Exponential(1.0, "server")])
    for load, probability in ((0.9999, 1e-5), (1 - 2e-6, 1e-5), (0.5, 1e-301), (0.5, 5e-324)):
        truth = -np.log(probability) / (1 - load)
        assert truth <= ei.deadline_at(queue, load, probability) <= 1.002 * truth
    # So near to one, the bound sees nothing but its own rounding.
    pair = ei.Pipeline([ei.Exponential(1.0, "a"), ei.Exponential(1.0, "b")])
    with pytest.raises(ValueError, match=r"at a load of 0\.9999999"):
        ei.deadline_at(pair, 1 - 1e-12, 0.1, method="union")


def test_no_work_needs_no_deadline_and_takes_any_rate():
    pipeline = ei.Pipeline([ei.Compute(0.0, NODE, "skipped")])
    assert ei.deadline_at(pipeline, 1.0, 1e-3) == 0
    assert ei.max_arrival_rate(pipeline, 1.0, 1e-3) == np.inf


def test_a_law_that_cannot_be_computed_is_not_taken_for_a_bandwidth_that_is_too_small(monkeypatch):
    pipeline = paper.scenario().pipelines()["split"]

    def fails(*_):
        raise RuntimeError("no law")

    monkeypatch.setattr("edgeinfer.delay.inverse.violation_bound", fails)
    with pytest.raises(RuntimeError, match="no law"):
        ei.min_bandwidth(pipeline, 0.35, 8.0, 1e-2)


@pytest.mark.parametrize("method", ["bracket", "lundberg"])
def test_bandwidth_keeps_its_promise(method):
    pipeline = paper.scenario().pipelines()["split"]
    bandwidth = ei.min_bandwidth(pipeline, 0.35, 4.0, 1e-2, method=method, tolerance=0.05)
    stages = list(pipeline)
    stages[1] = ei.Transfer(stages[1].bits, replace(stages[1].link, bandwidth=bandwidth), "downlink")
    assert ei.violation_bound(ei.Pipeline(stages), 0.35, 4.0, method) <= 1e-2


def test_searches_end_at_any_tolerance():
    device = ei.Pipeline([ei.Constant(0.2, "device")])
    rate = ei.max_arrival_rate(device, 1.0, 0.1, method="union", tolerance=1e-300)
    assert ei.violation_bound(device, rate, 1.0, "union") <= 0.1


def test_links_without_a_bandwidth_are_named_in_branches():
    fixed = ei.Transfer(1e5, ei.ConstantLink(1e6), "cable")
    fading = ei.Transfer(1e5, ei.RayleighLink.from_snr(2.0, 1e6, 0.1), "air")
    with pytest.raises(ValueError, match=r"'cable' goes over a link .*, ConstantLink"):
        ei.min_bandwidth(ei.Pipeline([ei.Fork([fixed, fading])]), 0.1, 2.0, 0.1)


def test_searches_tell_their_steps(caplog):
    queue = ei.Pipeline([ei.Exponential(1.0, "server"), ei.Exponential(0.5, "second")])
    ei.max_arrival_rate(queue, 20.0, [1e-3, 1e-4])
    assert not caplog.records
    with caplog.at_level(logging.INFO, "edgeinfer.delay"):
        ei.max_arrival_rate(queue, 20.0, [1e-3, 1e-4])
        ei.deadline_at(queue, 0.5, 1e-3)
    said = [record.getMessage() for record in caplog.records]
    assert [text for text in said if "element" in text] == ["element 1 of 2", "element 2 of 2", "element 1 of 1"]
    assert any("at load 0." in text for text in said) and any("deadlines from" in text for text in said)
