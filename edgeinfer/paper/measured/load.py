"""The cascade's processes measured under load."""

import dataclasses
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from edgeinfer import _validate, bridge
from edgeinfer.model import RayleighLink
from edgeinfer.paper.measured import runs
from edgeinfer.paper.measured.store import FOLDER, digest

#: Loads of the busiest stage under which requests are measured.
LOADS = (0.3, 0.6)


#: Steps of a request under load, few so that many requests fit into a run, and how much slower the device is.
LOAD_STEPS, LOAD_SLOWDOWN = (4, 2), 1.5


#: The downlink under load: transfers take about as long as computing does.
LOAD_LINK = RayleighLink(2e6, 31.0, -100.0, 128.1, 0.01)


def measure_load(
    folder: str | Path | None = None,
    out: str | Path = FOLDER,
    *,
    requests: int = 1000,
    profile_requests: int = 150,
    loads: Sequence[float] = LOADS,
    steps: tuple[int, int] = LOAD_STEPS,
    slowdown: float = LOAD_SLOWDOWN,
    link: RayleighLink = LOAD_LINK,
    seed: int = 3,
    store: str | Path | None = None,
    progress: bool = True,
) -> Path:
    """Drive Poisson arrivals through the real processes for the three paradigms, and write `load.nc`.

    First the processes are profiled at a light load over a link of next to no delay: times of the stages, bits on the
    downlink, and what a request that meets no other takes besides. Then every load is measured over `link`; the arrival
    rate is the load over the mean time of the paradigm's slowest stage, as profiled.

    Parameters
    ----------
    folder, out
        They are as for `measure`.
    requests, profile_requests : int
        Of each run, >= 2.
    loads : sequence of float
        In (0, 1).
    steps : (int, int)
        The steps of the prior and of decoding.
    slowdown : float
        How many times slower the device is, >= 1.
    link : RayleighLink
    seed : int
        The seed of arrivals, fading and images.
    store, progress
        As for `runs.runs`.

    Returns
    -------
    Path

    Raises
    ------
    OSError
        If a request of a profile fails, or a process does not start.
    """
    for name, count in (("requests", requests), ("profile_requests", profile_requests)):
        _validate.whole(name, count, 2)
    rates = np.atleast_1d(_validate.real("loads", loads, 0, 1, low_open=True, high_open=True))
    root = bridge.load(folder).manifest.folder
    paradigms = tuple(_PARADIGMS)
    about: dict[str, Any] = {
        "prior_steps": steps[0],
        "decode_steps": steps[1],
        "slowdown": slowdown,
        "seed": seed,
        "weights_sha256": digest(root),
        **{f"link_{name}": float(value) for name, value in link.power_budget().items()},
    }
    belongs = about | {"requests": [requests, profile_requests], "loads": rates.tolist()}
    found: dict[tuple[int, ...], dict[str, Any]] = {}
    run = partial(_run, root, steps, slowdown, seed)
    fast = dataclasses.replace(link, bandwidth=_FAST)
    guess = _slowest_guessed(root, steps, slowdown)
    total = len(paradigms) * (1 + rates.size)
    coordinates = {"paradigm": [_PARADIGMS[name] for name in paradigms], "load": ("load", rates, {"units": "1"})}
    with runs.runs("load", out, belongs, total, stored=store, progress=progress) as course:
        for i, paradigm in enumerate(paradigms):
            light = partial(
                run, paradigm, _LIGHT / guess[paradigm], profile_requests, fast, 10 * i, prefix="profile_", whole=True
            )
            found[i, 0] = course.one({"paradigm": paradigm, "load": 0}, light)
            slowest = _slowest(found[i, 0], link)
            for j, load in enumerate(rates.tolist(), 1):
                loaded = partial(run, paradigm, load / slowest, requests, link, 10 * i + j)
                found[i, j] = course.one({"paradigm": paradigm, "load": j}, loaded)
        return runs.write("load", out, _variables(found, len(paradigms), rates.size), coordinates, about)


#: Hz: 1 Mbit passes in 10 us.
_FAST = 1e11


#: Load at which the processes are profiled.
_LIGHT = 0.2


#: The analysis's names of the paradigms.
_PARADIGMS = {"split": "split", "edge": "edge_only", "device": "device_only"}


def _run(
    root: Path,
    steps: tuple[int, int],
    slowdown: float,
    seed: int,
    paradigm: str,
    rate: float,
    count: int,
    link: RayleighLink,
    number: int,
    *,
    prefix: str = "",
    whole: bool = False,
) -> dict[str, Any]:
    """A run's columns; OSError where a request of a run that has to be whole failed."""
    tested = bridge.load_test(
        paradigm,
        rate,
        count,
        model=root,
        prior_steps=steps[0],
        decode_steps=steps[1],
        link=link,
        seed=1000 * seed + number,
        slowdown=slowdown,
        negotiate=False,
        deadline=600.0,
    )
    if tested.failures and whole:
        raise OSError(f"{paradigm}: {len(tested.failures)} requests failed: {next(iter(tested.failures.values()))}")
    # Both places in every paradigm, so that runs are of one shape; NaN where a place does nothing.
    service = np.full((count, 2), np.nan)
    places = {"split": (0, 1), "edge": (0,), "device": (1,)}[paradigm]
    service[:, list(places)] = tested.service[:, [0, -1][: len(places)]]
    columns = {
        "arrival": tested.arrivals,
        "sojourn": tested.sojourn[:, -1],
        "edge": service[:, 0],
        "device": service[:, 1],
        "rate": rate,
        "bits": tested.downlink_bits,
    }
    return {prefix + name: values for name, values in columns.items()}


def _slowest_guessed(root: Path, steps: tuple[int, int], slowdown: float) -> dict[str, float]:
    """Time of each paradigm's slowest stage by what the cascade takes here, s, for the rate at which it is profiled."""
    profile = bridge.profile(bridge.load(root, threads=1), *steps, repetitions=5)
    both = float(np.median(profile.prior + profile.decode))
    split = max(float(np.median(profile.prior)), slowdown * float(np.median(profile.decode)))
    return {"split": split, "edge": both, "device": slowdown * both}


def _variables(found: dict[tuple[int, ...], dict[str, Any]], paradigms: int, loads: int) -> dict[str, Any]:
    """Arrays of the runs under load, in columns 1 .. loads, and of the profiles, in column 0."""
    units = {"rate": "1/s", "bits": "bit"}
    table = {}
    for prefix, dims in (("", ("paradigm", "load")), ("profile_", ("paradigm",))):
        columns = range(1, 1 + loads) if not prefix else range(1)
        for name in ("arrival", "sojourn", "edge", "device", "rate", "bits"):
            cells = [[np.asarray(found[i, j][prefix + name], float) for j in columns] for i in range(paradigms)]
            values = np.array(cells) if not prefix else np.array(cells)[:, 0]
            more = (f"{prefix}request",) if values.ndim > len(dims) else ()
            kind = "derived from measured times" if name == "rate" else "measured"
            table[prefix + name] = ((*dims, *more), values, {"units": units.get(name, "s"), "provenance": kind})
    return table


def _slowest(profiled: dict[str, Any], link: RayleighLink) -> float:
    """Mean time of the slowest stage, s."""
    times = [np.mean(profiled[f"profile_{place}"]) for place in ("edge", "device")]
    bits = float(profiled["profile_bits"])
    times.append(float(link.transfer(bits).mean()) if np.isfinite(bits) else np.nan)
    return float(np.nanmax(times))
