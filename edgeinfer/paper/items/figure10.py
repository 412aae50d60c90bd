"""Figure 10: violation probability of the three paradigms over the required mean quality."""

from typing import Any

import numpy as np

from edgeinfer._extras import need
from edgeinfer.delay import latency, violation_bracket
from edgeinfer.paper.drawing import style
from edgeinfer.paper.measured import store
from edgeinfer.paper.scenario import Scenario
from edgeinfer.plan import allocate_steps

TITLE = "Figure 10: the three paradigms over the required quality"
PAPER = (
    "The paper states that at the same required quality split inference violates the deadline less than both baselines."
)
HERE = (
    "Here the quality of each number of steps is measured on a small cascade, what a step costs is the scenario's "
    "(Table 3, and assumed speeds), and each paradigm takes the steps that reach the quality with the least "
    "certified bound."
)
METRIC = "clip"


def data(
    scenario: Scenario, *, surface: Any = None, reduced: Any = None, deadline: float | None = None, points: int = 81
) -> Any:
    """Cheapest steps that reach a quality, and the certified bracket at them.

    Parameters
    ----------
    scenario : Scenario
        A single one (scalars).
    surface : xarray.Dataset, optional
        What `measurement.measure` writes, taken at its best guidance; the shipped one by default.
    reduced : xarray.Dataset, optional
        The same with walks that begin from less noise; by default the shipped one, or none beside another `surface`.
    deadline : float, s, optional
        The paper gives none; by default what the scenario's own steps take in split inference without load.
    points : int
        Required qualities, between the least and the most that a surface reaches.

    Returns
    -------
    xarray.Dataset
        Dimensions init_noise_sigma, paradigm and quality: `lower`, `upper`, `prior_steps`, `decode_steps`; NaN where no
        steps reach the quality.
    """
    xarray = need("xarray", "paper")
    surfaces = store.surfaces(surface, reduced)
    chosen = deadline is not None
    if deadline is None:
        deadline = float(latency(scenario.pipelines()["split"]).total)
    best = [table.sel(guidance=table.attrs["best_guidance"]).drop_dims("caption") for table in surfaces]
    reached = [table[f"{METRIC}_low"].values for table in best]
    wanted = np.linspace(min(map(np.min, reached)), max(map(np.max, reached)), points)
    parts = [_of(scenario, table, wanted, deadline) for table in best]
    noise = [table.attrs.get("init_noise_sigma", 1.0) for table in surfaces]
    answer = xarray.concat(parts, dim="init_noise_sigma").assign_coords(
        init_noise_sigma=("init_noise_sigma", noise, {"units": "1"}),
        quality=("quality", wanted, {"units": best[0][METRIC].attrs["units"]}),
    )
    answer.attrs = {
        "metric": METRIC,
        "quality_is": "lower end of the measured interval",
        "guidance": [table.attrs["best_guidance"] for table in surfaces],
        "deadline": deadline,
        "deadline_provenance": "chosen" if chosen else "derived",
        "arrival_rate": scenario.arrival_rate,
        "arrival_rate_provenance": scenario.provenance["arrival_rate"],
    }
    return answer


def _of(scenario: Scenario, best: Any, wanted: Any, deadline: float) -> Any:
    """What `data` says of one surface at one guidance."""
    xarray = need("xarray", "paper")
    able = wanted <= best[f"{METRIC}_low"].values.max()
    columns: dict[str, list[Any]] = {name: [] for name in ("lower", "upper", "prior_steps", "decode_steps")}
    names = list(scenario.pipelines())
    for paradigm in names:
        found = allocate_steps(
            scenario.cascade,
            best,
            wanted[able],
            scenario.edge,
            scenario.device,
            scenario.link,
            paradigm=paradigm,
            metric=METRIC,
            criterion="violation",
            arrival_rate=scenario.arrival_rate,
            deadline=deadline,
        )
        # A few pairs of steps serve all qualities.
        pairs, place = np.unique([found.prior_steps, found.decode_steps], axis=1, return_inverse=True)
        steps = scenario.replace(prior_steps=pairs[0], decode_steps=pairs[1])
        bracket = violation_bracket(steps.pipelines()[paradigm], scenario.arrival_rate, deadline)
        row = bracket.lower[place], bracket.upper[place], found.prior_steps, found.decode_steps
        for column, values in zip(columns.values(), row, strict=True):
            column.append(np.full(wanted.shape, np.nan))
            column[-1][able] = values
    attributes = {"units": "1", "provenance": "derived from measured quality"}
    return xarray.Dataset(
        {name: (("paradigm", "quality"), np.array(values), attributes) for name, values in columns.items()},
        coords={"paradigm": names},
    )


def point(table: Any) -> str:
    """Over how much of the range split inference is certified to violate the deadline least, in one sentence."""
    said = []
    others = [name for name in table["paradigm"].values if name != "split"]
    for noise in table["init_noise_sigma"].values:
        part = table.sel(init_noise_sigma=noise).dropna("quality")
        apart = part["upper"].sel(paradigm="split") < part["lower"].sel(paradigm=others).min("paradigm")
        behind = part["lower"].sel(paradigm="split") > part["upper"].sel(paradigm=others).min("paradigm")
        share = f"all {apart.size}" if apart.all() else f"{int(apart.sum())} of {apart.size}"
        other = f" and another paradigm at {int(behind.sum())}" if behind.any() else ""
        said.append(f"at {share} required qualities{other} where walks begin from noise of {noise:g}")
    return f"Split inference is certified to violate the deadline least {', '.join(said)}."


@style.drawing
def draw(table: Any) -> Any:
    """Upper ends as lines, brackets as bands; below, the steps that each paradigm takes. A column a surface."""
    noises = table["init_noise_sigma"].values
    columns = noises.size
    figure, panels = style.subplots(
        2, columns, size=(6.6 if columns == 1 else 10.6, 6.4), sharex=True, height_ratios=(2, 1), squeeze=False
    )
    for (top, below), noise in zip(panels.T, noises, strict=True):
        _draw_column(top, below, table.sel(init_noise_sigma=noise))
        top.set_title(
            f"noise of {noise:g} to begin from, deadline {table.attrs['deadline']:.4g} s (chosen), "
            f"{table.attrs['arrival_rate']:g} requests/s",
            fontsize=9,
        )
    panels[0][0].legend(fontsize=8)
    return figure


def _draw_column(top: Any, below: Any, table: Any) -> None:
    floor = max(float(table["upper"].where(table["upper"] > 0).min()) / 3, 1e-20)
    for paradigm in table["paradigm"].values:
        colour, marker, label = style.PARADIGMS[paradigm]
        part = table.sel(paradigm=paradigm).dropna("quality")
        upper = part["upper"].clip(min=floor)
        top.fill_between(part["quality"], part["lower"], upper, color=colour, alpha=0.35, linewidth=0, step="pre")
        top.step(
            part["quality"],
            upper,
            where="pre",
            color=colour,
            linewidth=1.4,
            clip_on=False,
            label=f"{label}, certified upper end",
        )
        below.step(part["quality"], part["prior_steps"], where="pre", color=colour, linewidth=1.4)
        below.step(part["quality"], part["decode_steps"], where="pre", color=colour, linewidth=1.1, linestyle=":")
        some = part.isel(quality=slice(None, None, 10))
        below.plot(some["quality"], some["prior_steps"], marker, color=colour, markersize=4, mfc="white")
    style.probability_axes(top, floor)
    if (table["upper"] < floor).any():
        top.set_ylabel(f"{style.PROBABILITY}\n(at {floor:.0e}: this or less)")
    top.set_xlabel("")
    below.set_yscale("log", base=2)
    below.yaxis.set_major_formatter("{x:g}")
    below.set_ylabel("steps: prior (line),\ndecoding (dots)", fontsize=8)
    below.set_xlabel("required mean CLIP score (lower end of its interval)")
    below.grid(True, color="0.9", linewidth=0.6)
