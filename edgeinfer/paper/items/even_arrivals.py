"""Beyond the paper: Poisson against evenly spaced arrivals at a server that takes batches."""

from typing import Any

import numpy as np

from edgeinfer._extras import need
from edgeinfer.cell import Batching, Cell, EdgeNode, Terminals, simulate_cell
from edgeinfer.cell.queues import batch_sojourn
from edgeinfer.model import Constant, Periodic, Pipeline, Poisson
from edgeinfer.paper.drawing import style

TITLE = "Poisson against evenly spaced arrivals at a batching server"
HERE = (
    "Users of inference servers report that 99 % quantiles measured with Poisson arrivals are 2.2 to 2.8 times those "
    "with evenly spaced arrivals of the same rate. A server that takes up to eight requests at once, 10 ms a batch "
    "and 5 ms a request, has a ratio of 2.2 at a load of 0.8, 2.6 at 0.9, and more without end beyond. Evenly spaced "
    "requests make batches of nearly one size b = r f / (1 - r e), f and e the times of a batch and a request, r the "
    "rate, or of one request each where r (f + e) <= 1; none takes longer than two such batches. Poisson requests "
    "make batches of random sizes: who comes early in a large one waits for the rest of it, and is in a large one "
    "then, as many came meanwhile. Near the limit of a batch those that it leaves behind become a queue, whose "
    "quantiles grow as 1 / (1 - load)."
)
#: Assumed: requests, s, s.
LIMIT, FIXED, EACH = 8, 0.010, 0.005
LOADS = (0.3, 0.5, 0.6, 0.7, 0.8, 0.85, 0.9, 0.95)
QUANTILES = (0.5, 0.99)


def data(*, loads: Any = LOADS, jobs: int = 60_000, replications: int = 4, seed: int = 4) -> Any:
    """Quantiles of the sojourn time under both arrivals, of one stream.

    Parameters
    ----------
    loads : sequence of float
        At full batches, in (0, 1).
    jobs, replications, seed : int
        Of `simulate_cell`.

    Returns
    -------
    xarray.Dataset
        Over (load, quantile), s: `exact` from the chain of the batches, for Poisson arrivals; simulated: `poisson` with
        `poisson_low` and `poisson_high`, and `even`. Over load: `rate`, 1/s; `batch_size`, mean, for even arrivals.
    """
    loads = np.asarray(loads, dtype=float)
    rates = loads * LIMIT / (FIXED + LIMIT * EACH)
    stage = Pipeline([Constant(EACH, "inference")])
    edge = EdgeNode(batch=Batching(LIMIT, fixed=FIXED))
    rows: dict[str, list[Any]] = {name: [] for name in ("exact", "poisson", "poisson_low", "poisson_high", "even")}
    sizes = []
    for rate in rates:
        times, chances = batch_sojourn(rate, LIMIT, FIXED, EACH)
        rows["exact"].append(times[np.searchsorted(np.cumsum(chances), QUANTILES)])
        runs = [
            simulate_cell(
                Cell((Terminals(1, process, stage, edge=0),), (edge,)), jobs=jobs, replications=replications, rng=seed
            )
            for process in (Poisson(rate), Periodic(1 / rate))
        ]
        random, even = (run["terminals"] for run in runs)
        ends = [random.quantile_interval(q) for q in QUANTILES]
        rows["poisson"].append([end.value[-1] for end in ends])
        rows["poisson_low"].append([end.low[-1] for end in ends])
        rows["poisson_high"].append([end.high[-1] for end in ends])
        rows["even"].append(even.quantile(np.array(QUANTILES))[..., -1])
        sizes.append(float(runs[1].edges[0].batch_size.value))
    kinds = {"exact": "derived"}
    return need("xarray", "study").Dataset(
        {
            name: (
                ("load", "quantile"),
                np.array(values),
                {"units": "s", "provenance": kinds.get(name, "simulated")},
            )
            for name, values in rows.items()
        }
        | {
            "rate": ("load", rates, {"units": "1/s", "provenance": "derived"}),
            "batch_size": ("load", sizes, {"units": "1", "provenance": "simulated"}),
        },
        coords={"load": loads, "quantile": list(QUANTILES)},
        attrs={"limit": LIMIT, "fixed": FIXED, "each": EACH, "assumed": "limit, fixed, each, loads"},
    )


@style.drawing
def draw(table: Any) -> Any:
    """Quantiles over the load, and their ratios."""
    figure, (left, right) = style.subplots(1, 2, size=(9.5, 4.0))
    for quantile, line in zip(table["quantile"].values, (":", "-"), strict=True):
        part = table.sel(quantile=quantile)
        ends = 1e3 * np.abs([part["poisson"] - part["poisson_low"], part["poisson_high"] - part["poisson"]])
        left.plot(part["load"], 1e3 * part["exact"], line, color=style.BLUE, label=f"Poisson, {100 * quantile:g} %")
        left.errorbar(part["load"], 1e3 * part["poisson"], ends, fmt="o", color=style.BLUE, markersize=3, capsize=2)
        left.plot(
            part["load"], 1e3 * part["even"], line, color=style.ORANGE, label=f"evenly spaced, {100 * quantile:g} %"
        )
        right.plot(part["load"], part["exact"] / part["even"], line, color="0.2", label=f"{100 * quantile:g} %")
    right.axhspan(2.2, 2.8, color=style.GREEN, alpha=0.25, label="reported")
    style.plain_log(left, "y")
    left.set_ylabel("sojourn time (ms)")
    right.set_ylabel("Poisson over evenly spaced")
    for axes in (left, right):
        axes.set_xlabel("load at full batches")
        axes.grid(True, which="major", color="0.88", linewidth=0.6)
        axes.legend(fontsize=8)
    return figure


def tell(table: Any) -> str:
    """A row for each load."""
    lines = [
        f"**batches of up to {table.attrs['limit']}, {1e3 * table.attrs['fixed']:g} ms and "
        f"{1e3 * table.attrs['each']:g} ms a request: assumed; exact: derived**",
        "",
        "| load | requests/s | even: requests a batch | even: 99 % (ms) | Poisson: 99 %, exact (ms) | simulated (ms) | "
        "ratio |",
        "|---|---|---|---|---|---|---|",
    ]
    for load in table["load"].values:
        row = table.sel(load=load, quantile=0.99)
        cell = {name: float(value) for name, value in row.data_vars.items()}
        lines.append(
            f"| {load:g} | {cell['rate']:.0f} | {cell['batch_size']:.2f} | {1e3 * cell['even']:.1f} | "
            f"{1e3 * cell['exact']:.1f} | {1e3 * cell['poisson']:.1f} [{1e3 * cell['poisson_low']:.1f}, "
            f"{1e3 * cell['poisson_high']:.1f}] | {cell['exact'] / cell['even']:.2f} |"
        )
    return "\n".join(lines) + "\n"
