"""Beyond the paper: what fading with a memory does to the tail, over Doppler frequency and slot."""

from typing import Any

import numpy as np

from edgeinfer._extras import need
from edgeinfer.delay import deadline_at, simulate
from edgeinfer.model import MarkovLink, Pipeline, Transfer
from edgeinfer.paper.drawing import style
from edgeinfer.paper.scenario import Scenario

TITLE = "Correlated against independent fading, over Doppler frequency and slot"
PAPER = "The paper's slots fade independently of each other."
HERE = (
    "A channel that changes slowly stays bad for many slots. Here the downlink is a Markov chain of eight states whose "
    "levels are crossed as often as those of Rayleigh fading at the Doppler frequency, simulated on the wall clock: "
    "the share of late requests over that of a link whose slots have the same states, but independently, for a "
    "downlink of images alone, half busy, and for the two paradigms that use it, at the deadline that about 1 % of the "
    "requests miss with independent slots. Queues for compute hide the channel, and most where little is sent. A "
    "walker at 2 GHz has some 10 Hz. In brackets: 95 % intervals that contain 1; hatched: slots too long for the chain."
)
#: Assumed: Hz; s; states; the share of late requests with independent slots.
DOPPLERS, SLOTS, STATES, PROBABILITY = (0.5, 1.0, 2.0, 5.0, 10.0), (0.005, 0.01, 0.02, 0.04), 8, 0.01
#: The load of a downlink alone; the systems and their names.
LOAD = 0.5
SYSTEMS = {"downlink": "downlink of images alone"} | {n: style.PARADIGMS[n][2] for n in ("edge_only", "split")}


def _with_link(pipeline: Pipeline, link: Any) -> Pipeline:
    return pipeline.map(lambda stage: Transfer(stage.bits, link, stage.name) if isinstance(stage, Transfer) else stage)


def _late(
    pipeline: Pipeline, rate: float, deadline: float, jobs: int, replications: int, seed: int
) -> tuple[float, float]:
    """The share of late requests, and half its interval on a logarithmic scale."""
    found = simulate(pipeline, rate, deadline, jobs=jobs, replications=replications, rng=seed).violation
    return float(found.value[-1]), float(np.log(found.high[-1] / found.low[-1])) / 2


def data(
    scenario: Scenario,
    *,
    dopplers: Any = DOPPLERS,
    slots: Any = SLOTS,
    jobs: int = 1000,
    replications: int = 16,
    seed: int = 13,
) -> Any:
    """Shares of late requests with and without memory, and their ratio.

    Parameters
    ----------
    scenario : Scenario
        A single one (scalars).
    dopplers : sequence of float, Hz
    slots : sequence of float, s
    jobs, replications, seed : int
        Of `simulate`.

    Returns
    -------
    xarray.Dataset
        Over (system, slot): `independent`, `deadline`, s. Over (system, slot, doppler): `correlated`, and `ratio` with
        the ends of its 95 % interval, `ratio_low` and `ratio_high`; NaN where the slot is too long for the chain.
    """
    rate, shape = float(scenario.arrival_rate), (len(SYSTEMS), len(slots), len(dopplers))
    late, half, deadlines = (np.full((*shape[:2], shape[2] + 1), np.nan) for _ in range(3))
    for j, slot in enumerate(slots):
        chosen = scenario.replace(slot=slot)
        fading = chosen.link
        image = Pipeline([Transfer(chosen.image_bits, fading, "downlink")])
        systems = {name: (pipeline, rate) for name, pipeline in chosen.pipelines().items()}
        systems["downlink"] = image, LOAD / float(image.loads(1.0).max())
        slowest = MarkovLink.from_doppler(fading, 1e-3, STATES)
        links: list[MarkovLink | None] = [
            MarkovLink(slowest.rates, np.tile(slowest.stationary, (STATES, 1)), float(slot))
        ]
        for doppler in dopplers:
            try:
                links.append(MarkovLink.from_doppler(fading, float(doppler), STATES))
            except ValueError:  # the slot is too long for such a chain
                links.append(None)
        for i, name in enumerate(SYSTEMS):
            pipeline, arrivals = systems[name]
            deadlines[i, j] = deadline = float(deadline_at(pipeline, arrivals, PROBABILITY, tolerance=1e-2))
            for k, link in enumerate(links):
                if link is not None:
                    found = _late(_with_link(pipeline, link), arrivals, deadline, jobs, replications, seed + k)
                    late[i, j, k], half[i, j, k] = found
    ratio = late[..., 1:] / late[..., :1]
    factor = np.exp(np.hypot(half[..., 1:], half[..., :1]))
    over, simulated = ("system", "slot"), {"units": "1", "provenance": "simulated"}
    return need("xarray", "study").Dataset(
        {
            "independent": (over, late[..., 0], simulated),
            "deadline": (over, deadlines[..., 0], {"units": "s", "provenance": "derived"}),
            "correlated": ((*over, "doppler"), late[..., 1:], simulated),
            "ratio": ((*over, "doppler"), ratio, simulated),
            "ratio_low": ((*over, "doppler"), ratio / factor, simulated),
            "ratio_high": ((*over, "doppler"), ratio * factor, simulated),
        },
        coords={
            "system": list(SYSTEMS),
            "slot": ("slot", np.asarray(slots, dtype=float), {"units": "s"}),
            "doppler": ("doppler", np.asarray(dopplers, dtype=float), {"units": "Hz"}),
        },
        attrs={
            "arrival_rate": rate,
            "arrival_rate_provenance": scenario.provenance["arrival_rate"],
            "states": STATES,
            "downlink_load": LOAD,
            "assumed": "dopplers, slots, states",
        },
    )


def point(table: Any) -> str:
    """The largest ratios, in one sentence."""
    sure = table["ratio"].where(table["ratio_low"] > 1).max(["slot", "doppler"])
    parts = [
        f"{float(ratio):.2g} ({SYSTEMS[name]})"
        for name, ratio in zip(sure["system"].values, sure, strict=True)
        if ratio > 1
    ]
    if not parts:
        return "Slow fading makes no more requests late than independent slots do, as far as the simulation sees."
    return f"Slow fading makes up to {', '.join(parts)} times as many requests late as independent slots do."


@style.drawing
def draw(table: Any) -> Any:
    """A map for each system, each cell with its ratio."""
    figure, panels = style.subplots(1, table.sizes["system"], size=(11.9, 4.2), sharey=True, squeeze=False)
    top = max(float(table["ratio"].max()), 2.0)
    for axes, name in zip(panels[0], table["system"].values, strict=True):
        part = table.sel(system=name)
        ratio = part["ratio"].values
        axes.set_facecolor("0.93")
        axes.patch.set(hatch="//", edgecolor="0.7")
        image = axes.imshow(np.log10(ratio), cmap="cividis", vmin=0, vmax=np.log10(top), origin="lower", aspect="auto")
        for (row, column), value in np.ndenumerate(ratio):
            if np.isfinite(value):
                sure = not part["ratio_low"].values[row, column] <= 1 <= part["ratio_high"].values[row, column]
                dark = np.log10(value) < 0.55 * np.log10(top)
                text = f"{value:.2g}" if value < 100 else f"{value:.0f}"
                axes.text(
                    column, row, text if sure else f"({text})", ha="center", va="center", fontsize=9,
                    color="white" if dark else "black",
                )  # fmt: skip
        axes.set_xticks(range(table.sizes["doppler"]), [f"{value:g}" for value in table["doppler"].values])
        axes.set_yticks(range(table.sizes["slot"]), [f"{1e3 * value:g}" for value in table["slot"].values])
        axes.set_xlabel("Doppler frequency (Hz)")
        axes.set_title(SYSTEMS[name], fontsize=10)
    panels[0][0].set_ylabel("slot (ms)")
    bar = figure.colorbar(image, ax=panels[0].tolist(), label="late requests, correlated / independent slots")
    ticks = [value for value in (1, 2, 5, 10, 20, 50, 100) if value <= top]
    bar.set_ticks(np.log10(ticks), labels=[str(value) for value in ticks])
    return figure


def tell(table: Any) -> str:
    """A row for each slot and system."""
    lines = [
        f"**ratio [95 % interval]: simulated; Doppler frequencies and slots assumed, {table.attrs['arrival_rate']:g} "
        f"requests/s {table.attrs['arrival_rate_provenance']}**",
        "",
        *style.table_head(
            *("system", "slot (ms)", "deadline (s)", "late, independent"),
            *(f"{value:g} Hz" for value in table["doppler"].values),
        ),
    ]
    for name in table["system"].values:
        for slot in table["slot"].values:
            row = table.sel(system=name, slot=slot)
            cells = [
                "" if np.isnan(value) else f"{value:.3g} [{low:.3g}, {high:.3g}]"
                for value, low, high in zip(
                    row["ratio"].values, row["ratio_low"].values, row["ratio_high"].values, strict=True
                )
            ]
            lines.append(
                f"| {SYSTEMS[name]} | {1e3 * slot:g} | {float(row['deadline']):.3g} | "
                f"{float(row['independent']):.3g} | " + " | ".join(cells) + " |"
            )
    return "\n".join(lines) + "\n"
