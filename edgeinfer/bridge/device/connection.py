"""A device's way to an edge: the channel, one stream of requests, and what an edge fails with."""

import queue
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from edgeinfer._extras import need
from edgeinfer.bridge.wire import security, signalling, tensors
from edgeinfer.bridge.wire.tensors import IDLE

#: Called once for each request: with the edge's answer, or with why there is none.
Deliver = Callable[[Any, float], None]

grpc = need("grpc", "bridge")

# Requests of one connection whose signalling may be under way while the edge computes.
_ASIDE = 64


class EdgeError(OSError):
    """The edge refused, failed, did not answer in time, or answered nonsense.

    Attributes
    ----------
    status : str
        gRPC's name of the status; DATA_LOSS for an answer that does not fit the manifest.
    reason : str
    """

    def __init__(self, status: str, reason: str) -> None:
        super().__init__(f"edge: {status}: {reason}")
        self.status, self.reason = status, reason

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.status, self.reason), vars(self)


def failure(error: Any) -> EdgeError:
    """What a grpc.RpcError says."""
    return EdgeError(error.code().name, str(error.details())[:500])


class Connection:
    """A channel to an edge.

    Parameters
    ----------
    edge : str
        HOST:PORT.
    credentials : grpc.ChannelCredentials, optional
        Plain text without.
    message_bytes : int
        Longest message accepted.
    """

    def __init__(self, edge: str, *, credentials: Any = None, message_bytes: int = security.MESSAGE_BYTES) -> None:
        options = security.channel_options(message_bytes)
        self._channel = (
            grpc.secure_channel(edge, credentials, options) if credentials else grpc.insecure_channel(edge, options)
        )
        stub = tensors.stubs().GRPCInferenceServiceStub(self._channel)
        self.negotiate = signalling.negotiator(self._channel)
        self.infer = stub.ModelInfer
        self.stream = stub.ModelStreamInfer
        self.metadata = stub.ModelMetadata
        self.aside = ThreadPoolExecutor(_ASIDE, thread_name_prefix="aside")

    def ask(self, call: Any, message: Any, timeout: float) -> Any:
        """The answer of one of the calls above within `timeout` s; EdgeError where it fails."""
        try:
            return call(message, timeout=max(timeout, 0.0))
        except grpc.RpcError as error:
            raise failure(error) from None

    def follow(self, message: Any, timeout: float) -> Iterator[Any]:
        """The answers to one message on a stream of its own, within `timeout` s; EdgeError where it fails."""
        try:
            for piece in self.stream(iter([message]), timeout=max(timeout, 0.0)):
                if piece.error_message:
                    raise EdgeError("INTERNAL", piece.error_message[:500])
                yield piece.infer_response
        except grpc.RpcError as error:
            raise failure(error) from None

    def __enter__(self) -> "Connection":
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def close(self) -> None:
        """Cancel what is under way and disconnect."""
        self._channel.close()
        self.aside.shutdown(wait=False, cancel_futures=True)


class EdgeStream:
    """Requests over one stream: they cross the link in the order they are sent, each is answered or fails, once.

    Parameters
    ----------
    connection : Connection
    """

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._lock = threading.Lock()
        self._waiting: dict[str, Deliver] | None = None
        self._outgoing: queue.SimpleQueue[Any] = queue.SimpleQueue()
        self._used = 0.0

    @property
    def busy(self) -> bool:
        """Whether a request waits for its answer."""
        return bool(self._waiting)

    def send(self, message: Any, deliver: Deliver) -> None:
        """Send a ModelInferRequest; `deliver` gets its response or an EdgeError, and when it came, from another
        thread.
        """
        with self._lock:
            now = time.monotonic()
            # The edge ends a stream that it has not heard of for long.
            if self._waiting is None or (not self._waiting and now - self._used > IDLE / 2):
                self._open()
            assert self._waiting is not None
            self._used = now
            self._waiting[message.id] = deliver
            self._outgoing.put(message)

    def forget(self, identifier: str) -> bool:
        """Stop waiting for a request; False where its answer or failure is on its way to `deliver`."""
        with self._lock:
            return self._waiting is not None and self._waiting.pop(identifier, None) is not None

    def _open(self) -> None:
        self._outgoing.put(None)
        self._outgoing, self._waiting = queue.SimpleQueue(), {}
        call = self._connection.stream(iter(self._outgoing.get, None))
        arguments = call, self._waiting, self._outgoing
        threading.Thread(target=self._read, args=arguments, name="answers", daemon=True).start()

    def _read(self, call: Any, waiting: dict[str, Deliver], outgoing: queue.SimpleQueue[Any]) -> None:
        error = EdgeError("UNAVAILABLE", "the edge ended the stream")
        try:
            for piece in call:
                now, answer = time.monotonic(), piece.infer_response
                with self._lock:
                    deliver = waiting.pop(answer.id, None)
                if deliver is not None and piece.error_message:
                    status = str(tensors.parameters(answer).get("status", "INTERNAL"))
                    deliver(EdgeError(status, piece.error_message[:500]), now)
                elif deliver is not None:
                    deliver(answer, now)
        except grpc.RpcError as broken:
            error = failure(broken)
        with self._lock:
            left = list(waiting.values())
            waiting.clear()
            if self._waiting is waiting:
                self._waiting = None
        outgoing.put(None)
        for deliver in left:
            deliver(error, time.monotonic())

    def close(self) -> None:
        """Send no more; what is under way is still answered, unless the connection closes."""
        with self._lock:
            self._outgoing.put(None)
