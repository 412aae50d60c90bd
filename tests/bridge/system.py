"""What the process tests share: edges, links and tools to keep them busy, always ended."""

import threading
import time
from contextlib import contextmanager

import grpc
import numpy as np

from edgeinfer.bridge.wire import security, tensors
from edgeinfer.bridge.wire.processes import Process

#: Longer than anything here should take on a busy machine, s.
SOON = 60.0
CAPTION = "a red circle above a small blue square"


@contextmanager
def edge(model, *options):
    """An edge process; `.address` says where."""
    with Process(
        ("-m", "edgeinfer.cli", "edge", str(model), "--port", "0", "--threads", "1", "--exit-with-stdin", *options),
        "edge",
    ) as process:
        process.address = f"127.0.0.1:{process.port(SOON)}"
        yield process


@contextmanager
def link(to, *options):
    """A link process in front of `to`."""
    with Process(
        ("-m", "edgeinfer.cli", "link", "--listen", "0", "--to", to, "--seed", "1", "--exit-with-stdin", *options),
        "link",
    ) as process:
        process.address = f"127.0.0.1:{process.port(SOON)}"
        yield process


def inference(captions=1, steps=8, model="prior", **changes):
    """A ModelInferRequest; `changes` replace inputs, None leaves one out."""
    inputs = {
        "caption": np.array([CAPTION] * captions),
        "seed": np.arange(captions),
        "prior_steps": np.array([steps], np.int32),
    } | changes
    return tensors.request(model, "test", {name: value for name, value in inputs.items() if value is not None}, {})


#: Seconds of work even for the tiny networks.
HEAVY = inference(16, 1000)


@contextmanager
def stub(address, **options):
    """The protocol's stub on a channel of its own."""
    with grpc.insecure_channel(address, security.channel_options(**options)) as channel:
        yield tensors.stubs().GRPCInferenceServiceStub(channel)


@contextmanager
def busy(address, count=1):
    """The edge has `count` heavy requests, the first of which runs; leaving cancels them."""
    with stub(address) as calls:
        running = threading.Event()
        progress = tensors.request("prior", "busy", {}, {"progress": True})
        first = tensors.service().ModelInferRequest()
        first.CopyFrom(HEAVY)
        first.parameters["progress"].CopyFrom(progress.parameters["progress"])
        stream = calls.ModelStreamInfer(iter([first]), timeout=SOON)
        outcome = []

        def follow():
            try:
                for _ in stream:
                    running.set()
            except grpc.RpcError as error:
                outcome.append(error.code())

        thread = threading.Thread(target=follow, daemon=True)
        thread.start()
        assert running.wait(SOON), outcome
        futures = [calls.ModelInfer.future(HEAVY, timeout=SOON) for _ in range(count - 1)]
        try:
            yield futures
        finally:
            stream.cancel()
            for future in futures:
                future.cancel()
            thread.join(SOON)
            assert not thread.is_alive()


def wait(condition):
    """Until `condition()` holds."""
    end = time.monotonic() + SOON
    while not condition():
        assert time.monotonic() < end, "waited too long"
        time.sleep(0.02)


def serves(address, seconds=SOON):
    """Whether the edge answers a small request within `seconds`, waiting for room in its queue."""
    end = time.monotonic() + seconds
    with stub(address) as calls:
        while True:
            try:
                answer = calls.ModelInfer(inference(), timeout=end - time.monotonic(), wait_for_ready=True)
                return len(answer.raw_output_contents[0]) == 3072
            except grpc.RpcError as error:
                if error.code() != grpc.StatusCode.RESOURCE_EXHAUSTED or time.monotonic() > end:
                    raise
                time.sleep(0.05)
