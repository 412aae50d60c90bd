"""An edge of either kind, listening."""

from concurrent.futures import ThreadPoolExecutor
from typing import Any

from edgeinfer._extras import need
from edgeinfer.bridge.edge.cascade import Edge
from edgeinfer.bridge.wire import address, processes, security, signalling, tensors

grpc = need("grpc", "bridge")


def serve(
    edge: Any,
    host: str,
    port: int,
    *,
    credentials: Any = None,
    insecure: bool = False,
    message_bytes: int = security.MESSAGE_BYTES,
) -> tuple[Any, int]:
    """Listen.

    Parameters
    ----------
    edge : Edge or CutEdge
    host : str
        A loopback address, unless `credentials` are given or `insecure` is True.
    port : int
        0 takes a free one.
    credentials : grpc.ServerCredentials, optional
    message_bytes : int
        Longest message.

    Returns
    -------
    grpc.Server, int
        It runs until stopped; and the port.
    """
    security.check_listen(host, credentials is not None, insecure)
    # A thread for each request that waits or runs, and some that can say "full".
    workers = edge.jobs.capacity + edge.jobs.batch + 16
    server = grpc.server(
        ThreadPoolExecutor(workers, thread_name_prefix="rpc"),
        options=security.channel_options(message_bytes),
        maximum_concurrent_rpcs=workers,
    )
    tensors.stubs().add_GRPCInferenceServiceServicer_to_server(edge, server)
    if isinstance(edge, Edge):
        server.add_generic_rpc_handlers((signalling.handlers(edge.negotiate),))
    name = address.join(host, port)
    try:
        bound = server.add_secure_port(name, credentials) if credentials else server.add_insecure_port(name)
    except RuntimeError as error:
        raise OSError(f"{name}: {error}") from None
    server.start()
    return server, bound


def run(edge: Any, host: str, port: int, *, watch_stdin: bool = False, **options: Any) -> None:
    """Warm up, say where it listens, and serve as `serve` until SIGTERM or SIGINT, in the main thread."""
    commands = processes.Commands({}, watch_stdin=watch_stdin)
    edge.warm_up()
    server, bound = serve(edge, host, port, **options)
    print(f"listening on {address.join(host, bound)}", flush=True)
    commands.obey()
    edge.jobs.close()
    server.stop(1.0).wait()
