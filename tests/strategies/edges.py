"""Edges whose agents are a team of this process."""

import threading
from contextlib import contextmanager

from bridge.system import SOON

from edgeinfer.bridge.edge.server import Server, listen
from edgeinfer.strategies import StrategyService


@contextmanager
def served(team):
    """Address of an edge in this process."""
    edge = Server(StrategyService(team), capacity=8, limit=SOON)
    server, port = listen(edge, "127.0.0.1", 0)
    try:
        yield f"127.0.0.1:{port}"
    finally:
        server.stop(None).wait(SOON)
        threading.Thread(target=edge.jobs.close, daemon=True).start()
