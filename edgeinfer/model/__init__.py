"""What the system is: links, nodes, cascades, pipelines and paradigms."""

from edgeinfer.model.cascades import Cascade
from edgeinfer.model.links import RayleighLink, TransferTime
from edgeinfer.model.nodes import Node
from edgeinfer.model.pipelines import (
    Compute,
    Constant,
    Exponential,
    Measured,
    Pipeline,
    Transfer,
    device_only,
    edge_only,
    split,
)

__all__ = [
    "Cascade",
    "Compute",
    "Constant",
    "Exponential",
    "Measured",
    "Node",
    "Pipeline",
    "RayleighLink",
    "Transfer",
    "TransferTime",
    "device_only",
    "edge_only",
    "split",
]
