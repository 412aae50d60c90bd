import numpy as np
import pytest

from edgeinfer import latency, paper, plan


def test_conditions_are_the_order_of_latencies():
    rng = np.random.default_rng(1)
    scenario = paper.scenario().replace(
        device_flops=rng.uniform(20e12, 200e12, 50), bandwidth=10 ** rng.uniform(5.7, 7.3, 50)
    )
    split, edge, device = (latency(p, "ergodic").total for p in scenario.pipelines().values())
    first, second = plan.split_conditions(scenario)
    np.testing.assert_array_equal(first, split < edge)
    np.testing.assert_array_equal(second, split < device)
    assert first.any() and not first.all() and second.any() and not second.all()


def test_gains_are_relative_savings():
    scenario = paper.scenario()
    eta_latency, eta_bits = plan.gains(scenario)
    assert eta_bits == pytest.approx(1 - 1.0486 / 5.2429)
    totals = [latency(scenario.pipelines()[name], "ergodic").total for name in ("edge_only", "split")]
    assert eta_latency == pytest.approx(1 - totals[1] / totals[0])


def test_criteria_disagree_somewhere():
    grid = plan.dominance(
        paper.scenario(),
        ("device_flops", np.geomspace(30e12, 160e12, 6)),
        ("arrival_rate", [0.1, 0.4, 0.7]),
        deadline=4.5,
        method="lundberg",
    )
    assert grid["winner"].dims == ("criterion", "arrival_rate", "device_flops")
    assert bool(grid["disagree"].any()) and not bool(grid["disagree"].all())


def test_no_paradigm_is_stable():
    scenario = paper.scenario().replace(arrival_rate=50.0)
    assert plan.best_paradigm(scenario, "violation", deadline=5.0) == "none"
    assert plan.best_paradigm(scenario, "mean_sojourn") == "none"


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ({"criterion": "x"}, "criterion = 'x'"),
        ({"criterion": "violation"}, "deadline = None"),
    ],
)
def test_bad_input(arguments, text):
    with pytest.raises(ValueError, match=text):
        plan.best_paradigm(paper.scenario(), **arguments)


def test_dominance_checks_its_axes():
    with pytest.raises(ValueError, match="nonsense"):
        plan.dominance(paper.scenario(), ("nonsense", [1.0]), ("slot", [0.01]), deadline=1.0)
    with pytest.raises(ValueError, match="differ"):
        plan.dominance(paper.scenario(), ("slot", [0.01]), ("slot", [0.01]), deadline=1.0)
