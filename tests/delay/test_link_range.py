"""All that follows from a pipeline with a link, over the whole range of links that have a law."""

import numpy as np
import pytest

import edgeinfer as ei


def pipeline_of(snr_db, slots):
    """A link between an edge of half and a device of 0.6 times its mean, and that mean."""
    link = ei.RayleighLink(10e6, 0, -100, 100 - snr_db, 0.01)
    bits = slots * link.mean_rate() * 0.01
    mean = link.transfer(bits).mean()
    stages = [
        ei.Compute(0.5 * mean, ei.Node("edge", 1.0), "edge"),
        ei.Transfer(bits, link, "link"),
        ei.Compute(0.6 * mean, ei.Node("device", 1.0), "device"),
    ]
    return ei.Pipeline(stages), mean


@pytest.mark.parametrize("snr_db", [-40, 0, 30, 60, 90])
@pytest.mark.parametrize("slots", [0.1, 2, 100, 1e6])
def test_every_answer_agrees_with_the_bracket(snr_db, slots):
    pipeline, mean = pipeline_of(snr_db, slots)
    rate, deadlines = 0.6 / mean, np.array([3.5, 6.0]) * mean
    assert ei.latency(pipeline).total == pytest.approx(2.1 * mean)
    bracket = ei.violation_bracket(pipeline, rate, deadlines)
    assert (bracket.lower > 0).all() and (bracket.lower <= bracket.upper).all() and (bracket.upper < 1).all()
    for method in ("union", "lundberg", "corrected"):
        bound = ei.violation_bound(pipeline, rate, deadlines, method)
        assert (bound >= bracket.lower).all() and (bound <= 1).all(), method
    assert np.isfinite(ei.violation_bound(pipeline, rate, mean, "union"))
    modes = ("table", "slots", "wall_clock") if slots <= 100 else ("table",)
    for link in modes:
        run = ei.simulate(pipeline, rate, deadlines, jobs=1000, replications=16, rng=5, link=link, confidence=1 - 1e-6)
        low, high = run.violation.low[:, -1], run.violation.high[:, -1]
        # On the wall clock successive transfers share a slot: another law where a transfer takes part of one.
        if link != "wall_clock" or slots >= 100:
            assert (low <= bracket.upper).all() and (high >= bracket.lower).all(), link


def test_printed_formula_and_grids_of_long_deadlines():
    pipeline, mean = pipeline_of(0, 1e6)
    assert 0 < ei.violation_bound(pipeline, 0.5 / mean, 50 * mean, "corrected") < 1
    with pytest.raises(ValueError, match=r"deadline = .*must be at most 1000000 slots"):
        ei.violation_bound(pipeline, 0.5 / mean, 50 * mean, "printed")
    with pytest.raises(ValueError, match=r"deadline = .*must be at most 1000000 slots"):
        ei.violation_bound(pipeline, 0.5 / mean, 50 * mean, "corrected", slot=0.01)
