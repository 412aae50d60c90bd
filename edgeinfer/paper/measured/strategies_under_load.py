"""Strategies of collaboration measured under load, each run predicted before it begins."""

import os
import resource
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from edgeinfer import _validate, bridge, strategies
from edgeinfer.delay import simulate, violation_bracket
from edgeinfer.model import Constant, Delay, Fork, Measured, Pipeline, RayleighLink, Recorded, Session, Transfer
from edgeinfer.paper.measured import runs, store, subjects
from edgeinfer.paper.measured.outcomes import Outcomes, rounds_law
from edgeinfer.strategies import Request, Rules

STRATEGIES = ("device_side", "edge_side", "collaborative", "cooperative", "competitive", "ensemble")
#: Strategies whose edge works while the device does.
BESIDE = ("competitive", "ensemble")
#: Loads of the busiest stage.
LOADS = (0.3, 0.6)
#: P(W > T) that the prediction gives the deadlines T of a run.
PROBABILITIES = (0.7, 0.4, 0.15, 0.05)
#: Steps of a request of one subject, few so that many requests fit into a run; several subjects have their own.
STEPS = (4, 1)
#: Both ways, assumed: some 1.3 Mbit/s, so that a picture's transfer takes about as long as painting.
LINK = RayleighLink(1e6, 31.0, -100.0, 128.1, 0.001)
#: Lengths of all blocks of a run and of those that time its stages, s; blocks; and requests that meet no other.
SECONDS, PROFILE_SECONDS, BLOCKS, ALONE = 45.0, 24.0, 3, 25
#: What is kept of each request; s, but for the rounds.
COLUMNS = ("arrival", "sojourn", "client", "edge", "device", "rounds", "exchange")
#: What is put between the last arrival of a block and the first of the next, s, where blocks stand one after another.
APART = 60.0
#: Hz: 1 Mbit passes in 10 us.
_FAST = 1e11
_LIMIT, _LEAST, _FIRST = 300.0, 12, 5
_SAMPLED: dict[str, Any] = {"jobs": 20_000, "replications": 16}
# Parts of a law that are kept, of equal probability.
_PARTS = 200
# Of noise, far from those of other measurements.
_NOISE = 50_000_000


@dataclass(frozen=True, eq=False)
class Stages:
    """What a prediction is made of.

    Parameters
    ----------
    client, edge, device : array_like, s
        Times of requests: what the device does with them beside computing in turn, which waits for nobody; the edge's
        agents; and all that the device computes in one round.
    up, down : float, bit
        Of a request; NaN where nothing crosses.
    exchange : float, s
        What an exchange with the edge takes beside its transfers and its agent; 0 where there is none.
    rounds : array_like
        P(N = n) for n = 1 .. R.
    """

    client: NDArray[np.float64]
    edge: NDArray[np.float64]
    device: NDArray[np.float64]
    up: float
    down: float
    exchange: float
    rounds: NDArray[np.float64]

    @classmethod
    def of(cls, strategy: str, run: Mapping[str, Any], alone: Mapping[str, Any], rounds: ArrayLike) -> "Stages":
        """From the columns of a run, those of requests that met no other, and the law of the number of rounds."""
        met, lone = ({name: np.asarray(part[name], float) for name in COLUMNS} for part in (run, alone))
        client, edge, device = (met[name][np.isfinite(met[name])] for name in ("client", "edge", "device"))
        if strategy == "cooperative":
            done = np.isfinite(met["device"])
            device = met["device"][done] / met["rounds"][done]
        up, down = (float(run[name]) for name in ("uplink_bits", "downlink_bits"))
        exchange = float(np.nanmedian(lone["exchange"])) if np.isfinite(lone["exchange"]).any() else 0.0
        return cls(client, edge, device, up, down, exchange, np.asarray(rounds, float))

    def pipeline(self, strategy: str, link: RayleighLink) -> Pipeline:
        """The strategy as the core knows it.

        What the client does beside computing and what is lost on the way delays a request and nobody else, and stands
        last, where that gives the same sum. Of one subject all stages queue one behind the other. Of several, rounds
        hold the device, which the edge hardly ever relieves; or the device paints, judges and checks while the edge
        paints, and who is later decides: the device's judging behind an edge that is late is left out.
        """
        behind = Delay(Measured(self.client, "client"))
        exchange = Delay(Constant(self.exchange, "exchange"))
        if strategy == "cooperative":
            return Pipeline([Session((Measured(self.device, "round"),), self.rounds, "device"), behind])
        edge = [
            Transfer(self.up, link, "uplink"),
            Measured(self.edge, "edge"),
            Transfer(self.down, link, "downlink"),
        ]
        device = Measured(self.device, "device")
        if strategy not in BESIDE:
            return Pipeline([*edge, device, exchange, behind])
        return Pipeline([Fork((Pipeline([device]), Pipeline([*edge, exchange])), "all", "both"), behind])

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
    blocks: int = BLOCKS,
    alone: int = ALONE,
    seed: int = 23,
    stored: str | Path | None = None,
    progress: bool = True,
) -> Path:
    """Drive Poisson arrivals through the strategies' processes at some loads, and write `strategies_under_load.nc`.

    Of each strategy first requests that meet no other, at times of their own, go over a link of next to no delay: what
    is left of their exchanges beside the edge's agent is the runtime. Then, for each load, processes are started that
    stand to its end. In them blocks alternate: one that times the stages, at the load that they will be met at, of
    which stage times and bits are used, and no waiting; and one of the run, which the core predicts before it begins,
    by those times: how often each deadline will be missed, in a long run and of requests that come when these will,
    which is drawn before. What the machine does from one minute to the next thus falls on both alike. Some 18 minutes
    on a machine that does nothing else.

    Parameters
    ----------
    out : path
        Folder of the file, which is replaced as a whole.
    chosen : sequence of str
        Of `STRATEGIES`.
    loads : sequence of float
        In (0, 1), of the busiest stage.
    seconds, profile_seconds : float, s
        Lengths of a run and of what times the stages, all blocks together, > 0; each block has at least 12 requests.
    blocks : int
        >= 1.
    alone : int
        Requests that meet no other, >= 2.
    seed : int
        The seed of arrivals and fading.
    stored, progress
        As for `runs.runs`.

    Returns
    -------
    Path

    Raises
    ------
    OSError
        If a request that is profiled fails, or a process does not start.
    """
    for strategy in chosen:
        _validate.choice("chosen", strategy, STRATEGIES)
    levels = np.atleast_1d(_validate.real("loads", loads, 0, 1, low_open=True, high_open=True))
    lengths = [
        _validate.scalar(name, value, 0, low_open=True, unit="s")
        for name, value in (("profile_seconds", profile_seconds), ("seconds", seconds))
    ]
    blocks, alone = _validate.whole("blocks", blocks, 1), _validate.whole("alone", alone, 2)
    about: dict[str, Any] = {
        "prior_steps": STEPS[0],
        "decode_steps": STEPS[1],
        "seconds": lengths[1],
        "profile_seconds": lengths[0],
        "blocks": blocks,
        "seed": seed,
        "weights_sha256": store.digest(bridge.load(threads=1).manifest.folder),
        **{f"link_{name}": float(value) for name, value in LINK.power_budget().items()},
    }
    belongs = about | {"loads": levels.tolist(), "alone": alone}
    each = [length / blocks for length in lengths]
    total = len(chosen) * (1 + levels.size * (2 * blocks + 1))
    coordinates = {
        "strategy": list(chosen),
        "load": ("load", levels, {"units": "1"}),
        "probability": ("probability", list(PROBABILITIES), {"units": "1"}),
    }
    with runs.runs("strategies_under_load", out, belongs, total, stored=stored, progress=progress) as made:
        course = _Course(made, (each[0], each[1]), blocks, alone, seed)
        found = [course.strategy(name, levels) for name in chosen]
        return runs.write("strategies_under_load", out, _variables(found, levels.size), coordinates, about)


def predict(
    stages: Stages, strategy: str, rate: float, schedule: ArrayLike, seed: Any, deadlines: ArrayLike | None = None
) -> dict[str, Any]:
    """What the core says of a run to come: of Poisson arrivals at a rate, and of requests that come as scheduled.

    Parameters
    ----------
    stages : Stages
    strategy : str
    rate : float, 1/s
    schedule : (n,) array_like, s
        When requests will come.
    seed : sequence of int
    deadlines : array_like, s, optional
        Those that Poisson arrivals miss with `PROBABILITIES` by default.

    Returns
    -------
    dict
        `rate`, `deadline`; `predicted` and `given`, of Poisson arrivals and of those scheduled, with their ends, and as
        `..._law` equally likely sojourn times; `bracket_lower`, `bracket_upper`, certified for Poisson arrivals.
    """
    pipeline = stages.pipeline(strategy, LINK)
    if deadlines is None:
        first = simulate(pipeline, rate, [1.0], rng=[*seed, 0], **_SAMPLED)
        deadlines = first.quantile(1 - np.array(PROBABILITIES))[:, 0, -1]
    bracket = violation_bracket(pipeline, rate, deadlines)
    return (
        {"rate": rate, "deadline": np.asarray(deadlines)}
        | simulated("predicted", pipeline, rate, deadlines, [*seed, 1])
        | simulated("given", pipeline, scheduled(schedule), deadlines, [*seed, 2])
        | {"bracket_lower": bracket.lower, "bracket_upper": bracket.upper}
    )


def scheduled(times: ArrayLike) -> Recorded:
    """Requests that come at those times, s, again and again, and find nobody there at first."""
    arrivals = np.asarray(times, float)
    return Recorded(np.append(arrivals, arrivals[-1] + APART))


def simulated(name: str, pipeline: Pipeline, arrivals: Any, deadlines: ArrayLike, seed: Any) -> dict[str, Any]:
    """Probabilities by that name, with ends, and equally likely times; 1 and inf of what cannot be served."""
    limits = np.asarray(deadlines, float)
    if pipeline.loads(getattr(arrivals, "mean_rate", arrivals)).max() >= 1:
        late: dict[str, Any] = {f"{name}{end}": np.ones(limits.size) for end in ("", "_low", "_high")}
        return late | {f"{name}_law": np.full(_PARTS, np.inf)}
    found = simulate(pipeline, arrivals, limits, rng=seed, **_SAMPLED)
    law = found.quantile((np.arange(_PARTS) + 0.5) / _PARTS)
    answer = {f"{name}{end}": values[:, -1] for end, values in ends(found.violation).items()}
    return answer | {f"{name}_law": law.reshape(_PARTS, -1)[:, -1]}


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

    def __init__(self, made: runs.Runs, seconds: tuple[float, float], blocks: int, alone: int, seed: int) -> None:
        self._made, self._seconds, self._blocks, self._alone, self._seed = made, seconds, blocks, alone, seed
        self._law = law()
        texts = subjects.captions({"test": 600, "calibration": 200})["test"]
        self._requests = [
            Request(text, noise=_NOISE + k, prior_steps=STEPS[0], decode_steps=STEPS[1]) for k, text in enumerate(texts)
        ]

    def strategy(self, name: str, loads: NDArray[np.float64]) -> dict[str, list[dict[str, Any]]]:
        """Columns and numbers of all its runs."""
        alone = self._made.one({"strategy": name, "part": "alone"}, lambda: self._lone(name))
        profiles, measured = [], []
        for k, load in enumerate(loads.tolist()):
            parts = [f"{part} {block}" for block in range(self._blocks) for part in ("profile", "run")]
            points = [{"strategy": name, "load": k, "part": part} for part in (*parts, "others")]

            def make(k: int = k, load: float = load) -> Iterator[dict[str, Any]]:
                return self._loaded(name, k, load, alone)

            *found, others = self._made.together(points, make)
            profiles.append(_joined(found[::2], COLUMNS) | {"rounds_law": self._law})
            told = [{part: value for part, value in profile.items() if part in _TOLD} for profile in found[::2]]
            measured.append(_joined(found[1::2], COLUMNS) | _pooled(told) | {"others": others["others"]})
        return {"alone": [alone], "profile": profiles, "run": measured}

    def _lone(self, name: str) -> dict[str, Any]:
        """Requests that come far apart, over a link of next to no delay."""
        with self._processes(name, RayleighLink(**LINK.power_budget() | {"bandwidth": _FAST}), 0) as test:
            first = _tested(test, _FIRST, name)
            return _tested(test, 2 * np.median(first["sojourn"]) * np.arange(1, self._alone + 1), name)

    def _loaded(self, name: str, number: int, load: float, alone: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
        """Blocks that time the stages, with what they tell of the next one, and blocks of the run; and the others."""
        before = _Processors()
        rate = told = None
        # What crosses is the same, and takes its time on the link of the runs.
        stages = Stages.of(name, alone, alone, self._law)
        with self._processes(name, LINK, number + 1) as test:
            for block in range(self._blocks):
                seed = [self._seed, STRATEGIES.index(name), number, block]
                times = self._schedule(rate or load / stages.slowest(name, LINK), 0, seed)
                profile = _tested(test, times, name)
                stages = Stages.of(name, profile, alone, self._law)
                rate = rate or load / stages.slowest(name, LINK)
                times = self._schedule(rate, 1, seed)
                told = predict(stages, name, rate, times, seed, None if told is None else told["deadline"])
                yield profile | told
                yield _tested(test, times)
        yield {"others": before.others()}

    def _schedule(self, rate: float, part: int, seed: Sequence[int]) -> NDArray[np.float64]:
        return bridge.poisson(rate, max(round(rate * self._seconds[part]), _LEAST), [*seed, 3 + part])

    def _processes(self, name: str, link: RayleighLink, number: int) -> Any:
        load = strategies.work_load(name, self._requests, rounds=3, deadline=_LIMIT)
        seed = 1000 * self._seed + 10 * STRATEGIES.index(name) + number
        return bridge.load_tests(load, link=link, uplink=link, seed=seed, deadline=_LIMIT)


def _tested(
    test: Callable[[ArrayLike | int], bridge.LoadTest], arrivals: ArrayLike | int, profiled: str = ""
) -> dict[str, Any]:
    """Columns and bits of a load test; OSError where a request of a strategy that is profiled failed."""
    tested = test(arrivals)
    if tested.failures and profiled:
        raise OSError(f"{profiled}: {len(tested.failures)} requests failed: {next(iter(tested.failures.values()))}")
    bits = {"uplink_bits": tested.uplink_bits, "downlink_bits": tested.downlink_bits}
    return columns(tested) | bits


def _joined(blocks: Sequence[Mapping[str, Any]], names: Sequence[str]) -> dict[str, Any]:
    """Columns of blocks one behind the other, and the mean bits of a request."""
    counts = [len(block["arrival"]) for block in blocks]
    answer = {name: np.concatenate([block[name] for block in blocks]) for name in names}
    begins = np.cumsum([0.0] + [float(block["arrival"][-1]) + APART for block in blocks[:-1]])
    answer["arrival"] = answer["arrival"] + np.repeat(begins, counts)
    answer["block"] = np.repeat(np.arange(len(blocks)), counts)
    return answer | {
        name: np.average([block[name] for block in blocks], weights=counts) for name in ("uplink_bits", "downlink_bits")
    }


def _pooled(told: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """What was told of blocks of equal size, of all of them together."""
    answer = {name: np.mean([each[name] for each in told], axis=0) for name in told[0]}
    for name in ("predicted", "given"):
        answer[f"{name}_median"] = np.median([each[f"{name}_law"] for each in told])
        del answer[f"{name}_law"]
    return answer


def columns(tested: bridge.LoadTest) -> dict[str, NDArray[np.float64]]:
    """What a load test tells of each request, by the names of `COLUMNS`; NaN where it failed, or has no such stage.

    "device" is all that a request holds the device for: its steps from when they are due and the device is free, and
    what lies between two of them in a row. "exchange": what the mean exchange with the edge takes besides the agent
    there. "client" is all else that the device does for a request and nobody waits for: to begin, to read, to write and
    read messages.
    """
    table = {name: np.full(len(tested.rows), np.nan) for name in COLUMNS}
    table["arrival"], table["sojourn"] = np.asarray(tested.arrivals), tested.sojourn[:, -1]
    rows = [(k, row) for k, row in enumerate(tested.rows) if not row["failure"]]
    free = _free(step for _, row in rows for step in row["steps"])
    for k, row in rows:
        held = spent = 0.0
        before: tuple[str, float] = ("", 0.0)
        for name, due, begin, end, _ in row["steps"]:
            if name == "device":
                held += end - max(due, free[begin]) + (max(due - before[1], 0.0) if before[0] == "device" else 0.0)
                # Who waits for the device has nothing to do.
                spent += max(free[begin] - due, 0.0)
            before = name, end
        there = [step for step in row["session"]["steps"] if step["place"] == "edge"]
        if row["session"]["strategy"] in BESIDE:
            spent += sum(end - due for name, due, _, end, _ in row["steps"] if name == "edge")
        else:
            spent += sum(step["end"] - step["begin"] for step in there)
        table["device"][k], table["rounds"][k] = held, row["session"]["rounds"]
        table["client"][k] = max(table["sojourn"][k] - held - spent, 0.0)
        if there:
            table["edge"][k] = sum(step["seconds"] for step in there)
            table["exchange"][k] = np.mean([step["end"] - step["begin"] - step["seconds"] for step in there])
    return table


def _free(steps: Iterable[Sequence[Any]]) -> dict[float, float]:
    """Since when the device was free for each of its steps, by when that began, s."""
    answer, last = {}, -np.inf
    for begin, end in sorted((step[2], step[3]) for step in steps if step[0] == "device"):
        answer[begin], last = last, max(last, end)
    return answer


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
_UNITS |= {"block": "1"}
_SHARES = tuple(f"{name}{end}" for name in ("predicted", "given") for end in ("", "_low", "_high"))
_SHARES += ("bracket_lower", "bracket_upper")
# What is said before a run.
_TOLD = ("rate", "deadline", *_SHARES, "predicted_law", "given_law")
_DERIVED = (*_TOLD, "predicted_median", "given_median", "rounds_law", "block")


def _variables(found: Sequence[Mapping[str, list[dict[str, Any]]]], loads: int) -> dict[str, Any]:
    """Arrays over strategy, and over load but for requests that meet no other; of fewer requests filled up with NaN."""
    table: dict[str, Any] = {}
    for part, prefix in (("alone", "alone_"), ("profile", "profile_"), ("run", "")):
        dims = ("strategy",) if part == "alone" else ("strategy", "load")
        shape = (len(found), loads)[: len(dims)]
        parts = [run for each in found for run in each[part]]
        longest = max(len(run["arrival"]) for run in parts)
        for name in parts[0]:
            values = [np.asarray(run[name], float) for run in parts]
            last: tuple[str, ...] = ()
            if name in (*COLUMNS, "block"):
                values = [np.pad(value, (0, longest - value.size), constant_values=np.nan) for value in values]
                last = (f"{prefix}request",)
            elif values[0].ndim:
                last = ("round",) if name == "rounds_law" else ("probability",)
            kind = "derived" if name in _DERIVED else "measured"
            unit = _UNITS.get(name, "1" if name in _SHARES else "s")
            array = np.stack(values).reshape(*shape, *values[0].shape)
            table[prefix + name] = ((*dims, *last), array, {"units": unit, "provenance": kind})
        counts = np.reshape([len(run["arrival"]) for run in parts], shape)
        table[f"{prefix}requests"] = (dims, counts, {"units": "1", "provenance": "measured"})
    return table
