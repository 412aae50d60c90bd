"""Beyond the paper: eight users at an edge that serves batches, measured, beside the simulated cell."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgeinfer._extras import need
from edgeinfer.cell import Batching, Cell, EdgeNode, Terminals, simulate_cell
from edgeinfer.estimates import Estimate
from edgeinfer.model import Constant, Delay, Pipeline, RayleighLink, Transfer
from edgeinfer.paper.drawing import style
from edgeinfer.paper.measured import store
from edgeinfer.paper.measured.cell_under_load import SECONDS, fit

TITLE = "A cell under load, measured"
PAPER = "The paper's Figure 1 has many terminals at an edge; its evaluation has one."
HERE = (
    "Here several users, each a process with a shaped Rayleigh link of its own, ask one edge that takes all waiting "
    "requests at once, up to a limit. The prediction knows nothing of these runs: a batch's fixed time and that of "
    "each request were measured in blocks of requests before those of the run, in the same processes at the same load; "
    "the links' laws are given, and what a request takes besides was measured over a link of next to no delay. A "
    "`Cell` of these is simulated."
)
COMMAND = "edgeinfer measure --only cell_under_load"
#: What is compared.
LEVEL, CONFIDENCE = 0.99, 0.95
#: Share of a block that is left out at its start, parts of a run that are taken as independent, and resamples of them.
WARMUP, PARTS, RESAMPLES = 0.05, 20, 500
_COLOURS = style.SERIES
_DERIVED = ("fixed", "each", "fitted", "loaded_time")
_ENDS = {"value": "", "low": "_low", "high": "_high"}


def data(*, table: Any = None, deadlines: int = 12, jobs: int = 40_000) -> Any:
    """Measured and simulated sojourn times.

    A measured interval is a bootstrap over parts of the run, of equal length and long against what a queue remembers.

    Parameters
    ----------
    table : xarray.Dataset, optional
        What `measured.cell_under_load.measure` writes; the shipped one by default.
    deadlines : int
        Of each load, between the simulated median and beyond the 99 % quantile.
    jobs : int
        Of each of 8 replications.

    Returns
    -------
    xarray.Dataset
        Over load, with `_low` and `_high`: `measured_mean`, `simulated_mean`, `measured_quantile`,
        `simulated_quantile` (s), `simulated_batch`; `measured_batch`, the mean batch; and `own_mean`, `own_quantile`,
        simulated with the batches' times in the run itself, NaN where it had batches of one size; `fixed` and `each`,
        of batches timed at that load before (s). Over (load, deadline): `deadline_time` (s), `measured`, `simulated`.
        Over size: `batch_time`, the mean of batches of that size while nobody else asks, and over (load, size)
        `loaded_time`, of those timed at that load (s; NaN where there were none), and `fitted` (s). A single one:
        `overhead` (s).

    Raises
    ------
    FileNotFoundError
        Naming the command that measures.
    """
    xarray = need("xarray", "paper")
    raw = store.load("cell_under_load", COMMAND) if table is None else table
    overhead = float(np.median(raw["overhead"]))
    rows = []
    for number, load in enumerate(raw["load"].values):
        run = raw.sel(load=load)
        before = run["timed_size"].values, run["timed_lasting"].values
        fixed, each = _times(*before) or fit(raw["size"].values[:, None], raw["batch_time"].values)
        own = _times(run["batch_size"].values, run["batch_lasting"].values)
        options: dict[str, Any] = {"jobs": jobs, "replications": 8, "rng": number}
        found = simulate_cell(_cell(raw.attrs, float(run["rate"]), fixed, each, overhead), **options)["users"]
        ends = found.quantile(0.5)[-1], 1.3 * found.quantile(LEVEL)[-1]
        times = np.linspace(*ends, deadlines)
        answer = simulate_cell(_cell(raw.attrs, float(run["rate"]), fixed, each, overhead), times, **options)
        users = answer["users"]
        row: dict[str, Any] = {"deadline_time": times, "fixed": fixed, "each": each}
        row["loaded_time"] = [_mean(before[1][before[0] == size]) for size in raw["size"].values]
        row["fitted"] = fixed + each * raw["size"].values
        row |= _ends("simulated_mean", users.mean[-1]) | _ends("simulated", users.violation[:, -1])
        row |= _ends("simulated_quantile", users.quantile_interval(LEVEL)[-1])
        row |= _ends("simulated_batch", answer.edges[0].batch_size)
        row |= _measured(run, raw.attrs, times)
        row["own_mean"] = row["own_quantile"] = np.nan
        if own is not None and float(run["rate"]) * (own[0] / raw.attrs["limit"] + own[1]) < 1:
            again = simulate_cell(_cell(raw.attrs, float(run["rate"]), *own, overhead), **options)["users"]
            row["own_mean"], row["own_quantile"] = float(again.mean.value[-1]), float(again.quantile(LEVEL)[-1])
        rows.append(row)
    return _dataset(xarray, raw, rows, overhead)


def _times(sizes: Any, lasting: Any) -> tuple[float, float] | None:
    """The fixed time of a batch and that of each request, s, of those that were seen; None where all had one size."""
    return fit(sizes, lasting) if len(np.unique(sizes[np.isfinite(sizes)])) > 1 else None


def _mean(values: NDArray[np.float64]) -> float:
    return float(values.mean()) if values.size else float("nan")


def _cell(attrs: Any, rate: float, fixed: float, each: float, overhead: float) -> Cell:
    link = RayleighLink.from_snr(attrs["snr"], attrs["bandwidth"], attrs["slot"])
    stages = [
        Transfer(attrs["uplink_bits"], link, "uplink"),
        Constant(max(each, 0.0), "edge"),
        Transfer(attrs["downlink_bits"], link, "downlink"),
        Delay(Constant(max(overhead, 0.0), "overhead")),
    ]
    users = int(attrs["users"])
    batch = Batching(int(attrs["limit"]), fixed=max(fixed, 0.0))
    kind = Terminals(users, rate / users, Pipeline(stages), edge="edge", name="users")
    return Cell((kind,), (EdgeNode(batch=batch),))


def _ends(name: str, estimate: Estimate) -> dict[str, Any]:
    return {f"{name}{suffix}": np.asarray(getattr(estimate, end)) for end, suffix in _ENDS.items()}


def _measured(run: Any, about: Any, times: NDArray[np.float64]) -> dict[str, Any]:
    """Mean, quantile and tail of a run, each with the ends of a bootstrap over its parts; what failed is late."""
    arrival, seconds = run["arrival"].values, float(about["seconds"])
    length = seconds / int(about["blocks"])
    some = np.isfinite(arrival) & (np.nan_to_num(arrival) % length >= WARMUP * length)
    arrival, sojourn = arrival[some], np.nan_to_num(run["sojourn"].values[some], nan=np.inf)
    part = np.minimum((arrival / seconds * PARTS).astype(int), PARTS - 1)
    parts = [sojourn[part == number] for number in range(PARTS)]
    rng = np.random.default_rng(0)

    def numbers(sample: NDArray[np.float64]) -> NDArray[np.float64]:
        mean = sample[np.isfinite(sample)].mean()
        quantile = np.sort(sample)[min(int(np.ceil(LEVEL * len(sample))), len(sample)) - 1]
        return np.concatenate([[mean, quantile], (sample[:, None] > times).mean(axis=0)])

    drawn = [np.concatenate([parts[i] for i in rng.integers(0, PARTS, PARTS)]) for _ in range(RESAMPLES)]
    samples = np.array([numbers(sample) for sample in drawn if len(sample)])
    tail = (1 - CONFIDENCE) / 2
    value = numbers(sojourn)
    low, high = np.quantile(samples, tail, axis=0), np.quantile(samples, 1 - tail, axis=0)
    row: dict[str, Any] = {"failed": int(np.isinf(sojourn).sum()), "requests": len(sojourn)}
    for suffix, column in (("", value), ("_low", low), ("_high", high)):
        row[f"measured_mean{suffix}"], row[f"measured_quantile{suffix}"] = column[0], column[1]
        row[f"measured{suffix}"] = column[2:]
    return row | {"measured_batch": float(np.nanmean(run["batch_size"]))}


def _dataset(xarray: Any, raw: Any, rows: list[dict[str, Any]], overhead: float) -> Any:
    answer: dict[str, Any] = {}
    for name in rows[0]:
        values = np.array([row[name] for row in rows])
        kind = "measured" if name.startswith(("measured", "failed", "requests")) else "simulated"
        unit = "s" if name.startswith(("deadline", *_DERIVED)) or "_mean" in name or "_quantile" in name else "1"
        kind = "derived from measured times" if name in _DERIVED else kind
        last = "size" if name in ("fitted", "loaded_time") else "deadline"
        answer[name] = (("load", last)[: values.ndim], values, {"units": unit, "provenance": kind})
    typical = raw["batch_time"].mean("repetition")
    answer["batch_time"] = ("size", typical.values, {"units": "s", "provenance": "measured"})
    answer["overhead"] = ((), overhead, {"units": "s", "provenance": "derived from measured times"})
    answer["rate"] = ("load", raw["rate"].values, {"units": "1/s", "provenance": "given"})
    attrs = dict(raw.attrs) | {"preliminary": int(raw.attrs["seconds"] < SECONDS)}
    return xarray.Dataset(answer, coords={"load": raw["load"], "size": raw["size"].values}, attrs=attrs)


@style.drawing
def draw(table: Any) -> Any:
    """Batch times over sizes, and the tails of the sojourn times at each load."""
    loads = table["load"].values
    figure, panels = style.subplots(1, 1 + loads.size, size=(3.5 * (1 + loads.size), 3.8))
    first, *others = panels
    first.plot(table["size"], 1e3 * table["batch_time"], "o", color="black", label="while nobody else asks")
    for colour, load in zip(_COLOURS, loads, strict=False):
        timed = table.sel(load=load)
        first.plot(table["size"], 1e3 * timed["loaded_time"], "o", color=colour, markersize=4)
        label = f"at load {load:g}: fixed + each times the size"
        first.plot(table["size"], 1e3 * timed["fitted"], color=colour, label=label)
    first.set_xlabel("requests a batch")
    first.set_ylabel("time of a batch (ms)")
    first.set_ylim(bottom=0)
    first.legend(fontsize=8)
    for axes, load in zip(others, loads, strict=True):
        run = table.sel(load=load)
        x = 1e3 * run["deadline_time"]
        axes.fill_between(x, run["simulated_low"], run["simulated_high"], color="0.8")
        axes.plot(x, run["simulated"], color="black", label="simulated cell")
        ends = np.abs([run["measured"] - run["measured_low"], run["measured_high"] - run["measured"]])
        axes.errorbar(
            x,
            run["measured"],
            ends,
            fmt="o",
            markersize=4,
            capsize=2,
            color=style.PARADIGMS["split"][0],
            label="measured",
        )
        style.probability_axes(axes, 1e-3)
        axes.set_xlabel("deadline (ms)")
        axes.set_title(f"load {load:g}: {float(run['rate']):.3g} requests/s", fontsize=10)
        axes.legend(fontsize=8)
    return figure


def tell(table: Any) -> str:
    """Means and quantiles, measured over simulated, and what was measured before."""
    a = table.attrs
    overhead = 1e3 * float(table["overhead"])
    told = "; ".join(
        f"at load {float(run['load']):g} {1e3 * float(run['fixed']):.1f} ms and {1e3 * float(run['each']):.2f} ms a "
        f"request"
        for run in (table.sel(load=load) for load in table["load"].values)
    )
    lines = [
        *(["**Preliminary: a short run, on a machine that did other things, too.**", ""] if a["preliminary"] else []),
        f"{a['users']} users on {a['processor']}. A batch of up to {a['limit']} takes {told}, as timed before each "
        f"block of the run; a request takes {overhead:.1f} ms besides.",
        "",
        "| load | requests/s | requests | mean, measured (ms) | simulated (ms) | ratio | 99 % within, measured (ms) | "
        "simulated (ms) | ratio | batch, measured and simulated | with the run's own batch times: mean, 99 % |",
        "|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    for load in table["load"].values:
        row = {name: float(value) for name, value in table.sel(load=load).drop_dims(["deadline", "size"]).items()}

        def shown(name: str, row: dict[str, float] = row) -> str:
            return f"{1e3 * row[name]:.0f} [{1e3 * row[name + '_low']:.0f}, {1e3 * row[name + '_high']:.0f}]"

        cells = [f"{load:g}", f"{row['rate']:.3g}", f"{row['requests']:.0f}"]
        for name in ("mean", "quantile"):
            both = f"measured_{name}", f"simulated_{name}"
            cells += [shown(both[0]), shown(both[1]), f"{row[both[0]] / row[both[1]]:.3f}"]
        cells.append(f"{row['measured_batch']:.2f}, {row['simulated_batch']:.2f}")
        cells.append(", ".join(f"{row[f'measured_{name}'] / row[f'own_{name}']:.3f}" for name in ("mean", "quantile")))
        lines.append(f"| {' | '.join(cells)} |")
        if row["failed"]:
            lines.append(f"| {load:g} | {row['failed']:.0f} requests failed, and count as late |" + " |" * 9)
    return "\n".join(lines) + "\n"
