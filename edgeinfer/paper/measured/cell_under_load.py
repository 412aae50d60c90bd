"""Users at one edge that serves batches, each over a shaped link of its own, measured on the wall clock."""

import os
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgeinfer import _validate
from edgeinfer._extras import need
from edgeinfer.bridge.cutting.cuts import divide
from edgeinfer.bridge.cutting.sessions import CutSessions
from edgeinfer.bridge.exit.queue import poisson
from edgeinfer.bridge.run.cut import message_bits
from edgeinfer.bridge.run.start import NETWORK, link_settings, start
from edgeinfer.bridge.run.testbed import UserProcess
from edgeinfer.bridge.run.user import Load
from edgeinfer.bridge.wire import address
from edgeinfer.bridge.wire.processes import Process
from edgeinfer.bridge.wire.trace import read_trace
from edgeinfer.bridge.work import network
from edgeinfer.model import FadingLink, RayleighLink
from edgeinfer.paper.measured import runs, store

Floats = NDArray[np.float64]
#: Requests that the edge takes at once, and the sizes of batches that are timed. Six rows are one tile of the kernels
#: that multiply matrices in vectors of 256 bits, so that a batch's time is a straight line up to there.
LIMIT, SIZES = 6, (1, 2, 3, 4, 6)
#: Loads, as shares of what full batches carry; how long requests come at each, s, in how many blocks, and for how long
#: all of those together come that time the batches before them.
LOADS, SECONDS, BLOCKS, TIMED = (0.4, 0.7), 120.0, 3, 36.0
#: Of each user, up and down.
LINK = RayleighLink.from_snr(10.0, 1e6, 0.01)
#: 1 Mbit passes in some 3 us.
_FAST = RayleighLink.from_snr(10.0, 1e11, 0.01)
#: Units of a layer, matrices that the layers take in turn, and layers.
WIDTH, MATRICES, LAYERS = 1024, 4, 320
_START, _DEADLINE, _LAST = 600.0, 60.0, 120.0
# Attempts to see batches of each size.
_ROUNDS = 5
_PINNED = f"{__name__}:Pinned"


class Pinned(network.Work):
    """A network on an edge whose batches run on a core that nothing else of the measurement uses.

    Parameters
    ----------
    core : int or None
        None leaves it to the system.
    **settings
        Of `network.Work`.
    """

    def __init__(self, *, core: int | None, **settings: Any) -> None:
        super().__init__(**settings)
        self._core = core

    def edge(self, **options: Any) -> network.CutEdge:
        """An edge; options as for `CutEdge`."""
        edge = super().edge(**options)
        for thread in threading.enumerate():
            if self._core is not None and thread.name == "jobs" and thread.native_id is not None:
                os.sched_setaffinity(thread.native_id, {self._core})
        return edge


def write_network(path: Path, width: int = WIDTH, matrices: int = MATRICES, layers: int = LAYERS) -> Path:
    """Write a network of layers tanh(x W) whose rows are independent, as ONNX.

    Its weights have to be read for every batch, whatever its size, and multiplied with every row: a batch takes a fixed
    time and one for each request.

    Parameters
    ----------
    path : path
    width : int
        Units of a layer.
    matrices, layers : int
        Layers take the matrices in turn.
    """
    onnx = need("onnx", "bridge")
    make, rng = onnx.helper, np.random.default_rng(0)
    nodes, name = [], "x"
    for layer in range(layers):
        end = "y" if layer == layers - 1 else f"h{layer}"
        nodes.append(make.make_node("MatMul", [name, f"w{layer % matrices}"], [f"m{layer}"]))
        nodes.append(make.make_node("Tanh", [f"m{layer}"], [end]))
        name = end
    values = rng.standard_normal((matrices, width, width)).astype(np.float32) / np.sqrt(np.float32(width))
    weights = [onnx.numpy_helper.from_array(value, f"w{k}") for k, value in enumerate(values)]
    ends = [make.make_tensor_value_info(end, onnx.TensorProto.FLOAT, ["rows", width]) for end in "xy"]
    graph = make.make_graph(nodes, "layers", ends[:1], ends[1:], weights)
    opset = [make.make_opsetid("", 13)]
    path.write_bytes(make.make_model(graph, ir_version=8, opset_imports=opset).SerializeToString())
    return path


class _Bed:
    """An edge's process, and users that ask it, directly or each over a link's process."""

    def __init__(self, model: Path, width: int) -> None:
        self._folder = model.parent
        self._settings = {"model": str(model), "threads": 1, "shapes": {"x": [1, width]}, "level": "all"}
        graph = CutSessions(model, {"x": (1, width)}).graph
        self._places = [1] * len(graph.operations)
        self.bits = message_bits(graph, divide(graph, self._places))
        self.cores = sorted(os.sched_getaffinity(0))

    @contextmanager
    def edge(self) -> Iterator[str]:
        """An edge on its core; what is started within runs on the others."""
        core = self.cores[-1] if len(self.cores) > 1 else None
        self._trace = self._folder / "edge.jsonl"
        self._trace.unlink(missing_ok=True)
        settings = self._settings | {"core": core}
        options = {"capacity": 4096, "batch": LIMIT, "limit": 2 * _DEADLINE}
        try:
            if core is not None:
                os.sched_setaffinity(0, set(self.cores) - {core})
            with start("edge", work=_PINNED, settings=settings, options=options, trace=str(self._trace)) as process:
                yield address.join("127.0.0.1", process.port(_START))
        finally:
            os.sched_setaffinity(0, self.cores)

    @contextmanager
    def user(self, to: str, seed: int) -> Iterator[UserProcess]:
        """A user's process, that is ready."""
        asked = {"places": self._places, "deadline": _DEADLINE, "seed": seed}
        load = asdict(Load(0, []))
        settings = {"work": NETWORK, "settings": self._settings, "asked": asked, "edge": to, "load": load}
        with start("device", **settings, trace=None) as process:
            yield UserProcess(process, _START)

    def link(self, to: str, law: FadingLink, seed: int) -> Process:
        """A link's process, that says where it listens."""
        settings = link_settings(law)
        return start("link", to=to, downlink=settings, uplink=settings, slots="fresh", seed=seed, trace=None)

    def batches(self, begin: float) -> tuple[Floats, dict[str, float]]:
        """Begin, size and time, s, of the edge's batches since `begin`, a row each, and of each request its batch's
        time.
        """
        records = [r for r in read_trace(self._trace) if r["kind"] == "stage" and r.get("batch") and r["time"] >= begin]
        times = {record["request"]: record["duration"] for record in records}
        records.sort(key=lambda record: record["time"])
        kept, at = [], 0
        while at < len(records):
            # Those of a batch follow each other.
            kept.append([records[at][name] for name in ("time", "batch", "duration")])
            at += records[at]["batch"]
        return np.array(kept, float).reshape(-1, 3), times


def _bursts(bed: _Bed, user: UserProcess, repetitions: int, one: float) -> list[Floats]:
    """Times of batches of each of `SIZES` that waited for another, which takes `one`."""
    # While one is computed, the others come; all are done before the next.
    starts = np.arange(repetitions * len(SIZES)) * (4 * one + 0.2)
    others = [np.repeat(start + one / 3, size) for start, size in zip(starts, SIZES * repetitions, strict=True)]
    arrivals = np.sort(np.concatenate([starts, *others]))
    begin = time.monotonic()
    user.ask(Load(len(arrivals), arrivals.tolist()), _LAST + arrivals[-1])
    begins, sizes, lasting = bed.batches(begin)[0].T
    waited = np.append(False, begins[1:] - (begins + lasting)[:-1] < one / 2)
    # The first that come together are computed one by one, too, to see that they do not hang together.
    waited[np.flatnonzero(waited & (sizes > 1))[:1]] = False
    return [lasting[waited & (sizes == size)] for size in SIZES]


def _batching(bed: _Bed, repetitions: int) -> dict[str, Any]:
    """Times of batches of each of `SIZES`, by requests that come together behind another one, and the overhead."""
    with (
        bed.edge() as at,
        bed.link(at, _FAST, 0) as way,
        bed.user(address.join("127.0.0.1", way.port(_START)), 0) as user,
    ):
        begin = time.monotonic()
        rows = user.ask(Load(2 * repetitions, [], 0.05), _LAST + repetitions)
        _, alone = bed.batches(begin)
        spent = [row["done"] - row["arrival"] - alone[str(number)] for number, row in enumerate(rows)]
        one = float(np.median(list(alone.values())))
        times = np.full((len(SIZES), repetitions), np.nan)
        for _ in range(_ROUNDS):
            for place, kept in enumerate(_bursts(bed, user, repetitions, one)):
                free = np.flatnonzero(np.isnan(times[place]))[: len(kept)]
                times[place, free] = kept[: len(free)]
            if not np.isnan(times).all(axis=1).any():
                break
        else:
            raise OSError("batches: requests did not come together in batches of each size; let nothing else run here")
    return {"batch_time": times, "overhead": np.array(spent)}


def fit(sizes: Any, lasting: Any) -> tuple[float, float]:
    """The fixed time of a batch and that of each request, s, by least squares, which keeps the mean.

    Parameters
    ----------
    sizes, lasting : array_like, s
        Of batches of at least two sizes; NaN where there is none.
    """
    size, time = np.broadcast_arrays(np.asarray(sizes, float), np.asarray(lasting, float))
    kept = np.isfinite(time) & np.isfinite(size)
    each, fixed = np.polyfit(size[kept], time[kept], 1)
    return float(fixed), float(each)


def _loaded(
    bed: _Bed, rate: float, users: int, seconds: tuple[float, float], blocks: int, link: FadingLink, seed: int
) -> Iterator[dict[str, Any]]:
    """Blocks that time batches and those of the run in turn, of `seconds` each, at a total rate: requests of all users,
    arrival from the block's begin on and sojourn time, s, and whose; and batches.
    """
    with ExitStack() as stack:
        at = stack.enter_context(bed.edge())
        ways = [stack.enter_context(bed.link(at, link, seed + n)) for n in range(users)]
        tos = [address.join("127.0.0.1", way.port(_START)) for way in ways]
        asking = [stack.enter_context(bed.user(to, seed)) for to in tos]
        for part in range(2 * blocks):
            length = seconds[part % 2]
            loads = []
            for number in range(users):
                sequence = np.random.SeedSequence(seed, spawn_key=(number, part))
                times = poisson(rate / users, int(2 * rate * length / users) + 50, sequence)
                loads.append(Load(int((times < length).sum()), times[times < length].tolist(), first=10_000 * part))
            begin = time.monotonic()
            for user, load in zip(asking, loads, strict=True):
                user.begin(load)
            last = length + _DEADLINE + _LAST
            rows = [user.rows(last) if load.requests else [] for user, load in zip(asking, loads, strict=True)]
            yield _block(rows, bed.batches(begin)[0])


def _block(rows: list[list[dict[str, Any]]], batches: Floats) -> dict[str, Any]:
    """Columns of a block's requests and of its batches."""
    flat = sorted((row["arrival"], row["done"], user) for user, mine in enumerate(rows) for row in mine)
    arrival = np.array([row[0] for row in flat])
    done = np.array([np.nan if row[1] is None else row[1] for row in flat], float)
    _, size, lasting = batches.T
    user = np.array([row[2] for row in flat])
    columns = {"arrival": arrival - arrival[0], "sojourn": done - arrival, "user": user}
    return columns | {"size": size, "lasting": lasting}


def measure(
    out: str | Path = store.FOLDER,
    *,
    users: int = 8,
    loads: Sequence[float] = LOADS,
    seconds: float = SECONDS,
    timed: float = TIMED,
    blocks: int = BLOCKS,
    repetitions: int = 8,
    layers: int = LAYERS,
    width: int = WIDTH,
    link: FadingLink = LINK,
    seed: int = 14,
    stored: str | Path | None = None,
    progress: bool = True,
) -> Path:
    """Measure an edge's batching, then users who ask it at each load, and write `cell_under_load.nc`.

    Edge, links and users are processes of this machine. The edge's batches run on the last core that there is, all else
    on the others. First a batch of each of `SIZES` is timed by requests that come together while another is computed,
    which tells what full batches carry; and what a request takes besides, by requests one after the other over a link
    of next to no delay. Then, at each load, blocks of requests that only time the batches, as they are met there, and
    blocks of the run alternate in the same processes, so that what the machine does meanwhile falls on both alike. With
    the defaults it takes seven minutes.

    Parameters
    ----------
    out : path
        Folder of the file, which is replaced as a whole.
    users : int
        >= 1; each asks at the same rate, and has a link of its own.
    loads : sequence of float
        In (0, 1): the rate over that of full batches.
    seconds, timed : float, s
        How long requests come at each load in all blocks of the run, and in those that time the batches; > 0.
    blocks : int
        >= 1.
    repetitions : int
        Of each batch size, and half of the requests one after the other; >= 2.
    layers, width : int
        As for `write_network`.
    link : FadingLink
        Of each user, up and down.
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
        If a process does not start, or dies.
    """
    users, repetitions = _validate.whole("users", users, 1), _validate.whole("repetitions", repetitions, 2)
    shares = np.atleast_1d(_validate.real("loads", loads, 0, 1, low_open=True, high_open=True))
    seconds = _validate.scalar("seconds", seconds, 0, low_open=True, unit="s")
    timed = _validate.scalar("timed", timed, 0, low_open=True, unit="s")
    blocks = _validate.whole("blocks", blocks, 1)
    about: dict[str, Any] = {"users": users, "seconds": seconds, "timed": timed, "blocks": blocks}
    about |= {"repetitions": repetitions, "layers": layers, "width": width, "seed": seed, "limit": LIMIT}
    about |= {"snr": float(link.snr), "bandwidth": float(link.bandwidth), "slot": float(link.slot)}
    belongs, total = about | {"loads": shares.tolist()}, 1 + 2 * blocks * shares.size
    lengths = timed / blocks, seconds / blocks
    with (
        runs.runs("cell_under_load", out, belongs, total, stored=stored, progress=progress) as made,
        tempfile.TemporaryDirectory() as folder,
    ):
        bed = _Bed(write_network(Path(folder) / "network.onnx", width, layers=layers), width)
        batching = made.one({"run": "batching"}, lambda: _batching(bed, repetitions))
        fixed, each = fit(np.array(SIZES)[:, None], batching["batch_time"])
        found = []
        for number, share in enumerate(shares.tolist()):
            rate = share * LIMIT / (fixed + LIMIT * each)

            def make(number: int = number, rate: float = rate) -> Iterator[dict[str, Any]]:
                return _loaded(bed, rate, users, lengths, blocks, link, 1000 * seed + 100 * number)

            parts = made.together([{"run": number, "part": part} for part in range(2 * blocks)], make)
            found.append(_joined(parts, lengths[1]) | {"rate": rate})
        about |= {"uplink_bits": bed.bits[0], "downlink_bits": bed.bits[1], "cores": len(bed.cores)}
        coordinates = {"size": list(SIZES), "load": ("load", shares, {"units": "1"})}
        return runs.write("cell_under_load", out, _variables(batching, found), coordinates, about)


def _joined(parts: Sequence[dict[str, Any]], length: float) -> dict[str, Any]:
    """Columns of the run's blocks one behind the other, and of the batches that were timed before each."""
    before, run = parts[::2], parts[1::2]
    arrival = np.concatenate([block["arrival"] + number * length for number, block in enumerate(run)])
    columns = {name: np.concatenate([block[name] for block in run]) for name in run[0] if name != "arrival"}
    timed = {f"timed_{name}": np.concatenate([block[name] for block in before]) for name in ("size", "lasting")}
    return {"arrival": arrival} | columns | timed


def _variables(batching: dict[str, Any], found: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """The batching's times, and those of the loads with NaN behind the end of each."""
    timed = {"units": "s", "provenance": "measured"}
    answer: dict[str, Any] = {
        "batch_time": (("size", "repetition"), batching["batch_time"], timed),
        "overhead": (("single",), batching["overhead"], timed),
        "rate": ("load", [float(run["rate"]) for run in found], {"units": "1/s", "provenance": "given"}),
    }
    columns = {"arrival": "request", "sojourn": "request", "user": "request", "size": "batch", "lasting": "batch"}
    columns |= {"timed_size": "timed_batch", "timed_lasting": "timed_batch"}
    names = {"size": "batch_size", "lasting": "batch_lasting"}
    for name, axis in columns.items():
        rows = [np.asarray(run[name], float) for run in found]
        padded = np.full((len(rows), max(map(len, rows))), np.nan)
        for row, values in zip(padded, rows, strict=True):
            row[: len(values)] = values
        unit = {"units": "1" if name in ("user", "size", "timed_size") else "s", "provenance": "measured"}
        answer[names.get(name, name)] = (("load", axis), padded, unit)
    return answer
