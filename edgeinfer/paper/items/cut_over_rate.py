"""Where the best cut lies over the link's rate, and what a cut through the graph gains over one along a chain."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from edgeinfer import _validate
from edgeinfer._extras import need
from edgeinfer.model import Node, RayleighLink
from edgeinfer.paper.drawing import style

TITLE = "Best cut over the link's rate"
HERE = (
    "Neurosurgeon (Kang et al. 2017) observed that the best cut along a chain moves from the end of the network "
    "to its beginning as the link grows faster; DADS (Hu et al. 2019) that cuts through the graph beat cuts "
    "between layers. On the shapes of well-known networks, with times derived from FLOP and assumed node speeds, "
    "the first holds. The second holds where the slowest stage counts, as under heavy load. For the latency of a "
    "single request all cuts that are best for some node speeds and rate can be listed: on most networks they lie "
    "between layers, and nothing is gained."
)
NETWORKS = ("bvlc_alexnet", "inception_v1", "resnet50", "shufflenet")
#: Assumed: the device's FLOP/s, and how many times faster the edge node is.
DEVICE_FLOPS, EDGE_RATIOS = 1e10, (1.0, 4.0, 16.0)
#: Of the link for latency, bit/s.
RATES = tuple(10 ** np.linspace(6, 9, 25))
HEAVY_RATES = (1e7, 3e7, 1e8)
COLOURS = style.SERIES
_UNIT = RayleighLink.from_snr(10**0.29, 1.0, 1e-3)
# Of costs, relatively: below it two cuts are as good.
_TOLERANCE = 1e-9


def data(
    *,
    networks: Mapping[str, Any] | Sequence[str] = NETWORKS,
    device_flops: float = DEVICE_FLOPS,
    ratios: ArrayLike = EDGE_RATIOS,
    rates: ArrayLike = RATES,
    heavy_rates: ArrayLike = HEAVY_RATES,
) -> Any:
    """Best cuts for latency and for throughput, through the graph and along the chain.

    The latency of a cut is F (1/f_device - 1/f_edge) + B / r and a constant, F the FLOP on the device and B the bits
    that cross. The cuts that are best for *some* speeds and rate are therefore the corners of the lower convex hull of
    all cuts' (F, B): all of them are found by minimum cuts, and compared with the chain's cuts.

    Parameters
    ----------
    networks : mapping of str to Graph or NetworkProfile, or sequence of str
        By the name to show; or of `bridge.LIGHT_NETWORKS`.
    device_flops : float, FLOP/s
        > 0.
    ratios : (m,) array_like
        The ratio of the edge node's FLOP/s to the device's, >= 1.
    rates, heavy_rates : (n,) and (k,) array_like, bit/s
        Mean rates of the link for latency and for throughput, > 0.

    Returns
    -------
    xarray.Dataset
        Over (network, ratio, rate): `device_share`, the share of the work that the cut for latency leaves on the
        device; `latency`, `chain_latency`, s. Over (network, ratio, heavy_rate): `throughput`, `chain_throughput`, 1/s,
        and `crossing`, tensors that cross the cut for throughput. Over network: `corners`, how many cuts are best for
        some speeds and rate; `corners_on_chain`; `latency_gain`, the most by which the chain's latency is longer, over
        all speeds and rates, reached at `gain_slope`, bit/FLOP: r / f_device beside an edge node of unbounded speed.
        Transfers take b / E[R]; the chain's cuts are those that a single tensor crosses.
    """
    from edgeinfer import bridge

    rates, heavy, ratios = (
        np.atleast_1d(_validate.positive(name, value))
        for name, value in (("rates", rates), ("heavy_rates", heavy_rates), ("ratios", ratios))
    )
    device_flops = _validate.scalar("device_flops", device_flops, 0, low_open=True, unit="FLOP/s")
    if (ratios < 1).any():
        raise ValueError(f"ratios = {ratios}: must be >= 1")
    if not isinstance(networks, Mapping):
        networks = {name: bridge.read_graph(bridge.light_path(name)) for name in networks}
    speeds = [(device_flops, device_flops * ratio) for ratio in ratios]
    rows = [_of_network(network, speeds, rates, heavy) for network in networks.values()]
    measured = all(isinstance(network, bridge.NetworkProfile) for network in networks.values())
    provenance = "derived from measured times" if measured else "derived from FLOP"
    defaults: dict[str, Any] = {
        "device_flops": DEVICE_FLOPS,
        "ratio": EDGE_RATIOS,
        "rate": RATES,
        "heavy_rate": HEAVY_RATES,
    }
    given: dict[str, Any] = {"device_flops": device_flops, "ratio": ratios, "rate": rates, "heavy_rate": heavy}
    kinds = {n: "assumed" if np.array_equal(value, defaults[n]) else "chosen" for n, value in given.items()}
    return need("xarray", "study").Dataset(
        {
            name: (
                dims,
                np.array([row[name] for row in rows]),
                {"units": _UNITS.get(name, "1"), "provenance": provenance},
            )
            for name, dims in _DIMENSIONS.items()
        },
        coords={
            "network": list(networks),
            "ratio": ("ratio", ratios, {"units": "1", "provenance": kinds["ratio"]}),
            "rate": ("rate", rates, {"units": "bit/s", "provenance": kinds["rate"]}),
            "heavy_rate": ("heavy_rate", heavy, {"units": "bit/s", "provenance": kinds["heavy_rate"]}),
        },
        attrs={"device_flops": device_flops, "device_flops_provenance": kinds["device_flops"]},
    )


_LIGHT, _HEAVY = ("network", "ratio", "rate"), ("network", "ratio", "heavy_rate")
_DIMENSIONS = {
    "device_share": _LIGHT,
    "latency": _LIGHT,
    "chain_latency": _LIGHT,
    "throughput": _HEAVY,
    "chain_throughput": _HEAVY,
    "crossing": _HEAVY,
    "corners": ("network",),
    "corners_on_chain": ("network",),
    "latency_gain": ("network",),
    "gain_slope": ("network",),
}
_UNITS = {
    "latency": "s",
    "chain_latency": "s",
    "throughput": "1/s",
    "chain_throughput": "1/s",
    "gain_slope": "bit/FLOP",
}


def _of_network(
    network: Any, speeds: Sequence[tuple[float, float]], rates: NDArray[np.float64], heavy: NDArray[np.float64]
) -> dict[str, Any]:
    """What `data` gives of one network: per speed of device and edge node, and over all of them."""
    best, chain = _best_for_latency(network), _chain(network)
    total = chain[-1, 0]
    row: dict[str, Any] = {name: [] for name, dims in _DIMENSIONS.items() if "ratio" in dims}
    for pair in speeds:
        times, of_chain = (_stages(points, total, *pair, rates).sum(-1) for points in (best, chain))
        row["device_share"].append(best[times.argmin(0), 0] / total)
        row["latency"].append(times.min(0))
        row["chain_latency"].append(of_chain.min(0))
        of_chain = 1 / _stages(chain, total, *pair, heavy).max(-1).min(0)
        throughput, crossing = _best_for_throughput(network, pair, heavy, of_chain, len(chain))
        row["chain_throughput"].append(of_chain)
        row["throughput"].append(throughput)
        row["crossing"].append(crossing)
    # Of piecewise linear functions of the slope's inverse the ratio is largest at a corner of one of them.
    slopes = np.concatenate([_slopes(best), _slopes(_hull(chain))])
    gains = [(chain @ (1, 1 / slope)).min() / (best @ (1, 1 / slope)).min() - 1 for slope in slopes]
    on_chain = (chain[:, 0] <= best[:, :1] * (1 + _TOLERANCE)) & (chain[:, 1] <= best[:, 1:])
    return row | {
        "corners": len(best),
        "corners_on_chain": int(on_chain.any(axis=1).sum()),
        "latency_gain": max(gains),
        "gain_slope": slopes[int(np.argmax(gains))],
    }


def _best_for_throughput(
    network: Any, speeds: tuple[float, float], rates: NDArray[np.float64], of_chain: Any, chain_cuts: int
) -> tuple[Any, Any]:
    """Throughput of the best cut through the graph at each rate, 1/s, and how many tensors cross it."""
    from edgeinfer import bridge

    if chain_cuts > len((network.graph if isinstance(network, bridge.NetworkProfile) else network).operations):
        # A network that is a chain has no other cuts.
        return of_chain, np.ones_like(of_chain)
    device, edge = Node("device", speeds[0]), Node("edge", speeds[1])
    found = [bridge.cut(network, device=device, edge=edge, link=_link(r), objective="throughput") for r in rates]
    return [option.value for option in found], [len(option.crossing[0]) for option in found]


def _stages(points: NDArray[np.float64], total: float, device: float, edge: float, rates: Any) -> NDArray[np.float64]:
    """Times on the device, the link and the edge node of cuts at rates, (cuts, rates, 3)."""
    flops, bits = points.T[..., None]
    parts = np.broadcast_arrays(flops / device, bits / rates, (total - flops) / edge)
    return np.stack(parts, axis=-1)


def _slopes(corners: NDArray[np.float64]) -> NDArray[np.float64]:
    """Bits saved by a FLOP between neighbours, bit/FLOP."""
    steps = np.diff(corners, axis=0)
    return np.asarray(-steps[:, 1] / steps[:, 0])


def _hull(points: NDArray[np.float64]) -> NDArray[np.float64]:
    """Corners of the lower convex hull from the fewest FLOP to the fewest bits."""
    kept: list[NDArray[np.float64]] = []
    for point in points[np.lexsort((points[:, 1], points[:, 0]))]:
        if kept and point[1] >= kept[-1][1]:
            continue
        while len(kept) > 1 and np.less_equal(*_slopes(np.array([*kept[-2:], point]))):
            kept.pop()
        kept.append(point)
    return np.array(kept)


def _link(rate: float) -> RayleighLink:
    """A link of a mean rate."""
    return _UNIT.at_rate(rate)


def _chain(network: Any) -> NDArray[np.float64]:
    """FLOP on the device and bits across of each cut of the chain, (n, 2)."""
    from edgeinfer.bridge import chain_cuts

    slow, fast = Node("device", 1.0), Node("edge", 1e18)
    cuts = chain_cuts(network, device=slow, edge=fast, link=_UNIT, single=True)
    return np.array([(option.times[0], option.bits[0]) for option in cuts])


def _best_for_latency(network: Any) -> NDArray[np.float64]:
    """FLOP on the device and bits across of all cuts that are best for some speeds and rate, from edge to device."""
    from edgeinfer.bridge import cut

    slow, fast = Node("device", 1.0), Node("edge", 1e18)
    ends = _chain(network)[[0, -1]]

    def between(a: NDArray[np.float64], b: NDArray[np.float64]) -> list[NDArray[np.float64]]:
        if not (b[0] > a[0] and a[1] > b[1]):
            return []
        slope = (a[1] - b[1]) / (b[0] - a[0])
        found = cut(network, device=slow, edge=fast, link=_link(slope))
        # At this slope both ends cost the same: a cheaper cut is a corner between them.
        if found.value >= (a[0] + a[1] / slope) * (1 - _TOLERANCE):
            return []
        c = np.array([found.times[0], found.bits[0]])
        return [*between(a, c), c, *between(c, b)]

    return _hull(np.array([ends[0], *between(ends[0], ends[1]), ends[1]]))


@style.drawing
def draw(table: Any) -> Any:
    """First the share of the work on the device; then throughput gained by cutting through the graph, a panel a
    ratio.
    """
    ratios, names = table["ratio"].values, table["network"].values
    rows = -(-(1 + len(ratios)) // 2)
    figure, grid = style.subplots(rows, 2, size=(9.3, 3.6 * rows), squeeze=False)
    panels = list(grid.flat[: 1 + len(ratios)])
    for left in grid.flat[len(panels) :]:
        left.remove()
    middle = ratios[len(ratios) // 2]
    gains = 100 * (table["throughput"] / table["chain_throughput"] - 1)
    groups, width = np.arange(table.sizes["heavy_rate"]), 0.8 / len(names)
    for number, name in enumerate(names):
        colour = COLOURS[number % len(COLOURS)]
        share = 100 * table["device_share"].sel(network=name, ratio=middle)
        panels[0].plot(table["rate"] / 1e6, share, drawstyle="steps-mid", color=colour, label=name)
        for axes, ratio in zip(panels[1:], ratios, strict=True):
            at = groups + (number - (len(names) - 1) / 2) * width
            axes.bar(at, gains.sel(network=name, ratio=ratio), width, color=colour)
    for axes, ratio in zip(panels, (middle, *ratios), strict=True):
        axes.set_xlabel("mean rate of the link (Mbit/s)")
        axes.set_title("edge as fast as the device" if ratio == 1 else f"edge {ratio:g} times as fast", fontsize=10)
        axes.grid(True, axis="y", color="0.88", linewidth=0.6)
        axes.set_axisbelow(True)
    for axes in panels[1:]:
        axes.set_xticks(groups, [f"{rate / 1e6:g}" for rate in table["heavy_rate"].values])
        axes.set_ylim(0, max(1, 1.1 * float(gains.max())))
        axes.set_ylabel("throughput gained over\nthe best chain cut (%)")
    panels[0].set_xscale("log")
    panels[0].set_ylabel("work on the device (%)\nat the least latency")
    panels[0].legend(fontsize=8, loc="upper right")
    return figure


def tell(table: Any) -> str:
    """What cuts through the graph gain, network by network."""
    lines = [
        f"**{table['throughput'].attrs['provenance']}, device of {table.attrs['device_flops']:g} FLOP/s "
        f"({table.attrs['device_flops_provenance']})**",
        "",
        "| network | cuts that are best for latency at some speeds and rate | of these between layers | longest "
        "latency of "
        "the chain over all speeds and rates | throughput gained in the sweep, at most | where |",
        "|---|---|---|---|---|---|",
    ]
    for name in table["network"].values:
        row = table.sel(network=name)
        gain = (row["throughput"] / row["chain_throughput"]).values - 1
        ratio, rate = np.unravel_index(gain.argmax(), gain.shape)
        place = (
            f"edge {table['ratio'].values[ratio]:g} times as fast, {table['heavy_rate'].values[rate] / 1e6:g} Mbit/s"
        )
        lines.append(
            f"| {name} | {int(row['corners'])} | {int(row['corners_on_chain'])} | "
            f"+{100 * max(float(row['latency_gain']), 0):.2f} % | +{100 * max(gain.max(), 0):.1f} % | "
            f"{place if gain.max() > _TOLERANCE else 'nowhere'} |"
        )
    return "\n".join(lines) + "\n"
