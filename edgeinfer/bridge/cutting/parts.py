"""A network written as the parts of a cut, and the parts run as the whole."""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgeinfer import _validate
from edgeinfer._files import replacing
from edgeinfer.bridge.cutting.cuts import Cut
from edgeinfer.network.crossing import WIRES, crossed
from edgeinfer.network.files import read_json
from edgeinfer.network.graphs import Graph, Tensor, digest, extract
from edgeinfer.network.loading import load_model, save_model
from edgeinfer.network.sessions import LEVELS, open_session, run_session, session_options
from edgeinfer.network.sizes import fixed_inputs

FORMAT = 1
MANIFEST = "parts.json"
_FILE = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_-]*\.onnx")


def write_parts(model: Any, cut: Cut, folder: str | Path, shapes: Mapping[str, tuple[int, ...]] | None = None) -> Path:
    """Write the parts of a cut: an ONNX file for each node that runs something, and `parts.json`.

    Parameters
    ----------
    model : path or onnx.ModelProto
        The network that was cut.
    cut : Cut
    folder : path
        Made where it is missing. Files are replaced whole, the manifest last.
    shapes : mapping, optional
        As for `read_graph`; those of the cut by default, which they must be.

    Returns
    -------
    Path
        Of the manifest.

    Raises
    ------
    ValueError
        Where the model is not the one that was cut, or a node's name is no name of a file.

    Examples
    --------
    >>> import tempfile
    >>> from edgeinfer import ConstantLink, Node, bridge
    >>> model, device, edge = bridge.light_model("squeezenet"), Node("device", 5e9), Node("edge", 500e9)
    >>> best = bridge.cut(model, device=device, edge=edge, link=ConstantLink(20e6))
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     sorted(each.name for each in write_parts(model, best, folder).parent.iterdir())
    ['device.onnx', 'edge.onnx', 'parts.json']
    """
    graph = cut.graph
    loaded, label = load_model(model)
    sizes = fixed_inputs(loaded, shapes, {}, label) if shapes else {}
    if digest(loaded) != graph.digest or any(
        tuple(dim.dim_value for dim in port.type.tensor_type.shape.dim) != graph.tensors[name].shape
        for name, port in sizes.items()
        if port.type.HasField("tensor_type")
    ):
        raise ValueError(f"model = {loaded.graph.name!r}: must be the network that was cut, with the same shapes")
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    last = len(cut.nodes) - 1
    parts = []
    for place, node in enumerate(cut.nodes):
        positions = [i for i, where in enumerate(cut.places) if where == place]
        given = [name for i in positions for name in graph.operations[i].outputs]
        wanted = {*graph.outputs, *(cut.crossing[place] if place < last else ())}
        outputs = [name for name in given if name in wanted]
        if place == 0:
            outputs += [name for name in graph.outputs if name in graph.constants]
        entry: dict[str, Any] = {"node": node.name, "file": None, "outputs": outputs, "operations": len(positions)}
        # What is computed here and read by none is left out.
        if outputs:
            entry["file"] = f"{node.name}.onnx"
            if not _FILE.fullmatch(entry["file"]):
                raise ValueError(f"name of node = {node.name!r}: must be letters, digits, _ and -")
            part = extract(loaded, graph, positions, outputs, free=graph.grows)
            entry["inputs"] = [value.name for value in part.graph.input]
            save_model(part, folder / entry["file"])
        parts.append(entry)
    data = {
        "format": FORMAT,
        "name": graph.name,
        "digest": graph.digest,
        "inputs": list(graph.inputs),
        "outputs": list(graph.outputs),
        "parts": parts,
        "state": [
            _described(graph.tensors[taken]) | {"output": given, "shape": list(graph.first_state[taken])}
            for given, taken in graph.state.items()
        ],
        "links": [[_described(graph.tensors[n]) | _wire(graph, n) for n in names] for names in cut.crossing],
        "predicted": {"kind": "derived", "objective": cut.objective, "value": cut.value, "times": list(cut.times)},
    }
    with replacing(folder / MANIFEST) as temporary:
        temporary.write_text(json.dumps(data, indent=1), encoding="utf-8")
    return folder / MANIFEST


def _described(tensor: Tensor) -> dict[str, Any]:
    return {"name": tensor.name, "dtype": tensor.dtype, "shape": list(tensor.shape), "bits": tensor.bits}


def _wire(graph: Graph, name: str) -> dict[str, Any]:
    """The type that a tensor crosses in, where that is not its own."""
    return {"wire": graph.wire[name], "bits": graph.uplink_bits[name]} if name in graph.wire else {}


@dataclass(frozen=True)
class PartsFile:
    """What `parts.json` says: of the network, of each link's tensors, and of each node's part.

    Attributes
    ----------
    name, digest : str
        Of the network.
    inputs, outputs : tuple of str
        Of the network.
    links : tuple of tuple of str
        Tensors that each link carries.
    parts : tuple of (node, file or None, inputs, outputs)
    state : mapping of str to Tensor
        Of an output to the input of the next request that it becomes.
    wire : mapping of str to str
        Types that tensors cross in, where these are not their own.
    """

    name: str
    digest: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    links: tuple[tuple[str, ...], ...]
    parts: tuple[tuple[str, str | None, tuple[str, ...], tuple[str, ...]], ...]
    state: Mapping[str, Tensor]
    wire: Mapping[str, str]


def read_parts(folder: str | Path) -> PartsFile:
    """What `write_parts` wrote; ValueError naming the file and what is wrong with it."""
    data = read_json(Path(folder).resolve(), MANIFEST)
    try:
        if data["format"] != FORMAT:
            raise ValueError(f"format = {data['format']!r}: must be {FORMAT}")
        links = tuple(tuple(tensor["name"] for tensor in tensors) for tensors in data["links"])
        parts = tuple((p["node"], p["file"], tuple(p.get("inputs", ())), tuple(p["outputs"])) for p in data["parts"])
        if len(parts) != len(links) + 1:
            raise ValueError(f"parts: {len(parts)}: must be one more than the {len(links)} links")
        for _, file, _, _ in parts:
            if file is not None and not (isinstance(file, str) and _FILE.fullmatch(file)):
                raise ValueError(f"file = {file!r}: must be the name of an ONNX file beside it")
        if not isinstance(data["digest"], str):
            raise ValueError(f"digest = {data['digest']!r}: must be a text")
        state = {
            told["output"]: Tensor(
                told["name"], str(np.dtype(told["dtype"])), tuple(map(int, told["shape"])), told["bits"]
            )
            for told in data.get("state", ())
        }
        wire = {
            t["name"]: _validate.choice("wire", t["wire"], WIRES) for ts in data["links"] for t in ts if "wire" in t
        }
        ends = tuple(data["inputs"]), tuple(data["outputs"])
        return PartsFile(data["name"], data["digest"], *ends, links, parts, state, wire)
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise ValueError(f"{MANIFEST}: not the parts of a cut: {error!r}") from error


class Session:
    """A part of a network, loaded to run.

    Parameters
    ----------
    model : onnx.ModelProto
        The part, with its weights.
    label : str
        For messages.
    outputs : tuple of str
    level, threads
        As for `CutSessions`.

    Attributes
    ----------
    inputs, outputs : tuple of str
    """

    def __init__(self, model: Any, label: str, outputs: tuple[str, ...], level: str, threads: int) -> None:
        self._session, self._label = open_session(model, label, session_options(level, threads)), label
        self.inputs = tuple(port.name for port in self._session.get_inputs())
        self.outputs = outputs

    def run(
        self, tensors: Mapping[str, NDArray[Any]], seconds: float | None = None
    ) -> tuple[dict[str, NDArray[Any]], float]:
        """Outputs, and the time that ONNX Runtime took, s; other tensors than the inputs do not matter.

        Raises
        ------
        TimeoutError
            After `seconds`, between two operations.
        """
        feeds = {name: tensors[name] for name in self.inputs}
        start = perf_counter()
        values = run_session(self._session, feeds, self._label, self.outputs, seconds=seconds)
        took = perf_counter() - start
        return dict(zip(self.outputs, values, strict=True)), took


class Parts:
    """The parts of a cut, loaded to run.

    Parameters
    ----------
    folder : path
        As `write_parts` wrote it.
    only : int, optional
        Load this part alone, the position of its node in the chain: what a node needs that runs it.
    level : "disabled", "basic", "extended" or "all"
        ONNX Runtime's graph optimisation. "disabled" gives the whole network's output to the last bit; the others fuse
        operations (a normalisation into a convolution, say) where no cut lies between, which rounds otherwise.
    threads : int
        Of one run, >= 1.

    Raises
    ------
    ValueError
        Naming the file and what is wrong with it.
    """

    def __init__(self, folder: str | Path, *, only: int | None = None, level: str = "all", threads: int = 1) -> None:
        _validate.choice("level", level, tuple(LEVELS))
        threads = _validate.threads(threads)
        root, told = Path(folder).resolve(), read_parts(folder)
        self.name, self.inputs, self.outputs, self.links = told.name, told.inputs, told.outputs, told.links
        self.nodes = tuple(node for node, *_ in told.parts)
        self.state = {given: tensor.name for given, tensor in told.state.items()}
        self.wire = told.wire
        self._parts = told.parts
        here = {name for place, part in enumerate(told.parts) if only in (None, place) for name in part[3]}
        self._zeros = {t.name: np.zeros(t.shape, t.dtype) for given, t in told.state.items() if given in here}
        self.restart()
        self._sessions: dict[int, Session] = {}
        for place, (_, file, inputs, outputs) in enumerate(told.parts):
            if file is not None and only in (None, place):
                session = Session(load_model(root / file)[0], file, outputs, level, threads)
                if set(session.inputs) != set(inputs):
                    raise ValueError(f"{file}: inputs: must be {', '.join(map(repr, inputs))} as in {MANIFEST}")
                self._sessions[place] = session

    def restart(self) -> None:
        """Begin anew: state is zeros, empty where it grows."""
        self._kept = dict(self._zeros)

    def step(self, place: int, tensors: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        """Run one part: what it gives, with state that the link behind it carries.

        Parameters
        ----------
        place : int
            Of the node in the chain.
        tensors : mapping of str to ndarray
            What has come over the link before it, or the network's inputs; more does not matter. State that a part
            which is loaded here makes may be left out: it is kept.
        """
        _, file, inputs, _ = self._parts[place]
        if file is None:
            return {}
        if place not in self._sessions:
            raise ValueError(f"place = {place}: must be the part that was loaded")
        known = self._kept | dict(tensors)
        missing = [name for name in inputs if name not in known]
        if missing:
            raise ValueError(f"tensors: must have {', '.join(map(repr, missing))}")
        given = self._sessions[place].run(known)[0]
        carried = self.links[place] if place < len(self.links) else ()
        going = {taken: known[taken] for taken in self.state.values() if taken in carried and taken in known}
        self._kept |= {taken: given[name] for name, taken in self.state.items() if name in given}
        return given | going

    def run(self, feeds: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        """All parts here, one after another, each given only what its link carries: the network's outputs, state apart,
        which goes from one call to the next unless it is given.
        """
        missing = [name for name in self.inputs if name not in feeds and name not in self._kept]
        if missing:
            raise ValueError(f"feeds: must have {', '.join(map(repr, missing))}")
        carried = {name: np.asarray(feeds[name]) for name in self.inputs if name in feeds}
        self._kept |= {name: value for name, value in carried.items() if name in self._kept}
        results: dict[str, NDArray[Any]] = {name: value for name, value in carried.items() if name in self.outputs}
        for place in range(len(self.nodes)):
            given = self.step(place, carried)
            results |= {name: value for name, value in given.items() if name in self.outputs}
            if place < len(self.links):
                here = self._kept | carried | given
                carried = {name: crossed(here[name], self.wire.get(name, "float32")) for name in self.links[place]}
        return {name: results[name] for name in self.outputs if name not in self.state}
