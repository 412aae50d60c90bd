"""Where the best cut lies over the link's rate, and what a cut through the graph gains over one along a chain."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from edgeinfer import _validate
from edgeinfer._extras import need
from edgeinfer.model import Node, RayleighLink
from edgeinfer.paper import style

TITLE = "Best cut over the link's rate"
STATED = (
    "Neurosurgeon (Kang et al. 2017) observed that the best cut along a chain moves from the end of the network to its "
    "beginning as the link grows faster; DADS (Hu et al. 2019) that cuts through the graph beat cuts between layers."
)
COLOURS = ("#0b3c7d", "#d1712b", "#7a9e3b", "#8c4a86")


def data(networks: Mapping[str, Any], device: Any, edge: Any, rates: ArrayLike, *, slot: float = 1e-3) -> Any:
    """Best cuts for latency and for throughput, over the graph and along the chain.

    Parameters
    ----------
    networks : mapping of str to Graph or NetworkProfile
        By the name to show.
    device, edge : Node, or callable
        Or what gives the node of a network, as `lambda network: network.node("device", 5)`.
    rates : (n,) array_like, bit/s
        Mean rates of the link, > 0.
    slot : float, s

    Returns
    -------
    xarray.Dataset
        Over (network, rate): `device_share`, the share of the operations that the cut for latency leaves on the device;
        `latency` and `chain_latency`, s; `throughput` and `chain_throughput`, 1/s; `crossing`, tensors that cross the
        cut for throughput. Transfers take b / E[R]; the chain's cuts are those that a single tensor crosses.
    """
    from edgeinfer.bridge import NetworkProfile, chain_cuts, cut

    xarray = need("xarray", "study")
    rates = np.atleast_1d(_validate.positive("rates", rates))
    rows: dict[str, list[list[float]]] = {
        name: [] for name in ("device_share", "latency", "chain_latency", "throughput", "chain_throughput", "crossing")
    }
    for network in networks.values():
        nodes = [node if isinstance(node, Node) else node(network) for node in (device, edge)]
        for values in rows.values():
            values.append([])
        for rate in rates:
            unit = RayleighLink(1.0, 31, -100, 128.1, slot)
            link = RayleighLink(rate / unit.mean_rate(), 31, -100, 128.1, slot)
            arguments: dict[str, Any] = {"device": nodes[0], "edge": nodes[1], "link": link}
            best, fastest = cut(network, **arguments), cut(network, objective="throughput", **arguments)
            stages = [
                (*option.times, option.bits[0] / rate) for option in chain_cuts(network, single=True, **arguments)
            ]
            found = {
                "device_share": best.places.count(0) / len(best.places),
                "latency": best.value,
                "chain_latency": min(map(sum, stages)),
                "throughput": fastest.value,
                "chain_throughput": 1 / min(map(max, stages)),
                "crossing": len(fastest.crossing[0]),
            }
            for name, value in found.items():
                rows[name][-1].append(value)
    measured = all(isinstance(network, NetworkProfile) for network in networks.values())
    provenance = "derived from measured times" if measured else "derived from FLOP"
    return xarray.Dataset(
        {name: (("network", "rate"), np.array(values), {"provenance": provenance}) for name, values in rows.items()},
        coords={"network": list(networks), "rate": ("rate", rates, {"units": "bit/s"})},
    )


def draw(table: Any) -> Any:
    """Left: the share of the network on the device. Right: throughput gained by cutting through the graph."""
    figure, (left, right) = style.subplots(1, 2, size=(10, 3.8))
    rates = table["rate"].values / 1e6
    for colour, name in zip(COLOURS * len(table["network"]), table["network"].values, strict=False):
        row = table.sel(network=name)
        left.plot(rates, 100 * row["device_share"], drawstyle="steps-mid", color=colour, label=name)
        gain = 100 * (row["throughput"] / row["chain_throughput"] - 1)
        right.plot(rates, gain, "o-", markersize=3, color=colour, label=name)
    for axes in (left, right):
        axes.set_xscale("log")
        axes.set_xlabel("mean rate of the link (Mbit/s)")
        axes.grid(True, color="0.88", linewidth=0.6)
    left.set_ylabel("operations on the device (%)\nat the least latency")
    right.set_ylabel("throughput gained over\nthe best chain cut (%)")
    left.legend(fontsize=8)
    return figure
