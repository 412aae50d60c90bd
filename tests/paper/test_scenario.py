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


@pytest.fixture
def profile(tmp_path):
    """A stage of 0.1 s for 100 MFLOP on the edge, and one of 0.05 s for 20 MFLOP that decodes."""
    from edgeinfer.bridge import Profile
    from edgeinfer.model import Cascade

    costs = Cascade(2e6, 24.5e6, 2e6, 9e6, 24576, 98304)
    times = {
        "prior": [0.1, 0.1],
        "decode": [0.05, 0.05],
        "prior_inference": [0.09, 0.09],
        "decode_inference": [0.04, 0.04],
    }
    path = tmp_path / "profile.json"
    Profile("small", 4, 2, costs, **times, passes={}, step_times={}, provenance={}).save(path)
    return path


def test_measured_scenario_takes_the_measured_times(profile):
    scenario = paper.measured_scenario(profile, slowdown=3.0)
    stages = latency(scenario.pipelines()["split"]).stages
    assert stages[0] == pytest.approx(0.1) and stages[2] == pytest.approx(3 * 0.05)
    assert scenario.latent_bits == 24576 and scenario.edge_flops == pytest.approx(1e9)
    kinds = scenario.provenance
    assert {kinds[name] for name in ("edge_flops", "device_flops")} == {"measured"}
    assert kinds["decode_step"] == kinds["image_bits"] == "derived" and kinds["bandwidth"] == "chosen"
    assert set(kinds.values()) == {"measured", "derived", "chosen"}


def test_measured_scenario_changes_like_any_other(profile):
    import pickle

    scenario = paper.measured_scenario(profile)
    again = scenario.replace(edge_flops=2e9)
    assert again.provenance["edge_flops"] == "chosen" and again.provenance["device_flops"] == "measured"
    assert scenario == paper.measured_scenario(profile) != again and hash(scenario) == hash(
        pickle.loads(pickle.dumps(scenario))
    )
    assert scenario != paper.scenario() and again.replace(slot=0.02).provenance["encoder"] == "derived"


def test_measured_scenario_names_what_is_wrong(profile, tmp_path):
    with pytest.raises(FileNotFoundError, match="edgeinfer measure"):
        paper.measured_scenario(tmp_path / "nothing.json")
    (tmp_path / "bad.json").write_text("{}")
    with pytest.raises(ValueError, match=r"bad.json: not a profile"):
        paper.measured_scenario(tmp_path / "bad.json")
    with pytest.raises(ValueError, match="slowdown"):
        paper.measured_scenario(profile, slowdown=0.0)


def test_commands_take_it(profile, monkeypatch):
    from click.testing import CliRunner

    from edgeinfer.cli import group
    from edgeinfer.paper import measured_scenario

    monkeypatch.setitem(measured_scenario.__globals__, "_PROFILE", profile)
    run = CliRunner().invoke(group, ["latency", "--scenario", "measured", "--set", "slot=0.02", "--json"])
    assert run.exit_code == 0 and '"paradigm": "split"' in run.output
    run = CliRunner().invoke(group, ["latency", "--scenario", "measured", "--parameters"])
    assert "measured" in run.output and "given" not in run.output
