"""Layers divided between workers, timed."""

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgeinfer import _validate, bridge
from edgeinfer._extras import need
from edgeinfer.model import Node
from edgeinfer.network.machine import machine
from edgeinfer.network.sessions import open_session, run_session, session_options
from edgeinfer.paper.measured import store

#: Networks with random weights; of each the run of layers with the most FLOP, and its heaviest convolution alone.
NETWORKS = ("inception_v1", "resnet50")


WORKERS = 2


def measure(
    out: str | Path = store.FOLDER,
    *,
    networks: Sequence[str] = NETWORKS,
    rounds: int = 12,
    runs: int = 5,
    seed: int = 5,
    progress: bool = True,
) -> Path:
    """Time one and two workers in turn and write `tiles.nc`; less than a minute on two free cores.

    Predicted from the worker's FLOP/s on the undivided layers, timed in this process, and from the rate at which a
    worker answers with what it was sent. All numbers of a round follow each other at once, each the median of `runs`.

    Parameters
    ----------
    out : path
        Folder of the file, which is replaced as a whole.
    networks : sequence of str
        Of `bridge.LIGHT_NETWORKS`.
    rounds, runs : int
        Rounds, >= 2, and runs of each in a round, >= 1.
    seed : int
        Of the input.
    progress : bool
        A bar, on a terminal only.

    Returns
    -------
    Path
    """
    xarray = need("xarray", "paper")
    tqdm = need("tqdm", "paper").tqdm
    rounds, runs = _validate.whole("rounds", rounds, 2), _validate.whole("runs", runs, 1)
    rows: list[dict[str, Any]] = []
    for network in tqdm(networks, disable=None if progress else True, desc="tiles"):
        model = bridge.light_model(network)
        graph = bridge.read_graph(model)
        longest = max(bridge.tileable_runs(graph), key=lambda run: sum(graph.operations[i].flops or 0 for i in run))
        heaviest = max(longest, key=lambda i: graph.operations[i].flops or 0)
        shapes = [graph.tensors[graph.operations[i].outputs[0]].shape for i in longest]
        labels = f"{len(longest)} layers", "x".join(map(str, shapes[longest.index(heaviest)][1:])) + " convolution"
        layers = {f"{network}, {label}": run for label, run in zip(labels, (longest, (heaviest,)), strict=True)}
        for name, run in layers.items():
            rows += _time(name, model, run, rounds, runs, seed)
    measured, derived = {"provenance": "measured"}, {"provenance": "derived"}
    predicted = {"provenance": "derived from measured rates"}
    kinds: dict[str, tuple[tuple[str, ...], dict[str, str]]] = {
        "time": (("division", "round"), {"units": "s"} | measured),
        "whole_time": (("division", "round"), {"units": "s"} | measured),
        "predicted_time": (("division",), {"units": "s"} | predicted),
        "predicted_whole_time": (("division",), {"units": "s"} | predicted),
        "worker_flops": (("division",), {"units": "FLOP/s"} | measured),
        "rate": (("division",), {"units": "bit/s"} | measured),
        "difference": (
            ("division",),
            {"units": "1", "long_name": "largest of the outputs, over the largest"} | measured,
        ),
        "flops": (("division",), {"units": "FLOP"} | derived),
        "redundant_flops": (("division",), {"units": "FLOP"} | derived),
        "moved_bits": (("division",), {"units": "bit"} | derived),
    }
    table = xarray.Dataset(
        {name: (dims, np.array([row[name] for row in rows]), about) for name, (dims, about) in kinds.items()},
        coords={
            "division": [f"{row['layers']}: {row['tiling']}" for row in rows],
            "layers": ("division", [row["layers"] for row in rows]),
            "tiling": ("division", [row["tiling"] for row in rows]),
        },
        attrs={"workers": WORKERS, "threads_of_each": 1, "runs": runs, "seed": seed, **machine()},
    )
    return store.write(table, Path(out) / "tiles.nc")


def _time(name: str, model: Any, run: Sequence[int], rounds: int, runs: int, seed: int) -> list[dict[str, Any]]:
    """A row for each division of one run of layers."""
    whole = bridge.spatial_tiles(model, run, 1)
    divisions = [bridge.spatial_tiles(model, run, WORKERS)]
    if len(run) == 1:
        divisions.append(bridge.channel_tiles(model, run[0], WORKERS))
    sizes = tuple(stop - start for start, stop in whole.tiles[0].source)
    x = np.random.default_rng(seed).standard_normal(sizes).astype(np.float32)
    echo = bridge.spatial_tiles(_pass_through(sizes), [0], 1)
    with ExitStack() as stack:
        workers = [stack.enter_context(bridge.TileWorkers(tiling)) for tiling in (whole, *divisions, echo)]
        calls = [lambda w=w: w.run(x) for w in workers] + [_alone(whole, x), _alone(echo, x)]
        results = [call() for call in calls[:-3]]
        calls[-3](), calls[-2](), calls[-1]()
        times = np.array([[_median(call, runs) for call in calls] for _ in range(rounds)])
    answered, computed, passed = np.median(times[:, -3:], axis=0)
    rate = echo.moved_bits / max(answered - passed, 1e-9)
    node = Node("worker", whole.flops / computed)
    largest = np.abs(results[0]).max()
    return [
        {
            "layers": name,
            "tiling": tiling.name,
            "time": times[:, 1 + number],
            "whole_time": times[:, 0],
            "predicted_time": tiling.time(node, rate),
            "predicted_whole_time": whole.time(node, rate),
            "worker_flops": node.flops,
            "rate": rate,
            "difference": np.abs(results[1 + number] - results[0]).max() / largest,
            "flops": whole.flops,
            "redundant_flops": tiling.redundant_flops,
            "moved_bits": tiling.moved_bits,
        }
        for number, tiling in enumerate(divisions)
    ]


def _pass_through(sizes: tuple[int, ...]) -> Any:
    """A network that gives what it is given."""
    onnx = need("onnx", "bridge")
    ports = [onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, sizes) for name in ("x", "y")]
    node = onnx.helper.make_node("MaxPool", ["x"], ["y"], kernel_shape=[1, 1])
    graph = onnx.helper.make_graph([node], "same", ports[:1], ports[1:])
    return onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 17)], ir_version=8)


def _alone(tiling: Any, x: NDArray[np.float32]) -> Callable[[], Any]:
    """The undivided layers in this process, on one thread as in a worker."""
    model = tiling.tiles[0].model
    session = open_session(model.SerializeToString(), tiling.name, session_options())
    return lambda: run_session(session, {model.graph.input[0].name: x}, tiling.name)[0]


def _median(call: Callable[[], Any], runs: int) -> float:
    times = []
    for _ in range(runs):
        start = perf_counter()
        call()
        times.append(perf_counter() - start)
    return float(np.median(times))
