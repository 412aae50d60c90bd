"""Poisson arrivals for a cascade or another kind of work through real processes on loopback, and the sojourn times."""

import os
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from edgeinfer import _validate
from edgeinfer.bridge.cascade import runtime
from edgeinfer.bridge.exit.queue import poisson
from edgeinfer.bridge.run.runs import Run
from edgeinfer.bridge.run.start import CASCADE
from edgeinfer.bridge.run.testbed import Testbed
from edgeinfer.bridge.run.user import Load
from edgeinfer.bridge.wire.trace import read_trace
from edgeinfer.bridge.work.orders import PARADIGMS
from edgeinfer.model import Pipeline, Transfer
from edgeinfer.model.pipelines import Link

_LAST = 120.0
#: Stages of each paradigm, as the pipelines of `edgeinfer.split` and its companions name them.
STAGES = {"split": ("prior", "downlink", "decode"), "edge": ("inference", "downlink"), "device": ("inference",)}


@dataclass(frozen=True, eq=False)
class WorkLoad(_validate.Value):
    """Requests of a kind of work that is no cascade.

    Parameters
    ----------
    name : str
        What a `LoadTest` calls it; none of the paradigms of a cascade.
    work : str
        The kind of work, MODULE:CLASS, as for `Testbed`.
    asked : mapping
        What its user takes; values of JSON.
    settings : mapping
        What it is made with, besides `model` and `threads`; values of JSON.
    model : str
    """

    name: str
    work: str
    asked: Mapping[str, Any]
    settings: Mapping[str, Any] = field(default_factory=lambda: MappingProxyType({}))
    model: str = ""


@dataclass(frozen=True, eq=False)
class LoadTest(Run):
    """What a load test measured: a `Run`, whose stages are those of the pipelines.

    Attributes
    ----------
    paradigm : {"split", "edge", "device"} or str
        Its stages are prior, downlink, decode; inference, downlink; or inference. Of another kind of work its name; its
        one stage is the request.
    downlink_bits, uplink_bits : float
        Mean bits a request, of all that crossed the downlink: tensor, signalling, framing; and the uplink, where
        requests go through the link's process. NaN without a link.
    slowdown : float
        How many times slower the device was made; 1: as it is.
    rows : tuple of mapping
        What the user wrote of each request, as `user.Request` has it.
    """

    paradigm: str
    downlink_bits: float
    slowdown: float
    rows: tuple[Mapping[str, Any], ...] = ()
    uplink_bits: float = np.nan


def load_test(
    what: str | Pipeline | WorkLoad,
    arrival_rate: float | None,
    requests: int,
    *,
    model: str | Path | None = None,
    caption: str | None = None,
    prior_steps: int = 16,
    decode_steps: int = 8,
    link: Link | None = None,
    uplink: Link | None = None,
    seed: int = 0,
    slowdown: float = 1.0,
    slots: str = "fresh",
    capacity: int | None = None,
    batch: int = 1,
    threads: int | None = 1,
    negotiate: bool = True,
    deadline: float = 60.0,
    folder: str | os.PathLike[str] | None = None,
) -> LoadTest:
    """Poisson arrivals through real processes on loopback.

    Every request of a cascade is a device's: it negotiates, has the edge infer, and queues for the device's one
    decoder, FIFO. Edge and device share this machine, so that its cores have to be enough for both not to slow each
    other.

    Step allocations take the downlink as the tensors do: the pipelines of the analysis have no such message, except as
    the share xi of the rate. `negotiate=False` leaves them out.

    Parameters
    ----------
    what : {"split", "edge", "device"}, Pipeline or WorkLoad
        The paradigm; a pipeline as `edgeinfer.split` and its companions make it names the paradigm by its stages, and
        gives the link. Its times are not used: they are what the measurement is held against. A `WorkLoad` asks another
        kind of work, to which the parameters `model` to `decode_steps` and `negotiate` do not apply.
    arrival_rate : float or None, 1/s
        None: each request comes when the one before has been answered.
    requests : int
    model : path, optional
        The cascade's folder; the shipped one by default.
    caption : str, optional
        Of every request; by default the shortest that the cascade takes.
    prior_steps, decode_steps : int
    link : FadingLink, optional
        Of the downlink, instead of a pipeline's; without one bytes pass at once.
    uplink : FadingLink, optional
    seed : int
        Of the arrivals, the fading and the images.
    slowdown : float
        Makes the device that many times as slow: each request's stages there are followed by `slowdown` - 1 times their
        median time without load, asleep, so that what disturbs the computing is not multiplied. >= 1. Of another kind
        of work each step on the device is, by the median of them all.
    slots : {"fresh", "grid"}
    capacity : int, optional
        Requests that may wait on the edge; all of them by default.
    batch, threads
        As for `Testbed`; `threads` holds for the device too.
    negotiate : bool
        Whether signalling comes before each inference; False: the steps are known to both.
    deadline : float, s
        Until when the edge must have answered a request; a `WorkLoad` says that itself in what it asks.
    folder : path, optional
        Keeps the traces there.

    Returns
    -------
    LoadTest

    Raises
    ------
    OSError
        If a process does not start or dies; one that dies under load fails its requests instead.
    """
    rate = _rate(arrival_rate)
    requests = _validate.whole("requests", requests, 1)
    slowdown = _validate.scalar("slowdown", slowdown, 1)
    deadline = _validate.scalar("deadline", deadline, 0, low_open=True, unit="s")
    if isinstance(what, WorkLoad):
        steps = None if (prior_steps, decode_steps) == (16, 8) else (prior_steps, decode_steps)
        given = {"model": model, "caption": caption, "prior_steps, decode_steps": steps}
        given["negotiate"] = None if negotiate else str(negotiate)
        _check_no_cascade(what, given)
        load = what
    else:
        paradigm, link = _paradigm(what, link)
        cascade = runtime.load(model)
        asked = {
            "paradigm": paradigm,
            "caption": caption or cascade.shortest_caption,
            "prior_steps": prior_steps,
            "decode_steps": decode_steps,
            "seed": seed,
            "deadline": deadline,
            "negotiate": negotiate,
        }
        load = WorkLoad(paradigm, CASCADE, asked, model=str(cascade.manifest.folder))
    times = [] if rate is None else poisson(rate, requests, np.random.SeedSequence(seed, spawn_key=(1,))).tolist()
    options: dict[str, Any] = {"slots": slots, "seed": seed, "capacity": capacity or requests + 1, "batch": batch}
    options |= {"threads": threads, "slowdown": slowdown, "deadline": deadline, "folder": folder}
    with load_tests(load, link=link, uplink=uplink, **options) as test:
        return replace(test(times or requests), arrival_rate=rate)


@contextmanager
def load_tests(
    load: WorkLoad,
    *,
    link: Link | None = None,
    uplink: Link | None = None,
    seed: int = 0,
    slowdown: float = 1.0,
    slots: str = "fresh",
    capacity: int = 1024,
    batch: int = 1,
    threads: int | None = 1,
    deadline: float = 60.0,
    folder: str | os.PathLike[str] | None = None,
) -> Iterator[Callable[[ArrayLike | int], LoadTest]]:
    """Processes that stand while load tests are made, one after the other; leaving the `with` block ends them.

    Two processes of one program may differ by some per cent in what they take, and a machine from one minute to the
    next: what is timed in a first test holds better for a second one in the same processes.

    Parameters
    ----------
    load : WorkLoad
    deadline : float, s
        What it says of how long a request may take, to know when processes hang.
    link, uplink, seed, slowdown, slots, capacity, batch, threads, folder
        As for `load_test`; `seed` is that of the fading.

    Returns
    -------
    context manager of callable (arrivals) -> LoadTest
        Takes when requests come after the start, s, ascending; or their number, each when the one before has been
        answered. Requests are numbered on from test to test.

    Raises
    ------
    OSError
        As for `load_test`.
    """
    with ExitStack() as stack:
        where = Path(folder or stack.enter_context(tempfile.TemporaryDirectory()))
        options: dict[str, Any] = {"slots": slots, "seed": seed, "capacity": capacity, "batch": batch}
        options |= {"work": load.work, "settings": load.settings, "edge": load.name != "device"}
        bed = Testbed(load.model, link, uplink=uplink, folder=where, threads=threads, **options)
        stack.enter_context(bed)
        user = stack.enter_context(bed.user(Load(0, [], slowdown=slowdown), load.asked, traced=True))
        about: dict[str, Any] = {"model": load.model, "threads": threads, "link": repr(link), "uplink": repr(uplink)}
        about |= {"slots": slots, "batch": batch, "slowdown": slowdown, "work": load.work}
        first = 0

        def test(arrivals: ArrayLike | int) -> LoadTest:
            nonlocal first
            times = [] if isinstance(arrivals, int) else _schedule(arrivals)
            count = _validate.whole("arrivals", arrivals if isinstance(arrivals, int) else len(times), 1)
            # Each request is answered or fails by its deadline, after which all of them may wait for the decoder.
            last = (times[-1] if times else 0.0) + deadline + _LAST + 10.0 * slowdown * count
            rows = user.ask(Load(count, times, slowdown=slowdown, first=first), last)
            traces = [path for path in map(bed.trace, ("device", "edge", "link")) if path.exists()]
            kept = {"traces": [str(path) for path in traces] if folder is not None else []}
            rate = count / times[-1] if times and times[-1] > 0 else None
            settings = dict(load.asked) | about | kept
            measured = _measured(rows, read_trace(*traces), first, load.name, rate, slowdown, settings)
            first += count
            return measured

        yield test


def _schedule(arrivals: ArrayLike) -> list[float]:
    times = np.atleast_1d(_validate.real("arrivals", arrivals, 0, unit="s"))
    if times.ndim != 1 or (np.diff(times) < 0).any():
        raise ValueError(f"arrivals of shape {times.shape}: must be one after the other, ascending")
    scheduled: list[float] = times.tolist()
    return scheduled


def _rate(value: float | None) -> float | None:
    return None if value is None else _validate.scalar("arrival_rate", value, 0, low_open=True, unit="1/s")


def _check_no_cascade(what: WorkLoad, given: Mapping[str, Any]) -> None:
    if what.name in STAGES:
        raise ValueError(f"name = {what.name!r}: must be none of {', '.join(STAGES)}, the paradigms of a cascade")
    if wrong := [name for name, value in given.items() if value is not None]:
        raise ValueError(f"{', '.join(wrong)}: must be left out, {what.name} is no cascade")


def _paradigm(what: str | Pipeline, link: Link | None) -> tuple[str, Link | None]:
    if isinstance(what, str):
        return _validate.choice("what", what, PARADIGMS), link
    for paradigm, stages in STAGES.items():
        if what.names == stages:
            links = [stage.link for stage in what if isinstance(stage, Transfer)]
            return paradigm, link or (links[0] if links else None)
    known = "; ".join(", ".join(stages) for stages in STAGES.values())
    raise ValueError(f"what: pipeline of stages {', '.join(what.names)}: must be one of {known}")


def _measured(
    rows: Sequence[dict[str, Any]],
    records: Sequence[dict[str, Any]],
    first: int,
    paradigm: str,
    rate: float | None,
    slowdown: float,
    provenance: dict[str, Any],
) -> LoadTest:
    """Sojourn times from the user's rows and the processes' traces, whose clocks must be one."""
    clocks = {record["clock"] for record in records if record["kind"] == "process"}
    if len(clocks) != 1:
        raise OSError(f"the processes' clocks differ: {', '.join(sorted(clocks))}")
    stages = STAGES.get(paradigm, ("request",))
    ends, service = np.full((2, len(rows), len(stages)), np.nan)
    column = {
        ("edge", "stage", "prior"): 0,
        ("edge", "stage", "inference"): 0,
        ("device", "message", "ModelInferResponse"): 1,
        ("device", "stage", "device"): len(stages) - 1,
    }
    for record in records:
        stage = column.get((record["process"], record["kind"], record["name"]))
        if paradigm not in STAGES or stage is None or not record["request"].isdecimal():
            continue
        number = int(record["request"]) - first
        if 0 <= number < len(rows):
            ends[number, stage] = record["time"] + record.get("duration", 0.0)
            service[number, stage] = record.get("duration", np.nan)
    arrivals = np.array([row["arrival"] for row in rows])
    if paradigm not in STAGES:
        ends[:, 0] = [np.nan if row["done"] is None else row["done"] for row in rows]
    begin = arrivals.min()
    chunks = [r for r in records if r["kind"] == "chunk" and r["time"] >= begin]
    crossed = {way: sum(8 * r["bytes"] for r in chunks if r["direction"] == way) for way in ("down", "up")}
    down, up = (bits / len(rows) if bits else np.nan for bits in crossed.values())
    failures = {number: row["failure"] for number, row in enumerate(rows) if row["failure"]}
    times = ends - arrivals[:, None]
    run = rate, arrivals - begin, stages, times, service, failures, provenance
    return LoadTest(*run, paradigm, down, slowdown, tuple(rows), up)
