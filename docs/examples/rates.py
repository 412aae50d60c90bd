"""The best cut of a network over the link's rate, and what it takes: predicted beside measured."""

import edgeinfer as ei
from edgeinfer import bridge

LINK = ei.RayleighLink(1e6, 23, -100, 103, 0.001)


def best_cuts(profile, slowdown):
    """The best cut for each rate of a link, both ways, of a device `slowdown` times slower than this machine."""
    nodes = {"device": profile.node("device", slowdown), "edge": profile.node("edge")}
    return bridge.best_cuts(profile, **nodes, link=LINK, downlink=LINK)


def middles(cuts):
    """A rate at which each of the cuts is the best, bit/s."""
    rates = cuts.rates
    return [rates[0] / 4, *(rates[:-1] * rates[1:]) ** 0.5, rates[-1] * 4] if len(rates) else [1e6]


def compare(model, shapes, cut, rate, requests=20):
    """Mean latency of a cut at a rate, s: predicted, and measured with both halves as processes."""
    link = LINK.at_rate(rate)
    cut = bridge.Cut(cut.network, cut.nodes, (link,), (link,), cut.places)
    cut = bridge.profile_cut(model, cut, shapes=shapes)
    run = bridge.measure_cut(model, cut, requests=requests, shapes=shapes)
    return float(ei.latency(run.pipeline).total), float(run.times["sojourn"].mean())


def show(model, shapes, state=None, slowdown=8.0, most=3):
    """Print the cuts, the slowest rates first, and compare some of them."""
    profile = bridge.profile(model, shapes, repetitions=20).with_state(state or {})
    cuts = best_cuts(profile, slowdown)
    for cut, low in zip(cuts.cuts, [0.0, *cuts.rates], strict=True):
        here, names = cut.places.count(0), cut.crossing[0]
        print(f"from {low / 1e6:9.3f} Mbit/s: {here:4} of {len(cut.places)} operations on the device,", end=" ")
        print(f"{cut.bits[0] / 1e3:8.1f} kbit in {len(names)} tensors up")
    chosen = range(len(cuts.cuts))[:: max(1, -(-len(cuts.cuts) // most))]
    for position in dict.fromkeys([*chosen, len(cuts.cuts) - 1]):
        rate = middles(cuts)[position]
        predicted, measured = compare(model, shapes, cuts.cuts[position], rate)
        print(f"at {rate / 1e6:9.3f} Mbit/s: predicted {1e3 * predicted:8.2f} ms, measured {1e3 * measured:8.2f} ms")
