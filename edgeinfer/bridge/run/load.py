"""The real processes under load: edge, link and device started on loopback, Poisson arrivals, sojourn times."""

import os
import tempfile
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgeinfer import _validate
from edgeinfer.bridge.cascade import runtime
from edgeinfer.bridge.device.cascade import PARADIGMS
from edgeinfer.bridge.run.start import link_settings, start
from edgeinfer.bridge.run.user import Settings, poisson
from edgeinfer.bridge.wire import address
from edgeinfer.bridge.wire.processes import Process
from edgeinfer.bridge.wire.trace import read_trace
from edgeinfer.model import Pipeline, RayleighLink, Transfer

_START = 120.0
#: Stages of each paradigm, as the pipelines of `edgeinfer.split` and its companions name them.
STAGES = {"split": ("prior", "downlink", "decode"), "edge": ("inference", "downlink"), "device": ("inference",)}


@dataclass(frozen=True, eq=False)
class LoadTest(_validate.Frozen):
    """What a load test measured.

    Attributes
    ----------
    paradigm : {"split", "edge", "device"}
    stages : tuple of str
        As in the pipelines: prior, downlink, decode; inference, downlink; or inference.
    arrival_rate : float, 1/s
    arrivals : (n,) ndarray, s
        When each request was due, from the first on.
    sojourn : (n, stages) ndarray, s
        Time from the arrival to the end of each stage, waiting included; NaN where the request failed before.
    service : (n, stages) ndarray, s
        Time in each stage without waiting; for the downlink NaN, since the link serves bytes, not requests.
    downlink_bits : float
        Mean bits a request, of all that crossed the downlink: tensor, signalling, framing. NaN without a link.
    failures : dict of int to str
        Reason for each request that failed.
    slowdown : float
        How many times slower the device was made; 1: as it is.
    provenance : dict
        The settings, and the trace files.
    """

    paradigm: str
    stages: tuple[str, ...]
    arrival_rate: float
    arrivals: NDArray[np.float64]
    sojourn: NDArray[np.float64]
    service: NDArray[np.float64]
    downlink_bits: float
    failures: dict[int, str]
    slowdown: float
    provenance: dict[str, Any]

    def violation(self, deadlines: Any) -> NDArray[np.float64]:
        """Share of requests whose total sojourn time exceeds each deadline; a failed request counts as late."""
        total = np.nan_to_num(self.sojourn[:, -1], nan=np.inf)
        limits = np.atleast_1d(_validate.real("deadlines", deadlines, 0, infinite=True, unit="s"))
        return np.mean(total > limits[:, None], axis=1)


class Testbed:
    """An edge and a link as processes on loopback; leaving the `with` block ends them.

    Parameters
    ----------
    model : path
        The cascade's folder.
    link : RayleighLink, optional
        Shapes the downlink; without it the device talks to the edge directly.
    slots, seed
        As for `Shaper`.
    capacity, batch : int
        As for `Edge`.
    threads : int or None
        Of one network pass, on the edge.
    folder : path, optional
        For the traces edge.jsonl, link.jsonl, device.jsonl; a temporary one that is removed by default.
    """

    __test__ = False

    def __init__(
        self,
        model: str | os.PathLike[str],
        link: RayleighLink | None = None,
        *,
        slots: str = "fresh",
        seed: int = 0,
        capacity: int = 64,
        batch: int = 1,
        threads: int | None = 1,
        folder: str | os.PathLike[str] | None = None,
    ) -> None:
        self.model, self._model_link = Path(model), link
        self._slots, self._seed, self._capacity, self._batch = slots, seed, capacity, batch
        self._threads, self._folder = threads, folder
        self._stack = ExitStack()
        self.edge: Process
        self.link: Process | None = None
        self.address = ""

    def __enter__(self) -> "Testbed":
        with ExitStack() as stack:
            if self._folder is None:
                self.folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
            else:
                self.folder = Path(self._folder)
                self.folder.mkdir(parents=True, exist_ok=True)
                for name in ("edge", "link", "device"):
                    self.trace(name).unlink(missing_ok=True)
            edge = start(
                "edge",
                model=str(self.model),
                capacity=self._capacity,
                batch=self._batch,
                threads=self._threads,
                trace=str(self.trace("edge")),
            )
            self.edge = stack.enter_context(edge)
            port = self.edge.port(_START)
            if self._model_link is not None:
                link = start(
                    "link",
                    to=address.join("127.0.0.1", port),
                    downlink=link_settings(self._model_link),
                    uplink=None,
                    slots=self._slots,
                    seed=self._seed,
                    trace=str(self.trace("link")),
                )
                self.link = stack.enter_context(link)
                port = self.link.port(_START)
            self.address = address.join("127.0.0.1", port)
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *exception: object) -> None:
        self._stack.close()

    def trace(self, process: str) -> Path:
        """Trace file of "edge", "link" or "device"."""
        return self.folder / f"{process}.jsonl"


def load_test(
    what: str | Pipeline,
    arrival_rate: float,
    requests: int,
    *,
    model: str | Path | None = None,
    caption: str | None = None,
    prior_steps: int = 16,
    decode_steps: int = 8,
    link: RayleighLink | None = None,
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

    Every request is a device's: it negotiates, has the edge infer, and queues for the device's one decoder, FIFO. Edge
    and device share this machine, so that its cores have to be enough for both not to slow each other.

    Step allocations take the downlink as the tensors do: the pipelines of the analysis have no such message, except as
    the share xi of the rate. `negotiate=False` leaves them out.

    Parameters
    ----------
    what : {"split", "edge", "device"} or Pipeline
        The paradigm; a pipeline as `edgeinfer.split` and its companions make it names the paradigm by its stages, and
        gives the link. Its times are not used: they are what the measurement is held against.
    arrival_rate : float, 1/s
    requests : int
    model : path, optional
        The cascade's folder; the shipped one by default.
    caption : str, optional
        Of every request; by default the shortest that the cascade takes.
    prior_steps, decode_steps : int
    link : RayleighLink, optional
        Of the downlink, instead of a pipeline's; without one bytes pass at once.
    seed : int
        Of the arrivals, the fading and the images.
    slowdown : float
        Makes the device that many times as slow: each request's stages there are followed by `slowdown` - 1 times their
        median time without load, asleep, so that what disturbs the computing is not multiplied. >= 1.
    slots : {"fresh", "grid"}
    capacity : int, optional
        Requests that may wait on the edge; all of them by default.
    batch, threads
        As for `Testbed`; `threads` holds for the device too.
    negotiate : bool
        Whether signalling comes before each inference; False: the steps are known to both.
    deadline : float, s
        Until when the edge must have answered a request.
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
    paradigm, link = _paradigm(what, link)
    rate = _validate.scalar("arrival_rate", arrival_rate, 0, low_open=True, unit="1/s")
    requests = _validate.whole("requests", requests, 1)
    slowdown = _validate.scalar("slowdown", slowdown, 1)
    deadline = _validate.scalar("deadline", deadline, 0, low_open=True, unit="s")
    cascade = runtime.load(model)
    settings: dict[str, Any] = {
        "caption": caption or cascade.shortest_caption,
        "prior_steps": prior_steps,
        "decode_steps": decode_steps,
        "seed": seed,
        "deadline": deadline,
        "slowdown": slowdown,
        "negotiate": negotiate,
        "threads": threads,
    }
    times = poisson(rate, requests, np.random.SeedSequence(seed, spawn_key=(1,)))
    with ExitStack() as stack:
        if folder is None:
            folder = stack.enter_context(tempfile.TemporaryDirectory())
        where, edge = Path(folder), ""
        where.mkdir(parents=True, exist_ok=True)
        traces = [where / "device.jsonl"]
        if paradigm != "device":
            bed = stack.enter_context(
                Testbed(
                    cascade.manifest.folder,
                    link,
                    slots=slots,
                    seed=seed,
                    capacity=capacity or requests + 1,
                    batch=batch,
                    threads=threads,
                    folder=where,
                )
            )
            edge = bed.address
            traces += [bed.trace(name) for name in (("edge", "link") if link else ("edge",))]
        traces[0].unlink(missing_ok=True)
        told = Settings(
            model=str(cascade.manifest.folder),
            trace=str(traces[0]),
            edge=edge,
            paradigm=paradigm,
            arrivals=times.tolist(),
            **settings,
        )
        device = stack.enter_context(start("device", **asdict(told)))
        _expect(device, "ready", _START)
        device.send("go")
        # Each request is answered or fails by its deadline, after which all of them may wait for the decoder.
        _expect(device, "done", times[-1] + deadline + _START + 10.0 * slowdown * requests)
        records = read_trace(*traces)
    provenance: dict[str, Any] = settings | {
        "model": str(cascade.manifest.folder),
        "link": repr(link),
        "slots": slots,
        "batch": batch,
        "traces": [str(path) for path in traces] if folder is not None else [],
    }
    return _measured(records, paradigm, rate, requests, slowdown, provenance)


def _expect(process: Process, word: str, seconds: float) -> None:
    line = process.line(seconds)
    if line != word:
        raise OSError(f"{process.name}: said {line!r}, not {word!r}")


def _paradigm(what: str | Pipeline, link: RayleighLink | None) -> tuple[str, RayleighLink | None]:
    if isinstance(what, str):
        return _validate.choice("what", what, PARADIGMS), link
    for paradigm, stages in STAGES.items():
        if what.names == stages:
            links = [stage.link for stage in what if isinstance(stage, Transfer)]
            return paradigm, link or (links[0] if links else None)
    known = "; ".join(", ".join(stages) for stages in STAGES.values())
    raise ValueError(f"what: pipeline of stages {', '.join(what.names)}: must be one of {known}")


def _measured(
    records: Sequence[dict[str, Any]],
    paradigm: str,
    rate: float,
    requests: int,
    slowdown: float,
    provenance: dict[str, Any],
) -> LoadTest:
    """Sojourn times from the processes' traces; their clocks must be one."""
    clocks = {record["clock"] for record in records if record["kind"] == "process"}
    if len(clocks) != 1:
        raise OSError(f"the processes' clocks differ: {', '.join(sorted(clocks))}")
    arrivals = np.full(requests, np.nan)
    ends = np.full((requests, len(STAGES[paradigm])), np.nan)
    service = np.full_like(ends, np.nan)
    failures: dict[int, str] = {}
    column = {
        ("edge", "stage", "prior"): 0,
        ("edge", "stage", "inference"): 0,
        ("device", "message", "ModelInferResponse"): 1,
        ("device", "stage", "device"): len(STAGES[paradigm]) - 1,
    }
    for record in records:
        if not record["request"].isdecimal():
            continue
        number, kind, name = int(record["request"]), record["kind"], record["name"]
        stage = column.get((record["process"], kind, name))
        if kind == "event" and name == "arrival":
            arrivals[number] = record["time"]
        elif kind == "event" and name == "failed" and record["process"] == "device":
            failures[number] = record["reason"]
        elif stage is not None:
            ends[number, stage] = record["time"] + record.get("duration", 0.0)
            service[number, stage] = record.get("duration", np.nan)
    begin = np.nanmin(arrivals)
    chunks = [r for r in records if r["kind"] == "chunk" and r["direction"] == "down" and r["time"] >= begin]
    bits = 8 * sum(r["bytes"] for r in chunks) / requests if chunks else np.nan
    return LoadTest(
        paradigm,
        STAGES[paradigm],
        rate,
        arrivals - begin,
        ends - arrivals[:, None],
        service,
        bits,
        failures,
        slowdown,
        provenance,
    )
