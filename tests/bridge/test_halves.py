"""The two halves of a cut network as processes: any cut gives the whole network's outputs, whatever breaks or
changes.
"""

import json
import signal
import subprocess
import sys
import threading
import time
from contextlib import contextmanager

import grpc
import numpy as np
import onnx
import pytest
from onnx import helper

from bridge import networks, system
from bridge.system import SOON
from edgeinfer import Node, RayleighLink, cli
from edgeinfer.bridge import CutSessions, EdgeError, best_cuts, cut, divide, write_parts
from edgeinfer.bridge.device.connection import Connection
from edgeinfer.bridge.edge.server import listen
from edgeinfer.bridge.link.shaper import Shaper
from edgeinfer.bridge.wire import tensors
from edgeinfer.bridge.wire.processes import Process
from edgeinfer.bridge.wire.trace import read_trace
from edgeinfer.bridge.work.network import CutDevice, CutEdge
from edgeinfer.network.feeds import random_feeds

pytestmark = pytest.mark.process
#: Values of x, and of what crosses after one product and after two.
WIDTHS = (4096, 256, 64)


def link(rate):
    """A link of that mean rate, bit/s, whose fading is weak."""
    unit = RayleighLink(1.0, 200, -100, 0, 1e-3)
    return RayleighLink(rate / unit.mean_rate(), 200, -100, 0, 1e-3)


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """A network of three products, wide at its input; an activation is an output, too."""
    rng = np.random.default_rng(1)
    nodes, weights, name = [], {}, "x"
    for number, (rows, columns) in enumerate(zip(WIDTHS, (*WIDTHS[1:], 10), strict=True)):
        weights[f"w{number}"] = (rng.standard_normal((rows, columns)) / np.sqrt(rows)).astype(np.float32)
        nodes.append(helper.make_node("MatMul", [name, f"w{number}"], [f"h{number}"]))
        nodes.append(helper.make_node("Tanh", [f"h{number}"], [f"t{number}"]))
        name = f"t{number}"
    made = networks.model(nodes, {"x": [1, WIDTHS[0]]}, {"t1": [1, WIDTHS[2]], "t2": [1, 10]}, weights)
    path = tmp_path_factory.mktemp("network") / "model.onnx"
    onnx.save(made, path)
    return path


@pytest.fixture(scope="module")
def sessions(model):
    return CutSessions(model)


@pytest.fixture(scope="module")
def feeds(sessions):
    return random_feeds(sessions.graph)


@pytest.fixture(scope="module")
def expected(sessions, feeds):
    return sessions.get(sessions.graph.inputs, sessions.graph.outputs).run(feeds)[0]


@contextmanager
def serving(model, *options):
    """An edge process; `.address` says where."""
    with Process(
        ("-m", "edgeinfer.cli", "serve", str(model), "--port", "0", "--exit-with-stdin", *options), "edge"
    ) as process:
        process.address = f"127.0.0.1:{process.port(SOON)}"
        yield process


@contextmanager
def serving_here(model):
    """An edge in this process; yields where."""
    edge = CutEdge(CutSessions(model))
    edge.warm_up()
    server, port = listen(edge, "127.0.0.1", 0, message_bytes=edge.sessions.message_bytes)
    try:
        yield f"127.0.0.1:{port}"
    finally:
        server.stop(0).wait()
        edge.jobs.close()


@pytest.fixture(scope="module")
def served(model):
    with serving(model) as process:
        yield process.address
        assert process.running, process.errors()


@contextmanager
def talking(sessions, address, count=None):
    """A device that cuts after `count` operations."""
    with (
        Connection(address, message_bytes=sessions.message_bytes) as connection,
        CutDevice(sessions, connection) as device,
    ):
        if count is not None:
            device.use(prefix(sessions.graph, count))
        yield device


def prefix(graph, count):
    return divide(graph, [0] * count + [1] * (len(graph.operations) - count))


def same(outputs, expected):
    # The halves fuse nothing here, but sum in float32: some thousand products.
    assert list(outputs) == list(expected)
    for name, value in expected.items():
        np.testing.assert_allclose(outputs[name], value, rtol=1e-4, atol=1e-5)


class Load:
    """Threads that ask again and again until told to stop; every request ends in `outcomes`, once.

    An outcome is (where it ran, or the status of its failure; its id; its time).
    """

    def __init__(self, device, feeds, expected, threads=4, **options):
        self.outcomes, self.asked, self.stopping = [], 0, threading.Event()
        self._device, self._feeds, self._expected, self._options = device, feeds, expected, options
        self._lock = threading.Lock()
        self._threads = [threading.Thread(target=self._ask) for _ in range(threads)]
        self._broken = []

    def _ask(self):
        try:
            while not self.stopping.is_set():
                with self._lock:
                    self.asked += 1
                start = time.monotonic()
                try:
                    done = self._device.infer(self._feeds, **self._options)
                    same(done.outputs, self._expected)
                    outcome = done.ran, done.request
                except EdgeError as error:
                    outcome = error.status, f"failure {time.monotonic()} {threading.get_ident()}"
                self.outcomes.append((*outcome, time.monotonic() - start))
        except BaseException as error:
            self._broken.append(error)

    def __enter__(self):
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *exception):
        self.stopping.set()
        for thread in self._threads:
            thread.join(SOON)
            assert not thread.is_alive()
        assert not self._broken, self._broken
        assert len(self.outcomes) == self.asked == len({outcome[1] for outcome in self.outcomes})

    def wait_for(self, *kinds, more=1):
        """Until `more` further requests of each kind have ended."""
        for kind in kinds:
            before = self.count(kind)
            system.wait(lambda kind=kind, before=before: self.count(kind) >= before + more or self._broken)

    def count(self, kind):
        return sum(outcome[0] == kind for outcome in list(self.outcomes))


def test_every_cut_of_random_networks_in_this_process():
    """Head and tail with nothing but what crosses between give the whole's outputs, to the last bit without fusion."""
    rng = np.random.default_rng(3)
    cuts = 0
    for _ in range(12):
        model = networks.random_model(rng, int(rng.integers(2, 10)))
        sessions = CutSessions(model, level="disabled", capacity=3)
        graph = sessions.graph
        feeds = random_feeds(graph)
        whole = sessions.get(graph.inputs, graph.outputs).run(feeds)[0]
        for _ in range(8):
            # A random division: an operation runs on the edge if what it reads does, or by chance.
            places, on_edge = [], set()
            for operation in graph.operations:
                places.append(int(bool(on_edge & set(operation.inputs)) or rng.random() < 0.3))
                if places[-1]:
                    on_edge.update(operation.outputs)
            division = divide(graph, places)
            assert set(division.kept) | set(division.returned) == set(graph.outputs)
            found = dict(feeds)
            if division.computed:
                found |= sessions.get(graph.inputs, division.computed).run(feeds)[0]
            results = {name: found[name] for name in division.kept}
            if division.returned:
                carried = {name: found[name] for name in division.crossing}
                results |= sessions.get(division.crossing, division.returned).run(carried)[0]
            assert all(np.array_equal(results[name], whole[name]) for name in graph.outputs)
            cuts += bool(division.computed and division.returned)
    assert cuts > 20
    with pytest.raises(ValueError, match="never be less"):
        divide(CutSessions(chain()).graph, [1, 0])


def chain():
    nodes = [helper.make_node("Relu", ["x"], ["h"]), helper.make_node("Neg", ["h"], ["y"])]
    return networks.model(nodes, {"x": [2]}, {"y": [2]})


def test_sessions_are_few_and_kept(model):
    sessions = CutSessions(model, capacity=2)
    first = sessions.get(("x",), ("t2",))
    assert sessions.get(("x",), ("t2",)) is first
    for name in ("t0", "h1"):
        sessions.get((name,), ("t2",))
    assert sessions.get(("x",), ("t2",)) is not first
    # h0 carries least of what lies between two operations; x itself carries most.
    assert sessions.largest_bits == 32 * WIDTHS[0]
    with pytest.raises(TimeoutError, match="not computed within"):
        first.run({"x": np.zeros((1, WIDTHS[0]), np.float32)}, -1.0)
    for inputs, outputs, text in [
        (("z",), ("t2",), "input 'z': must be a tensor"),
        (("x",), ("z",), "output 'z': must be a tensor"),
        ((), ("t2",), "inputs = .*at least one"),
        (("h2",), ("t1",), "'x': must be given"),
        (("t0", "h2"), ("t2",), "input 't0': must be needed"),
        (("t2",), ("t2",), "input 't2': must be needed"),
    ]:
        with pytest.raises(ValueError, match=text):
            sessions.get(inputs, outputs)


def test_every_cut_between_processes(sessions, feeds, expected, served):
    with talking(sessions, served) as device:
        for count in range(len(sessions.graph.operations) + 1):
            device.use(prefix(sessions.graph, count))
            done = device.infer(feeds, deadline=SOON)
            same(done.outputs, expected)
            assert done.ran == {0: "edge", 6: "device"}.get(count, "split")
            assert (done.transfer_seconds > 0) == (done.edge_seconds > 0) == (count < 6)
            parts = done.device_seconds + done.transfer_seconds + done.queue_seconds + done.edge_seconds
            assert parts <= done.seconds
        assert device.edge_cut().crossing == ("x",)
        with pytest.raises(ValueError, match="input 'x' = float64"):
            device.infer({"x": feeds["x"].astype(float)})
        with pytest.raises(ValueError, match="inputs = 'y': must be 'x'"):
            device.infer({"y": feeds["x"]})


def test_any_client_of_the_protocol_gets_the_whole_network(feeds, expected, served):
    import tritonclient.grpc as triton

    with triton.InferenceServerClient(served) as client:
        assert client.is_model_ready("network")
        about = client.get_model_metadata("network")
        assert [(port.name, port.datatype, list(port.shape)) for port in about.inputs] == [("x", "FP32", [1, 4096])]
        given = triton.InferInput("x", [1, WIDTHS[0]], "FP32")
        given.set_data_from_numpy(feeds["x"])
        answer = client.infer("network", [given])
        same({name: answer.as_numpy(name) for name in expected}, expected)


def asking(sessions, feeds, **changes):
    """A request for the whole network; changes to its fields, and to its one input's."""
    message = tensors.request("network", "a", {"x": feeds["x"]}, {})
    message.model_version = sessions.graph.digest
    for field, value in changes.items():
        if field == "raw":
            message.raw_input_contents[0] = value
        elif field in ("datatype", "shape", "name"):
            setattr(message.inputs[0], field, value) if field != "shape" else message.inputs[0].ClearField("shape")
            if field == "shape":
                message.inputs[0].shape.extend(value)
        elif field == "outputs":
            for name in value:
                message.outputs.add(name=name)
        else:
            setattr(message, field, value)
    return message


@pytest.mark.parametrize(
    ("changes", "status", "text"),
    [
        ({"model_name": "prior"}, "NOT_FOUND", "model = 'prior': must be 'network'"),
        ({"model_version": "0" * 64}, "FAILED_PRECONDITION", "version = '0000"),
        ({"model_version": "../../etc/passwd"}, "FAILED_PRECONDITION", "serves the network of digest"),
        ({"datatype": "INT32"}, "INVALID_ARGUMENT", "input 'x' = INT32 [1, 4096]: must be FP32 [1, 4096]"),
        ({"shape": [4096]}, "INVALID_ARGUMENT", "input 'x' = FP32 [4096]: must be"),
        ({"shape": [-1, 4096]}, "INVALID_ARGUMENT", "must be FP32 [1, 4096]"),
        ({"name": "w0"}, "INVALID_ARGUMENT", "input 'w0': must be a tensor of the network"),
        ({"name": "t2", "shape": [1, 10], "raw": bytes(40)}, "INVALID_ARGUMENT", "tensor 'x': must be given"),
        ({"raw": bytes(4)}, "INVALID_ARGUMENT", "4 bytes: shape [1, 4096] must have 16384"),
        ({"outputs": ["h1"]}, "INVALID_ARGUMENT", "output 'h1': must be one of 't1', 't2'"),
        ({"outputs": ["t2", "t2"]}, "INVALID_ARGUMENT", "each once"),
        ({"id": "i" * 65}, "INVALID_ARGUMENT", "id: 65 characters"),
    ],
)
def test_malformed_requests_are_refused(sessions, feeds, expected, served, changes, status, text):
    """Alone and within a stream, which goes on."""
    bad = asking(sessions, feeds, **changes)
    with system.stub(served) as calls:
        with pytest.raises(grpc.RpcError) as failure:
            calls.ModelInfer(bad, timeout=SOON)
        assert failure.value.code().name == status and text in failure.value.details()
        good = asking(sessions, feeds, id="good")
        answers = {piece.infer_response.id: piece for piece in calls.ModelStreamInfer(iter([bad, good]), timeout=SOON)}
        refused = answers[bad.id[:64]]
        assert text in refused.error_message
        assert tensors.parameters(refused.infer_response)["status"] == status
        found = answers["good"].infer_response
        same(tensors.arrays(found.outputs, found.raw_output_contents), expected)


def test_messages_beyond_the_largest_cut_are_refused(sessions, feeds, served):
    bad = asking(sessions, feeds, raw=bytes(sessions.message_bytes))
    with system.stub(served, message_bytes=2**22) as calls:
        with pytest.raises(grpc.RpcError) as failure:
            calls.ModelInfer(bad, timeout=SOON)
        assert failure.value.code() == grpc.StatusCode.RESOURCE_EXHAUSTED
        assert calls.ModelInfer(asking(sessions, feeds), timeout=SOON).outputs


def test_a_full_queue_and_a_request_too_late(sessions, feeds):
    """Refused at once, and given up without being computed."""
    edge = CutEdge(sessions, capacity=1)
    begin, finish = threading.Event(), threading.Event()
    run = edge.jobs._run

    def slow(batch, progress):
        begin.set()
        finish.wait(SOON)
        return run(batch, progress)

    edge.jobs._run = slow
    ended = []
    for number, seconds in enumerate((SOON, 0.01)):
        job = edge._job(asking(sessions, feeds, id=str(number)), seconds)
        edge._submit(job, ended.append)
        assert begin.wait(SOON)
    with pytest.raises(Exception, match="queue full: 1 of 1"):
        edge._submit(edge._job(asking(sessions, feeds), 1.0), ended.append)
    time.sleep(0.02)
    finish.set()
    system.wait(lambda: len(ended) == 2)
    assert len(edge._answer(ended[0]).outputs) == 2
    with pytest.raises(Exception, match="the deadline passed on the edge"):
        edge._answer(ended[1])
    edge.jobs.close()


def test_a_client_that_reads_no_answers_is_not_read_from(sessions, feeds):
    edge, taken = CutEdge(sessions, capacity=2), []

    class Context:
        active = True

        def is_active(self):
            return self.active

        def add_callback(self, call):
            self.gone = call
            return True

    def endless():
        while True:
            taken.append(1)
            yield asking(sessions, feeds)

    context = Context()
    stream = edge.ModelStreamInfer(endless(), context)
    for read in (1, 2):
        next(stream)
        # Four answers may be to come, of which the one just read is the first; one request more is in hand.
        system.wait(lambda read=read: len(taken) >= 4 + read)
        time.sleep(0.1)
        assert len(taken) == 4 + read
    context.active = False
    context.gone()
    assert len(list(stream)) <= 1 and not edge.jobs._waiting
    edge.jobs.close()


def test_an_answer_that_lies_is_not_taken(sessions, expected):
    device = CutDevice(sessions)
    division = prefix(sessions.graph, 0)
    right = {name: expected[name] for name in division.returned}
    for outputs in (
        {"t2": right["t2"]},
        right | {"t1": right["t1"][0]},
        right | {"t1": right["t1"].astype(np.float16)},
        right | {"more": right["t1"]},
    ):
        with pytest.raises(EdgeError, match=r"DATA_LOSS: answer = .*must be"):
            device._checked(tensors.response("network", "a", outputs, {}), division, 0.0)
    torn = tensors.response("network", "a", right, {})
    torn.raw_output_contents[0] = b""
    with pytest.raises(EdgeError, match="0 bytes"):
        device._checked(torn, division, 0.0)
    found = device._checked(tensors.response("network", "a", right, {"queue_ns": "long"}), division, 0.0)
    assert set(found.outputs) == set(right) and found.queue_seconds == found.compute_seconds == 0


def test_another_network_is_noticed(sessions, feeds, tmp_path):
    onnx.save(chain(), tmp_path / "other.onnx")
    with serving_here(tmp_path / "other.onnx") as address, talking(sessions, address, 2) as device:
        for call in (device.edge_cut, lambda: device.infer(feeds)):
            with pytest.raises(EdgeError, match=r"FAILED_PRECONDITION.*digest"):
                call()


def test_the_edge_with_its_part_alone(model, sessions, feeds, expected, tmp_path):
    """It serves its cut and those behind it; a device that plans keeps to what is there."""
    nodes = {"device": Node("device", 1e9), "edge": Node("edge", 1e9)}
    chosen = cut(sessions.graph, **nodes, link=link(1e6))
    chosen = type(chosen)(chosen.network, chosen.nodes, chosen.links, (), (0, 0, 1, 1, 1, 1))
    write_parts(model, chosen, tmp_path)
    (tmp_path / "device.onnx").unlink()
    with serving_here(tmp_path) as address, talking(sessions, address) as device:
        assert device.edge_cut().places == (0, 0, 1, 1, 1, 1)
        for count in (2, 4):
            device.use(prefix(sessions.graph, count))
            same(device.infer(feeds, deadline=SOON).outputs, expected)
        device.use(prefix(sessions.graph, 0))
        with pytest.raises(EdgeError, match="INVALID_ARGUMENT: input 'x': must be a tensor"):
            device.infer(feeds, deadline=SOON)
        device.plan(slowdown=1e4)
        assert {cut.places for cut in device.adaptive.cuts.cuts} == {(0,) * 6, (0, 0, 1, 1, 1, 1)}
        assert device.infer(feeds, deadline=SOON).ran == "split"


def test_nothing_is_lost_or_answered_twice_while_the_link_changes(model, sessions, feeds, expected, tmp_path):
    """Fast, slow, out, and fast again, with four requests in flight: the cut follows, wholly remote, split, wholly
    local.

    The best cut is remote above 1 Mbit/s and split down to 40 kbit/s. What the device sees is the link's rate or less,
    since every transfer costs processor time too: 131 kbit at once, or 8 kbit at the split, must not take 0.1 s more
    than that.
    """
    path = tmp_path / "edge.jsonl"
    bits = 32 * np.array(WIDTHS)
    # Times of the products that make these the rates at which the best cut changes.
    first, others = (bits[0] - bits[1]) / 1e6, bits[1] / 4e4
    flops = [operation.flops for operation in sessions.graph.operations]
    speed = sum(flops) / (first + others)
    rated = [round(speed * seconds) for seconds in (first, 0, others, 0, 0, 0)]
    graph = type(sessions.graph)(
        **vars_of(sessions.graph)
        | {
            "operations": tuple(
                type(o)(**vars_of(o) | {"flops": work})
                for o, work in zip(sessions.graph.operations, rated, strict=True)
            )
        }
    )
    cuts = best_cuts(graph, device=Node("device", speed), edge=Node("edge", 1e6 * speed), link=link(1e6))
    assert [c.bits[0] for c in cuts.cuts] == [0, bits[1], bits[0]]
    np.testing.assert_allclose(cuts.rates, [4e4, 1e6], rtol=0.02)
    shaper = None
    try:
        with serving(model, "--trace", str(path)) as edge:
            host, port = edge.address.split(":")
            shaper = Shaper(("127.0.0.1", 0), (host, int(port)), None, link(1e8), seed=1)
            threading.Thread(target=shaper.serve, daemon=True).start()
            with talking(sessions, f"127.0.0.1:{shaper.port}") as device:
                device.adapt(cuts, probe=0.2)
                options = {"deadline": SOON, "patience": 2.0, "fallback": True}
                with Load(device, feeds, expected, **options) as load:
                    load.wait_for("edge", more=20)
                    shaper.change(None, link(5e5))
                    load.wait_for("split", more=20)
                    shaper.fail()
                    system.wait(lambda: set(device.division.places) == {0})
                    load.wait_for("device", more=20)
                    shaper.recover()
                    shaper.change(None, link(1e8))
                    load.wait_for("edge", more=20)
                assert {outcome[0] for outcome in load.outcomes} == {"edge", "split", "device"}
                answered = {outcome[1] for outcome in load.outcomes if outcome[0] != "device"}
    finally:
        if shaper is not None:
            shaper.close()
    sent = [r["request"] for r in read_trace(path) if r["name"] == "ModelInferResponse"]
    assert len(sent) == len(set(sent)) and answered <= set(sent)


def vars_of(record):
    return {name: getattr(record, name) for name in record.__dataclass_fields__}


@pytest.mark.parametrize("victim", ["edge", "link"])
def test_kill_of_edge_or_link_under_load(model, sessions, feeds, expected, victim):
    """Requests in flight fail or are finished here at once; an edge that comes back is used again."""
    with serving(model) as edge, system.link(edge.address, "--set", "bandwidth=1e9") as shaped:
        with talking(sessions, shaped.address, 2) as device, talking(sessions, shaped.address, 2) as other:
            backed = Load(device, feeds, expected, deadline=SOON, fallback=True)
            plain = Load(other, feeds, expected, deadline=SOON)
            with backed, plain:
                backed.wait_for("split", more=20)
                plain.wait_for("split", more=20)
                {"edge": edge, "link": shaped}[victim].signal(signal.SIGKILL)
                backed.wait_for("device", more=20)
                plain.wait_for("UNAVAILABLE", more=4)
            assert {outcome[0] for outcome in backed.outcomes} == {"split", "device"}
            assert {outcome[0] for outcome in plain.outcomes} == {"split", "UNAVAILABLE"}
            assert max(outcome[2] for outcome in backed.outcomes + plain.outcomes) < SOON
            if victim == "edge":
                port = edge.address.rpartition(":")[2]
                edge.wait(SOON)
                with Process(("-m", "edgeinfer.cli", "serve", str(model), "--port", port), "edge") as again:
                    again.port(SOON)
                    system.wait(lambda: device.infer(feeds, deadline=SOON, fallback=True).ran == "split")


def test_kill_of_one_device_leaves_the_others_served(model, sessions, feeds, expected, served):
    command = ("-m", "edgeinfer.cli", "infer", str(model), "--edge", served, "--cut", "2", "--requests", "1000000")
    with talking(sessions, served, 2) as device, Process(command, "infer") as victim:
        with Load(device, feeds, expected, threads=2, deadline=SOON) as load:
            # The victim has begun once it has loaded its libraries, which takes longer than 20 requests of ours.
            load.wait_for("split", more=20)
            time.sleep(3)
            assert victim.running, victim.errors()
            victim.signal(signal.SIGKILL)
            assert victim.wait(SOON) == -signal.SIGKILL
            load.wait_for("split", more=20)
        assert {outcome[0] for outcome in load.outcomes} == {"split"}


def test_an_outage_of_the_link(model, sessions, feeds, expected, served, tmp_path):
    """Within its deadline a request fails, or is finished here; afterwards the same stream goes on."""
    path = tmp_path / "link.jsonl"
    with system.link(served, "--set", "bandwidth=1e9", "--trace", str(path)) as shaped:
        with talking(sessions, shaped.address, 2) as device:
            assert device.infer(feeds, deadline=SOON).ran == "split"
            shaped.signal(signal.SIGUSR1)
            system.wait(lambda: any(r["name"] == "outage begins" for r in read_trace(path)))
            with pytest.raises(EdgeError, match="DEADLINE_EXCEEDED: no answer within"):
                device.infer(feeds, deadline=0.5)
            helped = device.infer(feeds, deadline=SOON, patience=0.5, fallback=True)
            assert helped.ran == "device" and "DEADLINE_EXCEEDED" in helped.reason
            same(helped.outputs, expected)
            shaped.signal(signal.SIGUSR2)
            assert device.infer(feeds, deadline=SOON).ran == "split"


def test_the_edge_goes_away_in_peace(model, sessions, feeds, expected):
    with serving(model) as edge, talking(sessions, edge.address, 2) as device:
        with Load(device, feeds, expected, deadline=SOON, fallback=True) as load:
            load.wait_for("split", more=10)
            edge.signal(signal.SIGTERM)
            assert edge.wait(SOON) == 0
            load.wait_for("device", more=10)


def run(*arguments):
    return subprocess.run(
        [sys.executable, "-m", "edgeinfer.cli", *map(str, arguments)], capture_output=True, text=True, timeout=SOON
    )


def test_command_line(model, feeds, expected, served, tmp_path):
    np.save(tmp_path / "x.npy", feeds["x"])
    np.savez(tmp_path / "x.npz", x=feeds["x"])
    out = tmp_path / "out.npz"
    for where, source in (("2", "x.npy"), ("auto", "x.npz")):
        done = run(
            "infer",
            model,
            "--edge",
            served,
            "--cut",
            where,
            "--input",
            tmp_path / source,
            "-o",
            out,
            "--json",
            "--requests",
            2,
        )
        assert done.returncode == 0 and not done.stderr, done.stderr
        rows = json.loads(done.stdout)
        assert len(rows) == 2 and all(row["total_s"] > 0 and not row["reason"] for row in rows)
        if where != "auto":
            assert [row["ran"] for row in rows] == ["split"] * 2
            assert rows[0]["crossing"] == "t0"
        with np.load(out) as found:
            same({name: found[name] for name in found.files}, expected)
        out.unlink()


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (("serve", "{model}", "--host", "0.0.0.0", "--port", "0"), "host = '0.0.0.0': must be a loopback address"),
        (("serve", "{model}", "--certificate", "{model}"), "certificate, key: must be given together"),
        (("serve", "{folder}/none.onnx"), "does not exist"),
        (("serve", "{folder}"), "parts.json: missing"),
        (("serve", "{folder}/torn.onnx"), "torn.onnx: not an ONNX model"),
        (("serve", "{model}", "--shape", "x"), "--shape x: must be NAME=SIZES"),
        (("serve", "{folder}/liar"), "parts.json: not the parts of a cut"),
        (("infer", "{model}"), "--cut auto: needs --edge HOST:PORT"),
        (
            ("infer", "{model}", "--cut", "7", "--edge", "127.0.0.1:1"),
            "--cut 7: must be auto, device, edge or in 0 .. 6",
        ),
        (("infer", "{model}", "--cut", "device", "--input", "{folder}/torn.onnx"), "torn.onnx: "),
        (
            ("infer", "{model}", "--cut", "device", "--input", "{folder}/short.npy"),
            "--input 'x' = (3,): must have 2 sizes",
        ),
        (("infer", "{model}", "--cut", "2", "--edge", "127.0.0.1"), "edge = '127.0.0.1': must be HOST:PORT"),
        (("infer", "{model}", "--cut", "2", "--edge", "127.0.0.1:1"), "edge: UNAVAILABLE"),
        (("infer", "{model}", "--cut", "device", "--deadline", "-1"), "'--deadline'"),
        (
            ("infer", "{model}", "--edge", "127.0.0.1:1", "--ca", "{model}", "--key", "{model}"),
            "must be the CA, or all three",
        ),
    ],
)
def test_bad_input_is_one_line(model, tmp_path, monkeypatch, capsys, arguments, text):
    (tmp_path / "torn.onnx").write_bytes(b"\x08")
    np.save(tmp_path / "short.npy", np.zeros(3, np.float32))
    (tmp_path / "liar").mkdir()
    (tmp_path / "liar" / "parts.json").write_text('{"digest": "0", "parts": [{"file": "../model.onnx"}]}')
    told = [argument.format(model=model, folder=tmp_path) for argument in arguments]
    monkeypatch.setattr("sys.argv", ["edgeinfer", *told])
    with pytest.raises(SystemExit) as stop:
        cli.main()
    assert stop.value.code == 2 and text in " ".join(capsys.readouterr().err.split())
