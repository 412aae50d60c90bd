"""Who may listen where, and the credentials of those who go beyond this machine."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from edgeinfer._extras import need
from edgeinfer.bridge.wire import address

#: Longest message either side accepts, bytes.
MESSAGE_BYTES = 4 * 2**20


def channel_options(message_bytes: int = MESSAGE_BYTES) -> Sequence[tuple[str, int]]:
    """gRPC options that both sides share."""
    return (
        ("grpc.max_receive_message_length", message_bytes),
        ("grpc.max_send_message_length", message_bytes),
        ("grpc.max_metadata_size", 16384),
        # The window's probes would be traffic of their own on the shaped link; a fixed one holds the largest message.
        ("grpc.http2.bdp_probe", 0),
        ("grpc.http2.lookahead_bytes", message_bytes),
        # Two servers on one port would share it silently.
        ("grpc.so_reuseport", 0),
        ("grpc.enable_http_proxy", 0),
        # An edge that comes back is found within seconds.
        ("grpc.max_reconnect_backoff_ms", 2000),
    )


def check_listen(host: str, secured: bool, insecure: bool) -> None:
    """ValueError unless `host` is this machine alone, or TLS secures it, or plain text is explicitly wanted."""
    if not (secured or insecure or address.is_loopback(host)):
        raise ValueError(
            f"host = {host!r}: must be a loopback address, unless with a certificate and key or --insecure"
        )


def server_credentials(certificate: str | None, key: str | None, client_ca: str | None) -> Any:
    """gRPC server credentials, or None for plain text; with `client_ca` a client needs a certificate of its own."""
    if certificate is None and key is None and client_ca is None:
        return None
    if certificate is None or key is None:
        raise ValueError("certificate, key: must be given together, also with a client CA")
    grpc = need("grpc", "bridge")
    pair = (Path(key).read_bytes(), Path(certificate).read_bytes())
    authority = Path(client_ca).read_bytes() if client_ca else None
    return grpc.ssl_server_credentials([pair], authority, require_client_auth=authority is not None)


def channel_credentials(ca: str | None, certificate: str | None, key: str | None) -> Any:
    """gRPC channel credentials, or None for plain text; certificate and key are the client's own."""
    if ca is None and certificate is None and key is None:
        return None
    if ca is None or (certificate is None) != (key is None):
        raise ValueError("ca, certificate, key: must be the CA, or all three")
    grpc = need("grpc", "bridge")
    own = [Path(name).read_bytes() if name else None for name in (key, certificate)]
    return grpc.ssl_channel_credentials(Path(ca).read_bytes(), *own)
