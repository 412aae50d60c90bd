"""A constant link holds its bits for bits / rate; its latency moves what follows, to the bit where a sum is exact."""

import numpy as np
import pytest

import edgeinfer as ei

FADING = ei.RayleighLink(10e6, 31, -100, 128.1, 0.01)
RATE, BITS = 2.0**26, 2.0**24


def chain(latency):
    """Times that doubles hold exactly, so that a deadline less the latency does not round."""
    return ei.Pipeline(
        [
            ei.Constant(0.125, "camera"),
            ei.Transfer(BITS, ei.ConstantLink(RATE, latency), "backhaul"),
            ei.Transfer(1e6, FADING, "radio"),
            ei.Exponential(0.2, "device"),
        ]
    )


def test_law_is_a_point_and_leaves_the_latency_out():
    law = ei.ConstantLink([1e6, 2e6], latency=0.5).transfer(1e6)
    np.testing.assert_allclose(law.mean(), [1, 0.5])
    assert (law.var() == 0).all()
    np.testing.assert_array_equal(law.sf(np.array([[0.4], [0.5], [1.0]])), [[1, 1], [1, 0], [0, 0]])
    np.testing.assert_array_equal(law.cdf(0.75), [0, 1])
    np.testing.assert_allclose(law.mgf(-2.0), np.exp([-2, -1]))
    assert (law.sample(3, 1) == [1, 0.5]).all()


@pytest.mark.parametrize("method", ["bracket", "union", "lundberg", "corrected"])
def test_bounds_move_by_the_latency(method):
    # "corrected" takes one random stage.
    moved, still = chain(0.25)[:3], chain(0.0)[:3]
    deadlines = np.array([1.5, 3.0, 6.0])
    bound = ei.violation_bound(moved, 1.0, deadlines + 0.25, method)
    np.testing.assert_allclose(bound, ei.violation_bound(still, 1.0, deadlines, method), rtol=1e-12)
    assert (bound[1:] < 1e-3).all()
    assert ei.violation_bound(moved, 1.0, 0.2, method) == 1
    assert ei.violation_bound(moved, 1.0, 0.2, method, log=True) == 0


def test_both_ends_move_and_are_one_within_the_latency():
    moved, still = (ei.violation_bracket(chain(d), 1.0, 3.0 + d) for d in (0.5, 0.0))
    assert (moved.lower, moved.upper) == pytest.approx((still.lower, still.upper), rel=1e-12)
    family = ei.violation_bracket(chain([0.0, 0.5, 9.0]), 1.0, 3.5)
    assert family.lower[1] == still.lower and (family.lower[2], family.upper[2]) == (1, 1)
    assert family.upper[0] < family.upper[1]
    periodic = [ei.violation_bracket(chain(d), ei.Periodic(1.0), 3.0 + d).upper for d in (0.5, 0.0)]
    assert periodic[0] == pytest.approx(periodic[1], rel=1e-12)


def test_rare_events_and_inverse_functions_move():
    rare = [ei.rare_violation(chain(d), 1.0, 8.0 + d, rng=1, relative_error=0.1).value for d in (0.5, 0.0)]
    assert rare[0] == pytest.approx(rare[1], rel=1e-12)
    certain = ei.rare_violation(chain(0.5), 1.0, 0.25, rng=1)
    assert (certain.value, certain.low, certain.high, certain.replications) == (1, 1, 1, 0)
    # With one random stage a bracket takes milliseconds; the latency comes off the deadline of any chain alike.
    short = [chain(d)[:3] for d in (0.5, 0.0)]
    there, here = (ei.deadline_at(pipeline, 1.0, 1e-3) for pipeline in short)
    assert there - here == pytest.approx(0.5, abs=2e-4 * there)
    slow, fast = (ei.max_arrival_rate(pipeline, 3.0 + d, 1e-3) for pipeline, d in zip(short, (0.5, 0.0), strict=True))
    assert 0 < fast == pytest.approx(slow, rel=1e-12) and ei.max_arrival_rate(chain(0.5), 0.4, 1e-3) == 0


def test_means_have_the_latency():
    there, here = ei.latency(chain(0.5)), ei.latency(chain(0.0))
    np.testing.assert_allclose(there.stages - here.stages, [0, 0.5, 0, 0])
    assert there.total - here.total == pytest.approx(0.5)
    tandem = [ei.mean_sojourn(chain(d)[:3], 1.0, service="tandem") for d in (0.5, 0.0)]
    assert tandem[0].lower - tandem[1].lower == pytest.approx(0.5)
    # Serial: a path that is kept for the latency, too, as if it were a service.
    service = ei.Pipeline([*chain(0.0), ei.Constant(0.25, "latency")])
    assert ei.mean_sojourn(chain(0.25), 0.5) == pytest.approx(ei.mean_sojourn(service, 0.5))


@pytest.mark.parametrize("link", ["table", "slots", "wall_clock"])
def test_simulated_tandem_moves_stage_by_stage(link):
    runs = [
        ei.simulate(chain(d), 1.0, np.array([[0.5], [2.0]]) + d, jobs=2000, replications=16, rng=1, link=link)
        for d in (0.5, 0.0)
    ]
    # The stages behind the link, whose sojourn times include it; the camera's do not.
    np.testing.assert_allclose(runs[0].violation.value[..., 1:], runs[1].violation.value[..., 1:], atol=2 / (16 * 2000))
    np.testing.assert_allclose(
        runs[0].mean.value - runs[1].mean.value, np.broadcast_to([0, 0.5, 0.5, 0.5], (2, 1, 4)), atol=1e-9
    )
    np.testing.assert_allclose(runs[0].stage_waiting.value, runs[1].stage_waiting.value, atol=1e-9)
    np.testing.assert_allclose(runs[0].utilisation.value, runs[1].utilisation.value)


@pytest.mark.parametrize("link", ["table", "wall_clock"])
def test_simulated_serial_path_is_kept_for_the_latency(link):
    path = ei.Pipeline([ei.Transfer(BITS, ei.ConstantLink(RATE, 0.25), "backhaul"), ei.Constant(0.25, "device")])
    run = ei.simulate(path, 0.5, 2.0, jobs=20_000, replications=16, rng=2, service="serial", link=link)
    exact = ei.mean_sojourn(path, 0.5)
    # Sixteen seeds of a fixed run: the interval misses a mean in 5 % of all seeds.
    assert run.mean.low[-1] < exact < run.mean.high[-1]
    with pytest.raises(ei.UnstableError, match="serial path"):
        ei.simulate(path, 1.5, 2.0, jobs=10, service="serial", link=link)


def test_what_it_cannot_stand_in_is_said():
    with pytest.raises(
        ValueError, match=r"'backhaul' goes over a link that has no bandwidth to choose, ConstantLink\("
    ):
        ei.min_bandwidth(chain(0.0), 1.0, 3.0, 1e-3)
    with pytest.raises(ValueError, match=r"rate = 0: must be in \(0"):
        ei.ConstantLink(0.0)
    with pytest.raises(ValueError, match="latency = -1"):
        ei.ConstantLink(1.0, -1)
    with pytest.raises(ValueError, match="link = 3: must be"):
        ei.Transfer(1.0, 3, "x")
    near = ei.Pipeline([ei.Transfer(1e6, ei.ConstantLink(1e7), "up"), ei.Constant(0.1, "edge")])
    kind = ei.Terminals(2, 0.1, near, edge="edge")
    with pytest.raises(ValueError, match="'up' shares a band: must go over a FadingLink, not a ConstantLink"):
        ei.Cell(kind, ei.EdgeNode(), uplink=ei.Band(10e6, "equal_share", 0.01))


def test_stands_in_a_cell_as_a_link_of_the_terminals_own():
    near = ei.Pipeline([ei.Transfer(1e6, ei.ConstantLink(1e7), "up"), ei.Constant(0.1, "edge")])
    plain = ei.Pipeline([ei.Constant(0.1, "up"), ei.Constant(0.1, "edge")])
    runs = [
        ei.simulate_cell(ei.Cell(ei.Terminals(3, 0.5, one, edge="edge"), ei.EdgeNode()), 0.3, jobs=5000, rng=1)
        for one in (near, plain)
    ]
    assert (runs[0]["terminals"].violation.value == runs[1]["terminals"].violation.value).all()
