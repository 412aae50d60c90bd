"""Beyond the paper: violation probability over the distance, with path loss, line of sight and shadowing."""

from typing import Any

import numpy as np

from edgeinfer._extras import need
from edgeinfer.delay import latency, population_bracket, violation_bracket
from edgeinfer.model import Pipeline, Population, path_loss
from edgeinfer.paper.bounds import certified_best
from edgeinfer.paper.drawing import style
from edgeinfer.paper.scenario import Scenario

TITLE = "Violation probability over the distance"
PAPER = "The paper's downlink has one mean SNR; no distance is given."
HERE = (
    "Here terminals are at a distance from an urban macro cell's base station (3GPP TR 38.901, UMa, 2 GHz), in line of "
    "sight or not, each in a shadow of its own that stays. Certified ends of the share of late requests over all "
    "terminals at that distance, by `population_bracket`; dotted: the share of terminals whose queue is unstable, all "
    "of whose requests count as late. Near the base station the compute decides, further out the few terminals in deep "
    "shadow do; an image of 5 Mbit loses the link long before a latent of 1 Mbit."
)
#: Assumed: Hz; m; the deadline over split inference's unloaded latency.
CARRIER, DISTANCES, LATENCIES = 2e9, np.geomspace(100, 3000, 12), 4.0
TOLERANCE = 0.4


def data(scenario: Scenario, *, distances: Any = DISTANCES, tolerance: float = TOLERANCE) -> Any:
    """Brackets of the share of late requests over terminals at each distance.

    Parameters
    ----------
    scenario : Scenario
        A single one (scalars).
    distances : sequence of float, m
        In [10, 5000].
    tolerance : float
        Of `population_bracket`.

    Returns
    -------
    xarray.Dataset
        Over (paradigm, distance): `lower`, `upper`, `unstable`. Over distance: `los_probability`.
    """
    distances = np.asarray(distances, dtype=float)
    populations = [Population(path_loss.uma(float(distance), CARRIER)) for distance in distances]
    rate, names = float(scenario.arrival_rate), list(scenario.pipelines())
    deadline = LATENCIES * float(latency(scenario.pipelines()["split"]).total)
    values = np.zeros((3, len(names), distances.size))
    for i, name in enumerate(names):
        if name == "device_only":
            alone = violation_bracket(scenario.pipelines()[name], rate, deadline)
            values[:, i] = np.array([alone.lower, alone.upper, float(alone.lower == 1)])[:, None]
            continue

        def terminal(loss: Any, name: str = name) -> Pipeline:
            return scenario.replace(path_loss_db=loss).pipelines()[name]

        found = population_bracket(terminal, populations, rate, deadline, tolerance=tolerance)
        values[:, i] = found.lower, found.upper, found.unstable
    seen = [float(one.loss.los_probability) for one in populations]
    derived = {"units": "1", "provenance": "derived"}
    return need("xarray", "study").Dataset(
        {
            name: (("paradigm", "distance"), part, derived)
            for name, part in zip(("lower", "upper", "unstable"), values, strict=True)
        }
        | {"los_probability": ("distance", seen, derived)},
        coords={"paradigm": names, "distance": ("distance", distances, {"units": "m"})},
        attrs={
            "arrival_rate": rate,
            "arrival_rate_provenance": scenario.provenance["arrival_rate"],
            "carrier": CARRIER,
            "deadline": deadline,
            "assumed": "carrier, deadline, distances, environment",
        },
    )


def point(table: Any) -> str:
    """Up to where split inference is certified to be the best, in one sentence."""
    best = certified_best(table["paradigm"].values, table["lower"].values, table["upper"].values)
    split = table["distance"].values[best == "split"]
    others = table["distance"].values[(best != "split") & (best != "none")]
    answer = "Split inference is certified to violate the deadline least "
    answer += f"from {split.min():.0f} m to {split.max():.0f} m" if split.size else "nowhere"
    if others.size:
        names = sorted({style.PARADIGMS[name][2] for name in best if name not in ("split", "none")})
        answer += f", {' and '.join(names)} from {others.min():.0f} m on"
    return answer + "."


@style.drawing
def draw(table: Any) -> Any:
    """Brackets as bands, unstable shares dotted."""
    figure, axes = style.subplots(size=(7.4, 5.0))
    for paradigm in table["paradigm"].values:
        colour, marker, label = style.PARADIGMS[paradigm]
        part = table.sel(paradigm=paradigm)
        axes.fill_between(part["distance"], part["lower"], part["upper"], color=colour, alpha=0.35, linewidth=0)
        axes.plot(part["distance"], part["upper"], marker=marker, color=colour, markersize=4, label=label)
        if float(part["unstable"].max()) > 0:
            axes.plot(part["distance"], part["unstable"], ":", color=colour, label=f"{label}: unstable share")
    style.probability_axes(axes, 1e-7)
    axes.set_xscale("log")
    axes.set_xticks([100, 200, 500, 1000, 2000], ["100", "200", "500", "1000", "2000"])
    axes.minorticks_off()
    axes.set_xlabel("distance (m)")
    axes.set_ylabel(f"share of requests later than {table.attrs['deadline']:.3g} s")
    style.legend_below(figure, columns=3)
    return figure


def tell(table: Any) -> str:
    """A row for each distance."""
    names = list(table["paradigm"].values)
    late = (f"{style.PARADIGMS[name][2]}: late (unstable)" for name in names)
    lines = [
        f"**derived; {table.attrs['carrier'] / 1e9:g} GHz, the deadline and the environment assumed, "
        f"{table.attrs['arrival_rate']:g} requests/s {table.attrs['arrival_rate_provenance']}**",
        "",
        *style.table_head("distance (m)", "in line of sight", *late),
    ]
    for distance in table["distance"].values:
        row = table.sel(distance=distance)
        cells = [
            f"{float(cell['lower']):.3g} .. {float(cell['upper']):.3g} ({float(cell['unstable']):.2g})"
            for cell in (row.sel(paradigm=name) for name in names)
        ]
        lines.append(f"| {distance:.0f} | {100 * float(row['los_probability']):.1f} % | " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"
