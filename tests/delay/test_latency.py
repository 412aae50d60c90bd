import numpy as np
import pytest
from scipy import integrate, special

import edgeinfer as ei
from edgeinfer import paper


def test_stages_and_total():
    result = ei.latency(paper.scenario().pipelines()["split"])
    assert result.stages.shape == (3,) and result.total == pytest.approx(result.stages.sum())


def test_ergodic_transfer_is_bits_over_ergodic_rate():
    scenario = paper.scenario()
    s = scenario.link.snr
    rate = scenario.bandwidth / np.log(2) * np.exp(1 / s) * special.exp1(1 / s)
    downlink = ei.latency(scenario.pipelines()["split"], "ergodic").stages[1]
    assert abs(downlink / (scenario.latent_bits / rate) - 1) < 1e-9


def test_exact_mean_is_above_the_ergodic_one():
    pipeline = paper.scenario().pipelines()["split"]
    assert ei.latency(pipeline).stages[1] > 1.01 * ei.latency(pipeline, "ergodic").stages[1]


def test_mean_sojourn_equals_quadrature_of_the_law():
    scenario = paper.scenario()
    pipeline = scenario.pipelines()["split"]
    law = scenario.link.transfer(scenario.latent_bits)
    fixed = pipeline.moments()[0][[0, 2]].sum()
    cells = np.arange(0, 0.6, 0.01)
    mean = sum(integrate.quad(law.sf, a, a + 0.01, epsabs=1e-14)[0] for a in cells)
    square = sum(integrate.quad(lambda t: 2 * t * law.sf(t), a, a + 0.01, epsabs=1e-14)[0] for a in cells)
    first, second = fixed + mean, fixed**2 + 2 * fixed * mean + square
    exact = 0.35 * second / (2 * (1 - 0.35 * first)) + first
    assert abs(ei.mean_sojourn(pipeline, 0.35) / exact - 1) < 1e-8


def test_equations_4_and_5_as_printed():
    # E[W] = (rho + lambda mu Var) / (2 (mu - lambda)) + 1 / mu, with the moments of the library.
    pipeline = paper.scenario().pipelines()["edge_only"]
    mean, variance = (values.sum() for values in pipeline.moments())
    rate, mu = 0.35, 1 / mean
    printed = (rate / mu + rate * mu * variance) / (2 * (mu - rate)) + 1 / mu
    assert abs(ei.mean_sojourn(pipeline, rate) / printed - 1) < 1e-9


def test_unstable_is_inf_in_an_array():
    values = ei.mean_sojourn(paper.scenario().pipelines()["split"], [0.1, 5.0])
    assert np.isfinite(values[0]) and np.isinf(values[1])


def test_loads_beyond_the_range_of_double_are_unstable():
    """Without a warning, which would be an error here."""
    slow, rate = ei.Pipeline([ei.Exponential(5.0, "a"), ei.Constant(3.0, "b")]), 1e308
    assert ei.mean_sojourn(slow, rate) == ei.mean_sojourn(slow, rate, service="tandem").lower == np.inf
    assert [ei.violation_bound(slow, rate, 2.0, method) for method in ("bracket", "union", "lundberg")] == [1, 1, 1]
    assert ei.deadline_at(slow, rate, 0.1) == np.inf and (slow.loads(rate) == np.inf).all()
    for call in (ei.simulate, ei.rare_violation):
        with pytest.raises(ei.UnstableError, match="have a inf, b inf"):
            call(slow, rate, 2.0)
    population = ei.Population(ei.path_loss.inh(10.0, 1e9))
    assert ei.population_bracket(lambda loss: slow, population, rate, 2.0).unstable > 1 - 1e-12


def test_energy_of_a_request():
    up = ei.Transfer(1e6, ei.RayleighLink(10e6, 31, -100, [128.1, 120.0], 0.01), "up")
    fork = ei.Fork([ei.Constant(0.2, "a"), [up, ei.Constant(0.1, "b")]], "all")
    session = ei.Session([up, ei.Constant(0.1, "c")], [0.5, 0.5], "session")
    check = ei.Review(ei.Constant(0.5, "check"), 0.3)
    plain = ei.Transfer(1e6, ei.ConstantLink(1e6), "down")
    pipeline = ei.Pipeline([fork, session, ei.Delay(ei.Constant(2.0, "user")), plain, check])
    sent = np.asarray(up.mean()) * 10**0.1
    expected = [5 * 0.3 + sent, 1.5 * (5 * 0.1 + sent), 0 * sent, 0 * sent + 2.0, 0 * sent + 0.3 * 7 * 0.5]
    found = ei.energy(pipeline, {"a": 5.0, "b": 5.0, "c": 5.0, "check": 7.0, "down": 2.0})
    np.testing.assert_allclose(found, np.stack(expected, axis=-1), rtol=1e-12)
    # Named transfers take what is said, and powers may be arrays.
    assert ei.energy(ei.Pipeline([up]), {"up": [[0.0], [1.0]]}).shape == (2, 2, 1)
    # A node's stages are those that run there, and those of its name; it may have none.
    node, idle = ei.Node("gpu", 1e9), ei.Node("phone", 1e9)
    two = ei.Pipeline([ei.Compute(2e9, node, "infer"), ei.Constant(0.5, "gpu"), ei.Constant(0.5, "c")])
    np.testing.assert_allclose(ei.energy(two, {node: 3.0, idle: 7.0}), [6.0, 1.5, 0.0])
    for power, text in (
        ({"x": 1.0}, r"power\['x'\]: must be a Node, or a stage's name"),
        ({"up": -1.0}, "power"),
        (3.0, "power = 3.0"),
    ):
        with pytest.raises(ValueError, match=text):
            ei.energy(ei.Pipeline([up]), power)


def test_energy_is_what_a_cell_spends_without_idle_power():
    link = ei.RayleighLink(10e6, 31, -100, 128.1, 0.01)
    pipeline = ei.Pipeline([ei.Constant(0.2, "encode"), ei.Transfer(1e6, link, "up"), ei.Constant(0.1, "gpu")])
    terminals = ei.Terminals(2, 0.3, pipeline, edge="gpu", busy_power=5.0)
    run = ei.simulate_cell(ei.Cell(terminals, ei.EdgeNode()), 1.0, jobs=20_000, rng=1)["terminals"]
    spent = run.energy.total / run.throughput.value
    # A mean over 160,000 requests varies by less than a thousandth: a chance of a false alarm below 1e-80.
    assert spent == pytest.approx(ei.energy(pipeline, {"encode": 5.0}).sum(), rel=0.02)
