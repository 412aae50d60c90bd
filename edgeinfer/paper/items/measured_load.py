"""Beyond the paper: sojourn times of real requests under load, beside what the core predicts for them."""

from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgeinfer._extras import need
from edgeinfer.delay import simulate, violation_bracket
from edgeinfer.estimates import cycles, shares
from edgeinfer.model import Constant, Measured, Pipeline, RayleighLink, Transfer
from edgeinfer.paper.drawing import style
from edgeinfer.paper.measured import store

TITLE = "Prediction against measurement: sojourn times under load"
PAPER = "The paper compares its formulas with simulation alone."
HERE = (
    "Here Poisson arrivals went through the real processes, an edge, a shaped Rayleigh link and a device, for the "
    "three paradigms at two loads. The prediction knows nothing of these runs: stage times, bits and what a "
    "request takes besides were profiled in the same processes at a light load over a link without delay. A "
    "second prediction takes the stage times of the run itself; where it meets the measurement and the first one "
    "does not, computing was slower or faster under load than when it was profiled."
)
#: Predicted probabilities of the first deadline and of the last one; between them deadlines are evenly spaced.
PROBABILITIES = (0.9, 0.02)
CONFIDENCE = 0.95
_RESAMPLES = 4000
#: Of the predictions: of the profile, and with the run's own stage times.
PREDICTIONS = ("profiled", "own_times")


def data(*, load: Any = None, deadlines: int = 10, jobs: int = 50_000, replications: int = 16) -> Any:
    """Measured and predicted violation probabilities.

    A measured interval is a bootstrap over cycles, each from a request that finds the system empty to the next such
    one: cycles are independent, the requests within one are not. Intervals of one run hold for all its deadlines
    together with 95 % (Bonferroni). Predictions are simulations of the tandem.

    Parameters
    ----------
    load : xarray.Dataset, optional
        What `measurement.measure_load` writes; the shipped one by default.
    deadlines : int
        Of each paradigm and load.
    jobs, replications : int
        Of each simulation.

    Returns
    -------
    xarray.Dataset
        Over (paradigm, load, deadline): `deadline_time` (s), `measured`, `profiled` and `own_times` with ends,
        `lower` and `upper` of the certified bracket for constant stage times, the profile's means. Over (paradigm,
        load): the mean sojourn times, `arrival_rate`, `cycles`, `failed`, mean stage times and the correlation of
        successive ones. Over paradigm: `overhead` (s), `bits`.
    """
    xarray = need("xarray", "paper")
    table = store.load("load") if load is None else load
    link = RayleighLink(
        **{name.removeprefix("link_"): v for name, v in table.attrs.items() if name.startswith("link_")}
    )
    wanted = 1 - np.array(PROBABILITIES)
    options: dict[str, Any] = {"jobs": jobs, "replications": replications}
    rows: list[dict[str, Any]] = []
    for paradigm in table["paradigm"].values:
        part = table.sel(paradigm=paradigm)
        bits = float(part["profile_bits"])
        profiled = _pipeline(part["profile_edge"], part["profile_device"], bits, link)
        extra = _overhead(part, link)
        for seed, level in enumerate(table["load"].values):
            run = part.sel(load=level)
            rate = float(run["rate"])
            ends = simulate(profiled, rate, [1.0], rng=seed, **options).quantile(wanted)[:, 0, -1]
            times = np.linspace(ends[0], ends[1], deadlines)
            sojourn = np.nan_to_num(run["sojourn"].values, nan=np.inf)
            cycle = cycles(run["arrival"].values, sojourn)
            constant = _pipeline(part["profile_edge"], part["profile_device"], bits, link, constant=True)
            bracket = violation_bracket(constant, rate, times)
            row: dict[str, Any] = {"deadline_time": times + extra, "lower": bracket.lower, "upper": bracket.upper}
            late = shares(sojourn[:, None] > times + extra, cycle, CONFIDENCE, resamples=_RESAMPLES, seed=seed)
            row |= {f"measured{suffix}": getattr(late, end) for end, suffix in _ENDS.items()}
            own = _pipeline(run["edge"], run["device"], bits, link)
            for name, pipeline in zip(PREDICTIONS, (profiled, own), strict=True):
                row[f"{name}_mean"] = np.inf
                row |= {f"{name}{suffix}": np.ones(deadlines) for suffix in _ENDS.values()}
                # The run's own times may be longer than its requests came apart.
                if rate * pipeline.moments()[0].max() < 1:
                    found = simulate(pipeline, rate, times, rng=seed, **options)
                    row[f"{name}_mean"] = float(found.mean.value[0, -1]) + extra
                    row |= {f"{name}{suffix}": getattr(found.violation, end)[:, -1] for end, suffix in _ENDS.items()}
            rows.append(
                row
                | {"measured_mean": float(np.nanmean(run["sojourn"])), "cycles": int(cycle[-1]) + 1}
                | {"failed": int(np.isinf(sojourn).sum()), "arrival_rate": rate, "overhead": extra, "bits": bits}
                | {f"{place}_time": float(run[place].mean()) for place in ("edge", "device")}
                | {f"{place}_correlation": _correlation(run[place].values) for place in ("edge", "device")}
                | {f"profiled_{place}_time": float(part[f"profile_{place}"].mean()) for place in ("edge", "device")}
            )
    shape = table.sizes["paradigm"], table.sizes["load"]
    units = {"deadline_time": "s", "arrival_rate": "1/s", "overhead": "s", "bits": "bit"}
    answer = {}
    for name in rows[0]:
        values = np.array([row[name] for row in rows])
        dims = ("paradigm", "load", "deadline")[: 1 + values.ndim]
        unit = units.get(name, "s" if name.endswith(("_time", "_mean")) else "1")
        kind = "simulated" if name.startswith(PREDICTIONS) and not name.endswith("_time") else "measured"
        kind = "derived" if name in ("lower", "upper", "deadline_time", "arrival_rate") else kind
        answer[name] = (dims, values.reshape(*shape, *values.shape[1:]), {"units": unit, "provenance": kind})
    coords = {"paradigm": table["paradigm"].values, "load": table["load"]}
    return xarray.Dataset(answer, coords=coords, attrs=dict(table.attrs) | {"requests": table.sizes["request"]})


_ENDS = {"value": "", "low": "_low", "high": "_high"}


def _pipeline(edge: Any, device: Any, bits: float, link: RayleighLink, constant: bool = False) -> Pipeline:
    """Stages that have times, or the mean times, and the downlink where it has bits."""
    stages: list[Any] = []
    for name, times in (("edge", edge.values), ("downlink", None), ("device", device.values)):
        if times is None:
            stages += [Transfer(bits, link, name)] if np.isfinite(bits) else []
        elif np.isfinite(times).any():
            samples = times[np.isfinite(times)]
            stages.append(Constant(samples.mean(), name) if constant else Measured(samples, name))
    return Pipeline(tuple(stages))


def _overhead(part: Any, link: RayleighLink) -> float:
    """What a request takes besides its stages, s: the median over those that met no other when profiled."""
    arrival, sojourn = part["profile_arrival"].values, part["profile_sojourn"].values
    busy = np.nansum([part["profile_edge"].values, part["profile_device"].values], axis=0)
    alone = np.diff(cycles(arrival, sojourn), prepend=-1) > 0
    return float(np.median((sojourn - busy)[alone]))


def _correlation(times: NDArray[np.float64]) -> float:
    """Of successive stage times; NaN where there are none, or all are equal."""
    times = times[np.isfinite(times)]
    if times.size < 3 or np.ptp(times) == 0:
        return float("nan")
    return float(np.corrcoef(times[:-1], times[1:])[0, 1])


def met(table: Any, prediction: str = "profiled") -> Any:
    """How many deadlines' measured interval holds the predicted probability, over (paradigm, load)."""
    value = table[prediction]
    return ((table["measured_low"] <= value) & (value <= table["measured_high"])).sum("deadline")


def tell(table: Any) -> str:
    """Markdown: a row a paradigm and load, and what parts measurement and prediction."""
    count, enough = table.sizes["deadline"], int(np.ceil(0.9 * table.sizes["deadline"]))
    lines = [
        f"| paradigm | load | requests/s | mean, measured (ms) | predicted | with its own times | deadlines met, of "
        f"{count} "
        "| with its own times | stage times under load against profiled |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    told = []
    hits = {name: met(table, name) for name in PREDICTIONS}
    for paradigm in table["paradigm"].values:
        for level in table["load"].values:
            cell = table.sel(paradigm=paradigm, load=level)
            first, second = (int(hits[name].sel(paradigm=paradigm, load=level)) for name in PREDICTIONS)
            ratios = {
                place: float(cell[f"{place}_time"] / cell[f"profiled_{place}_time"]) for place in ("edge", "device")
            }
            slower = ", ".join(f"{place} {100 * (r - 1):+.1f} %" for place, r in ratios.items() if np.isfinite(r))
            means = [f"{1e3 * float(cell[f'{name}_mean']):.1f}" for name in ("measured", *PREDICTIONS)]
            label = style.PARADIGMS[paradigm][2]
            lines.append(
                f"| {label} | {level:g} | {float(cell['arrival_rate']):.3g} | {' | '.join(means)} | {first} | {second} "
                f"| {slower} |"
            )
            if first < enough:
                dependence = ", ".join(
                    f"{place} {float(cell[f'{place}_correlation']):.2f}"
                    for place in ratios
                    if np.isfinite(ratios[place])
                )
                cause = (
                    f"with the stage times of the run itself {second} are met, so that the stage times made the "
                    f"difference: "
                    f"{slower} under load"
                    if second >= enough
                    else f"with the stage times of the run itself {second} are met, so that it is not in their "
                    f"distribution, but in their dependence (correlation of successive ones: {dependence}), "
                    "in what a request takes besides, or chance, which parts one run in twenty"
                )
                told.append(f"{label} at load {level:g}: the prediction meets {first} of {count} deadlines; {cause}.")
            if int(cell["failed"]):
                told.append(f"{label} at load {level:g}: {int(cell['failed'])} requests failed, and count as late.")
    good = int((hits["profiled"] >= enough).sum())
    extra = ", ".join(
        f"{style.PARADIGMS[p][2]} {1e3 * float(table['overhead'].sel(paradigm=p)[0]):.2f} ms"
        for p in table["paradigm"].values
    )
    a = table.attrs
    head = (
        f"In {good} of {hits['profiled'].size} runs the prediction lies within the measured interval (95 % for all "
        f"deadlines of a run together) at {enough} of {count} deadlines or more. Each run is {a['requests']} requests "
        f"of {a['prior_steps']} prior and {a['decode_steps']} decoding steps, the device {a['slowdown']:g} times "
        f"slower than the edge. What a request takes besides its stages, and is added to each prediction: {extra}."
    )
    return "\n".join([head, "", *lines, "", *(line for text in told for line in (text, ""))])


@partial(style.drawing, text=8)
def draw(table: Any) -> Any:
    """A panel a paradigm and load: measured with interval, both predictions, the bracket."""
    paradigms, loads = table["paradigm"].values, table["load"].values
    figure, panels = style.subplots(
        loads.size, paradigms.size, size=(3.1 * paradigms.size, 3.2 * loads.size), squeeze=False, sharey=True
    )
    hits = met(table)
    for axes, (i, j) in zip(panels.T.flat, np.ndindex(paradigms.size, loads.size), strict=True):
        cell = table.isel(paradigm=i, load=j)
        colour, marker, label = style.PARADIGMS[paradigms[i]]
        x = cell["deadline_time"]
        axes.fill_between(
            x, cell["lower"], cell["upper"], color="0.75", linewidth=2, label="bracket for constant times"
        )
        axes.plot(x, cell["profiled"], color="black", linewidth=1.2, label="predicted from the profile")
        axes.plot(x, cell["own_times"], color="black", linewidth=1, linestyle=":", label="with the run's stage times")
        ends = np.abs([cell["measured"] - cell["measured_low"], cell["measured_high"] - cell["measured"]])
        axes.errorbar(
            x,
            cell["measured"],
            yerr=ends,
            fmt=marker,
            color=colour,
            markersize=4,
            linewidth=1,
            capsize=2,
            label="measured",
        )
        style.probability_axes(axes, 5e-3)
        axes.set_title(
            f"{label},\nload {loads[j]:g} ({float(cell['arrival_rate']):.3g}/s): "
            f"{int(hits[i, j])} of {cell.sizes['deadline']}",
            fontsize=9,
        )
        if i:
            axes.set_ylabel("")
    panels[0][0].legend(fontsize=7)
    return figure
