"""Beyond the paper: Figure 9 with an uplink, and which paradigm wins over the deadline and the rate."""

from typing import Any

import numpy as np

from edgeinfer._extras import need
from edgeinfer.delay import rare_violation, violation_bracket
from edgeinfer.paper import uplink
from edgeinfer.paper.bounds import certified_best
from edgeinfer.paper.drawing import style
from edgeinfer.paper.scenario import Scenario

TITLE = "Figure 9 with an uplink, over the deadline and the rate"
PAPER = "The paper's request is at the edge at once: its split has no uplink."
HERE = (
    "Here the request crosses an uplink of 5 MHz and 23 dBm first, unless the device does all. Left: both ends of the "
    "bracket and importance sampling for a request of 0.2 Mbit and, dashed, without an uplink. The maps: the paradigm "
    "whose upper end is below the lower ends of both others, for that request and for one with a picture of 3 Mbit in "
    "it; lines: where the best upper end is 1e-3 and 1e-6. A request that is long enough makes the device the best at "
    "low rates and short deadlines, and leaves split inference what the device cannot carry; "
    "where the uplink is the busiest stage, split and edge only are too alike to be told apart."
)
#: Assumed: bits of the requests; rates of the maps over the largest that split inference carries without an uplink.
BITS = (uplink.REQUEST_BITS, 3e6)
SHARES = np.linspace(0.06, 0.83, 8)
_LEVELS = (1e-6, 1e-3)


def data(scenario: Scenario, *, bits: Any = BITS, shares: Any = SHARES, points: int = 25, seed: int = 19) -> Any:
    """Brackets of every paradigm with an uplink and without, over deadline and rate.

    Parameters
    ----------
    scenario : Scenario
        A single one (scalars).
    bits : sequence of float, bit
        Of a request, each > 0; the curves are of the first.
    shares : sequence of float
        Rates over the largest that split inference carries without an uplink, > 0.
    points : int
        Deadlines.
    seed : int
        Of importance sampling.

    Returns
    -------
    xarray.Dataset
        Over (paradigm, deadline), at the scenario's rate: `lower`, `upper`, and without an uplink `lower_without`,
        `upper_without`; `rare` with `rare_low`, `rare_high`, NaN where it was not run. Over (bits, rate, deadline):
        `winner`, certified, and `best`, the least upper end.
    """
    rate, without = float(scenario.arrival_rate), scenario.pipelines()
    rates = np.asarray(shares, dtype=float) / float(without["split"].loads(1.0).max())
    families = [uplink.pipelines(scenario, float(size)) for size in bits]
    slowest = max(float(one.moments()[0].sum()) for one in families[0].values())
    deadlines = np.geomspace(0.5 * slowest, 8 * slowest, points)
    derived, over = {"units": "1", "provenance": "derived"}, ("paradigm", "deadline")
    variables: dict[str, Any] = {}
    for name, family in (("", families[0]), ("_without", without)):
        ends = [violation_bracket(one, rate, deadlines) for one in family.values()]
        for end in ("lower", "upper"):
            variables[end + name] = (over, np.array([getattr(found, end) for found in ends]), derived)
    alone = violation_bracket(without["device_only"], rates[:, None], deadlines)
    maps = [
        [
            alone if name == "device_only" else violation_bracket(one, rates[:, None], deadlines)
            for name, one in f.items()
        ]
        for f in families
    ]
    lower, upper = (np.array([[getattr(found, end) for found in row] for row in maps]) for end in ("lower", "upper"))
    winner = [certified_best(without, *ends) for ends in zip(lower, upper, strict=True)]
    variables["winner"] = (("bits", "rate", "deadline"), winner, {"provenance": "derived"})
    variables["best"] = (("bits", "rate", "deadline"), upper.min(axis=1), derived)
    rare = np.full((3, len(without), points), np.nan)
    for i, pipeline in enumerate(families[0].values()):
        found = rare_violation(pipeline, rate, deadlines[::4], relative_error=0.05, rng=seed + i)
        rare[:, i, ::4] = found.value, found.low, found.high
    for name, values in zip(("rare", "rare_low", "rare_high"), rare, strict=True):
        variables[name] = (over, values, {"units": "1", "provenance": "simulated"})
    return need("xarray", "study").Dataset(
        variables,
        coords={
            "paradigm": list(without),
            "deadline": ("deadline", deadlines, {"units": "s"}),
            "rate": ("rate", rates, {"units": "1/s"}),
            "bits": ("bits", np.asarray(bits, dtype=float), {"units": "bit"}),
        },
        attrs={
            "arrival_rate": rate,
            "arrival_rate_provenance": scenario.provenance["arrival_rate"],
            "assumed": "bits, uplink, rates",
        }
        | {f"uplink_{name}": value for name, value in uplink.LINK.items()},
    )


def point(table: Any) -> str:
    """How much of each map is whose, in one sentence."""
    parts = []
    for size in table["bits"].values:
        winner = table["winner"].sel(bits=size)
        shares = {style.PARADIGMS[name][2]: int((winner == name).sum()) for name in table["paradigm"].values}
        told = ", ".join(f"{name} in {count}" for name, count in shares.items() if count)
        parts.append(f"for a request of {size / 1e6:g} Mbit {told or 'nobody'} of {winner.size} cells")
    return f"Certified to violate the deadline least, over deadline and rate, is {'; '.join(parts)}."


@style.drawing
def draw(table: Any) -> Any:
    """Curves at one rate; a map over rates for each request."""
    figure, (left, *maps) = style.subplots(1, 1 + table.sizes["bits"], size=(3.5 * (1 + table.sizes["bits"]), 4.6))
    for paradigm in table["paradigm"].values:
        colour, marker, label = style.PARADIGMS[paradigm]
        part = table.sel(paradigm=paradigm)
        left.fill_between(part["deadline"], part["lower"], part["upper"], color=colour, alpha=0.35, linewidth=0)
        left.plot(part["deadline"], part["upper"], color=colour, linewidth=1.4, label=label)
        if paradigm != "device_only":
            left.plot(part["deadline"], part["upper_without"], "--", color=colour, linewidth=0.9)
        left.plot(part["deadline"], part["rare"], marker, color=colour, markersize=5, mfc="white")
    left.plot([], [], "--", color="0.3", linewidth=0.9, label="without the uplink")
    left.plot([], [], "o", color="0.3", mfc="white", label="importance sampling")
    style.probability_axes(left, 1e-12)
    left.set_title(f"{table.attrs['arrival_rate']:g} requests/s of {table['bits'].values[0] / 1e6:g} Mbit", fontsize=10)
    left.legend(fontsize=8, loc="lower left")
    deadline, rate = table["deadline"].values, table["rate"].values
    for axes, size in zip(maps, table["bits"].values, strict=True):
        part = table.sel(bits=size)
        style.winners(axes, deadline, rate, part["winner"].values)
        logarithm = np.log10(np.maximum(part["best"].values, 1e-300))
        for level, line in zip(np.log10(_LEVELS), (":", "-"), strict=True):
            if logarithm.min() < level < logarithm.max():
                lines = axes.contour(deadline, rate, logarithm, [level], colors="white", linestyles=line)
                axes.clabel(lines, fmt=lambda value: f"1e{value:.0f}", fontsize=8)
        axes.set_xscale("log")
        axes.set_xticks([2, 3, 5, 10, 20], ["2", "3", "5", "10", "20"])
        axes.minorticks_off()
        axes.set_xlabel(style.DEADLINE)
        axes.set_ylabel("arrival rate (1/s)")
        axes.set_title(f"certified winner, request of {size / 1e6:g} Mbit", fontsize=10)
    style.winners_legend(figure, table["winner"].values, "nobody is certified")
    return figure


def tell(table: Any) -> str:
    """Some deadlines at the scenario's rate."""
    names = list(table["paradigm"].values)
    lines = [
        f"**derived at {table.attrs['arrival_rate']:g} requests/s ({table.attrs['arrival_rate_provenance']}); uplink "
        f"assumed; in brackets: without it**",
        "",
        *style.table_head("deadline (s)", *(style.PARADIGMS[name][2] for name in names)),
    ]
    for at in range(0, table.sizes["deadline"], 4):
        row = table.isel(deadline=at)
        cells = [
            f"{float(cell['lower']):.3g} .. {float(cell['upper']):.3g} ({float(cell['upper_without']):.3g})"
            for cell in (row.sel(paradigm=name) for name in names)
        ]
        lines.append(f"| {float(row['deadline']):.3g} | " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"
