"""Strategies of collaboration measured under load, each run predicted before it begins."""

import os
import resource
import shutil
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from edgeinfer import _validate, bridge, strategies
from edgeinfer._extras import need
from edgeinfer._store import Cell, Store, Value
from edgeinfer.delay import simulate, violation_bracket
from edgeinfer.model import Constant, Delay, Fork, Measured, Pipeline, RayleighLink, Session, Transfer
from edgeinfer.network.machine import machine
from edgeinfer.paper.measured import store, subjects
from edgeinfer.paper.measured.outcomes import Outcomes, rounds_law
from edgeinfer.strategies import Request, Rules

STRATEGIES = ("device_side", "edge_side", "collaborative", "cooperative", "competitive", "ensemble")
#: Strategies whose edge works while the device does.
BESIDE = ("competitive", "ensemble")
#: Loads of the busiest stage, and the one at which the stages are timed.
LOADS, PROFILED = (0.3, 0.6), 0.45
#: P(W > T) that the prediction gives the deadlines T of a run.
PROBABILITIES = (0.7, 0.4, 0.15, 0.05)
#: Steps of a request of one subject, few so that many requests fit into a run; several subjects have their own.
STEPS = (4, 1)
#: Both ways, assumed: some 1.3 Mbit/s, so that a picture's transfer takes about as long as painting.
LINK = RayleighLink(1e6, 31.0, -100.0, 128.1, 0.001)
#: Lengths of the runs at each load and of that which times the stages, s, and requests that meet no other.
SECONDS, PROFILE_SECONDS, ALONE = 45.0, 20.0, 25
#: What is kept of each request; s, but for the rounds.
COLUMNS = ("arrival", "sojourn", "read", "edge", "device", "rounds", "exchange")
#: Hz: 1 Mbit passes in 10 us.
_FAST = 1e11
_LIMIT, _LEAST = 300.0, 20
_SAMPLED: dict[str, Any] = {"jobs": 20_000, "replications": 16}
# Of noise, far from those of other measurements.
_NOISE = 50_000_000


@dataclass(frozen=True, eq=False)
class Stages:
    """What a prediction is made of.

    Parameters
    ----------
    read, edge, device : array_like, s
        Times of requests: reading, which waits for nobody, the edge's agents, and all that the device computes in one
        round.
    up, down : float, bit
        Of a request; NaN where nothing crosses.
    overhead, exchange : float, s
        What a request takes beside its stages, and an exchange with the edge beside its transfers and its agent.
    rounds : array_like
        P(N = n) for n = 1 .. R.
    """

    read: NDArray[np.float64]
    edge: NDArray[np.float64]
    device: NDArray[np.float64]
    up: float
    down: float
    overhead: float
    exchange: float
    rounds: NDArray[np.float64]

    @classmethod
    def of(cls, strategy: str, run: Mapping[str, Any], alone: Mapping[str, Any], rounds: ArrayLike) -> "Stages":
        """From the columns of a run, those of requests that met no other, and the law of the number of rounds."""
        met, lone = ({name: np.asarray(part[name], float) for name in COLUMNS} for part in (run, alone))
        beside = lone["sojourn"] - lone["read"] - lone["device"]
        beside -= 0 if strategy in BESIDE else np.nan_to_num(lone["edge"])
        read, edge, device = (met[name][np.isfinite(met[name])] for name in ("read", "edge", "device"))
        if strategy == "cooperative":
            done = np.isfinite(met["device"])
            device = met["device"][done] / met["rounds"][done]
        up, down = (float(run[name]) for name in ("uplink_bits", "downlink_bits"))
        exchange = float(np.nanmedian(lone["exchange"])) if np.isfinite(lone["exchange"]).any() else 0.0
        overhead = max(float(np.nanmedian(beside)), 0.0)
        return cls(read, edge, device, up, down, overhead, exchange, np.asarray(rounds, float))

    def pipeline(self, strategy: str, link: RayleighLink) -> Pipeline:
        """The strategy as the core knows it.

        What is read and what is lost on the way delays a request and nobody else, and stands last, where that gives the
        same sum. Of one subject all stages queue one behind the other. Of several, rounds hold the device, which the
        edge hardly ever relieves; or the device paints, judges and checks while the edge paints, and who is later
        decides: the device's judging behind an edge that is late is left out.
        """
        behind = Delay(Measured(self.read + self.overhead, "read"))
        if strategy == "cooperative":
            return Pipeline([Session((Measured(self.device, "round"),), self.rounds, "device"), behind])
        edge = [
            Transfer(self.up, link, "uplink"),
            Measured(self.edge, "edge"),
            Transfer(self.down, link, "downlink"),
        ]
        device = Measured(self.device, "device")
        if strategy not in BESIDE:
            return Pipeline([*edge, device, behind])
        there = Pipeline([*edge, Delay(Constant(self.exchange, "exchange"))])
        return Pipeline([Fork((Pipeline([device]), there), "all", "both"), behind])

    def slowest(self, strategy: str, link: RayleighLink) -> float:
        """Mean time of the slowest server, s."""
        return float(self.pipeline(strategy, link).loads(1.0).max())


def measure(
    out: str | Path = store.FOLDER,
    *,
    chosen: Sequence[str] = STRATEGIES,
    loads: Sequence[float] = LOADS,
    seconds: float = SECONDS,
    profile_seconds: float = PROFILE_SECONDS,
    alone: int = ALONE,
    seed: int = 23,
    stored: str | Path | None = None,
    progress: bool = True,
) -> Path:
    """Drive Poisson arrivals through the strategies' processes at some loads, and write `strategies_under_load.nc`.

    Of each strategy first requests that meet no other go over a link of next to no delay: what is left of them beside
    the stages is the runtime. Then the stages are timed at a load between those of the runs, as warm, and as much in
    each other's way, as they will be; of that run the stages' times and the bits are used, and no waiting. They make
    the pipeline that says, before each run, how often each of its deadlines will be missed. Some 14 minutes on a
    machine that does nothing else.

    Parameters
    ----------
    out : path
        Folder of the file, which is replaced as a whole.
    chosen : sequence of str
        Of `STRATEGIES`.
    loads : sequence of float
        In (0, 1), of the busiest stage.
    seconds, profile_seconds : float, s
        Lengths of a run and of that which times the stages, > 0; each has at least 20 requests.
    alone : int
        Requests that meet no other, >= 2.
    seed : int
        The seed of arrivals and fading.
    stored : path, optional
        Folder of finished runs, from which the same call takes up; `out`/.measure/strategies_under_load by default,
        which is removed at the end.
    progress : bool
        A bar over runs, on a terminal only.

    Returns
    -------
    Path

    Raises
    ------
    OSError
        If a request that is profiled fails, or a process does not start.
    """
    xarray = need("xarray", "paper")
    tqdm = need("tqdm", "paper").tqdm
    for strategy in chosen:
        _validate.choice("chosen", strategy, STRATEGIES)
    levels = np.atleast_1d(_validate.real("loads", loads, 0, 1, low_open=True, high_open=True))
    seconds = _validate.scalar("seconds", seconds, 0, low_open=True, unit="s")
    profile_seconds = _validate.scalar("profile_seconds", profile_seconds, 0, low_open=True, unit="s")
    alone = _validate.whole("alone", alone, 2)
    root = bridge.load(threads=1).manifest.folder
    about: dict[str, Any] = {
        "prior_steps": STEPS[0],
        "decode_steps": STEPS[1],
        "seconds": seconds,
        "profile_seconds": profile_seconds,
        "seed": seed,
        "weights_sha256": store.digest(root),
        **{f"link_{name}": float(value) for name, value in LINK.power_budget().items()},
    }
    own = Path(out) / ".measure" / "strategies_under_load"
    kept = Store(stored or own, "load test of strategies", about | {"loads": levels.tolist(), "alone": alone})
    course = _Course(kept, seconds, profile_seconds, alone, seed, levels)
    bar = tqdm(total=len(chosen) * (2 + levels.size), disable=None if progress else True, unit="run")
    with bar:
        found = [course.strategy(name, STRATEGIES.index(name), bar.update) for name in chosen]
    coordinates = {
        "strategy": list(chosen),
        "load": ("load", levels, {"units": "1"}),
        "probability": ("probability", list(PROBABILITIES), {"units": "1"}),
    }
    table = xarray.Dataset(_variables(found, levels.size), coords=coordinates, attrs=about | machine())
    path = store.write(table, Path(out) / "strategies_under_load.nc")
    if not stored:
        shutil.rmtree(own)
    return path


def predict(stages: Stages, strategy: str, rate: float, seed: int) -> dict[str, Any]:
    """Deadlines of a run to come and what the core says of them: simulated with its ends, certified, and the median."""
    pipeline = stages.pipeline(strategy, LINK)
    first = simulate(pipeline, rate, [1.0], rng=[seed, 0], **_SAMPLED)
    deadlines = first.quantile(1 - np.array(PROBABILITIES))[:, 0, -1]
    found = simulate(pipeline, rate, deadlines, rng=[seed, 1], **_SAMPLED)
    bracket = violation_bracket(pipeline, rate, deadlines)
    violation = {f"predicted{end}": part[:, -1] for end, part in ends(found.violation).items()}
    certified = {"bracket_lower": bracket.lower, "bracket_upper": bracket.upper}
    median = {"predicted_median": float(first.quantile([0.5])[0, 0, -1])}
    return {"rate": rate, "deadline": deadlines} | violation | certified | median


def ends(estimate: Any) -> dict[str, Any]:
    """The value of an estimate and its ends, by what their names end with."""
    return {"": estimate.value, "_low": estimate.low, "_high": estimate.high}


def law() -> NDArray[np.float64]:
    """P(N = n) of the cooperative strategy's rounds, on captions that are none of those asked here."""
    table = store.load("subjects", "edgeinfer measure --only subjects")
    runs = [str(run) for run in (subjects.FIRST, subjects.AGAIN, subjects.EDGE)]
    rules = Rules.read()
    return rounds_law(Outcomes(table, calibration=True, sure=rules.sure), runs, rules.passing)


class _Course:
    """The runs of each strategy in turn, as far as they are not kept."""

    def __init__(
        self, kept: Store, seconds: float, profile_seconds: float, alone: int, seed: int, loads: NDArray[np.float64]
    ) -> None:
        self._kept, self._seconds, self._profile, self._alone, self._seed = kept, seconds, profile_seconds, alone, seed
        self._loads, self._law = loads, law()
        texts = subjects.captions({"test": 600, "calibration": 200})["test"]
        self._requests = [
            Request(text, noise=_NOISE + k, prior_steps=STEPS[0], decode_steps=STEPS[1]) for k, text in enumerate(texts)
        ]

    def strategy(self, name: str, number: int, done: Any) -> dict[str, list[dict[str, Any]]]:
        """Columns and numbers of all its runs."""
        self._done = done
        fast = RayleighLink(**LINK.power_budget() | {"bandwidth": _FAST})
        alone = self._cell(name, 0, lambda: self._run(name, None, self._alone, fast, 10 * number, whole=True))
        # What crosses is the same, and takes its time on the link of the runs.
        stages = Stages.of(name, alone, alone, self._law)
        rate = PROFILED / stages.slowest(name, LINK)
        profile = self._cell(name, 1, lambda: self._timed(name, rate, self._profile, 10 * number + 1, whole=True))
        stages = Stages.of(name, profile, alone, self._law)
        about = {"overhead": stages.overhead, "rounds_law": self._law}
        runs = []
        for k, load in enumerate(self._loads):
            seed = 10 * number + 2 + k

            def run(load: float = float(load), seed: int = seed) -> dict[str, Any]:
                told = predict(stages, name, load / stages.slowest(name, LINK), seed)
                return told | self._timed(name, told["rate"], self._seconds, seed)

            runs.append(self._cell(name, 2 + k, run))
        return {"alone": [alone], "profile": [profile | about], "run": runs}

    def _cell(self, name: str, part: int, make: Any) -> dict[str, Any]:
        """What a run gives, from the store where it is there."""
        point = {"strategy": name, "part": part}
        if not self._kept.has(point):
            self._kept.put(point, Cell({key: Value([], value) for key, value in make().items()}))
        self._done()
        return {key: value.data for key, value in self._kept.get(point).values.items()}

    def _timed(self, name: str, rate: float, seconds: float, number: int, *, whole: bool = False) -> dict[str, Any]:
        return self._run(name, rate, max(round(rate * seconds), _LEAST), LINK, number, whole=whole)

    def _run(
        self, name: str, rate: float | None, count: int, link: RayleighLink, number: int, *, whole: bool = False
    ) -> dict[str, Any]:
        # Each run begins elsewhere in the captions.
        first = 97 * number % len(self._requests)
        asked = self._requests[first:] + self._requests[:first]
        load = strategies.work_load(name, asked[:count], rounds=3, deadline=_LIMIT)
        before = _Processors()
        tested = bridge.load_test(load, rate, count, link=link, uplink=link, seed=1000 * self._seed + number)
        if tested.failures and whole:
            raise OSError(f"{name}: {len(tested.failures)} requests failed: {next(iter(tested.failures.values()))}")
        bits = {"uplink_bits": tested.uplink_bits, "downlink_bits": tested.downlink_bits}
        return columns(tested) | bits | {"others": before.others()}


def columns(tested: bridge.LoadTest) -> dict[str, NDArray[np.float64]]:
    """What a load test tells of each request, by the names of `COLUMNS`; NaN where it failed, or has no such stage.

    "device" is all that a request holds the device for: its steps, and what lies between two of them in a row.
    "exchange": what the mean exchange with the edge takes besides the agent there.
    """
    table = {name: np.full(len(tested.rows), np.nan) for name in COLUMNS}
    table["arrival"], table["sojourn"] = np.asarray(tested.arrivals), tested.sojourn[:, -1]
    for k, row in enumerate(tested.rows):
        if row["failure"]:
            continue
        held = read = 0.0
        before: tuple[str, float] = ("", 0.0)
        for step, due, begin, end, _ in row["steps"]:
            read += end - begin if step == "aside" else 0.0
            if step == "device":
                held += end - begin + (max(due - before[1], 0.0) if before[0] == "device" else 0.0)
            before = step, end
        table["read"][k], table["device"][k], table["rounds"][k] = read, held, row["session"]["rounds"]
        there = [step for step in row["session"]["steps"] if step["place"] == "edge"]
        if there:
            table["edge"][k] = sum(step["seconds"] for step in there)
            table["exchange"][k] = np.mean([step["end"] - step["begin"] - step["seconds"] for step in there])
    return table


class _Processors:
    """How busy this machine's processors are with what is not this measurement's, from now on."""

    def __init__(self) -> None:
        self._begin = self._now()

    def others(self) -> float:
        """Processors that others kept busy, on average; NaN where the system does not tell."""
        elapsed, busy, own = np.array(self._now()) - self._begin
        return float(max(busy - own, 0.0) / elapsed)

    @staticmethod
    def _now() -> tuple[float, float, float]:
        """Time, and processor time of all and of this process and the children that it has waited for, s."""
        own = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
        try:
            # user, nice, system, idle, iowait, irq, softirq, steal
            ticks = [int(part) for part in Path("/proc/stat").read_text().splitlines()[0].split()[1:9]]
            busy = (sum(ticks) - ticks[3] - ticks[4]) / os.sysconf("SC_CLK_TCK")
        except OSError:
            busy = float("nan")
        return time.monotonic(), busy, sum(usage.ru_utime + usage.ru_stime for usage in own)


_UNITS = {"rounds": "1", "rate": "1/s", "uplink_bits": "bit", "downlink_bits": "bit", "others": "1", "rounds_law": "1"}
_TOLD = ("deadline", "predicted", "predicted_low", "predicted_high", "bracket_lower", "bracket_upper")


def _variables(found: Sequence[Mapping[str, list[dict[str, Any]]]], loads: int) -> dict[str, Any]:
    """Arrays over strategy, of a run over load too, requests of shorter runs filled up with NaN."""
    table: dict[str, Any] = {}
    for part, prefix in (("alone", "alone_"), ("profile", "profile_"), ("run", "")):
        dims = ("strategy",) if prefix else ("strategy", "load")
        runs = [run for each in found for run in each[part]]
        longest = max(len(run["arrival"]) for run in runs)
        for name in runs[0]:
            values = [np.asarray(run[name], float) for run in runs]
            last: tuple[str, ...] = ()
            if name in COLUMNS:
                values = [np.pad(value, (0, longest - value.size), constant_values=np.nan) for value in values]
                last = (f"{prefix}request",)
            elif values[0].ndim:
                last = ("round",) if name == "rounds_law" else ("probability",)
            kind = "derived" if name in (*_TOLD, "predicted_median", "rate", "overhead", "rounds_law") else "measured"
            unit = _UNITS.get(name, "1" if name in _TOLD[1:] else "s")
            shape = [len(found), loads][: len(dims)]
            array = np.stack(values).reshape(*shape, *values[0].shape)
            table[prefix + name] = ((*dims, *last), array, {"units": unit, "provenance": kind})
        table[f"{prefix}requests"] = (
            dims,
            np.reshape([len(run["arrival"]) for run in runs], [len(found), loads][: len(dims)]),
            {"units": "1", "provenance": "measured"},
        )
    return table
