"""Times of a network's operations measured on this machine, and what they are on another."""

import json
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from time import perf_counter
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgeinfer import _validate
from edgeinfer._extras import need
from edgeinfer._files import replacing
from edgeinfer.model import Node
from edgeinfer.network.bodies import within
from edgeinfer.network.feeds import feeds_that_run
from edgeinfer.network.files import stored_data
from edgeinfer.network.graphs import Graph, Operation, Tensor, read_graph
from edgeinfer.network.loading import load_model, save_model
from edgeinfer.network.machine import machine
from edgeinfer.network.sessions import LEVELS, Progress, open_session, run_session, session_options

FORMAT = 1
# Layouts of convolutions, which only "all" changes, leave no tensor of the file by its name.
_TRACED = MappingProxyType({"all": "extended"})
# Rows of the matrices whose product says how fast the machine is.
_PRODUCT = 256
_PEAK = """
import sys, numpy, onnxruntime
def high():
    with open("/proc/self/status") as file:
        return next(int(line.split()[1]) * 1024 for line in file if line.startswith("VmHWM"))
options = onnxruntime.SessionOptions()
options.graph_optimization_level = getattr(onnxruntime.GraphOptimizationLevel, sys.argv[3])
options.inter_op_num_threads, options.intra_op_num_threads = 1, int(sys.argv[4])
feeds, before = dict(numpy.load(sys.argv[2])), high()
session = onnxruntime.InferenceSession(sys.argv[1], options, providers=["CPUExecutionProvider"])
session.run(None, feeds)
print(high() - before)
"""


@dataclass(frozen=True, eq=False)
class NetworkProfile(_validate.Frozen):
    """Measured times of a network's operations, batch and sizes as in its graph.

    The whole network is timed at the optimisation level at which its parts will run. ONNX Runtime fuses operations, so
    the shares of the operations come from its own trace, at the same level, or at "extended" where that is "all". What
    a fused kernel took goes to the operations that it stands for, by their FLOP (equally where there are none). The
    shares are then scaled to the time of the whole: a cut through a fused kernel undoes the fusion, which they do not
    know.

    Parameters
    ----------
    graph : Graph
    times : (n,) array_like, s
        Mean time of each operation; their sum is the mean of `totals`.
    low, high : (n,) array_like, s
        95 % confidence interval of each mean (Student's t, repetitions taken as independent).
    totals : (r,) array_like, s
        Time of the whole network in each repetition, without the trace. > 0.
    memory : mapping of str to int or None, byte
        "weights" and "activations" derived from the graph (`Graph.activation_peak`); "measured": growth of the peak
        resident memory of a process that loads the network and runs it once, None where the system does not say.
    provenance : mapping
        Machine, versions, date, settings; "product_flops_rate" where the network's FLOP are unknown or none, FLOP/s.
    """

    graph: Graph
    times: Any
    low: Any
    high: Any
    totals: Any
    memory: Mapping[str, int | None]
    provenance: Mapping[str, Any]

    def __post_init__(self) -> None:
        count = len(self.graph.operations)
        for name in ("times", "low", "high"):
            value = np.atleast_1d(_validate.real(name, getattr(self, name), 0, unit="s"))
            if value.shape != (count,):
                raise ValueError(f"{name} of shape {value.shape}: must be ({count},), one for each operation")
            object.__setattr__(self, name, value)
        totals = np.atleast_1d(_validate.positive("totals", self.totals, "s"))
        if totals.ndim != 1 or not totals.size:
            raise ValueError(f"totals of shape {totals.shape}: must be one-dimensional and not empty")
        object.__setattr__(self, "totals", totals)
        for name in ("memory", "provenance"):
            object.__setattr__(self, name, MappingProxyType(dict(getattr(self, name))))
        super().__post_init__()

    @property
    def flops_rate(self) -> float:
        """Effective rate of this machine, FLOP/s: on this network, its FLOP over its mean time.

        Where the network's FLOP are unknown or none, the machine's on a product of two matrices, so that times scale by
        the ratio of two nodes' FLOP/s all the same.
        """
        if self.graph.flops:
            return float(self.graph.flops / self.totals.mean())
        rate = self.provenance.get("product_flops_rate", 0.0)
        return _validate.scalar("provenance['product_flops_rate']", rate, 0, low_open=True)

    def node(self, name: str, slowdown: float = 1.0) -> Node:
        """This machine, or one `slowdown` times slower, as a node."""
        return Node(name, self.flops_rate / _validate.scalar("slowdown", slowdown, 0, low_open=True))

    def times_on(self, node: Node) -> NDArray[np.float64]:
        """Time of each operation on another node: all scaled by the ratio of the two nodes' FLOP/s, (n,), s."""
        return np.asarray(self.times * (self.flops_rate / node.flops))

    def samples_on(self, node: Node, share: float) -> NDArray[np.float64]:
        """Times of a part of the network on a node, (r,), s: that share of each repetition's whole."""
        return np.asarray(self.totals * (share * self.flops_rate / node.flops))

    def with_state(self, state: Mapping[str, str]) -> "NetworkProfile":
        """The same times with state, as `Graph.with_state`."""
        return replace(self, graph=self.graph.with_state(state))

    def with_wire(self, wire: str | Mapping[str, str]) -> "NetworkProfile":
        """The same times with tensors that cross in fewer bits, as `Graph.with_wire`."""
        return replace(self, graph=self.graph.with_wire(wire))

    def save(self, path: str | Path) -> None:
        """Write the profile as JSON, atomically; `load` gives it back to the last bit."""
        graph = {name: getattr(self.graph, name) for name in ("name", "digest", "inputs", "outputs")}
        graph["operations"] = [asdict(operation) for operation in self.graph.operations]
        graph["tensors"] = [asdict(tensor) for tensor in self.graph.tensors.values()]
        for name in ("state", "wire"):
            if pairs := getattr(self.graph, name):
                graph[name] = dict(pairs)
        if self.graph.free:
            graph["free"] = {name: list(axes) for name, axes in self.graph.free.items()}
        data: dict[str, Any] = {"format": FORMAT, "graph": graph}
        data |= {name: getattr(self, name).tolist() for name in ("times", "low", "high", "totals")}
        data |= {"memory": dict(self.memory), "provenance": dict(self.provenance)}
        with replacing(path) as temporary:
            temporary.write_text(json.dumps(data, indent=1), encoding="utf-8")

    @classmethod
    def load(cls, path: str | Path) -> "NetworkProfile":
        """Read what `save` wrote.

        Raises
        ------
        ValueError
            Naming the file and what is wrong with it.
        """
        with stored_data(path, FORMAT, "a network's profile") as data:
            stored = data.pop("graph")
            tensors = [Tensor(**tensor | {"shape": tuple(tensor["shape"])}) for tensor in stored["tensors"]]
            operations = [
                Operation(**o | {"inputs": tuple(o["inputs"]), "outputs": tuple(o["outputs"])})
                for o in stored["operations"]
            ]
            graph = Graph(
                stored["name"],
                stored["digest"],
                tuple(operations),
                MappingProxyType({tensor.name: tensor for tensor in tensors}),
                tuple(stored["inputs"]),
                tuple(stored["outputs"]),
                free=MappingProxyType({name: tuple(axes) for name, axes in stored.get("free", {}).items()}),
            )
            known = {*graph.inputs}
            for operation in graph.operations:
                if not known.issuperset(operation.inputs):
                    raise ValueError(f"operation {operation.name!r}: reads what no operation before it gives")
                known.update(operation.outputs)
            # An output may depend on no input.
            if known | {*graph.outputs} != set(graph.tensors):
                raise ValueError("tensors: must be those of the operations and the inputs")
            graph = graph.with_state(stored.get("state", {})).with_wire(stored.get("wire", {}))
            return cls(graph, **{name: data[name] for name in cls.__dataclass_fields__ if name != "graph"})


def profile_network(
    model: Any,
    shapes: Mapping[str, tuple[int, ...] | int] | None = None,
    *,
    feeds: Mapping[str, Any] | None = None,
    repetitions: int = 30,
    warmup: int = 3,
    level: str = "all",
    threads: int = 1,
    seed: int = 0,
    progress: Progress | None = None,
) -> NetworkProfile:
    """Measure a network's operations on this machine, as `profile` describes."""
    repetitions = _validate.whole("repetitions", repetitions, 2)
    warmup = _validate.whole("warmup", warmup, 0)
    threads = _validate.threads(threads)
    _validate.choice("level", level, tuple(LEVELS))
    graph = read_graph(model, shapes, feeds)
    loaded, label = load_model(model)
    settings = {"warmup": warmup, "threads": threads, "level": level, "traced_level": _TRACED.get(level, level)}
    samples, whole, measured = _measured(loaded, graph, label, repetitions, settings, seed, progress)
    if not samples.sum() > 0:
        # Below the resolution of ONNX Runtime's trace.
        samples[:] = 1.0
    samples *= whole.mean() / samples.sum(axis=1).mean()
    times = samples.mean(axis=0)
    quantile = float(need("scipy.special", "bridge").stdtrit(repetitions - 1, 0.975))
    margin = quantile * samples.std(axis=0, ddof=1) / np.sqrt(repetitions)
    provenance = machine() | {"repetitions": repetitions, **settings, "seed": seed}
    if not graph.flops:
        provenance["product_flops_rate"] = _product_rate(threads)
    return NetworkProfile(
        graph,
        times,
        np.maximum(times - margin, 0),
        times + margin,
        whole,
        {"weights": graph.weight_bytes, "activations": graph.activation_peak(), "measured": measured},
        provenance,
    )


def _measured(
    loaded: Any, graph: Graph, label: str, repetitions: int, settings: Any, seed: int, progress: Progress | None
) -> tuple[NDArray[np.float64], NDArray[np.float64], int | None]:
    """Times of the operations as traced, (r, n), and of the whole network, (r,), s; its memory, bytes."""
    onnx = need("onnx", "bridge")
    named = onnx.ModelProto()
    named.CopyFrom(loaded)
    for inner in within(named.graph.node, named.functions):
        inner.name = ""
    for index, node in enumerate(named.graph.node):
        node.name = f"operation{index}"
    level, threads, runs = settings["level"], settings["threads"], settings["warmup"] + repetitions
    with tempfile.TemporaryDirectory() as folder:
        file, optimised = Path(folder, "model.onnx"), Path(folder, "optimised.onnx")
        save_model(named, file)
        options = session_options(settings["traced_level"], threads)
        options.enable_profiling = True
        options.profile_file_prefix = str(Path(folder, "trace"))
        options.optimized_model_filepath = str(optimised)
        # What it optimises may be too large for one file, too.
        options.add_session_config_entry("session.optimized_model_external_initializers_file_name", "optimised.data")
        trace = open_session(str(file), label, options)
        plain = open_session(str(file), label, session_options(level, threads))
        inputs = {name: graph.tensors[name] for name in graph.inputs}
        feeds, _ = feeds_that_run(lambda feeds: run_session(plain, feeds, label), inputs, graph.feeds, seed)
        totals = []
        for number in range(runs):
            run_session(trace, feeds, label)
            start = perf_counter()
            run_session(plain, feeds, label)
            totals.append(perf_counter() - start)
            if progress is not None:
                progress(number + 1, runs)
        events = json.loads(Path(trace.end_profiling()).read_text(encoding="utf-8"))
        owners = _owners(graph, onnx.load_model(optimised, load_external_data=False).graph)
        measured = _measured_peak(file, feeds, LEVELS[level], threads)
    warmup = settings["warmup"]
    return _times(graph, events, owners, runs)[warmup:], np.array(totals[warmup:]), measured


def _product_rate(threads: int) -> float:
    """This machine's rate on a product of two matrices, FLOP/s."""
    onnx = need("onnx", "bridge")
    ports = [onnx.helper.make_tensor_value_info(name, 1, [_PRODUCT, _PRODUCT]) for name in "abc"]
    product = onnx.helper.make_graph(
        [onnx.helper.make_node("MatMul", ["a", "b"], ["c"])], "product", ports[:2], ports[2:]
    )
    opsets = [onnx.helper.make_opsetid("", 13)]
    model = onnx.helper.make_model(product, opset_imports=opsets, ir_version=8)
    session = open_session(model, "product", session_options("all", threads))
    matrix = np.ones((_PRODUCT, _PRODUCT), np.float32)
    took = []
    for _ in range(10):
        start = perf_counter()
        run_session(session, {"a": matrix, "b": matrix}, "product")
        took.append(perf_counter() - start)
    return float(2 * _PRODUCT**3 / np.median(took))


def _owners(graph: Graph, optimised: Any) -> dict[str, list[int]]:
    """For each kernel's name the operations that it stands for.

    A kernel that gives no tensor of the file, such as one within a local function or a change of layout, stands for
    those of the first kernels behind it that do.
    """
    present = {name for node in optimised.node for name in node.output if name}
    readers: dict[str, list[Any]] = {}
    for node in optimised.node:
        for name in node.input:
            readers.setdefault(name, []).append(node)
    owners: dict[str, list[int]] = {}
    # Backwards, so that those behind are known.
    for node in reversed(optimised.node):
        group: set[int] = set()
        stack = [name for name in node.output if name in graph.producer]
        while stack:
            position = graph.producer[stack.pop()]
            if position in group:
                continue
            group.add(position)
            stack += [n for n in graph.operations[position].inputs if n not in present and n in graph.producer]
        if not group:
            group.update(
                i for name in node.output for reader in readers.get(name, ()) for i in owners.get(reader.name, ())
            )
        owners[node.name] = sorted(group)
    return owners


def _times(graph: Graph, events: Any, owners: dict[str, list[int]], runs: int) -> NDArray[np.float64]:
    """Time of each operation in each run, (runs, n), s."""
    work = np.array([np.nan if operation.flops is None else operation.flops for operation in graph.operations])
    shares = {}
    for name, group in owners.items():
        # Equal ones where the work of one is not known.
        weight = work[group] if work[group].sum() > 0 else np.ones(len(group))
        shares[name] = weight / weight.sum() if group else weight
    seen: dict[str, int] = {}
    times = np.zeros((runs, len(graph.operations)))
    for event in events:
        name = event.get("name", "").removesuffix("_kernel_time")
        if event.get("cat") != "Node" or name == event["name"] or not name or name not in owners:
            continue
        run = seen.get(name, 0)
        seen[name] = run + 1
        if run < runs:
            times[run, owners[name]] += shares[name] * event["dur"] * 1e-6
    return times


def _measured_peak(file: Path, feeds: dict[str, Any], level: str, threads: int) -> int | None:
    if not all(isinstance(value, np.ndarray) and value.dtype.kind in "fiub" for value in feeds.values()):
        return None
    arrays = file.with_name("feeds.npz")
    # Names of inputs may hold what a file's name may not.
    with arrays.open("wb") as stream:
        np.savez(stream, **feeds)
    command = [sys.executable, "-c", _PEAK, str(file), str(arrays), level, str(threads)]
    child = subprocess.run(command, capture_output=True, text=True, check=False)
    return int(child.stdout) if child.returncode == 0 and child.stdout.strip().isdigit() else None
