"""The signalling service without generated stubs: its one method, and the folder's fingerprint it carries."""

import hashlib
from pathlib import Path
from typing import Any

from edgeinfer._extras import need

SERVICE = "edgeinfer.Signalling"
NEGOTIATE = f"/{SERVICE}/Negotiate"
#: Longest request id and caption, characters.
IDENTIFIER_LENGTH, CAPTION_LENGTH = 64, 1024


def messages() -> Any:
    """The generated messages."""
    need("google.protobuf", "bridge")
    from edgeinfer.bridge.wire import signalling_pb2

    return signalling_pb2


def handlers(negotiate: Any) -> Any:
    """The service for a gRPC server; `negotiate(TaskRequest, context) -> StepAllocation`."""
    grpc = need("grpc", "bridge")
    pb = messages()
    method = grpc.unary_unary_rpc_method_handler(
        negotiate, pb.TaskRequest.FromString, pb.StepAllocation.SerializeToString
    )
    return grpc.method_handlers_generic_handler(SERVICE, {"Negotiate": method})


def negotiator(channel: Any) -> Any:
    """The client's side: a callable TaskRequest -> StepAllocation."""
    pb = messages()
    return channel.unary_unary(NEGOTIATE, pb.TaskRequest.SerializeToString, pb.StepAllocation.FromString)


def fingerprint(folder: Path) -> str:
    """Sixteen hexadecimal digits that two copies of a model folder share: names and sizes of all files, and the JSON.

    Weights of equal size are not told apart: it is there to catch a wrong folder, not a forged one.
    """
    digest = hashlib.blake2b(digest_size=8)
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            digest.update(f"{path.relative_to(folder).as_posix()}\0{path.stat().st_size}\0".encode())
            if path.suffix == ".json":
                digest.update(path.read_bytes())
    return digest.hexdigest()
