"""The rate that a device sees, and the cut that follows it."""

import numpy as np
import pytest

from edgeinfer import Node, RayleighLink
from edgeinfer.bridge import AdaptiveCut, Graph, LinkRate, Operation, Tensor, best_cuts

LINK = RayleighLink(1e6, 31, -100, 128.1, 1e-3)


@pytest.fixture(scope="module")
def cuts():
    """Local below 1 Mbit/s, split up to 9 Mbit/s, remote beyond: 9 Mbit in, 1 Mbit in the middle, 1 s each on the
    device.
    """
    tensors = {n: Tensor(n, "uint8", (bits // 8,), bits) for n, bits in (("x", 9_000_000), ("h", 1_000_000), ("y", 8))}
    first = Operation(0, "f", "Conv", ("x",), ("h",), 10**9 * 8 // 9, 0)
    second = Operation(1, "g", "Conv", ("h",), ("y",), 10**9, 0)
    graph = Graph("two", "", (first, second), tensors, ("x",), ("y",))
    return best_cuts(graph, device=Node("device", 1e9), edge=Node("edge", 1e15), link=LINK)


def test_the_estimate_is_of_bits_over_seconds():
    """Constant rates are found at once; among transfers of all sizes the mean over time counts, not that over
    transfers.
    """
    rate = LinkRate()
    assert np.isnan(rate.value)
    for bits in (1e3, 1e6, 10.0):
        assert rate.observe(bits, bits / 5e6) == pytest.approx(5e6)
    rng = np.random.default_rng(1)
    rate = LinkRate(0.01)
    for _ in range(5000):
        bits = rng.exponential(1e6)
        found = rate.observe(bits, bits / rng.choice([1e6, 9e6]))
    # Bits over seconds: 2 / (1 / 1 + 1 / 9) Mbit/s. Two hundred transfers count, each of a relative spread near 1.3.
    assert found == pytest.approx(1.8e6, rel=5 * 1.3 / np.sqrt(200))
    assert rate.observe(0.0, 0.0) > 0


def test_the_cut_moves_when_the_band_is_left(cuts):
    assert [cut.places for cut in cuts.cuts] == [(0, 0), (0, 1), (1, 1)]
    # The edge takes a millionth of the time that it saves the device.
    np.testing.assert_allclose(cuts.rates, [1e6, 9e6], rtol=2e-6)
    adaptive = AdaptiveCut(cuts, factor=2.0, weight=1.0)
    assert adaptive.cut.places == (0, 0)
    for megabits, chosen, places in [
        (4, True, (0, 1)),
        (7.9, False, (0, 1)),
        (2.1, False, (0, 1)),
        (8.1, True, (0, 1)),
        (15, False, (0, 1)),
        (17, True, (1, 1)),
        (9, False, (1, 1)),
        (0.5, True, (0, 0)),
    ]:
        assert adaptive.observe(megabits * 1e6, 1.0) == chosen and adaptive.cut.places == places
    assert adaptive.observe(4e6, 1.0) and adaptive.fail() and adaptive.cut.places == (0, 0)
    assert not adaptive.fail()
    assert adaptive.observe(4e6, 1.0) and adaptive.cut.places == (0, 1)


def test_bad_input_is_named(cuts):
    nodes = {"device": Node("device", 1e9), "edge": [Node("near", 1e10), Node("far", 1e15)]}
    chain = best_cuts(cuts.cuts[0].network, **nodes, link=[LINK, LINK])
    for call, text in [
        (lambda: AdaptiveCut(chain), "between 3 nodes"),
        (lambda: AdaptiveCut(cuts, factor=1.0), "factor = 1"),
        (lambda: LinkRate(0.0), "weight = 0"),
        (
            lambda: best_cuts(cuts.cuts[0].network, device=nodes["device"], edge=nodes["edge"][0], link=LINK, among=[]),
            "among",
        ),
    ]:
        with pytest.raises(ValueError, match=text):
            call()
