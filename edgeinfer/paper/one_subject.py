"""The three strategies of one subject as pipelines, and where each is certified to be the best."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from edgeinfer import _validate
from edgeinfer._extras import need
from edgeinfer.delay import latency, violation_bracket
from edgeinfer.model import Compute, Node, Pipeline, RayleighLink, Transfer

STRATEGIES = ("device_side", "edge_side", "collaborative")
#: Assumed: rates of the links, bit/s, how many times slower than the edge the device is, requests, 1/s, deadline, s.
RATES, SLOWDOWNS, ARRIVAL_RATE, DEADLINE = tuple(10.0 ** np.linspace(4, 7, 7)), (1.0, 2.0, 4.0), 0.5, 1.0
#: Assumed, of both links, as in the paper's Table 3: mean signal-to-noise ratio, and slot, s.
_LINK = RayleighLink.from_snr(10.0, 1.0, 1e-2)


def pipelines(
    seconds: Mapping[str, float],
    bits: Mapping[str, Mapping[str, float]],
    uplink_rate: ArrayLike,
    downlink_rate: ArrayLike,
    slowdown: ArrayLike,
) -> dict[str, Pipeline]:
    """The strategies' stages: agents in turn, and what crosses the link between them.

    Parameters
    ----------
    seconds : mapping of str to float, s
        On the edge: of "interpreter", "mapper", "painter" and "painter_from_latent".
    bits : mapping of str to mapping of str to float
        By strategy, what it sends "up" and "down".
    uplink_rate, downlink_rate : (...,) array_like, bit/s
        Mean rates of Rayleigh links.
    slowdown : (...,) array_like
        How many times slower than the edge the device is.

    Returns
    -------
    dict of str to Pipeline

    Examples
    --------
    >>> seconds = {"interpreter": 0.01, "mapper": 0.03, "painter": 0.2, "painter_from_latent": 0.17}
    >>> bits = {name: {"up": 1e3, "down": 1e4} for name in STRATEGIES}
    >>> found = pipelines(seconds, bits, 1e6, 1e6, 2.0)
    >>> found["collaborative"].names
    ('interpreter', 'uplink', 'mapper', 'downlink', 'painter')
    """
    edge, device = Node("edge", 1.0), Node("device", 1 / _validate.positive("slowdown", slowdown))
    links = {
        "up": _LINK.at_rate(_validate.positive("uplink_rate", uplink_rate, "bit/s")),
        "down": _LINK.at_rate(_validate.positive("downlink_rate", downlink_rate, "bit/s")),
    }

    def made(strategy: str, first: Node | None, there: Node, role: str, last: Node | None, rest: str) -> Pipeline:
        """Interpreter on the device or none there, uplink, an agent of the edge, downlink, what is left."""
        stages: list[Any] = [] if first is None else [Compute(seconds["interpreter"], first, "interpreter")]
        stages.append(Transfer(bits[strategy]["up"], links["up"], "uplink"))
        stages.append(Compute(seconds[role], there, role))
        stages.append(Transfer(bits[strategy]["down"], links["down"], "downlink"))
        return Pipeline(stages if last is None else [*stages, Compute(seconds[rest], last, "painter")])

    return {
        "device_side": made("device_side", device, edge, "painter", None, ""),
        "edge_side": made("edge_side", None, edge, "interpreter", device, "painter"),
        "collaborative": made("collaborative", device, edge, "mapper", device, "painter_from_latent"),
    }


def certified(
    seconds: Mapping[str, float],
    bits: Mapping[str, Mapping[str, float]],
    *,
    rates: ArrayLike = RATES,
    slowdowns: ArrayLike = SLOWDOWNS,
    arrival_rate: float = ARRIVAL_RATE,
    deadline: float = DEADLINE,
) -> Any:
    """Violation brackets of the strategies over both links' rates and the device's speed, and what they decide.

    Parameters
    ----------
    seconds, bits
        As for `pipelines`.
    rates : (n,) array_like, bit/s
        Of either link.
    slowdowns : (m,) array_like
    arrival_rate : float, 1/s
    deadline : float, s

    Returns
    -------
    xarray.Dataset
        Over (strategy, slowdown, uplink, downlink): `lower`, `upper`, the certified ends of the violation probability,
        and `latency`, s, the unloaded mean. Over (slowdown, uplink, downlink): `winner`, the number of the strategy
        whose upper end is below the others' lower ends, -1 where the brackets do not tell, and -2 where no upper end is
        below one half.
    """
    xarray = need("xarray", "study")
    grid = np.atleast_1d(_validate.positive("rates", rates, "bit/s"))
    slow = np.atleast_1d(_validate.positive("slowdowns", slowdowns))
    shape = slow[:, None, None], grid[:, None], grid
    made = pipelines(seconds, bits, shape[1], shape[2], shape[0])
    ends = {name: np.full((len(STRATEGIES), len(slow), len(grid), len(grid)), np.nan) for name in ("lower", "upper")}
    mean = np.array([np.broadcast_to(latency(made[name]).total, ends["lower"].shape[1:]) for name in STRATEGIES])
    for number, name in enumerate(STRATEGIES):
        bracket = violation_bracket(made[name], arrival_rate, deadline)
        ends["lower"][number], ends["upper"][number] = bracket.lower, bracket.upper
    over = ("strategy", "slowdown", "uplink", "downlink")
    kind = {"units": "1", "provenance": "derived from measured times"}
    return xarray.Dataset(
        {name: (over, values, kind) for name, values in ends.items()}
        | {
            "latency": (over, mean, kind | {"units": "s"}),
            "winner": (over[1:], winner(ends["lower"], ends["upper"]), kind),
        },
        coords={
            "strategy": list(STRATEGIES),
            "slowdown": ("slowdown", slow, {"units": "1", "provenance": "assumed"}),
            "uplink": ("uplink", grid, {"units": "bit/s", "provenance": "assumed"}),
            "downlink": ("downlink", grid, {"units": "bit/s", "provenance": "assumed"}),
        },
        attrs={"arrival_rate": arrival_rate, "deadline": deadline},
    )


def winner(lower: NDArray[np.float64], upper: NDArray[np.float64]) -> NDArray[np.int64]:
    """Which of the brackets along the first axis lies below all others; -1: none does, -2: none is below one half."""
    best = upper.argmin(0)
    others = np.where(np.arange(len(lower)).reshape(-1, *[1] * best.ndim) == best, np.inf, lower).min(0)
    decided = np.where(upper.min(0) < others, best, -1)
    return np.where(upper.min(0) < 0.5, decided, -2)
