"""Types that the tensors of a cut cross in, chosen by what they change in the outputs."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgeinfer import _validate
from edgeinfer.bridge.cutting.cuts import Cut, Division
from edgeinfer.bridge.cutting.sessions import CutSessions
from edgeinfer.network.crossing import WIRES, narrow, widen
from edgeinfer.network.profiles import NetworkProfile

#: What `choose_wire` takes: a type, or auto.
CHOICES = ("auto", *WIRES)
#: Inputs that are made up where none are given.
SAMPLES = 3


class WireEffect:
    """What narrower tensors at a cut change in the network's outputs, measured by running both halves here.

    Parameters
    ----------
    sessions : CutSessions
    samples : sequence of mapping of str to ndarray, optional
        Inputs of the network; `SAMPLES` made-up ones where left out.

    Examples
    --------
    >>> from onnx import TensorProto, helper
    >>> x, y = (helper.make_tensor_value_info(name, TensorProto.FLOAT, [2]) for name in "xy")
    >>> nodes = [helper.make_node("Relu", ["x"], ["h"]), helper.make_node("Neg", ["h"], ["y"])]
    >>> model = helper.make_model(helper.make_graph(nodes, "g", [x], [y]), ir_version=8)
    >>> sessions = CutSessions(model)
    >>> from edgeinfer.bridge import divide
    >>> effect = WireEffect(sessions, [{"x": np.float32([1, 2049])}])
    >>> effect(divide(sessions.graph, (0, 1)), {"h": "float16"}) == 1 / 2049
    True
    """

    def __init__(self, sessions: CutSessions, samples: Sequence[Mapping[str, NDArray[Any]]] | None = None) -> None:
        self._sessions = sessions
        self._samples = [sessions.feeds(seed) for seed in range(SAMPLES)] if samples is None else list(samples)
        self._carried: dict[tuple[str, ...], list[dict[str, NDArray[Any]]]] = {}

    def __call__(self, division: Division, wire: Mapping[str, str]) -> float:
        """Largest change of an output, relative to the largest magnitude in it, over all samples.

        Of whole numbers the share of elements that change. inf where a tensor cannot cross so, or an output is no
        longer finite.

        Parameters
        ----------
        division : Division
        wire : mapping of str to str
            Of tensors that cross there; the others cross as they are.
        """
        kinds = {name: kind for name, kind in wire.items() if name in division.crossing}
        if not kinds:
            return 0.0
        sessions = self._sessions
        tail = sessions.get(division.needed, division.given)
        worst = 0.0
        for carried in self._at(division):
            changed = dict(carried)
            for name, kind in kinds.items():
                try:
                    changed[name] = widen(*narrow(carried[name], kind), str(carried[name].dtype))
                except ValueError:
                    return np.inf
            one, other = tail.run(carried)[0], tail.run(changed)[0]
            worst = max([worst, *(_change(one[name], other[name]) for name in one)])
        return worst

    def _at(self, division: Division) -> list[dict[str, NDArray[Any]]]:
        """What the device has at the cut, of each sample; kept for one cut."""
        if division.computed not in self._carried:
            self._carried.clear()
            head = self._sessions.get(self._sessions.graph.inputs, division.computed) if division.computed else None
            ends = [dict(feeds) | (head.run(feeds)[0] if head else {}) for feeds in self._samples]
            self._carried[division.computed] = ends
        return self._carried[division.computed]


def _change(one: Any, other: Any) -> float:
    if not isinstance(one, np.ndarray) or one.shape != other.shape:
        return 0.0 if str(one) == str(other) else np.inf
    if one.dtype.kind != "f":
        return float(np.mean(one != other)) if one.size else 0.0
    # The same infinities, and NaN where the other is NaN.
    lost, found = (np.where(np.isfinite(part), 0, part) for part in (one, other))
    if not np.array_equal(lost, found, equal_nan=True):
        return np.inf
    with np.errstate(invalid="ignore"):
        difference = np.abs(np.subtract(other, one, dtype=np.float64))
    finite = np.isfinite(one)
    return float(difference[finite].max(initial=0) / (np.abs(one[finite]).max(initial=0) or 1.0))


def choose_wire(
    network: Any,
    find: Callable[[Any], Iterable[Cut | Division]],
    effect: WireEffect | None,
    wire: str = "auto",
    tolerance: float = 0.01,
) -> Any:
    """The network with a wire type for each tensor, so that the cuts found for it change outputs by little.

    auto: every tensor is taken for int8 at first. The cuts that are best so are measured; where one changes the outputs
    by more than `tolerance`, that of its tensors which alone changes them most gets the next wider type, and the cuts
    are sought anew. What is found in the end is best among all cuts: those that were not measured are no better even
    where all of their tensors cross in the types that they have now.

    Parameters
    ----------
    network : Graph or NetworkProfile
    find : callable
        find(network) gives the cuts or divisions that are to hold, such as the best one, between a device and one edge
        node each.
    effect : WireEffect or None
        None where `wire` is not auto.
    wire : {"auto", "float32", "float16", "int8"}
        Anything but auto is taken for all tensors, without a measurement.
    tolerance : float
        Largest change, as `WireEffect` measures it. >= 0.

    Returns
    -------
    Graph or NetworkProfile

    Examples
    --------
    >>> from onnx import TensorProto, helper
    >>> from edgeinfer import Node, RayleighLink
    >>> from edgeinfer.bridge import chain_cuts, read_graph
    >>> x, y = (helper.make_tensor_value_info(name, TensorProto.FLOAT, [100]) for name in "xy")
    >>> nodes = [helper.make_node("Relu", ["x"], ["h"]), helper.make_node("Neg", ["h"], ["y"])]
    >>> model = helper.make_model(helper.make_graph(nodes, "g", [x], [y]), ir_version=8)
    >>> nodes, link = {"device": Node("device", 1), "edge": Node("edge", 1)}, RayleighLink.from_snr(1.0, 1e6, 1e-3)
    >>> find = lambda network: chain_cuts(network, **nodes, link=link)[1:2]
    >>> chosen = choose_wire(read_graph(model), find, WireEffect(CutSessions(model)), tolerance=1e-3)
    >>> dict(chosen.wire)["h"]
    'float16'
    """
    _validate.choice("wire", wire, CHOICES)
    tolerance = _validate.scalar("tolerance", tolerance, 0)
    if wire != "auto":
        return network.with_wire(wire)
    if effect is None:
        raise ValueError("effect = None: must be a WireEffect for wire = 'auto'")
    graph = network.graph if isinstance(network, NetworkProfile) else network
    kinds = dict(graph.with_wire("int8").wire)
    known: dict[Any, float] = {}

    def measured(division: Division, names: Sequence[str]) -> float:
        key = division.places, *((name, kinds[name]) for name in names)
        if key not in known:
            known[key] = effect(division, {name: kinds[name] for name in names})
        return known[key]

    while True:
        chosen = network.with_wire(kinds)
        widened = False
        for cut in find(chosen):
            division = cut.division if isinstance(cut, Cut) else cut
            while True:
                names = [name for name in division.crossing if name in kinds]
                if not names or measured(division, names) <= tolerance:
                    break
                worst = max(names, key=lambda name: measured(division, [name]))
                if (wider := WIRES[WIRES.index(kinds[worst]) - 1]) == "float32":
                    del kinds[worst]
                else:
                    kinds[worst] = wider
                widened = True
        if not widened:
            return chosen
