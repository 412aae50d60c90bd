"""Workers that compute the tiles of a tiling, each in a process of its own."""

import multiprocessing
from multiprocessing.connection import Connection
from types import TracebackType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgeinfer import _validate
from edgeinfer.bridge.tile.tiles import Tiling
from edgeinfer.network.sessions import LEVELS, open_session, run_session, session_options


class TileWorkers:
    """A process for each tile; scatter, compute, gather. A context manager.

    Parameters
    ----------
    tiling : Tiling
    level : "disabled", "basic", "extended" or "all"
        ONNX Runtime's graph optimisation.
    timeout : float, s
        That a worker may take for one answer, > 0.

    Raises
    ------
    ValueError
        Where ONNX Runtime does not take a tile.
    """

    def __init__(self, tiling: Tiling, *, level: str = "all", timeout: float = 60.0) -> None:
        _validate.choice("level", level, tuple(LEVELS))
        self.timeout = _validate.scalar("timeout", timeout, 0, low_open=True, unit="s")
        self.tiling = tiling
        context = multiprocessing.get_context("spawn")
        self._processes: list[Any] = []
        self._connections: list[Connection] = []
        try:
            for tile in tiling.tiles:
                ours, theirs = context.Pipe()
                arguments = (theirs, tile.model.SerializeToString(), level)
                process = context.Process(target=_work, args=arguments, daemon=True)
                process.start()
                theirs.close()
                self._processes.append(process)
                self._connections.append(ours)
            for number in range(len(tiling.tiles)):
                self._receive(number)
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> "TileWorkers":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def run(self, array: NDArray[Any]) -> NDArray[Any]:
        """The output of the run of layers for its input.

        Raises
        ------
        ValueError
            Where the input has another shape, or ONNX Runtime does not take it.
        RuntimeError
            Where a worker has died or does not answer. The workers end with what fails but a shape: start anew.
        """
        parts = self.tiling.scatter(np.asarray(array))
        if not self._connections:
            raise RuntimeError("the workers have ended: start anew")
        try:
            for number, part in enumerate(parts):
                self._send(number, part)
            return self.tiling.gather([self._receive(number) for number in range(len(self._connections))])
        except BaseException:
            # Answers that are under way would be taken for those to the next array.
            self.close()
            raise

    def close(self) -> None:
        """End the workers."""
        for connection in self._connections:
            connection.close()
        for process in self._processes:
            process.join(1)
            if process.is_alive():
                process.kill()
                process.join()
            process.close()
        self._connections, self._processes = [], []

    def _send(self, number: int, part: NDArray[Any]) -> None:
        try:
            self._connections[number].send(part)
        except OSError as error:
            raise RuntimeError(f"worker {number} of {len(self._processes)} has died") from error

    def _receive(self, number: int) -> Any:
        try:
            if not self._connections[number].poll(self.timeout):
                raise RuntimeError(f"worker {number} does not answer within {self.timeout:g} s")
            answer = self._connections[number].recv()
        except (EOFError, OSError) as error:
            raise RuntimeError(f"worker {number} of {len(self._processes)} has died") from error
        if isinstance(answer, Exception):
            raise answer
        return answer


def _work(connection: Connection, model: bytes, level: str) -> None:
    try:
        session = open_session(model, "tile", session_options(level))
        name = session.get_inputs()[0].name
        connection.send(None)
        while True:
            part = connection.recv()
            connection.send(run_session(session, {name: part}, "tile")[0])
    except (EOFError, BrokenPipeError, ConnectionResetError, KeyboardInterrupt):
        return
    except ValueError as error:
        connection.send(error)
