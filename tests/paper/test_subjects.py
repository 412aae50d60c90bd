"""Several subjects: the measured pictures, and the items that are drawn from them."""

import json

import numpy as np
import pytest
import xarray

from edgeinfer import bridge, scenes
from edgeinfer.paper import reproduction
from edgeinfer.paper.items import figure4, review_rule
from edgeinfer.paper.measured import subjects
from edgeinfer.paper.measured.outcomes import Outcomes
from edgeinfer.strategies import Spreads

RUNS = [str(run) for run in subjects.RUNS]
FLOP = {"2": 1.5e9, "4": 2.7e9, "6": 4.4e9, "8": 7.2e9}


def table_of(n=400, calibration=1200, seed=1):
    """Pictures of which one in ten is wrong, and checkers who mostly see that."""
    rng = np.random.default_rng(seed)
    variables = {}
    for prefix, axis, count in (("", "caption", n), ("calibration_", "calibration", calibration)):
        right = rng.random((len(RUNS), count)) > 0.1
        margin = np.where(right, rng.normal(8, 2, right.shape), rng.normal(-3, 2, right.shape))
        told = {"right": right, "strict": right & (rng.random(right.shape) > 0.05)}
        told = {key: values.astype(np.int8) for key, values in told.items()}
        told["doubted"] = np.zeros(right.shape, np.int8)
        told |= {"margin": margin, "second": margin + rng.normal(0, 1, right.shape)}
        told |= {"similarity": np.where(right, 0.9, 0.5) + rng.normal(0, 0.05, right.shape)}
        variables |= {prefix + key: (("run", axis), values) for key, values in told.items()}
        reading = np.where(right[..., None], 0, rng.integers(1, 3, (*right.shape, len(scenes.HEADS))))
        variables[prefix + "reading"] = (("run", axis, "head"), reading.astype(np.int8))
    costs = {"flop": [FLOP[run[0]] for run in RUNS], "seconds": [FLOP[run[0]] / 4e10 for run in RUNS]}
    variables |= {key: ("run", values) for key, values in (costs | {"png_bytes": [5800.0] * len(RUNS)}).items()}
    variables["parsed"] = (("parser", "caption"), rng.integers(0, 2, (2, n)).astype(np.int8))
    attributes = {"checker_flop": 4e7, "second_flop": 4e7, "embedder_flop": 4e7, "damaged": 0.15}
    attributes |= {"spread_margin": 2.0, "spread_second": 2.0, "spread_similarity": 0.05, "flows": json.dumps(FLOWS)}
    return xarray.Dataset(variables, {"run": RUNS, "head": list(scenes.HEADS), "parser": ["a", "b"]}, attributes)


STEPS = [("interpreter", "device"), ("painter", "device"), ("checker", "device"), ("painter", "edge")]
FLOW = {
    "steps": [{"role": r, "place": p, "begin": 0.1 * k, "end": 0.1 * k + 0.05} for k, (r, p) in enumerate(STEPS)],
    "messages": [
        {"kind": kind, "sender": a, "receiver": b, "bytes": 23, "direction": way, "time": when, "summary": kind}
        for kind, a, b, way, when in (
            ("seed", "interpreter@device", "painter@edge", "up", 0.3),
            ("picture", "painter@edge", "interpreter@device", "down", 0.35),
            ("findings", "checker@device", "painter@device", "", 0.25),
        )
    ],
    **{"seconds": 0.4, "reason": "right", "rounds": 2, "up_bytes": 23, "down_bytes": 5800, "context_bytes": 120},
}
RACE = [{"role": "painter", "place": p, "begin": b, "end": 0.3} for p, b in (("device", 0.1), ("edge", 0.25))]
FLOWS = dict.fromkeys(("cooperative", "competitive", "ensemble"), FLOW) | {"race": FLOW | {"steps": RACE}}


@pytest.fixture(scope="module")
def measured():
    return table_of()


@pytest.fixture(scope="module")
def drawn(measured):
    return figure4.data(measured=measured)


def test_figure4_counts_right_and_pairs_by_caption(measured, drawn):
    table = drawn
    one = table.sel(strategy="one 4+1")
    right = measured["right"].sel(run="4+1 0").values == 1
    assert float(one["right"]) == right.mean() and float(one["right_low"]) < right.mean() < float(one["right_high"])
    both = table.sel(strategy="cooperative")
    rival = str(both["beside"].values)
    assert float(table.sel(strategy=rival)["flop"]) <= 1.05 * float(both["flop"])
    assert figure4.verdict(both) == "better"
    assert float(both["gain"]) == pytest.approx(float(both["right"]) - float(table.sel(strategy=rival)["right"]))
    assert str(table.sel(strategy="one 2+1")["beside"].values) == ""
    # The oracle is above any judge, who knows more than a vote does.
    order = ["oracle of three", "judge of three", "vote of three", "one 2+1"]
    assert list(np.argsort([-float(table.sel(strategy=name)["right"]) for name in order])) == [0, 1, 2, 3]
    np.testing.assert_allclose([table["rounds_law"].sum(), table["rounds_measured"].sum()], 1)
    np.testing.assert_allclose(table["rounds_law"], table["rounds_measured"], atol=0.06)
    assert len(figure4.tell(table).splitlines()) == 4 + table.sizes["strategy"] + 3 + 2 + 3 + 3 + 2 + 2
    assert len(reproduction._picture(figure4.draw(table), "png")) > 20_000
    assert "In the recorded race device and edge painted at once for 50 ms" in figure4.tell(table)
    assert "points beside one" in figure4.point(table)
    # Without a queue more rounds are better; at most as many are right and on time as are right.
    assert bool((table["timely_upper"] <= float(table.sel(strategy="cooperative, cheap")["right"]) + 0.02).all())
    assert float(table["timely_lower"].sel(cap=3, load=0.3)) > float(table["timely_upper"].sel(cap=1, load=0.3))
    assert bool((table["timely_upper"].diff("load") < 0).all())
    # The simulation draws whole requests, whose later rounds take some per cent less than the first.
    half = (table["simulated_high"] - table["simulated_low"]) / 2
    assert bool((abs(table["simulated"] - table["timely_lower"]) <= 2 * half + 0.01).all())


def test_a_race_takes_one_painting_and_counts_all(measured):
    told = Outcomes(measured)
    rounds, race = told.cooperative(RUNS[2:5], 1.0), told.race(RUNS[2:5], 1.0, [False, True, False])
    np.testing.assert_array_equal(race.right, rounds.right)
    assert (race.seconds == FLOP["2"] / 4e10).all() and (race.rounds == 1).all() and (race.bytes == 5823).all()
    looks = rounds.flop - rounds.rounds * FLOP["2"]
    np.testing.assert_allclose(race.flop, looks + 3 * FLOP["2"])
    # Of unequal painters the time is the first passing one's, in the order in which they end.
    mixed = told.race([RUNS[2], RUNS[0], RUNS[5]], 1.0)
    late = told.cooperative([RUNS[2], RUNS[0], RUNS[5]], 1.0).rounds
    np.testing.assert_allclose(mixed.seconds, np.array([FLOP["2"], FLOP["4"], FLOP["8"]])[late - 1] / 4e10)


def test_three_processors_race_or_take_turns(drawn):
    table = drawn
    half = (table["side_simulated_high"] - table["side_simulated_low"]) / 2
    slack = 2 * half + 0.01
    assert bool((table["side_simulated"] >= table["side_lower"] - slack).all())
    assert bool((table["side_simulated"] <= table["side_upper"] + slack).all())
    race, turns, longer = (table["side_simulated"].sel(side=side) for side in figure4.SIDES)
    # One who paints three times as long is late where anybody waits; who take turns have a third of the load.
    assert bool((longer < race).all()) and bool(race.sel(load=0.8) < turns.sel(load=0.8))


def test_what_was_not_painted_is_not_counted():
    measured = table_of()
    measured["right"][RUNS.index("8+4 3"), 100:] = -1
    table = figure4.data(measured=measured)
    assert int(table.sel(strategy="one 8+4")["captions"]) == 100
    assert int(table.sel(strategy="one 4+1")["captions"]) == 400
    rounds = measured["right"].sizes["caption"] - int(table.sel(strategy="cooperative")["captions"])
    assert 0 <= rounds < 20, "only what would have gone to a third round that nobody painted"


def test_what_was_painted_in_doubt_does_not_speak_for_a_painter():
    measured = table_of()
    row = RUNS.index("8+4 3")
    measured["right"][row, 100:], measured["doubted"][row, 100:] = 0, 1
    one = figure4.data(measured=measured).sel(strategy="one 8+4")
    assert int(one["captions"]) == 100 and float(one["right"]) == (measured["right"].values[row, :100] == 1).mean()
    assert float(review_rule.data(measured=measured)["reviewable"].min()) == 100


def test_review_keeps_all_at_one_and_nothing_at_none(measured):
    table = review_rule.data(measured=measured)
    np.testing.assert_allclose(table["kept"].sel(share=1.0), 1)
    np.testing.assert_allclose(table["kept"].sel(share=0.0), 0)
    np.testing.assert_allclose(table["reviewed"].sel(share=[0.0, 1.0]), [[0, 1]] * 2)
    assert bool((table["reviewed"].diff("share") >= 0).all()) and bool((table["wrong_at_most"] >= table["wrong"]).all())
    assert bool((table["rule_wrong_at_most"] <= 0.01).all()) and bool((table["fresh_reviewed"] < 0.3).all())
    assert bool((table["fresh_kept"] > 0.8).all())
    assert len(review_rule.tell(table).splitlines()) == 4
    assert len(reproduction._picture(review_rule.draw(table), "png")) > 10_000
    assert "keeps" in review_rule.point(table)


class Cascade:
    """Paints the caption's scene, or, at odd seeds, nothing."""

    def __init__(self, manifest):
        self.manifest, self.calls = manifest, []

    def generate(self, texts, prior_steps, decode_steps, seeds, *, guidance):
        self.calls.append((prior_steps, decode_steps, list(seeds)))
        return np.stack([np.full((64, 64, 3), seed % 251, np.uint8) for seed in seeds])


def test_paintings_are_kept_and_taken_up(tmp_path):
    cascade = Cascade(bridge.load().manifest)
    sets = subjects.captions({"test": 200, "calibration": 40})
    run = subjects.Run(2, 1, 1.0, 1, 0.5, 1.0)
    paintings = subjects.Paintings(cascade, tmp_path, sets, 200)
    (first,) = paintings.chunks(run, "test")
    assert first.numbers.tolist() == list(range(100)) and not first.right.any()
    assert cascade.calls[0] == (2, 1, [1_000_000 + k for k in range(20)])
    painted = len(cascade.calls)
    again = subjects.Paintings(cascade, tmp_path, sets)
    (same,) = again.chunks(run, "test")
    np.testing.assert_array_equal(same.pictures, first.pictures)
    assert len(cascade.calls) == painted
    some = again.some(run, "calibration", np.array([3, 7, 30]))
    more = again.some(run, "calibration", np.array([7, 8]))
    assert [call[2] for call in cascade.calls[painted:]] == [[11_000_003, 11_000_007, 11_000_030], [11_000_008]]
    np.testing.assert_array_equal(more.pictures[0], some.pictures[1])
    assert more.pictures[1, 0, 0, 0] == 11_000_008 % 251
    (tmp_path / "cascade.txt").write_text("another")
    with pytest.raises(ValueError, match=r"store = .*: is of other networks"):
        subjects.Paintings(cascade, tmp_path, sets)


def test_the_panel_tells_right_from_wrong():
    folder = bridge.load().manifest.folder
    panel = subjects.Panel(folder)
    drawn = scenes.draw(30, 4)
    texts, images = scenes.captions(drawn), scenes.render(drawn)
    good, bad = panel.look(images, texts), panel.look(images[::-1], texts)
    assert (good["margin"] > 0).mean() > 0.9 and (bad["margin"] < 0).mean() > 0.9
    assert (good["similarity"] > bad["similarity"]).mean() > 0.8
    assert isinstance(panel.spreads(20), Spreads)


def test_calibrated_rules(measured):
    rules = subjects.calibrated(measured)
    lead = measured["calibration_margin"].sel(run="4+1 0").values / 2
    other = measured["calibration_second"].sel(run="4+1 0").values / 2
    assert np.mean(np.minimum(lead, other) <= rules.passing) == pytest.approx(0.05, abs=0.05)
    assert rules.review > 0
