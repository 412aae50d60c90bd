"""Network addresses: HOST:PORT, and which of them are this machine alone."""

import ipaddress
import socket


def parse(name: str, text: str, *, host: str | None = None) -> tuple[str, int]:
    """Host and port of "HOST:PORT", or of "PORT" where a default `host` is given.

    Examples
    --------
    >>> parse("edge", "127.0.0.1:8001"), parse("listen", "8001", host="127.0.0.1"), parse("edge", "[::1]:8001")
    (('127.0.0.1', 8001), ('127.0.0.1', 8001), ('::1', 8001))
    """
    left, colon, right = text.rpartition(":")
    if (not colon and host is None) or not right.isdecimal() or int(right) > 65535 or (colon and not left):
        form = "HOST:PORT" if host is None else "PORT or HOST:PORT"
        raise ValueError(f"{name} = {text!r}: must be {form} with a port in [0, 65535]")
    return (left.strip("[]") if colon else str(host)), int(right)


def join(host: str, port: int) -> str:
    """The text of an address, IPv6 in brackets.

    Examples
    --------
    >>> join("::1", 8001)
    '[::1]:8001'
    """
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def is_loopback(host: str) -> bool:
    """Whether every address of `host` stays on this machine.

    Examples
    --------
    >>> is_loopback("127.0.0.1"), is_loopback("0.0.0.0")
    (True, False)
    """
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        pass
    try:
        found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
    except OSError as error:
        raise ValueError(f"host = {host!r}: {error}") from None
    return all(ipaddress.ip_address(entry[4][0]).is_loopback for entry in found)
