"""Real processes killed, cut off and misled: nothing hangs, every request gets an answer or a stated error."""

import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from contextlib import contextmanager
from dataclasses import asdict

import grpc
import numpy as np
import pytest

from bridge import system
from bridge.system import CAPTION, SOON
from edgeinfer import RayleighLink, cli
from edgeinfer.bridge.device.connection import Connection, EdgeError
from edgeinfer.bridge.run.load import load_test
from edgeinfer.bridge.run.runs import Run
from edgeinfer.bridge.run.user import Load
from edgeinfer.bridge.wire import security
from edgeinfer.bridge.wire.processes import Process
from edgeinfer.bridge.wire.trace import read_trace
from edgeinfer.bridge.work.cascade import Device, Order

pytestmark = pytest.mark.process
ORDER = Order(CAPTION, 1, "split", 4, 3)
LINK = RayleighLink(1e6, 31, -100, 128.1, 0.01)


@pytest.fixture
def alone(cascade):
    return Device(cascade).generate(Order(CAPTION, 1, "device", 4, 3)).image


@contextmanager
def asking(device, count, **options):
    """`count` threads that each ask once; yields their outcomes, complete when the block ends."""
    outcomes = []

    def ask():
        start = time.monotonic()
        try:
            outcomes.append(device.generate(ORDER, **options).paradigm)
        except EdgeError as error:
            outcomes.append(error.status)
        assert time.monotonic() - start < SOON

    threads = [threading.Thread(target=ask) for _ in range(count)]
    for thread in threads:
        thread.start()
    yield outcomes
    for thread in threads:
        thread.join(SOON)
    assert len(outcomes) == count


@pytest.mark.parametrize("victim", ["edge", "link"])
def test_kill_of_edge_or_link_under_load(tiny_folder, cascade, alone, tmp_path, victim):
    """Eight requests wait behind long ones when the process dies: four fail at once, four with fallback finish."""
    path = tmp_path / "edge.jsonl"

    def asked():
        return sum(r["name"] == "ModelInferRequest" for r in read_trace(path))

    with (
        system.edge(tiny_folder, "--queue", "16", "--trace", str(path)) as edge,
        system.link(edge.address) as link,
        Connection(link.address) as connection,
    ):
        device = Device(cascade, connection)
        with system.busy(edge.address, 4):
            system.wait(lambda: asked() == 4)
            with asking(device, 4, deadline=SOON) as plain, asking(device, 4, deadline=SOON, fallback=True) as backed:
                system.wait(lambda: asked() == 12)
                {"edge": edge, "link": link}[victim].signal(signal.SIGKILL)
        assert plain == ["UNAVAILABLE"] * 4 and backed == ["device"] * 4
        np.testing.assert_array_equal(device.generate(ORDER, fallback=True).image, alone)
        if victim == "link":
            with Connection(edge.address) as direct:
                assert Device(cascade, direct).generate(ORDER, deadline=SOON).paradigm == "split"
            assert edge.running


def test_kill_of_one_device_leaves_the_others_served(tiny_folder, cascade, tmp_path):
    path = tmp_path / "edge.jsonl"
    with system.edge(tiny_folder, "--queue", "9", "--trace", str(path)) as edge:
        command = ("-m", "edgeinfer.cli", "generate", CAPTION, "--edge", edge.address, "--model", str(tiny_folder))
        steps = ("--prior-steps", "1000", "--decode-steps", "8", "-o", str(tmp_path / "never.png"))
        with (
            system.busy(edge.address),
            Process((*command, *steps), "generate") as victim,
            Connection(edge.address) as connection,
        ):
            system.wait(lambda: sum(r["name"] == "ModelInferRequest" for r in read_trace(path)) == 2)
            with asking(Device(cascade, connection), 3, deadline=SOON) as outcomes:
                victim.signal(signal.SIGKILL)
                assert victim.wait(SOON) == -signal.SIGKILL
                system.wait(lambda: any(r["name"] == "cancelled" for r in read_trace(path)))
                assert system.serves(edge.address, 2 * SOON)
        assert outcomes == ["split"] * 3
    assert not (tmp_path / "never.png").exists()


def test_an_outage_of_the_link(tiny_folder, cascade, alone, tmp_path):
    path = tmp_path / "link.jsonl"
    with (
        system.edge(tiny_folder) as edge,
        system.link(edge.address, "--set", "bandwidth=1e7", "--trace", str(path)) as link,
    ):
        with Connection(link.address) as connection:
            device = Device(cascade, connection)
            assert device.generate(ORDER, deadline=SOON).paradigm == "split"
            link.signal(signal.SIGUSR1)
            system.wait(lambda: any(r["name"] == "outage begins" for r in read_trace(path)))
            with pytest.raises(EdgeError, match="DEADLINE_EXCEEDED"):
                device.generate(ORDER, deadline=0.5)
            helped = device.generate(ORDER, deadline=SOON, patience=0.5, fallback=True)
            assert helped.paradigm == "device"
            np.testing.assert_array_equal(helped.image, alone)
            link.signal(signal.SIGUSR2)
            assert device.generate(ORDER, deadline=SOON).paradigm == "split"


def test_the_edge_goes_away_in_peace(tiny_folder, tmp_path):
    """SIGTERM under load: what runs and what waits fails with a reason, and the process ends."""
    path = tmp_path / "edge.jsonl"
    with system.edge(tiny_folder, "--trace", str(path)) as edge, system.stub(edge.address) as calls:
        futures = [calls.ModelInfer.future(system.HEAVY, timeout=SOON) for _ in range(3)]
        system.wait(lambda: sum(r["name"] == "ModelInferRequest" for r in read_trace(path)) == 3)
        edge.signal(signal.SIGTERM)
        assert edge.wait(SOON) == 0
        for future in futures:
            assert future.exception(SOON).code() == grpc.StatusCode.UNAVAILABLE


def test_children_end_with_their_parent(tiny_folder):
    with system.edge(tiny_folder) as edge, system.link(edge.address) as link:
        for process in (edge, link):
            process.hang_up()
            assert process.wait(SOON) == 0


def run(*arguments, **options):
    return subprocess.run(
        [sys.executable, "-m", "edgeinfer.cli", *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=SOON,
        **options,
    )


def test_command_line(tiny_folder, tmp_path, alone):
    from PIL import Image

    steps = ("--model", tiny_folder, "--prior-steps", 4, "--decode-steps", 3, "--seed", 1)
    with system.edge(tiny_folder) as edge, system.link(edge.address, "--set", "bandwidth=1e7") as link:
        for paradigm in ("split", "edge", "device"):
            out, trace = tmp_path / f"{paradigm}.png", tmp_path / f"{paradigm}.jsonl"
            asked = () if paradigm == "device" else ("--edge", link.address)
            done = run("generate", CAPTION, *asked, *steps, "--paradigm", paradigm, "-o", out, "--trace", trace)
            assert done.returncode == 0 and not done.stderr, done.stderr
            image = np.asarray(Image.open(out)).astype(int)
            assert image.shape == (64, 64, 3) and np.abs(image - alone).max() <= 2
            [end] = [r for r in read_trace(trace) if r["name"] == "done"]
            assert end["paradigm"] == paradigm and end["request"] in done.stdout
        edge.signal(signal.SIGKILL)
        edge.wait(SOON)
        out = tmp_path / "none.png"
        done = run("generate", CAPTION, "--edge", link.address, *steps, "-o", out)
        assert done.returncode == 2 and done.stderr.startswith("edgeinfer: edge: UNAVAILABLE") and not out.exists()
        done = run("generate", CAPTION, "--edge", link.address, *steps, "-o", out, "--fallback")
        assert done.returncode == 0 and "finished alone: edge: UNAVAILABLE" in done.stderr and out.exists()


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (("edge", "{model}", "--host", "0.0.0.0", "--port", "0"), "host = '0.0.0.0': must be a loopback address"),
        (("link", "--listen", "0.0.0.0:0", "--to", "127.0.0.1:1"), "host = '0.0.0.0': must be a loopback address"),
        (("link", "--listen", "0", "--to", "127.0.0.1"), "to = '127.0.0.1': must be HOST:PORT"),
        (("link", "--listen", "0", "--to", "127.0.0.1:1", "--outage", "3"), "must be FROM:TO"),
        (("link", "--listen", "0", "--to", "127.0.0.1:1", "--outage", "3:2"), "outages[0]"),
        (("generate", "a circle", "-o", "x.png"), "needs --edge HOST:PORT"),
        (("generate", "a cat", "--model", "{model}", "--paradigm", "device", "-o", "{out}"), "'cat'"),
        (
            ("generate", "a", "--model", "{model}", "--paradigm", "device", "-o", "{out}/no/x.png"),
            "its folder must exist",
        ),
        (
            ("generate", "a", "--model", "{model}", "--paradigm", "device", "-o", "x.png", "--prior-steps", "3"),
            "both or neither",
        ),
        (("edge", "{model}", "--certificate", "{model}/cascade.json"), "certificate, key: must be given together"),
    ],
)
def test_bad_input_is_one_line(tiny_folder, tmp_path, monkeypatch, capsys, arguments, text):
    told = [argument.format(model=tiny_folder, out=tmp_path / "x.png") for argument in arguments]
    monkeypatch.setattr("sys.argv", ["edgeinfer", *told])
    with pytest.raises(SystemExit) as stop:
        cli.main()
    assert stop.value.code == 2 and text in " ".join(capsys.readouterr().err.split())


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("wire", {"shape": [3, 8, 8]}),
        ("stages", [{"name": "prior"}]),
        ("text", {"part": "../../etc", "tokenizer": "x"}),
    ],
)
def test_a_manifest_that_lies(tiny_folder, tmp_path, field, value):
    """The edge says so and does not start."""
    folder = tmp_path / "liar"
    shutil.copytree(tiny_folder, folder)
    manifest = json.loads((folder / "cascade.json").read_text())
    manifest[field] = manifest[field] | value if isinstance(value, dict) else value
    (folder / "cascade.json").write_text(json.dumps(manifest))
    done = run("edge", folder, "--port", 0)
    assert done.returncode == 2 and "cascade.json" in done.stderr and "Traceback" not in done.stderr


def test_network_files_that_break_under_way(tiny_folder, cascade, tmp_path):
    """A folder whose networks disappear under a running edge costs nothing: they are in memory."""
    folder = tmp_path / "copy"
    shutil.copytree(tiny_folder, folder)
    with system.edge(folder) as edge:
        shutil.rmtree(folder)
        assert system.serves(edge.address)


@pytest.fixture
def authority(tmp_path):
    """A CA, and a certificate for 127.0.0.1 and a client's from it."""
    if shutil.which("openssl") is None:
        pytest.skip("no openssl")

    def openssl(*arguments):
        subprocess.run(["openssl", *arguments], check=True, capture_output=True, cwd=tmp_path)

    new = ("req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes")
    openssl(*new, "-x509", "-keyout", "ca.key", "-out", "ca.pem", "-subj", "/CN=test CA", "-days", "2")
    (tmp_path / "names").write_text("subjectAltName=IP:127.0.0.1\n")
    for name in ("edge", "client"):
        openssl(*new, "-keyout", f"{name}.key", "-out", f"{name}.csr", "-subj", f"/CN={name}")
        openssl(
            "x509",
            "-req",
            "-in",
            f"{name}.csr",
            "-CA",
            "ca.pem",
            "-CAkey",
            "ca.key",
            "-CAcreateserial",
            "-out",
            f"{name}.pem",
            "-days",
            "2",
            "-extfile",
            "names",
        )
    return tmp_path


def test_tls(tiny_folder, cascade, authority):
    """Beyond loopback with a certificate; plain text, a strange CA and a client without a certificate do not get in."""
    names = {name: str(authority / name) for name in ("ca.pem", "edge.pem", "edge.key", "client.pem", "client.key")}
    options = ("--certificate", names["edge.pem"], "--key", names["edge.key"], "--client-ca", names["ca.pem"])
    with system.edge(tiny_folder, "--host", "0.0.0.0", *options) as edge:
        right = security.channel_credentials(names["ca.pem"], names["client.pem"], names["client.key"])
        with Connection(edge.address, credentials=right) as connection:
            assert Device(cascade, connection).generate(ORDER, deadline=SOON).paradigm == "split"
        for wrong in (None, security.channel_credentials(names["ca.pem"], None, None), grpc.ssl_channel_credentials()):
            with Connection(edge.address, credentials=wrong) as connection, pytest.raises(EdgeError):
                Device(cascade, connection).generate(ORDER, deadline=3.0)
    for arguments in [("x", None, None), (None, "x", None)]:
        with pytest.raises(ValueError, match="must be given together"):
            security.server_credentials(*arguments)
    with pytest.raises(ValueError, match="must be the CA, or all three"):
        security.channel_credentials(None, "x", "y")


@pytest.mark.parametrize(("paradigm", "stages"), [("split", 3), ("edge", 2), ("device", 1)])
def test_load(tiny_folder, tmp_path, paradigm, stages):
    measured = load_test(
        paradigm,
        20.0,
        12,
        model=tiny_folder,
        prior_steps=4,
        decode_steps=3,
        link=LINK,
        seed=1,
        slowdown=3.0,
        folder=tmp_path,
    )
    assert measured.failures == {} and measured.sojourn.shape == (12, stages) == measured.service.shape
    assert np.isfinite(measured.sojourn).all() and (np.diff(measured.sojourn, axis=1) >= 0).all()
    assert measured.arrivals[0] == 0 and (np.diff(measured.arrivals) > 0).all()
    if paradigm != "device":
        # All that crosses the downlink: at least the tensor, and not more than 1 KiB besides.
        tensor = 8 * (3072 if paradigm == "split" else 64 * 64 * 3)
        assert tensor < measured.downlink_bits < tensor + 8 * 1024
    # Work is done in order of arrival, one request at a time, on each server.
    end = measured.arrivals + measured.sojourn[:, -1]
    assert (np.diff(np.sort(end)) >= measured.service[np.argsort(end)][1:, -1] - 1e-9).all() or paradigm == "edge"
    assert measured.violation([0.0, 1e9]).tolist() == [1.0, 0.0]


def test_load_with_another_pipeline(tiny_folder):
    from edgeinfer import Compute, Node, Pipeline, Transfer

    pipeline = Pipeline([Compute(1e9, Node("edge", 1e12), "prior"), Transfer(1e5, LINK, "downlink")])
    with pytest.raises(
        ValueError, match="prior, downlink: must be one of prior, downlink, decode; inference, downlink"
    ):
        load_test(pipeline, 1.0, 1, model=tiny_folder)
    with pytest.raises(ValueError, match="slowdown"):
        load_test("split", 1.0, 1, model=tiny_folder, slowdown=0.5)


@pytest.mark.parametrize("victim", ["edge", "link", "device"])
def test_kill_in_a_load_test(tiny_folder, tmp_path, victim):
    """An edge or link that dies fails its requests; a device that dies ends the test with an error."""
    outcome = []

    def work():
        try:
            outcome.append(
                load_test("split", 10.0, 50, model=tiny_folder, link=LINK, seed=1, deadline=SOON, folder=tmp_path)
            )
        except OSError as error:
            outcome.append(error)

    thread = threading.Thread(target=work)
    thread.start()
    device = tmp_path / "device.jsonl"
    system.wait(lambda: device.exists() and any(r["name"] == "done" for r in read_trace(device)))
    [start] = [r for r in read_trace(tmp_path / f"{victim}.jsonl") if r["name"] == "start"]
    os.kill(start["pid"], signal.SIGKILL)
    thread.join(2 * SOON)
    assert not thread.is_alive()
    [result] = outcome
    if victim == "device":
        assert isinstance(result, OSError) and "device: ended with code -9" in str(result)
    else:
        answered = np.isfinite(result.sojourn[:, -1])
        assert answered.any() and 0 < len(result.failures) == 50 - answered.sum()
        assert all("UNAVAILABLE" in reason for reason in result.failures.values())


def test_failed_requests_are_late_at_any_deadline():
    sojourn = np.array([[0.5], [np.nan], [2.0], [np.nan]])
    run = Run(1.0, np.arange(4.0), ("decode",), sojourn, sojourn, {1: "edge: UNAVAILABLE", 3: "edge: UNAVAILABLE"}, {})
    assert run.late(0.5).tolist() == [False, True, True, True]
    assert run.violation([0.5, 2.0, np.inf]).tolist() == [0.75, 0.5, 0.5]


def test_settings_come_back():
    settings = Load(1, [0.5], 0.1, 2.0, None)
    assert Load(**json.loads(json.dumps(asdict(settings)))) == settings
