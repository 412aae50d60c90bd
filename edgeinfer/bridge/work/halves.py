"""The halves of a cut network, what they gave, and what a device asks of an edge besides that."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgeinfer import _validate
from edgeinfer.bridge.cutting.cuts import Cut, Division, between, divide, furthest
from edgeinfer.bridge.cutting.search import BestCuts, best_cuts
from edgeinfer.bridge.cutting.sessions import CutSessions
from edgeinfer.bridge.cutting.wires import WireEffect, choose_wire
from edgeinfer.bridge.device.client import Client
from edgeinfer.bridge.device.connection import Connection, EdgeError
from edgeinfer.bridge.wire import tensors
from edgeinfer.bridge.wire.tensors import NETWORK
from edgeinfer.bridge.wire.trace import Trace
from edgeinfer.bridge.work.sequences import request
from edgeinfer.model import Node, RayleighLink
from edgeinfer.network.profiles import NetworkProfile


@dataclass(frozen=True, eq=False)
class Inference:
    """What a request gave.

    Attributes
    ----------
    outputs : dict of str to ndarray
        The network's, state apart.
    request : str
        Its id in the traces.
    ran : {"split", "edge", "device"}
        Where: on both, on the edge alone, or on the device alone, also after a fallback.
    division : Division
        The cut that it was begun with.
    device_seconds, edge_seconds : float
        In ONNX Runtime on either half.
    queue_seconds : float
        Waiting on the edge.
    transfer_seconds : float
        From the request's sending to its answer, less what it spent on the edge: both ways over the link, and what gRPC
        and its messages cost.
    seconds : float
        From the call to the outputs.
    bits : int
        Of the tensors that crossed the link, both ways.
    reason : str
        Why the device finished alone, and whether state was lost with the edge; empty where the edge helped, or all on
        the device is best.
    """

    outputs: dict[str, NDArray[Any]]
    request: str
    ran: str
    division: Division
    device_seconds: float
    edge_seconds: float
    queue_seconds: float
    transfer_seconds: float
    seconds: float
    bits: int = 0
    reason: str = ""


@dataclass(frozen=True, eq=False)
class EdgeAnswer:
    """What came back from the edge, how long it waited and took there, s, and the bits that crossed both ways."""

    outputs: dict[str, NDArray[Any]]
    queue_seconds: float = 0.0
    compute_seconds: float = 0.0
    received: float = 0.0
    bits: int = 0


class Halves:
    """A division with the sessions that run either half of it here, and the types that its tensors cross in."""

    def __init__(self, sessions: CutSessions, cut: Cut | Division, wire: Mapping[str, str] | None = None) -> None:
        self.division = division = cut.division if isinstance(cut, Cut) else cut
        self.wire = wire or (cut.graph.wire if isinstance(cut, Cut) else {})
        self.head = sessions.get(sessions.graph.inputs, division.computed) if division.computed else None
        self.tail = sessions.get(division.needed, division.given) if division.returned else None


class RemoteNetwork(Client):
    """A device whose edge has a network, and may be asked about it.

    Parameters
    ----------
    sessions : CutSessions
        The same network as the edge's.
    connection : Connection, optional
    trace : Trace, optional
    """

    def __init__(
        self, sessions: CutSessions, connection: Connection | None = None, *, trace: Trace | None = None
    ) -> None:
        super().__init__(connection, trace=trace)
        self.sessions = sessions

    def prepare(self, cut: Cut | Division, *, timeout: float = 60.0, padding: int = 0) -> float:
        """Have the edge load its half of a cut, `padding` bytes along: the time of the network it serves, s, on the
        edge.

        Raises
        ------
        EdgeError
        """
        connection, graph = self.connection, self.sessions.graph
        timeout = _validate.scalar("timeout", timeout, 0, low_open=True, unit="s")
        padding = _validate.whole("padding", padding, 0)
        division = cut.division if isinstance(cut, Cut) else cut
        told = {"prepare": True, "padding": " " * padding}
        message = request(graph, division, "prepare", {}, told, sequence="prepare")
        for name in division.crossing:
            tensor = graph.tensors[name]
            message.inputs.add(name=name, datatype=tensors.datatype(tensor.dtype), shape=tensor.shape)
        return told_seconds(tensors.parameters(connection.ask(connection.infer, message, timeout)), "network_ns")

    def edge_cut(self, *, timeout: float = 60.0) -> Division:
        """The cut that leaves the edge all that it serves: the whole network, or the part of a cut that it was given.

        Raises
        ------
        EdgeError
            Also where it serves another network.
        """
        connection, graph = self.connection, self.sessions.graph
        timeout = _validate.scalar("timeout", timeout, 0, low_open=True, unit="s")
        answer = connection.ask(connection.metadata, tensors.service().ModelMetadataRequest(name=NETWORK), timeout)
        if list(answer.versions) != [graph.digest]:
            text = f"the edge serves a network of digest {list(answer.versions)}: must be {graph.digest!r}"
            raise EdgeError("FAILED_PRECONDITION", text)
        for port in answer.inputs:
            known = graph.tensors.get(port.name)
            any_rows = list(port.shape[:1]) == [-1] and port.shape[1:] == list(known.shape[1:]) if known else False
            if known is not None and not (known.stays or any_rows or tuple(port.shape) == known.shape):
                text = f"the edge serves {port.name!r} of sizes {list(port.shape)}: must be {list(known.shape)}"
                raise EdgeError("FAILED_PRECONDITION", text)
        try:
            given, wanted = ([port.name for port in ports] for ports in (answer.inputs, answer.outputs))
            if set(given) == {name for name in graph.inputs if graph.tensors[name].returns}:
                return divide(graph, furthest(graph))
            on_edge = set(between(graph, given, wanted))
        except ValueError as error:
            raise EdgeError("DATA_LOSS", str(error)) from None
        return divide(graph, [int(i in on_edge) for i in range(len(graph.operations))])

    def edge_node(self, profile: NetworkProfile, *, timeout: float = 60.0) -> Node:
        """The edge as a node, by the time that it says its network takes, and by the profile of this machine.

        Raises
        ------
        EdgeError
        """
        division = self.edge_cut(timeout=timeout)
        seconds = self.prepare(division, timeout=timeout)
        whole = division.places == furthest(self.sessions.graph)
        here = float(profile.times.sum() if whole else profile.times[np.array(division.places) == 1].sum())
        if not seconds > 0 or not here > 0:
            raise EdgeError("DATA_LOSS", f"time of its network = {seconds:g} s: must be > 0")
        return profile.node("edge", seconds / here)

    def _best_cuts(self, profile: NetworkProfile | None, slowdown: float, wire: str, tolerance: float) -> BestCuts:
        """The best cuts for the edge as it says it is; see `CutDevice.plan`."""
        served = self.edge_cut()
        if profile is None:
            profile = self.sessions.profile(repetitions=5, warmup=1)
        if not profile.graph.fits(self.sessions.graph):
            name = profile.graph.name
            raise ValueError(f"profile: of {name!r}: must be of the network that runs, with the same shapes")
        # The rate is what the device measures; of the link here only the mean rate counts, as a unit.
        unit = RayleighLink.from_snr(1.0, 1e6, 1e-3)
        # Where it serves a part, that is its only cut.
        among = None if served.places == furthest(self.sessions.graph) else [(0,) * len(served.places), served.places]
        device, edge = profile.node("device", slowdown), self.edge_node(profile)
        profile = profile.with_state(self.sessions.graph.state)

        def find(network: Any) -> BestCuts:
            return best_cuts(network, device=device, edge=edge, link=unit, downlink=unit, among=among)

        if wire != "float32":
            profile = choose_wire(
                profile, lambda network: find(network).cuts, WireEffect(self.sessions), wire, tolerance
            )
        return find(profile)


def told_seconds(parameters: Mapping[str, Any], name: str) -> float:
    """What the edge says something took; 0 where it says nothing, or no number."""
    told = parameters.get(name)
    return told * 1e-9 if isinstance(told, int) else 0.0
