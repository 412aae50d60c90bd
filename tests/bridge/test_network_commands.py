"""`cut`, `serve` and `infer` say what they assume, what they lack and where they ran."""

import csv
import io
import socket
import subprocess
import sys
import time

import grpc
import numpy as np
import onnx
import pytest
from click.testing import CliRunner
from onnx import TensorProto, helper, numpy_helper

from bridge.system import SOON
from edgeinfer import cli
from edgeinfer.bridge import CutSessions, EdgeError
from edgeinfer.bridge.cutting.cuts import divide, furthest
from edgeinfer.bridge.device.connection import Connection
from edgeinfer.bridge.edge.server import listen
from edgeinfer.bridge.wire import tensors
from edgeinfer.bridge.wire.processes import Process
from edgeinfer.bridge.work.network import CutDevice, CutEdge

pytestmark = pytest.mark.process
W = np.random.default_rng(0).standard_normal((4, 4)).astype("f")


def build(nodes, inputs, outputs, opsets=(("", 17),)):
    made = [helper.make_opsetid(domain, version) for domain, version in opsets]
    graph = helper.make_graph(nodes, "graph", inputs, outputs, [numpy_helper.from_array(W, "W")])
    return helper.make_model(graph, opset_imports=made, ir_version=8)


def value(name, sizes, element=TensorProto.FLOAT):
    return helper.make_tensor_value_info(name, element, sizes)


def chain(path, *kinds, batch="n"):
    """MatMul, then the kinds, one after another."""
    nodes = [helper.make_node("MatMul", ["x", "W"], ["t0"])]
    nodes += [helper.make_node(kind, [f"t{i}"], [f"t{i + 1}"]) for i, kind in enumerate(kinds)]
    onnx.save(build(nodes, [value("x", [batch, 4])], [value(f"t{len(kinds)}", [batch, 4])]), path)
    return path


def run(*arguments):
    return CliRunner().invoke(cli.group, [str(argument) for argument in arguments])


def rows(text):
    return list(csv.DictReader(io.StringIO(text)))


def command(monkeypatch, capsys, *arguments):
    """Exit status and the line of an error."""
    monkeypatch.setattr("sys.argv", ["edgeinfer", *map(str, arguments)])
    with pytest.raises(SystemExit) as stop:
        cli.main()
    return stop.value.code, capsys.readouterr().err


@pytest.fixture(scope="module")
def one(tmp_path_factory):
    return chain(tmp_path_factory.mktemp("one") / "one.onnx", "Relu", "Tanh")


@pytest.fixture(scope="module")
def fixed(tmp_path_factory):
    return chain(tmp_path_factory.mktemp("fixed") / "fixed.onnx", "Relu", "Tanh", batch=1)


def test_a_profile_is_of_the_network_and_of_the_sizes(one, tmp_path, monkeypatch, capsys):
    stored = tmp_path / "one.json"
    first = run("cut", one, "--shape", "x=3,4", "--measure", "--profile", stored, "--csv")
    assert first.exit_code == 0, first.output
    assert run("cut", one, "--profile", stored, "--csv").output == first.output
    assert run("cut", one, "--profile", stored, "--shape", "n=3", "--csv").output == first.output
    with serving(one, "--shape", "n=3") as edge:
        done = run("infer", one, "--profile", stored, "--edge", f"127.0.0.1:{edge.port(SOON)}", "--csv")
        assert done.exit_code == 0 and len(rows(done.stdout)) == 1, done.output
    other = chain(tmp_path / "other.onnx", "Relu")
    for arguments, text in (
        ((other, "--shape", "n=3"), "is of another network than"),
        ((one, "--shape", "n=5"), "is of other sizes than"),
    ):
        code, said = command(monkeypatch, capsys, "cut", *arguments, "--profile", stored)
        assert code == 2 and text in said


def test_measured_times_come_with_the_speeds_that_are_assumed(fixed, tmp_path):
    stored = tmp_path / "fixed.json"
    (here, *_) = rows(run("cut", fixed, "--measure", "--profile", stored, "--csv").output)
    assert here["device_flops"] == here["edge_flops"]
    slower = rows(run("cut", fixed, "--profile", stored, "--slowdown", 4, "--csv").output)[0]
    assert float(slower["device_flops"]) == pytest.approx(float(here["device_flops"]) / 4)
    told = rows(run("cut", fixed, "--profile", stored, "--set", "device_flops=1e9", "--csv").output)[0]
    assert float(told["device_flops"]) == 1e9 and told["edge_flops"] == here["edge_flops"]
    both = run("cut", fixed, "--profile", stored, "--slowdown", 4, "--set", "device_flops=1e9")
    assert both.exit_code == 2 and "--slowdown: not with --set device_flops" in both.output
    alone = run("cut", fixed, "--slowdown", 4)
    assert alone.exit_code == 2 and "--slowdown: is of what was measured" in alone.output


def test_unknown_flop_are_measured_and_said(tmp_path):
    branch = helper.make_graph([helper.make_node("MatMul", ["x", "W"], ["b"])], "branch", [], [value("b", [1, 4])])
    nodes = [
        helper.make_node("ReduceSum", ["x"], ["s"], keepdims=0),
        helper.make_node("Cast", ["s"], ["c"], to=TensorProto.BOOL),
        helper.make_node("If", ["c"], ["y"], then_branch=branch, else_branch=branch),
    ]
    path = tmp_path / "branches.onnx"
    onnx.save(build(nodes, [value("x", [1, 4])], [value("y", [1, 4])]), path)
    done = run("cut", path, "--csv")
    assert done.exit_code == 0 and "FLOP of y are unknown: the times are measured here" in done.stderr
    assert float(rows(done.stdout)[0]["device_flops"]) > 0


def test_sizes_by_name_or_from_the_input(one, tmp_path, monkeypatch, capsys):
    code, said = command(monkeypatch, capsys, "cut", one)
    assert code == 2 and "size of input 'x' = (missing)" in said and "; give --shape NAME=SIZES" in said
    assert run("cut", one, "--shape", "n=2").exit_code == 0
    np.save(tmp_path / "x.npy", np.ones((3, 4), "f"))
    out = tmp_path / "out.npz"
    done = run("infer", one, "--cut", "device", "--input", tmp_path / "x.npy", "-o", out, "--csv")
    assert done.exit_code == 0, done.output
    with np.load(out) as found:
        np.testing.assert_allclose(found["t2"], np.tanh(np.maximum(np.ones((3, 4), "f") @ W, 0)), rtol=1e-6)
    nodes = [helper.make_node("Mul", ["a=b", "s"], ["h"]), helper.make_node("Concat", ["p", "h"], ["y"], axis=0)]
    inputs = [value("a=b", ["n", 4]), value("s", []), value("p", ["m", 4])]
    odd = tmp_path / "odd.onnx"
    onnx.save(build(nodes, inputs, [value("y", ["k", 4])]), odd)
    assert run("cut", odd, "--shape", "a=b=1,4", "--shape", "s=", "--shape", "m=0").exit_code == 0


def test_an_output_that_cannot_be_written_is_refused_first(fixed, tmp_path, monkeypatch, capsys):
    nowhere = tmp_path / "none" / "out.npz"
    code, said = command(monkeypatch, capsys, "infer", fixed, "--cut", "device", "-o", nowhere)
    assert code == 2 and "--output" in said and "must be a folder that can be written" in said


def serving(path, *options):
    return Process(("-m", "edgeinfer.cli", "serve", str(path), "--port", "0", "--exit-with-stdin", *options), "edge")


def test_every_cut_that_the_help_offers(fixed):
    with serving(fixed) as edge:
        address = f"127.0.0.1:{edge.port(SOON)}"
        for count in range(4):
            done = run("infer", fixed, "--edge", address, "--cut", count, "--csv")
            assert done.exit_code == 0, done.output
            (row,) = rows(done.stdout)
            assert row["ran"] == ("edge", "split", "split", "device")[count]
            assert (float(row["link_mbit_per_s"] or 0) > 0) == (count < 3)
            assert not row["reason"] and not done.stderr
    assert run("infer", fixed, "--cut", "3").exit_code == 0


def test_a_fallback_says_why(one, fixed, tmp_path):
    other = chain(tmp_path / "other.onnx", "Tanh", "Relu", batch=1)
    with serving(one, "--shape", "n=1") as edge:
        address = f"127.0.0.1:{edge.port(SOON)}"
        for path, options, text in ((other, (), "of digest"), (one, ("--shape", "n=2"), "of sizes [1, 4]")):
            done = run("infer", path, *options, "--edge", address, "--fallback", "--csv", "--requests", 2)
            assert done.exit_code == 0, done.output
            assert [row["ran"] for row in rows(done.stdout)] == ["device"] * 2
            assert all(text in row["reason"] for row in rows(done.stdout))
            assert done.stderr.count(text) == 1


def test_an_edge_that_starts_late_is_found(fixed):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    # The edge of this test is all that answers; the profile keeps the cut on the edge.
    device = [
        sys.executable,
        "-m",
        "edgeinfer.cli",
        "infer",
        str(fixed),
        "--edge",
        f"127.0.0.1:{port}",
        "--cut",
        "edge",
        "--fallback",
        "--csv",
        "--requests",
        "1000000",
    ]
    with subprocess.Popen(device, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as process:
        try:
            names = process.stdout.readline().strip().split(",")
            first = dict(zip(names, process.stdout.readline().split(","), strict=False))
            assert first["ran"] == "device" and "UNAVAILABLE" in first["reason"]
            edge = ("-m", "edgeinfer.cli", "serve", str(fixed), "--port", str(port), "--exit-with-stdin")
            with Process(edge, "edge"):
                limit = time.monotonic() + SOON
                for line in process.stdout:
                    if line.split(",")[1] == "edge":
                        break
                    assert time.monotonic() < limit
        finally:
            process.kill()


def test_requests_are_told_on_request(fixed):
    arguments = [
        sys.executable,
        "-m",
        "edgeinfer.cli",
        "serve",
        str(fixed),
        "--port",
        "0",
        "--exit-with-stdin",
        "--verbose",
    ]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    with subprocess.Popen(arguments, **pipes) as edge:
        address = edge.stdout.readline().split()[-1]
        (row,) = rows(run("infer", fixed, "--edge", address, "--cut", "edge", "--csv").stdout)
        edge.stdin.close()
        assert f"{row['request']}: t2 in " in edge.stderr.read()


@pytest.fixture
def answering():
    """Serves sessions in this process, and gives a connection to each."""
    servers = []

    def start(sessions):
        edge = CutEdge(sessions)
        edge.warm_up()
        server, port = listen(edge, "127.0.0.1", 0, message_bytes=sessions.message_bytes)
        servers.append((server, edge))
        return Connection(f"127.0.0.1:{port}", message_bytes=sessions.message_bytes)

    yield start
    for server, edge in servers:
        server.stop(0)
        edge.jobs.close()


def test_versions_agree(fixed, answering):
    sessions = CutSessions(fixed)
    with answering(sessions) as connection:
        service = tensors.service()
        listed = list(connection.metadata(service.ModelMetadataRequest(name="network"), timeout=SOON).versions)
        request = tensors.request("network", "a", {"x": np.ones((1, 4), "f")}, {})
        answer = connection.infer(request, timeout=SOON)
        assert [answer.model_version] == listed == [sessions.graph.digest]
        request.model_version = answer.model_version
        assert connection.infer(request, timeout=SOON).outputs
        request.model_version = "1"
        with pytest.raises(grpc.RpcError, match="serves the network of digest"):
            connection.infer(request, timeout=SOON)
        edge = CutEdge(sessions)
        for version, ready in (("", True), (listed[0], True), ("1", False)):
            asked = service.ModelReadyRequest(name="network", version=version)
            assert edge.ModelReady(asked, None).ready is ready
        edge.jobs.close()


def test_outputs_of_any_size_come_back(answering):
    nodes = [
        helper.make_node("MatMul", ["x", "W"], ["h"]),
        helper.make_node("NonZero", ["h"], ["found"]),
        helper.make_node("Neg", ["W"], ["grid"]),
    ]
    outputs = [value("found", [2, "m"], TensorProto.INT64), value("grid", [4, 4]), value("x", [1, 4])]
    model = build(nodes, [value("x", [1, 4])], outputs)
    sessions = CutSessions(model)
    with answering(sessions) as connection, CutDevice(sessions, connection) as device:
        device.use(divide(sessions.graph, (1, 1)))
        for x in (np.ones((1, 4), "f"), np.zeros((1, 4), "f")):
            done = device.infer({"x": x}, deadline=SOON)
            assert done.ran == "edge" and list(done.outputs) == ["found", "grid", "x"]
            np.testing.assert_array_equal(done.outputs["found"], np.nonzero(x @ W))
            np.testing.assert_array_equal(done.outputs["grid"], -W)
        device.plan()
        assert device.infer({"x": x}, deadline=SOON).outputs["found"].shape == (2, 0)


def test_what_cannot_cross_stays_on_the_device(answering):
    nodes = [
        helper.make_node("LabelEncoder", ["word"], ["n"], domain="ai.onnx.ml", keys_strings=["a"], values_floats=[2.0]),
        helper.make_node("Mul", ["n", "x"], ["h"]),
        helper.make_node("MatMul", ["h", "W"], ["y"]),
    ]
    inputs = [value("word", [1], TensorProto.STRING), value("x", [1, 4])]
    sessions = CutSessions(build(nodes, inputs, [value("y", [1, 4])], (("", 17), ("ai.onnx.ml", 3))))
    assert furthest(sessions.graph) == (0, 1, 1)
    feeds = {"word": np.array(["a"], object), "x": np.ones((1, 4), "f")}
    with answering(sessions) as connection, CutDevice(sessions, connection) as device:
        device.plan()
        device.use(device.edge_cut())
        done = device.infer(feeds, deadline=SOON)
        assert done.ran == "split"
        np.testing.assert_allclose(done.outputs["y"], 2 * np.ones((1, 4)) @ W, rtol=1e-6)
        message = tensors.request("network", "a", {"x": feeds["x"]}, {})
        with pytest.raises(grpc.RpcError, match="tensor 'word': must be given"):
            connection.infer(message, timeout=SOON)
    with CutDevice(sessions) as alone, pytest.raises(EdgeError, match="no edge is given"):
        alone.plan()
