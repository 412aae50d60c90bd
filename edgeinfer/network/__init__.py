"""ONNX networks as files, graphs, sessions and profiles."""

from edgeinfer.network.crossing import WIRES, narrow, widen
from edgeinfer.network.feeds import random_feeds
from edgeinfer.network.files import Part, Port, read_json, read_part
from edgeinfer.network.graphs import Graph, Operation, Tensor, count_flops, extract, read_graph
from edgeinfer.network.machine import machine
from edgeinfer.network.profiles import NetworkProfile, profile_network
from edgeinfer.network.sessions import LEVELS, open_session, run_session, session_options
from edgeinfer.network.state import find_state
from edgeinfer.network.zoo import LIGHT_NETWORKS, light_model, light_path, shipped

__all__ = [
    "LEVELS",
    "LIGHT_NETWORKS",
    "WIRES",
    "Graph",
    "NetworkProfile",
    "Operation",
    "Part",
    "Port",
    "Tensor",
    "count_flops",
    "extract",
    "find_state",
    "light_model",
    "light_path",
    "machine",
    "narrow",
    "open_session",
    "profile_network",
    "random_feeds",
    "read_graph",
    "read_json",
    "read_part",
    "run_session",
    "session_options",
    "shipped",
    "widen",
]
