"""Layers divided between two worker processes: predicted and measured speed-up, halos and bytes moved."""

from typing import Any

import numpy as np

from edgeinfer.estimates.replications import student_mean
from edgeinfer.paper.drawing import style
from edgeinfer.paper.measured import store

TITLE = "Layers divided between two workers"
HERE = (
    "Intra-layer partition: the picture is divided into tiles that overlap by the halo their windows need, or a "
    "convolution by its output channels. Two worker processes of one thread each against one; predicted from the "
    "FLOP of the larger part, the bytes moved, and two rates measured on one worker alone."
)
COMMAND = "edgeinfer measure --only tiles"


def data() -> Any:
    """Speed-ups, with 95 % intervals over the rounds for what was measured.

    Returns
    -------
    xarray.Dataset
        Over division: `speed_up` with `_low` and `_high`, `predicted_speed_up`, `redundant_share` of the FLOP,
        `moved_bytes`, and what `measure` wrote but for the rounds.

    Raises
    ------
    FileNotFoundError
        Naming the command that measures.
    """
    table = store.load("tiles", COMMAND)
    answer = table.drop_dims("round")
    estimate = student_mean((table["whole_time"] / table["time"]).transpose("round", ...).values, 0.95)
    measured, derived = ({"units": "1", "provenance": kind} for kind in ("measured", "derived"))
    for suffix, value in (("", estimate.value), ("_low", estimate.low), ("_high", estimate.high)):
        answer[f"speed_up{suffix}"] = ("division", value, measured)
    answer["predicted_speed_up"] = (table["predicted_whole_time"] / table["predicted_time"]).assign_attrs(
        table["predicted_time"].attrs | {"units": "1"}
    )
    answer["redundant_share"] = (table["redundant_flops"] / table["flops"]).assign_attrs(derived)
    answer["moved_bytes"] = (table["moved_bits"] / 8).assign_attrs(derived | {"units": "byte"})
    answer.attrs |= {"rounds": table.sizes["round"]}
    return answer


@style.drawing
def draw(table: Any) -> Any:
    """Predicted and measured speed-up of each division, with the share of FLOP that is computed twice."""
    figure, axes = style.subplots(size=(8.4, 0.9 + 0.62 * table.sizes["division"]))
    at = np.arange(table.sizes["division"])[::-1]
    axes.barh(at + 0.19, table["predicted_speed_up"], 0.36, color="#9ec1e8", label="predicted")
    ends = [table["speed_up"] - table["speed_up_low"], table["speed_up_high"] - table["speed_up"]]
    axes.barh(at - 0.19, table["speed_up"], 0.36, xerr=ends, color=style.BLUE, ecolor=style.ORANGE, label="measured")
    axes.axvline(1, color="0.5", linewidth=0.8)
    axes.axvline(table.attrs["workers"], color="0.5", linewidth=0.8, linestyle=":")
    names = [
        f"{division}\n+{100 * redundant:.1f} % FLOP, {moved / 1e6:.2f} MB moved"
        for division, redundant, moved in zip(
            table["division"].values, table["redundant_share"].values, table["moved_bytes"].values, strict=True
        )
    ]
    axes.set_yticks(at, names, fontsize=8)
    axes.set_xlabel(f"speed-up of {table.attrs['workers']} workers over one")
    axes.legend(fontsize=8, loc="lower right")
    return figure


def tell(table: Any) -> str:
    """Each division's costs and speed-ups."""
    lines = [
        f"**measured on {table.attrs['processor']}, {table.attrs['workers']} workers of one thread; redundant FLOP "
        f"and bytes: "
        "derived; predicted: derived from measured rates**",
        "",
        "| layers | divided | MFLOP | redundant | moved (MB) | worker (GFLOP/s) | link (Gbit/s) | speed-up predicted | "
        "measured | largest difference of the output |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    for number in range(table.sizes["division"]):
        row = table.isel(division=number)
        cell = {name: float(value) for name, value in row.data_vars.items()}
        lines.append(
            f"| {row['layers'].item()} | {row['tiling'].item()} | {cell['flops'] / 1e6:.0f} | "
            f"{100 * cell['redundant_share']:.1f} % | {cell['moved_bytes'] / 1e6:.2f} | "
            f"{cell['worker_flops'] / 1e9:.1f} | "
            f"{cell['rate'] / 1e9:.1f} | {cell['predicted_speed_up']:.2f} | "
            f"{cell['speed_up']:.2f} [{cell['speed_up_low']:.2f}, {cell['speed_up_high']:.2f}] | "
            f"{cell['difference']:.1g} |"
        )
    return "\n".join(lines) + "\n"
