"""Beyond the paper: where taking several requests at once helps, the mean and the tail."""

from typing import Any

import numpy as np

from edgeinfer._extras import need
from edgeinfer.cell.queues import batch_sojourn
from edgeinfer.paper.drawing import style

TITLE = "Batching: where it helps the mean and the tail, where it hurts them"
HERE = (
    "A server takes a fixed time for a batch and a time for each request in it; a request alone takes one second in "
    "all. Whoever is in a batch waits for all of it, which hurts most where little of the time is fixed; what is "
    "saved shortens the queue, which helps most at high loads, and the tail more than the mean. Law of the sojourn "
    "time by the chain of the batches, for Poisson arrivals and a server that starts as soon as it is free."
)
#: Assumed: requests a batch; share of a lone request's time that is fixed; load of requests served one by one.
LIMITS, SHARES, LOADS = (2, 4, 8), (0.05, 0.2, 0.5), (0.2, 0.4, 0.6, 0.7, 0.8, 0.9)
QUANTILE = 0.99


def data(*, limits: Any = LIMITS, shares: Any = SHARES, loads: Any = LOADS, points: int = 24) -> Any:
    """Mean and 99 % quantile of the sojourn time, over those without batches.

    Parameters
    ----------
    limits, shares, loads : sequence
        Requests a batch, fixed share of the time, load of requests one by one.
    points : int
        Of `batch_sojourn`.

    Returns
    -------
    xarray.Dataset
        Over (limit, share, load): `mean`, `tail`, ratios; below 1 batches help.
    """
    answer = np.empty((2, len(limits), len(shares), len(loads)))
    for j, share in enumerate(shares):
        for k, load in enumerate(loads):
            alone = _law(load, 1, share, points)
            for i, limit in enumerate(limits):
                answer[:, i, j, k] = _law(load, limit, share, points) / alone
    over = ("limit", "share", "load")
    derived = {"units": "1", "provenance": "derived"}
    return need("xarray", "study").Dataset(
        {"mean": (over, answer[0], derived), "tail": (over, answer[1], derived)},
        coords={"limit": list(limits), "share": list(shares), "load": list(loads)},
        attrs={"quantile": QUANTILE, "assumed": "limit, share, load"},
    )


def _law(rate: float, limit: int, share: float, points: int) -> Any:
    """Mean and quantile, s."""
    times, chances = batch_sojourn(rate, limit, share, 1 - share, points)
    return np.array([times @ chances, times[np.searchsorted(np.cumsum(chances), QUANTILE * chances.sum())]])


@style.drawing
def draw(table: Any) -> Any:
    """A panel for each fixed share: mean and tail over the load."""
    figure, panels = style.subplots(1, table.sizes["share"], size=(10.6, 3.9), sharey=True, squeeze=False)
    for axes, share in zip(panels[0], table["share"].values, strict=True):
        axes.axhline(1, color="0.5", linewidth=0.8)
        for limit, colour in zip(table["limit"].values, (*style.SERIES[:3], "0.4"), strict=False):
            part = table.sel(share=share, limit=limit)
            axes.plot(part["load"], part["mean"], "--", color=colour, label=f"mean, up to {limit}")
            axes.plot(part["load"], part["tail"], color=colour, label=f"99 %, up to {limit}")
        style.plain_log(axes, "y")
        axes.set_xlabel("load of requests one by one")
        axes.set_title(f"{100 * share:g} % of a lone request's time is fixed", fontsize=9)
        axes.grid(True, which="major", color="0.88", linewidth=0.6)
    panels[0][0].set_ylabel("sojourn time over that without batches")
    panels[0][0].legend(fontsize=8)
    return figure


def tell(table: Any) -> str:
    """Where batches help both, one, or none, and what limit is best."""
    mean, tail = table["mean"] < 1, table["tail"] < 1
    counts = {
        "both": int((mean & tail).sum()),
        "the mean alone": int((mean & ~tail).sum()),
        "the tail alone": int((~mean & tail).sum()),
        "neither": int((~mean & ~tail).sum()),
    }
    lines = [
        "**derived; limits, shares and loads assumed**",
        "",
        f"Of {mean.size} cases batches help {', '.join(f'{name} in {count}' for name, count in counts.items())}.",
        "",
        "| fixed share | load | best limit by the mean | by the 99 % quantile | mean, tail at the largest limit |",
        "|---|---|---|---|---|",
    ]
    for share in table["share"].values:
        for load in table["load"].values:
            part = table.sel(share=share, load=load)
            best = []
            for name in ("mean", "tail"):
                least = part[name].min()
                best.append(1 if float(least) >= 1 else int(part["limit"].values[part[name].values.argmin()]))
            last = part.isel(limit=-1)
            ends = f"{float(last['mean']):.3f}, {float(last['tail']):.3f}"
            lines.append(f"| {share:g} | {load:g} | {best[0]} | {best[1]} | {ends} |")
    return "\n".join(lines) + "\n"
