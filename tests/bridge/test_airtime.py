import numpy as np
import pytest

from edgeinfer import ConstantLink, FadingLink, MarkovLink, Nakagami, OutageLink, RayleighLink, Rician, TraceLink
from edgeinfer.bridge.link.airtime import Airtime

LINK = RayleighLink(10e6, 31, -100, 128.1, 0.01)


def kolmogorov(samples, law):
    """Kolmogorov's distance times the root of the number of samples."""
    u = np.sort(law.cdf(samples))
    n = len(u)
    return n**0.5 * max(np.max(np.arange(1, n + 1) / n - u), np.max(u - np.arange(n) / n))


@pytest.mark.parametrize("bits", [2e4, 2.62e5, 1.0486e6])
def test_fresh_transfers_follow_the_law(bits):
    airtime = Airtime(LINK, seed=3)
    now, times = 0.0, []
    for _ in range(20_000):
        end = airtime.finish(bits, now)
        times.append(end - now)
        now = end + 0.001
    # Exceeded with probability 1e-4.
    assert kolmogorov(np.array(times), LINK.transfer(bits)) < 2.23


@pytest.mark.parametrize("fading", [Rician(6.0), Nakagami(0.6)])
def test_links_of_any_fading_are_played(fading):
    link = FadingLink(10e6, 31, -100, 128.1, 0.01, fading=fading)
    airtime, now, times = Airtime(link, seed=8), 0.0, []
    for _ in range(5_000):
        end = airtime.finish(4e5, now)
        times.append(end - now)
        now = end + 0.001
    # Exceeded with probability 1e-4.
    assert kolmogorov(np.array(times), link.transfer(4e5)) < 2.23


@pytest.mark.parametrize("slots", ["fresh", "grid"])
def test_blocks_are_repeated_until_they_get_through(slots):
    link = OutageLink(10e6, 0.3, 0.01)
    rates = []
    airtime = Airtime(link, slots=slots, seed=2, on_slot=lambda begin, rate: rates.append(rate))
    now, counts = 0.0, []
    for _ in range(4_000):
        end = airtime.finish(2.5e5, now)
        if slots == "grid":
            assert abs(end / 0.01 - round(end / 0.01)) < 1e-6
        counts.append(round((end - now) / 0.01 - 1e-6))
        now = end + 0.001 if slots == "fresh" else end
    law = link.transfer(2.5e5)
    # 4.4 standard errors, a chance of 1e-5 each.
    assert abs(np.mean(counts) * 0.01 - law.mean()) < 4.4 * np.sqrt(law.var() / 4_000)
    share, late = np.mean(np.array(counts) > 5), law.sf(0.055)
    assert abs(share - late) < 4.4 * np.sqrt(late / 4_000)
    assert sum(counts) == len(rates) and 3 * 4_000 == np.count_nonzero(rates)
    # Bits that come before a block begins go into it, others wait for the next.
    two = Airtime(OutageLink(10e6, 0.0, 0.01), slots=slots)
    assert [round(two.finish(6e4, now), 9) for now in (0.0, 0.001, 0.002, 0.003)] == [0.01, 0.02, 0.03, 0.03]
    with pytest.raises(ValueError, match="outage = 1: must be < 1"):
        Airtime(OutageLink(1e6, 1.0, 0.01))


def test_pieces_take_as_long_as_the_whole():
    whole, pieces = Airtime(LINK, seed=4), Airtime(LINK, seed=4)
    for now in (1.0, 2.0, 3.0):
        end = whole.finish(1e6, now)
        for _ in range(10):
            last = pieces.finish(1e5, now)
        assert last == pytest.approx(end, abs=1e-9)


def test_the_grid_twin():
    """Written from the definition: the rate of every grid slot in order, bits taken slot by slot."""
    begins, rates = [], []
    airtime = Airtime(LINK, slots="grid", seed=5, origin=0.25, on_slot=lambda b, r: (begins.append(b), rates.append(r)))
    rng = np.random.default_rng(1)
    now = 0.25
    for _ in range(200):
        now += rng.exponential(0.03)
        bits = rng.uniform(1e4, 5e5)
        start = max(now, airtime.free)
        end = airtime.finish(bits, now)
        overlap = np.clip(np.minimum(np.array(begins) + 0.01, end) - np.maximum(begins, start), 0, None)
        assert np.dot(overlap, rates) == pytest.approx(bits, rel=1e-6)
    np.testing.assert_allclose((np.array(begins) - 0.25) / 0.01, np.rint((np.array(begins) - 0.25) / 0.01), atol=1e-6)
    assert (np.diff(begins) > 0.0099).all()


def test_control_overhead_takes_its_share():
    half = RayleighLink(10e6, 31, -100, 128.1, 0.01, control_overhead=0.5)
    rates = {}
    for link in (LINK, half):
        airtime = Airtime(link, seed=1, on_slot=lambda begin, rate, link=link: rates.setdefault(link, rate))
        airtime.finish(1.0, 0.0)
    assert rates[half] == pytest.approx(rates[LINK] / 2)


def test_seeds_and_errors():
    times = [Airtime(LINK, seed=seed).finish(1e6, 0.0) for seed in (1, 1, 2)]
    assert times[0] == times[1] != times[2]
    with pytest.raises(ValueError, match="slots = 'other': must be one of 'fresh', 'grid'"):
        Airtime(LINK, slots="other")
    with pytest.raises(ValueError, match="single link"):
        Airtime(RayleighLink([1e6, 2e6], 31, -100, 128.1, 0.01))


def test_a_constant_link_has_no_slots():
    airtime = Airtime(ConstantLink(1e6, latency=9.0), slots="grid")
    assert airtime.finish(5e5, 1.0) == pytest.approx(1.5) and airtime.finish(5e5, 1.2) == pytest.approx(2.0)
    assert airtime.finish(1e9, 100.0) == pytest.approx(1100.0)


def test_a_trace_is_read_on_the_grid_from_its_offset_on():
    begins = []
    link = TraceLink([4.0, 0.0, 1.0], 0.5, offset=1.25)
    airtime = Airtime(link, origin=10.0, on_slot=lambda begin, rate: begins.append((begin, rate)))
    # A quarter of a second is left of the last slot's 1 bit/s.
    assert airtime.finish(0.25 + 1.0, 10.0) == pytest.approx(10.5)
    assert begins == [(9.75, 1.0), (10.25, 4.0)]
    # Idle slots pass; the one at 12.25 is empty, and 0.5 bits go in that at 12.75.
    assert airtime.finish(0.5, 12.3) == pytest.approx(13.25)
    assert airtime.finish(2.0, 13.2) == pytest.approx(13.75)


def test_a_markov_chain_keeps_its_memory_over_idle_slots():
    link = MarkovLink([1.0, 3.0], [[0.0, 1.0], [1.0, 0.0]], 1.0)
    begins = []
    airtime = Airtime(link, seed=1, on_slot=lambda begin, rate: begins.append((begin, rate)))
    for now in (0.5, 7.5, 8.5, 30.5):
        airtime.finish(0.1, now)
    parity = {int(begin) % 2: rate for begin, rate in begins}
    assert len(begins) == 4 and parity[0] != parity[1]
    assert all(parity[int(begin) % 2] == rate for begin, rate in begins)
