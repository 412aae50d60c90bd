import numpy as np
import pytest

from edgeinfer import latency, paper


def test_conditions_hold_and_latencies_are_the_stated_ones():
    pipelines = paper.scenario().pipelines()
    totals = [latency(pipelines[name], "ergodic").total for name in ("split", "edge_only", "device_only")]
    np.testing.assert_allclose(totals, [1.5055, 1.5463, 2.4571], atol=5e-5)


def test_provenance_names_given_assumed_and_chosen():
    scenario = paper.scenario().replace(slot=0.02)
    kinds = scenario.provenance
    assert kinds["bandwidth"] == "given" and kinds["edge_flops"] == "assumed" and kinds["slot"] == "chosen"


@pytest.mark.parametrize(
    "change", [{"bandwidth": 0.0}, {"slot": np.nan}, {"arrival_rate": -1.0}, {"control_overhead": 1.0}]
)
def test_bad_parameters_are_named(change):
    with pytest.raises(ValueError, match=next(iter(change))):
        paper.scenario().replace(**change)


def test_a_family_of_scenarios_is_one_scenario_of_arrays():
    family = paper.scenario().replace(bandwidth=np.array([5e6, 10e6, 20e6]))
    totals = latency(family.pipelines()["split"]).total
    single = latency(paper.scenario().replace(bandwidth=20e6).pipelines()["split"]).total
    assert totals.shape == (3,) and totals[2] == single
