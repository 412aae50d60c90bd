"""Table 2: latency of the three paradigms."""

from typing import Any

import numpy as np

from edgeinfer._extras import need
from edgeinfer.delay import latency
from edgeinfer.paper.scenario import Scenario
from edgeinfer.plan import gains, split_conditions

TITLE = "Table 2: latency of the three paradigms"
PAPER = "The paper gives the formulas without values."
HERE = "J / E[R] is its downlink latency; E[X] is the mean of the exact transfer time, which is above it."
EQUATIONS = (
    r"T_\mathrm{split} = \frac{O_E + O_\mathrm{prior} L_\mathrm{prior}}{f_{ES}}"
    r" + \frac{J_\mathrm{dl}}{E[R]} + \frac{O_D + O_\mathrm{dec} L_\mathrm{dec}}{f_{UE}}",
)
FORMULAS = {
    "split": ("(O_E + O_prior L_prior) / f_ES + (O_D + O_dec L_dec) / f_UE", "J_dl / E[R]"),
    "edge_only": ("(O_E + O_D + O_prior L_prior + O_dec L_dec) / f_ES", "J_img / E[R]"),
    "device_only": ("(O_E + O_D + O_prior L_prior + O_dec L_dec) / f_UE", "no downlink"),
}


def data(scenario: Scenario) -> Any:
    """Inference and downlink latency of each paradigm, and eta_T, eta_J, (13), (14) as attributes.

    Returns
    -------
    xarray.Dataset
        Dimension paradigm; s.
    """
    xarray = need("xarray", "study")
    pipelines = scenario.pipelines()
    rows: dict[str, list[float]] = {"inference": [], "downlink_ergodic": [], "downlink_exact": []}
    for pipeline in pipelines.values():
        at = [i for i, name in enumerate(pipeline.names) if name == "downlink"]
        exact, ergodic = latency(pipeline).stages, latency(pipeline, "ergodic").stages
        rows["inference"].append(exact.sum() - exact[at].sum())
        rows["downlink_ergodic"].append(ergodic[at].sum())
        rows["downlink_exact"].append(exact[at].sum())
    rows["total_ergodic"] = list(np.add(rows["inference"], rows["downlink_ergodic"]))
    rows["total_exact"] = list(np.add(rows["inference"], rows["downlink_exact"]))
    first, second = split_conditions(scenario)
    eta_latency, eta_bits = gains(scenario)
    table = xarray.Dataset(
        {name: ("paradigm", v, {"units": "s", "provenance": "derived"}) for name, v in rows.items()},
        coords={"paradigm": list(pipelines)},
        attrs={
            "condition_13": int(first),
            "condition_14": int(second),
            "eta_T": float(eta_latency),
            "eta_J": float(eta_bits),
        },
    )
    for i, name in enumerate(("inference_formula", "downlink_formula")):
        table[name] = ("paradigm", [FORMULAS[p][i] for p in pipelines], {"provenance": "given"})
    return table


def draw(table: Any) -> Any:
    """Markdown."""
    lines = [
        "| paradigm | inference (given formula) | s | downlink (given) | J/E[R], s | E[X], s | total, J/E[R] | "
        "total, E[X] |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for p in table["paradigm"].values:
        row = table.sel(paradigm=p)
        number = [f"{row[n].item():.4f}" for n in ("inference", "downlink_ergodic", "downlink_exact")]
        total = [f"{row[n].item():.4f}" for n in ("total_ergodic", "total_exact")]
        lines.append(
            f"| {p} | {row['inference_formula'].item()} | {number[0]} | {row['downlink_formula'].item()} | "
            f"{number[1]} | {number[2]} | {total[0]} | {total[1]} |"
        )
    a = table.attrs
    lines += [
        "",
        f"Derived: (13) {'holds' if a['condition_13'] else 'fails'}, (14) {'holds' if a['condition_14'] else 'fails'}; "
        f"eta_T = {a['eta_T']:.4f}, eta_J = {a['eta_J']:.4f}.",
    ]
    return "\n".join(lines) + "\n"
