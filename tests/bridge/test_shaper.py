import json
import socket
import threading
import time
from contextlib import contextmanager

import numpy as np
import pytest

import edgeinfer as ei
from edgeinfer import RayleighLink
from edgeinfer.bridge.link.airtime import Airtime
from edgeinfer.bridge.link.shaper import Shaper
from edgeinfer.bridge.run import start
from edgeinfer.bridge.wire.trace import Trace, read_trace

LINK = RayleighLink(10e6, 31, -100, 128.1, 0.01)
SOON = 30.0


@contextmanager
def shaped(down=LINK, up=None, **options):
    """A shaper in this process between a client and a server socket."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(SOON)
        shaper = Shaper(("127.0.0.1", 0), server.getsockname(), down, up, **options)
        thread = threading.Thread(target=shaper.serve, daemon=True)
        thread.start()

        def pair():
            near = socket.create_connection(("127.0.0.1", shaper.port), timeout=SOON)
            far, _ = server.accept()
            far.settimeout(SOON)
            sockets.extend((near, far))
            return near, far

        sockets = []
        try:
            yield shaper, pair
        finally:
            shaper.close()
            for each in sockets:
                each.close()
            thread.join(SOON)
            assert not thread.is_alive()


def receive(sock, count):
    parts = []
    while count > 0:
        data = sock.recv(count)
        assert data, "closed early"
        parts.append(data)
        count -= len(data)
    return b"".join(parts)


@pytest.mark.parametrize("slots", ["fresh", "grid"])
def test_bytes_are_kept_in_both_directions(slots):
    data = np.random.default_rng(1).bytes(200_000)
    with shaped(up=LINK, slots=slots, seed=1) as (_, pair):
        near, far = pair()
        sender = threading.Thread(target=near.sendall, args=(data,))
        sender.start()
        far.sendall(data[::-1])
        assert receive(near, len(data)) == data[::-1] and receive(far, len(data)) == data
        sender.join(SOON)
        near.shutdown(socket.SHUT_WR)
        assert far.recv(1) == b""
        far.sendall(b"still open the other way")
        assert receive(near, 24) == b"still open the other way"


def test_no_transfer_is_early_and_rates_are_recorded(tmp_path):
    count, size = 20, 16_000
    twin = Airtime(LINK, seed=np.random.SeedSequence(7, spawn_key=(0,)))
    with Trace(tmp_path / "t", "link") as trace, shaped(seed=7, trace=trace) as (_, pair):
        near, far = pair()
        late = []
        for number in range(count):
            # Longer than a slot, so that each transfer meets an idle link however late the pump looks.
            time.sleep(0.02)
            start = time.monotonic()
            far.sendall(bytes(size))
            receive(near, size)
            seconds = time.monotonic() - start
            late.append(seconds - (twin.finish(8 * size, 1000.0 * number) - 1000.0 * number))
    # Sent after `start`, so that none can arrive before the arithmetic says, whatever the scheduler does.
    assert min(late) > -1e-6
    records = read_trace(tmp_path / "t")
    assert sum(r["bytes"] for r in records if r["kind"] == "chunk") == count * size
    rates = [r["rate"] for r in records if r["kind"] == "slot"]
    key = np.random.SeedSequence(7, spawn_key=(0, 0))
    np.testing.assert_array_equal(rates, LINK.sample_rate(1024, key)[: len(rates)])


def test_nothing_passes_in_an_outage():
    with shaped(None) as (shaper, pair):
        near, far = pair()
        far.sendall(b"before")
        assert receive(near, 6) == b"before"
        shaper.fail()
        far.sendall(b"during")
        near.settimeout(0.2)
        with pytest.raises(TimeoutError):
            near.recv(1)
        near.settimeout(SOON)
        shaper.recover()
        assert receive(near, 6) == b"during"


def test_outages_by_time_freeze_a_shaped_transfer(tmp_path):
    slow = RayleighLink(1e5, 31, -100, 128.1, 0.01)
    start = time.monotonic()
    with Trace(tmp_path / "t", "link") as trace, shaped(slow, outages=[(0.0, 0.5)], seed=1, trace=trace) as (_, pair):
        near, far = pair()
        far.sendall(bytes(200))
        receive(near, 200)
        assert time.monotonic() - start > 0.5
    assert {"outage begins", "outage ends"} <= {r["name"] for r in read_trace(tmp_path / "t")}


def test_a_slow_reader_holds_up_no_other_connection():
    with shaped(RayleighLink(1e9, 31, -100, 128.1, 0.01), seed=1) as (_, pair):
        _, slow_far = pair()
        near, far = pair()
        slow_far.setblocking(False)
        for _ in range(10_000):
            try:
                slow_far.send(bytes(65536))
            except BlockingIOError:
                break
        far.sendall(b"through")
        assert receive(near, 7) == b"through"


@pytest.mark.parametrize("latency", [0.0, 0.01])
def test_who_reads_nothing_stops_who_sends(latency):
    with shaped(down=ei.ConstantLink(1e11, latency=latency)) as (_, pair):
        near, far = pair()
        far.settimeout(1.0)
        sent, most = 0, 200_000_000
        with pytest.raises(TimeoutError):
            while sent < most:
                sent += far.send(bytes(65536))
        # And none of it is lost.
        far.shutdown(socket.SHUT_WR)
        assert len(receive(near, sent)) == sent and near.recv(1) == b""


def test_a_lost_end_takes_the_other_with_it():
    with shaped(seed=1) as (_, pair):
        near, far = pair()
        near.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        near.close()
        try:
            assert far.recv(1) == b""
        except ConnectionResetError:
            pass


def test_nobody_listens_behind_the_link():
    with socket.create_server(("127.0.0.1", 0)) as server:
        free = server.getsockname()
    shaper = Shaper(("127.0.0.1", 0), free, None)
    threading.Thread(target=shaper.serve, daemon=True).start()
    with socket.create_connection(("127.0.0.1", shaper.port), timeout=SOON) as near:
        assert near.recv(1) == b""
    shaper.close()


def test_bad_outages():
    for outages in ([(1.0, 1.0)], [(2.0, 3.0), (1.0, 4.0)], [(-1.0, 1.0)], [(float("nan"), 1.0)]):
        with pytest.raises(ValueError, match=r"outages\[\d\]"):
            Shaper(("127.0.0.1", 0), ("127.0.0.1", 1), LINK, outages=outages)


@pytest.mark.parametrize("slots", ["fresh", "grid"])
def test_a_link_that_changes(slots):
    """A slow chunk keeps its time when the link gets faster, and what comes after waits for it, then passes quickly."""
    steady = {"tx_power_dbm": 200, "noise_dbm": -100, "path_loss_db": 0, "slot": 0.01}
    slow, fast = (RayleighLink(rate / RayleighLink(1.0, **steady).mean_rate(), **steady) for rate in (1.6e5, 1e9))
    with shaped(slow, slots=slots, seed=1) as (shaper, pair):
        near, far = pair()
        begin = time.monotonic()
        far.sendall(bytes(8000))
        # The chunk is under way once the shaper has taken its time.
        while shaper._airtime["down"].free < begin:
            time.sleep(0.001)
        shaper.change(fast)
        far.sendall(bytes(100_000))
        receive(near, 8000)
        # 64 kbit at 160 kbit/s are 0.4 s; at 300 dB of SNR the rate varies by some per cent.
        assert time.monotonic() - begin > 0.3
        receive(near, 100_000)
        # At the old rate they would take 5 s.
        assert time.monotonic() - begin < 4


def test_links_of_every_fading_go_to_a_process_and_are_made_again():
    laws = (
        ei.Rayleigh(),
        ei.Nakagami(0.7),
        ei.Rician(6.0),
        ei.MaximalRatio(3, ei.Rician(2.0)),
        ei.BestOf(4, ei.MaximalRatio(2, ei.Nakagami(1.5))),
    )
    for law in laws:
        for link in (
            ei.FadingLink(1e6, 31, -100, 128.1, 0.01, 0.1, fading=law),
            ei.FadingLink.from_snr(2.5, 1e6, 0.01, fading=law),
        ):
            assert start.link_of(json.loads(json.dumps(start.link_settings(link)))) == link
    assert start.link_of(start.link_settings(None)) is None
    with pytest.raises(ValueError, match=r"link of shape \(2,\): must be a single link"):
        start.link_settings(ei.RayleighLink([1e6, 2e6], 31, -100, 128.1, 0.01))


def test_links_of_every_law_go_to_a_process_and_are_made_again():
    for link in (
        ei.ConstantLink(1e6, 0.02),
        ei.OutageLink(1e6, 0.1, 0.01),
        ei.MarkovLink([3e6, 1e6, 0.0], [[0.7, 0.2, 0.1], [0.3, 0.3, 0.4], [0.1, 0.2, 0.7]], 0.01),
        ei.MarkovLink.from_doppler(LINK, 5.0, 8),
        ei.TraceLink([1e6, 0.0], 0.1),
        ei.TraceLink([1e6, 0.0], 0.1, offset=0.05),
    ):
        assert start.link_of(json.loads(json.dumps(start.link_settings(link)))) == link


def test_a_latency_holds_nobody_up():
    with shaped(down=ei.ConstantLink(100e6, latency=0.3)) as (_, pair):
        near, far = pair()
        begin = time.monotonic()
        for _ in range(6):
            far.sendall(b"x" * 1000)
            time.sleep(0.05)
        receive(near, 1000)
        assert time.monotonic() - begin >= 0.3
        receive(near, 5000)
        # One after the other they would take 1.8 s.
        assert time.monotonic() - begin < 1.5
        # What is under way arrives before the end does.
        far.sendall(b"last")
        far.shutdown(socket.SHUT_WR)
        assert receive(near, 4) == b"last" and near.recv(1) == b""


def test_a_trace_is_played():
    # 10 kB in each second half of a fifth of a second: 50 kB take at least 0.9 s.
    with shaped(down=ei.TraceLink([0.0, 8e5], 0.1)) as (_, pair):
        near, far = pair()
        begin = time.monotonic()
        far.sendall(bytes(50_000))
        receive(near, 50_000)
        assert 0.8 < time.monotonic() - begin < 5
