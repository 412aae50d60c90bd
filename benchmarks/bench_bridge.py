"""What a split request costs besides its networks, beside a bare gRPC echo of the same bytes; and what is
signalling.
"""

import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from common import machine, report

from edgeinfer import bridge
from edgeinfer.bridge.device.connection import Connection
from edgeinfer.bridge.wire.processes import Process
from edgeinfer.bridge.wire.trace import Trace, read_trace
from edgeinfer.bridge.work.cascade import Device, Order

REQUESTS = 100
PRIOR_STEPS, DECODE_STEPS = 16, 8
ECHO = """
import grpc
from concurrent.futures import ThreadPoolExecutor
def answer(request, context):
    return bytes(int.from_bytes(request[:4], "little"))
server = grpc.server(ThreadPoolExecutor(8))
handler = grpc.unary_unary_rpc_method_handler(answer)
server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("echo", {"call": handler}),))
print("listening on 127.0.0.1:%d" % server.add_insecure_port("127.0.0.1:0"), flush=True)
server.start()
server.wait_for_termination()
"""


def echo(pairs: list[tuple[int, int]], between: Callable[[], object]) -> np.ndarray:
    """Times of rounds of bare calls, of the bytes up and down that `pairs` says, s; `between` rounds runs as in a
    request.
    """
    import grpc

    with Process(("-c", ECHO), "echo") as process, grpc.insecure_channel(f"127.0.0.1:{process.port()}") as channel:
        call = channel.unary_unary("/echo/call")
        times = []
        for _ in range(REQUESTS):
            between()
            start = time.perf_counter()
            for up, down in pairs:
                call(down.to_bytes(4, "little") + bytes(max(up - 9, 0)))
            times.append(time.perf_counter() - start)
    return np.array(times[10:])


def main() -> None:
    print(machine())
    folder = Path(sys.argv[1]) if len(sys.argv) > 1 else bridge.shipped("scenes")
    cascade = bridge.load(folder, threads=1)
    caption = cascade.shortest_caption
    with tempfile.TemporaryDirectory() as name:
        traces = {process: Path(name) / f"{process}.jsonl" for process in ("edge", "link", "device")}
        command = (
            "-m",
            "edgeinfer.cli",
            "edge",
            str(folder),
            "--port",
            "0",
            "--threads",
            "1",
            "--trace",
            str(traces["edge"]),
        )
        with Process(command, "edge") as edge, Trace(traces["device"], "device") as log:
            port = edge.port(120)
            walls = {}
            with Connection(f"127.0.0.1:{port}") as connection:
                device = Device(cascade, connection, trace=log)
                for seed in range(REQUESTS):
                    order = Order(caption, seed, "split", PRIOR_STEPS, DECODE_STEPS)
                    done = device.generate(order)
                    walls[done.request] = done.seconds
            direct = read_trace(traces["edge"], traces["device"])
            link = (
                "-m",
                "edgeinfer.cli",
                "link",
                "--listen",
                "0",
                "--to",
                f"127.0.0.1:{port}",
                "--set",
                "bandwidth=1e12",
            )
            with Process((*link, "--trace", str(traces["link"])), "link") as process:
                with Connection(f"127.0.0.1:{process.port()}") as connection:
                    device = Device(cascade, connection)
                    marks = []
                    for seed in range(REQUESTS):
                        device.generate(Order(caption, seed, "split", PRIOR_STEPS, DECODE_STEPS))
                        marks.append(time.monotonic())
            chunks = [record for record in read_trace(traces["link"]) if record["kind"] == "chunk"]
    stages, networks = dict.fromkeys(walls, 0.0), dict.fromkeys(walls, 0.0)
    sizes: dict[str, list[int]] = {}
    for record in direct:
        if record["kind"] == "stage" and record["name"] in ("prior", "decode"):
            stages[record["request"]] += record["duration"]
            networks[record["request"]] += record["networks"]
        if record["kind"] == "message" and record["direction"] == "sent":
            sizes.setdefault(record["name"], []).append(record["bytes"])
    keep = list(walls)[10:]
    wire = np.array([walls[request] - stages[request] for request in keep]) * 1e3
    outside = np.array([walls[request] - networks[request] for request in keep]) * 1e3
    stage = np.array([stages[request] for request in keep]) * 1e3
    mean = {name: float(np.mean(values)) for name, values in sizes.items()}
    up = [mean["TaskRequest"] + mean["ResourceStatus"], mean["ModelInferRequest"]]
    down = [mean["StepAllocation"], mean["ModelInferResponse"]]
    latent = np.zeros((1, *cascade.manifest.wire.shape), np.float32)
    pairs = [(round(u), round(d)) for u, d in zip(up, down, strict=True)]
    floor = echo(pairs, lambda: cascade.decode([caption], latent, DECODE_STEPS, [0])) * 1e3
    print(f"{cascade.manifest.name}, {PRIOR_STEPS} + {DECODE_STEPS} steps, loopback, no link, {len(keep)} requests")
    for name, share in (("median", 0.5), ("10 % quantile, the least disturbed", 0.1)):
        rivals = {"floor, bare gRPC echo": float(np.quantile(floor, share))}
        report(f"outside the stages, {name}", "ms a request", float(np.quantile(wire, share)), rivals, "<= 2 ms")
    print(
        f"stages: {np.median(stage):.4g} ms, the wire's share {np.median(wire) / np.median(stage):.2%}; to reach: "
        f"<= 3 %"
    )
    print(f"outside ONNX Runtime, stepping included: {np.median(outside):.3g} ms")

    tensor = cascade.manifest.wire.bits[cascade.manifest.wire.dtype] // 8
    totals = [sum(c["bytes"] for c in chunks if c["time"] <= mark) - tensor * (n + 1) for n, mark in enumerate(marks)]
    print(
        "signalling, measured on the link: all TCP payload both ways less the tensor (gRPC, HTTP/2 and protobuf "
        "included)"
    )
    print(
        f"  first request with its connection: {totals[0]} B; a later one: "
        f"{(totals[-1] - totals[9]) / (REQUESTS - 10):.0f} B"
    )
    print(
        f"  share of all bytes: "
        f"{(totals[-1] - totals[9]) / (totals[-1] - totals[9] + tensor * (REQUESTS - 10)):.2%}; the paper's range "
        f"is 1-2 KB and 10-15 %"
    )
    print("  messages with gRPC's prefix, mean: " + ", ".join(f"{name} {value:.0f} B" for name, value in mean.items()))


if __name__ == "__main__":
    main()
