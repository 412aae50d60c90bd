"""One edge process and what clients may ask of it, friendly or not."""

import socket
import threading
import time

import grpc
import numpy as np
import pytest
import tritonclient.grpc as triton

from bridge import system
from bridge.system import CAPTION, SOON, inference
from edgeinfer.bridge import load, pack, unpack
from edgeinfer.bridge.device.connection import Connection, EdgeError
from edgeinfer.bridge.edge.server import listen
from edgeinfer.bridge.wire import signalling, tensors
from edgeinfer.bridge.wire.trace import Trace, read_trace
from edgeinfer.bridge.work.cascade import Device, Edge, Order

pytestmark = pytest.mark.process
ORDER = {"caption": CAPTION, "seed": 1, "prior_steps": 4, "decode_steps": 3}


@pytest.fixture(scope="module")
def calls(served):
    with system.stub(served) as calls:
        yield calls


@pytest.fixture
def device(cascade, served, tmp_path):
    with Connection(served) as connection, Trace(tmp_path / "device.jsonl", "device") as trace:
        yield Device(cascade, connection, trace=trace)


def fails(call, status, text):
    with pytest.raises(grpc.RpcError) as failure:
        call()
    assert failure.value.code() == getattr(grpc.StatusCode, status), failure.value
    assert text in failure.value.details()


def test_an_unmodified_triton_client(served, cascade):
    with triton.InferenceServerClient(served) as client:
        assert client.is_server_live() and client.is_server_ready()
        assert client.is_model_ready("prior") and not client.is_model_ready("/etc/passwd")
        assert client.get_server_metadata().name == "edgeinfer"
        metadata = client.get_model_metadata("prior", as_json=True)
        assert {t["name"]: t["datatype"] for t in metadata["inputs"]} == {
            "caption": "BYTES",
            "seed": "INT64",
            "prior_steps": "INT32",
        }
        [output] = metadata["outputs"]
        assert output == {"name": "z_prior", "datatype": "UINT8", "shape": ["-1", "3", "32", "32"]}
        captions, seeds = [CAPTION, "a large green triangle"], [5, 6]
        inputs = [
            triton.InferInput("caption", [2], "BYTES"),
            triton.InferInput("seed", [2], "INT64"),
            triton.InferInput("prior_steps", [1], "INT32"),
        ]
        inputs[0].set_data_from_numpy(np.array(captions, dtype=object))
        inputs[1].set_data_from_numpy(np.array(seeds, np.int64))
        inputs[2].set_data_from_numpy(np.array([4], np.int32))
        answer = client.infer("prior", inputs, request_id="t").as_numpy("z_prior")
        exact = client.infer("prior", inputs, parameters={"wire": "float32"}).as_numpy("z_prior")
    latent = cascade.prior(captions, 4, seeds)
    # ONNX Runtime may sum in another order on another thread pool; a level of uint8 is 2 / 255.
    np.testing.assert_allclose(exact, latent, atol=1e-5)
    assert np.abs(answer.astype(int) - pack(latent, "uint8", (-1, 1)).astype(int)).max() <= 1


@pytest.mark.parametrize("wire", ["float32", "float16", "uint8"])
def test_one_seed_one_image_whichever_paradigm(device, cascade, wire):
    images = {p: device.generate(Order(paradigm=p, wire=wire, **ORDER)).image for p in ("split", "edge", "device")}
    images["in one process"] = cascade.generate([CAPTION], 4, 3, [1], wire=wire)[0]
    for name, image in images.items():
        assert image.shape == (64, 64, 3) and image.dtype == np.uint8
        assert np.abs(image.astype(int) - images["split"].astype(int)).max() <= 2, name
    other = device.generate(Order(CAPTION, 2, prior_steps=4, decode_steps=3, wire=wire)).image
    assert np.abs(other.astype(int) - images["split"].astype(int)).max() > 20


def test_progress_and_trace(device, tmp_path):
    seen = []
    done = device.generate(Order(CAPTION, 1, "split", 1000, 3), progress=lambda *step: seen.append(step))
    stages = [stage for stage, _, _ in seen]
    assert stages == sorted(stages, key=["edge", "decode"].index) and {"edge", "decode"} == set(stages)
    assert all(0 < step <= steps for _, step, steps in seen) and seen[-1] == ("decode", 3, 3)
    records = [r for r in read_trace(tmp_path / "device.jsonl") if r["request"] == done.request]
    messages = [(r["name"], r["direction"]) for r in records if r["kind"] == "message" and r["name"] != "Progress"]
    expected = [
        ("TaskRequest", "sent"),
        ("ResourceStatus", "sent"),
        ("ModelInferRequest", "sent"),
        ("StepAllocation", "received"),
        ("ModelInferResponse", "received"),
    ]
    assert sorted(messages) == sorted(expected) and messages[:2] == expected[:2]
    answer = next(r for r in records if r["name"] == "StepAllocation")
    # One machine, one clock: the offset is within half a round trip of nought.
    assert abs(answer["clock_offset"]) <= answer["round_trip"] / 2 + 1e-6


def test_the_edge_decides_when_asked_to(device):
    device.decode_step_seconds = 1e-6
    done = device.generate(Order(CAPTION, 1))
    assert (done.prior_steps, done.decode_steps) == (32, 16)
    device.decode_step_seconds = 1e3  # nothing fits: the fastest
    negotiated = device.fetch(Order(CAPTION, 1), "x", time.monotonic() + SOON, deadline=10.0)[:2]
    assert negotiated == (4, 2)
    with pytest.raises(EdgeError, match="INVALID_ARGUMENT: quality = 3: must be at most -inf"):
        device.generate(Order(CAPTION, 1, quality=3.0))


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"request_id": "x" * 65}, "request_id: 65 characters"),
        ({"caption": "a purple circle"}, "word 'purple' is not in the vocabulary; nearest are "),
        ({"caption": "a " * 1000}, "caption: 2000 characters"),
        ({"seed": -1}, "seed = -1"),
        ({"deadline": float("nan")}, "deadline = nan"),
        ({"quality": float("inf")}, "quality = inf"),
        ({"wire": "../../etc/passwd"}, "wire = '../../etc/passwd': must be one of"),
        ({"prior_steps": 3}, "must both be 0 or neither"),
        ({"prior_steps": 1001, "decode_steps": 1}, "prior_steps = 1001"),
    ],
)
def test_negotiation_names_what_is_wrong(served, changes, text):
    with grpc.insecure_channel(served) as channel:
        task = signalling.messages().TaskRequest(**{"caption": CAPTION} | changes)
        fails(lambda: signalling.negotiator(channel)(task, timeout=SOON), "INVALID_ARGUMENT", text)


def test_another_cascade_is_refused(served):
    with grpc.insecure_channel(served) as channel:
        task = signalling.messages().TaskRequest(caption=CAPTION, cascade="scenes 0123")
        fails(lambda: signalling.negotiator(channel)(task, timeout=SOON), "FAILED_PRECONDITION", "'scenes 0123'")


BIG = np.zeros(900_000, np.int64)


@pytest.mark.parametrize(
    ("changes", "status", "text"),
    [
        ({"model": "/etc/passwd"}, "NOT_FOUND", "model = '/etc/passwd': must be one of 'prior', 'generate'"),
        ({"seed": None}, "INVALID_ARGUMENT", "must be caption BYTES, seed INT64, prior_steps INT32"),
        ({"seed": np.zeros(1, np.float32)}, "INVALID_ARGUMENT", "seed FP32"),
        ({"seed": np.zeros((1, 1), np.int64)}, "INVALID_ARGUMENT", "tensor 'seed': shape [1, 1]"),
        ({"seed": np.zeros(2, np.int64)}, "INVALID_ARGUMENT", "seed of shape (2,): must be (1,)"),
        ({"seed": np.array([-3])}, "INVALID_ARGUMENT", "seed = -3"),
        ({"prior_steps": np.array([0], np.int32)}, "INVALID_ARGUMENT", "prior_steps = 0: must be in [1, 1000]"),
        ({"prior_steps": np.array([2**31 - 1], np.int32)}, "INVALID_ARGUMENT", "must be in [1, 1000]"),
        ({"prior_steps": np.array([3, 3], np.int32)}, "INVALID_ARGUMENT", "'prior_steps': shape [2]"),
        ({"caption": np.array([""])}, "INVALID_ARGUMENT", "must have 1 to 16 words"),
        ({"captions": 17}, "INVALID_ARGUMENT", "'caption': shape [17]: must be [1 to 16]"),
        ({"seed": BIG}, "RESOURCE_EXHAUSTED", "larger than max"),
        ({"model": "generate"}, "INVALID_ARGUMENT", "decode_steps INT32"),
    ],
)
def test_inference_names_what_is_wrong(calls, served, changes, status, text):
    options = {"message_bytes": 2**26} if changes.get("seed") is BIG else {}
    with system.stub(served, **options) as big:
        fails(lambda: big.ModelInfer(inference(**changes), timeout=SOON), status, text)
    fails(
        lambda: list(calls.ModelStreamInfer(iter([inference(**changes)]), timeout=SOON)),
        *((status, text) if changes.get("seed") is not BIG else ("RESOURCE_EXHAUSTED", "larger than max")),
    )


def test_a_shape_that_lies_about_its_size(calls):
    message = inference()
    message.inputs[1].shape[0] = 2
    message.inputs[0].shape[0] = 2
    fails(lambda: calls.ModelInfer(message, timeout=SOON), "INVALID_ARGUMENT", "1 elements: shape [2] must have 2")


def test_back_pressure_says_the_length(served):
    """One runs, three may wait: of four more, one is refused."""
    with system.busy(served, 5) as futures:
        system.wait(lambda: any(future.done() for future in futures))
        [refused] = [future.exception() for future in futures if future.done()]
        assert refused.code() == grpc.StatusCode.RESOURCE_EXHAUSTED
        assert refused.details() == "queue full: 3 of 3 places taken"
    assert system.serves(served)


def test_a_deadline_holds_in_the_queue(served, device):
    with system.busy(served):
        start = time.monotonic()
        with pytest.raises(EdgeError) as failure:
            device.generate(Order(**ORDER), deadline=0.5)
        assert failure.value.status == "DEADLINE_EXCEEDED" and time.monotonic() - start < SOON / 2
    assert system.serves(served)


def test_fallback_gives_the_same_image(served, device):
    alone = device.generate(Order(paradigm="device", **ORDER))
    with system.busy(served):
        helped = device.generate(Order(**ORDER), deadline=SOON, patience=0.5, fallback=True)
    assert helped.paradigm == "device" and "DEADLINE_EXCEEDED" in helped.reason and not alone.reason
    np.testing.assert_array_equal(helped.image, alone.image)


def test_cancelled_requests_stop(tiny_folder, tmp_path):
    path = tmp_path / "edge.jsonl"
    with system.edge(tiny_folder, "--trace", str(path)) as process:
        with system.busy(process.address), system.stub(process.address) as calls:
            futures = [calls.ModelInfer.future(system.HEAVY, timeout=SOON) for _ in range(3)]
            system.wait(lambda: sum(r["name"] == "ModelInferRequest" for r in read_trace(path)) == 4)
            for future in futures:
                future.cancel()
            system.wait(lambda: sum(r["name"] == "cancelled" for r in read_trace(path)) >= 3)
        assert system.serves(process.address)
    # Of the five, the last ran to its end, and at most the one that ran when the three were cancelled.
    assert sum(r["name"] == "prior" for r in read_trace(path)) <= 2


def test_requests_of_equal_steps_share_a_batch(tiny_folder, tmp_path):
    path = tmp_path / "edge.jsonl"
    with system.edge(tiny_folder, "--batch", "4", "--queue", "8", "--trace", str(path)) as process:
        with system.stub(process.address) as calls:
            with system.busy(process.address):
                steps = [5, 6, 5, 5, 6]
                futures = []
                for number, count in enumerate(steps):
                    futures.append(calls.ModelInfer.future(inference(1, count, seed=np.array([number])), timeout=SOON))
                    received = number + 2
                    system.wait(lambda n=received: sum(r["name"] == "ModelInferRequest" for r in read_trace(path)) == n)
            batched = [future.result().raw_output_contents[0] for future in futures]
            single = [
                calls.ModelInfer(inference(1, count, seed=np.array([number])), timeout=SOON).raw_output_contents[0]
                for number, count in enumerate(steps)
            ]
    sizes = [r["batch"] for r in read_trace(path) if r["name"] == "prior" and r["request"] == "test"]
    assert sizes == [3, 3, 3, 2, 2] + [1] * 5
    for one, other in zip(batched, single, strict=True):
        assert np.abs(np.frombuffer(one, np.uint8).astype(int) - np.frombuffer(other, np.uint8).astype(int)).max() <= 1


def test_a_thousand_malformed_frames(served, calls):
    """Garbage on the socket, HTTP/2 cut short, and gRPC frames whose protobuf is noise: the edge keeps serving."""
    rng = np.random.default_rng(1)
    host, port = served.split(":")
    preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes([0, 0, 0, 4, 0, 0, 0, 0, 0])
    with grpc.insecure_channel(served) as channel:
        noise = channel.unary_unary("/inference.GRPCInferenceService/ModelInfer")
        task = channel.unary_unary(signalling.NEGOTIATE)
        good = inference().SerializeToString()
        for number in range(1000):
            junk = rng.bytes(int(rng.integers(1, 200)))
            if number % 4 == 0:
                with socket.create_connection((host, int(port)), timeout=SOON) as raw:
                    raw.sendall(junk if number % 8 else preface + junk)
            else:
                call, data = [(noise, junk), (noise, good[: int(rng.integers(1, len(good)))]), (task, junk)][
                    number % 4 - 1
                ]
                with pytest.raises(grpc.RpcError) as failure:
                    call(data, timeout=SOON)
                assert failure.value.code() in (
                    grpc.StatusCode.INTERNAL,
                    grpc.StatusCode.INVALID_ARGUMENT,
                    grpc.StatusCode.NOT_FOUND,
                    grpc.StatusCode.UNKNOWN,
                    grpc.StatusCode.FAILED_PRECONDITION,
                ), failure.value
    assert system.serves(served)


def test_a_slow_reader_holds_up_nobody(served, calls):
    """A stream that asks for much and reads nothing ends by its own deadline; others are served meanwhile."""
    request = inference(16, 2)
    request.parameters["wire"].string_param = "float32"
    slow = calls.ModelStreamInfer(iter([request] * 200), timeout=3.0)
    assert system.serves(served)
    with pytest.raises(grpc.RpcError) as failure:
        time.sleep(3.5)
        for _ in slow:
            pass
    assert failure.value.code() == grpc.StatusCode.DEADLINE_EXCEEDED
    assert system.serves(served)


class Liar(tensors.stubs().GRPCInferenceServiceServicer):
    """An edge whose answers do not fit the manifest."""

    answer = None

    def ModelInfer(self, request, context):
        return self.answer


def tampered(array, name="z_prior", raw=None):
    message = tensors.response("prior", "x", {name: array}, {})
    if raw is not None:
        message.raw_output_contents[0] = raw
    return message


GOOD = np.zeros((1, 3, 32, 32), np.uint8)


@pytest.mark.parametrize(
    ("answer", "wire", "text"),
    [
        (tampered(GOOD), "uint8", r"allocated steps = \(5, 3\): must be in \[1, 1000\] and as asked for"),
        (tampered(GOOD.astype(np.float32)), "uint8", "must be z_prior uint8"),
        (tampered(GOOD[:, :, :16]), "uint8", r"must be z_prior uint8 \(1, 3, 32, 32\)"),
        (tampered(GOOD, name="other"), "uint8", "must be z_prior"),
        (tampered(GOOD, raw=b"abc"), "uint8", "3 bytes: shape .1, 3, 32, 32. must have 3072"),
        (tampered(np.full(GOOD.shape, np.nan, np.float32)), "float32", "must be finite"),
    ],
)
def test_an_edge_that_lies_is_found_out(cascade, answer, wire, text):
    from concurrent.futures import ThreadPoolExecutor

    liar = Liar()
    liar.answer = answer
    server = grpc.server(ThreadPoolExecutor(2))
    tensors.stubs().add_GRPCInferenceServiceServicer_to_server(liar, server)
    pb = signalling.messages()
    server.add_generic_rpc_handlers(
        (signalling.handlers(lambda task, context: pb.StepAllocation(prior_steps=5, decode_steps=3)),)
    )
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    try:
        with Connection(f"127.0.0.1:{port}") as connection:
            device = Device(cascade, connection)
            with pytest.raises(EdgeError, match=f"DATA_LOSS: .*{text}"):
                device.generate(Order(wire=wire, **ORDER))
            helped = device.generate(Order(wire=wire, **ORDER), fallback=True)
            assert helped.paradigm == "device" and "DATA_LOSS" in helped.reason
    finally:
        server.stop(None).wait(SOON)


def test_what_breaks_on_the_edge_is_told_without_its_secrets(tiny_folder):
    broken = load(tiny_folder, threads=1)
    edge = Edge(broken)
    server, port = listen(edge, "127.0.0.1", 0)
    try:
        with system.stub(f"127.0.0.1:{port}") as calls:
            original, broken.prior = broken.prior, lambda *arguments, **options: 1 / 0
            fails(
                lambda: calls.ModelInfer(inference(), timeout=SOON),
                "INTERNAL",
                "ZeroDivisionError in 'prior' on the edge",
            )
            broken.prior = original
            assert calls.ModelInfer(inference(), timeout=SOON).outputs[0].name == "z_prior"
    finally:
        edge.jobs.close()
        server.stop(None).wait(SOON)


def test_no_request_and_no_stream_lasts_for_ever(tiny_folder, monkeypatch):
    monkeypatch.setattr("edgeinfer.bridge.work.cascade.CascadeService.idle", 0.2)
    edge = Edge(load(tiny_folder, threads=1), limit=0.3)
    server, port = listen(edge, "127.0.0.1", 0)
    hold = threading.Event()

    def silence():
        hold.wait(SOON)
        yield from ()

    try:
        with system.stub(f"127.0.0.1:{port}") as calls:
            # Whichever notices first, the waiting thread or the working one between two steps, says it in its words.
            fails(lambda: calls.ModelInfer(system.HEAVY), "DEADLINE_EXCEEDED", "")
            with pytest.raises(grpc.RpcError) as failure:
                list(calls.ModelStreamInfer(silence()))
            assert failure.value.code() == grpc.StatusCode.CANCELLED
    finally:
        hold.set()
        edge.jobs.close()
        server.stop(None).wait(SOON)


def test_orders_are_checked_before_anything_is_sent(cascade):
    device = Device(cascade)
    for order, text in [
        (lambda: Order(CAPTION, -1), "seed = -1"),
        (lambda: Order(CAPTION, 2**63), "seed = 9223372036854775808: must be in"),
        (lambda: Order(CAPTION, paradigm="other"), "paradigm = 'other'"),
        (lambda: Order(CAPTION, prior_steps=3), "both or neither"),
        (lambda: Order(CAPTION, prior_steps=3, decode_steps=1001), "decode_steps = 1001"),
    ]:
        with pytest.raises(ValueError, match=text):
            order()
    with pytest.raises(ValueError, match="'cat'"):
        device.generate(Order("a cat"))
    with pytest.raises(ValueError, match="wire = 'int4'"):
        device.generate(Order(CAPTION, wire="int4"))
    with pytest.raises(EdgeError, match="no edge is given"):
        device.generate(Order(CAPTION))


def test_a_deadline_holds_on_the_device_too(cascade):
    with pytest.raises(TimeoutError, match="deadline passed in prior on the device"):
        Device(cascade).generate(Order(CAPTION, 1, "device", 1000, 1000), deadline=0.05)


def test_concurrent_devices_are_all_answered(cascade, served):
    results, errors = [], []

    def run(seed):
        with Connection(served) as connection:
            try:
                results.append(Device(cascade, connection).generate(Order(CAPTION, seed, "split", 4, 3)).image)
            except EdgeError as error:
                errors.append(error.status)

    threads = [threading.Thread(target=run, args=(seed,)) for seed in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(SOON)
    assert len(results) + len(errors) == 8 and len(results) >= 4 and set(errors) <= {"RESOURCE_EXHAUSTED"}


def test_unpack_is_the_inverse_used_on_the_device():
    np.testing.assert_array_equal(unpack(GOOD, (-1, 1)), np.full(GOOD.shape, -1, np.float32))
