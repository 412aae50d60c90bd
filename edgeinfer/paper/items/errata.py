"""The printed bound against the truth, and each erratum by its numbers."""

from typing import Any

import numpy as np

from edgeinfer import _core
from edgeinfer._extras import need
from edgeinfer.delay import rare_violation, violation_bound, violation_bracket
from edgeinfer.model import Constant, Pipeline, RayleighLink, Transfer
from edgeinfer.paper.drawing import style
from edgeinfer.paper.scenario import Scenario

TITLE = "Errata: the printed bound is not a bound"
HERE = (
    "(7) swaps the two nodes' speeds and multiplies the exponentials of two servers in parallel, not in series; "
    "(8) rounds down in every slot, so that slots shorter than J/R serve nothing; (11) needs M_S(-theta, tau) <= "
    "exp(-theta r tau) for every tau, which no r > 0 satisfies; so the result falls below the truth by many "
    "orders of magnitude."
)
EQUATIONS = (
    r"(8): \; \left\lfloor \frac{\tau R}{J} \right\rfloor = 0 \text{ where } \tau R < J",
    r"(11): \; M_S(-\theta, \tau) \le e^{-\theta r \tau} \; \forall \tau",
)
#: Assumed: the case in which errors are shown. Edge and device times (s), mean SNR, arrival rate (1/s).
CASE = {"edge_time": 0.651, "device_time": 0.458, "mean_snr_db": 1.0, "arrival_rate": 1.0}


def pipeline_of(scenario: Scenario, slot: float) -> Pipeline:
    """D, X, D of the case, with the scenario's latent over a link of the given slot length."""
    snr = CASE["mean_snr_db"]
    link = RayleighLink.from_snr(10 ** (snr / 10), scenario.bandwidth, slot)
    return Pipeline(
        [
            Constant(CASE["edge_time"], "prior"),
            Transfer(scenario.latent_bits, link, "downlink"),
            Constant(CASE["device_time"], "decode"),
        ]
    )


def data(scenario: Scenario, *, seed: int = 11) -> Any:
    """Printed and corrected bounds for two slot lengths beside bracket and importance sampling.

    Returns
    -------
    xarray.Dataset
        Dimension deadline (s), and slot (s) for the bounds on a slot grid.
    """
    xarray = need("xarray", "study")
    deadlines = np.linspace(1.5, 18.0, 12)
    slots = [0.01, 0.5]
    rate = CASE["arrival_rate"]
    real = pipeline_of(scenario, 0.01)
    bracket = violation_bracket(real, rate, deadlines)
    estimate = rare_violation(real, rate, deadlines, relative_error=0.01, rng=seed)
    derived = {"units": "1", "provenance": "derived"}
    grid = {
        method: np.array([violation_bound(pipeline_of(scenario, s), rate, deadlines, method, slot=s) for s in slots])
        for method in ("printed", "corrected")
    }
    # What (8) gives a slot of each length: the probability that it serves a request at all.
    ideal: Any = real.stages[1].link  # type: ignore[union-attr]
    served = [
        float(np.exp(-np.expm1(np.log(2) * scenario.latent_bits / (ideal.bandwidth * s)) / ideal.snr)) for s in slots
    ]
    return xarray.Dataset(
        {
            "lower": ("deadline", bracket.lower, derived),
            "upper": ("deadline", bracket.upper, derived),
            "rare": ("deadline", estimate.value, {"units": "1", "provenance": "simulated"}),
            "printed": (("slot", "deadline"), grid["printed"], derived),
            "corrected": (("slot", "deadline"), grid["corrected"], derived),
            "slot_serves": ("slot", served, derived),
        },
        coords={"deadline": ("deadline", deadlines, {"units": "s"}), "slot": ("slot", slots, {"units": "s"})},
        attrs={**CASE, "case_provenance": "assumed", "core_methods": ", ".join(_core.BRACKET_METHODS)},
    )


@style.drawing
def draw(table: Any) -> Any:
    """Probabilities over the deadline."""
    figure, axes = style.subplots()
    time = table["deadline"]
    axes.fill_between(time, table["lower"], table["upper"], color="#9ec1e8", label="certified bracket")
    axes.plot(time, table["upper"], color=style.BLUE, linewidth=1)
    axes.plot(time, table["rare"], "x", color="black", label="importance sampling")
    for slot, line in zip(table["slot"].values, ("-", "--"), strict=True):
        part = table.sel(slot=slot)
        axes.plot(time, part["printed"], line, color=style.RED, label=f"printed, slot {slot:g} s")
        axes.plot(time, part["corrected"], line, color=style.ORANGE, label=f"corrected, slot {slot:g} s")
    style.probability_axes(axes, 1e-20)
    style.legend_below(figure, columns=3)
    return figure
