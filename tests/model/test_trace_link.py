"""Recorded rates: the law of a transfer beside starts tried one by one, files read and refused, and their playing."""

import numpy as np
import pytest

import edgeinfer as ei


def tried(link, bits, start):
    """Time from `start` on, slot by slot."""
    at, now, left = int(start / link.slot), start, bits
    while True:
        rate, end = link.rates[at % link.rates.size], (at + 1) * link.slot
        if rate * (end - now) >= left:
            return now + left / rate - start
        left, now, at = left - rate * (end - now), end, at + 1


RECORDS = {
    "three slots": ([8.0, 0.0, 4.0], 0.5),
    "outages": ([0.0, 0.0, 3.0, 1.0, 0.0, 7.0, 0.0], 0.25),
    "one slot": ([2.0], 0.3),
    "many": (np.random.default_rng(1).gamma(1.0, 3.0, 40) * (np.random.default_rng(2).random(40) > 0.3), 0.1),
}


@pytest.mark.parametrize("bits", [0.07, 1.3, 2.9, 20.0])
@pytest.mark.parametrize("record", RECORDS)
def test_law_is_that_of_a_start_anywhere(record, bits):
    link = ei.TraceLink(*RECORDS[record])
    law, count = link.transfer(bits), 4000
    times = np.array([tried(link, bits, start) for start in (np.arange(count) + 0.5) / count * link.duration])
    # The midpoint rule: exact but for cells with a corner or a jump of the time, of which there are at most 3 a slot.
    corners, span = 3 * link.rates.size / count, times.max() - times.min() + 1e-9
    assert law.mean() == pytest.approx(times.mean(), abs=corners * span + 1e-9)
    assert law.var() == pytest.approx(times.var(), abs=3 * corners * span**2 + 1e-9)
    ask = np.linspace(times.min() - 0.01, times.max() + 0.0137, 23)
    np.testing.assert_allclose(law.sf(ask), (times[:, None] > ask).mean(axis=0), atol=corners + 2 / count)
    step = link.duration / count
    assert law.sf(times.max() + step) == 0 and law.cdf(times.min() - step) == 0
    np.testing.assert_allclose(law.sf(ask) + law.cdf(ask), 1, atol=1e-12)
    assert law.mgf(-0.7) == pytest.approx(np.exp(-0.7 * times).mean(), abs=corners + 1e-6)


def test_whole_periods_end_with_the_record():
    link = ei.TraceLink([2.0, 0.0], 1.0)
    # The two bits of a period: from within the first slot as long as the period, from the second as long as what is
    # left of it and the slot behind.
    law = link.transfer(2.0)
    assert law.mean() == pytest.approx((2.0 + 1.5) / 2)
    np.testing.assert_allclose(law.sf([0.99, 1.5, 1.99]), [1, 0.75, 0.505], atol=1e-9)
    assert link.transfer(8.0).mean() == pytest.approx(law.mean() + 6)


def test_simulation_plays_the_record():
    link = ei.TraceLink(*RECORDS["outages"])
    pipeline = ei.Pipeline([ei.Transfer(0.9, link, "uplink")])
    # At so low a rate a request finds the link idle, at any place in the record.
    run = ei.simulate(pipeline, 1e-4, [0.5, 1.0], jobs=4000, replications=16, rng=1, confidence=0.999)
    law = link.transfer(0.9)
    assert (run.violation.low[:, 0] < law.sf([0.5, 1.0])).all() and (
        law.sf([0.5, 1.0]) < run.violation.high[:, 0]
    ).all()
    assert ei.latency(pipeline).total == pytest.approx(law.mean())


def test_simulation_follows_a_queue_through_the_record():
    rates, slot, bits = np.array([3.0, 0.0, 1.0, 5.0]), 0.5, 0.4
    arrivals = ei.Periodic(0.25)
    # Periodic arrivals to the record's beat repeat themselves: a run is one period of both, over again.
    run = ei.simulate(
        ei.Pipeline([ei.Transfer(bits, ei.TraceLink(rates, slot, offset=0.75), "up")]),
        *(arrivals, [0.31, 0.6]),
        **{"jobs": 800, "replications": 1, "rng": 1, "warmup": 800},
    )
    link, free, times = ei.TraceLink(rates, slot), 0.0, []
    for job in range(1, 1601):
        arrival = 0.75 + 0.25 * job
        start = max(arrival, free)
        free = start + tried(link, bits, start)
        times.append(free - arrival)
    times = np.array(times[800:])
    assert run.mean.value[0] == pytest.approx(times.mean(), rel=1e-9)
    np.testing.assert_allclose(run.violation.value[:, 0], [(times > 0.31).mean(), (times > 0.6).mean()], atol=1e-12)


def test_load_and_refusals():
    link = ei.TraceLink([4.0, 0.0], 0.1)
    pipeline = ei.Pipeline([ei.Transfer(1.0, link, "radio"), ei.Constant(0.01, "edge")])
    with pytest.raises(ei.UnstableError, match=r"radio 1\.05"):
        ei.simulate(pipeline, 2.1, 1.0, jobs=10)
    for call in (
        lambda: ei.violation_bracket(pipeline, 1.0, 1.0),
        lambda: ei.rare_violation(pipeline, 1.0, 1.0),
        lambda: ei.mean_sojourn(pipeline, 1.0),
        lambda: ei.deadline_at(pipeline, 1.0, 0.1),
    ):
        with pytest.raises(ValueError, match="stage 'radio' goes over a TraceLink"):
            call()


def test_mahimahi_trace(tmp_path):
    path = tmp_path / "lte.up"
    path.write_text("0\n1\n1\n3\n3\n3\n10\n")
    link = ei.TraceLink.from_mahimahi(path)
    # The first millisecond is that which ends at 1; what is at 0 counts for it, too.
    np.testing.assert_allclose(link.rates * 1e-3 / 12_000, [3, 0, 3, 0, 0, 0, 0, 0, 0, 1])
    assert link.duration == pytest.approx(0.010)
    coarse = ei.TraceLink.from_mahimahi(path, slot=0.004, offset=0.002)
    np.testing.assert_allclose(coarse.rates * 4e-3 / 12_000, [6, 0, 1])
    assert coarse.offset == 0.002 and next(coarse.path()) == coarse.rates[0]
    for text, message in (
        ("3\nx\n", r"line 2: 'x': must be a whole number of ms"),
        ("3\n2\n", "line 2: '2': must be"),
        ("-1\n", "line 1: '-1'"),
        ("0\n0\n", "must have a line > 0"),
        ("", "must have a line > 0"),
        ("1700000000000\n", "line 1: 1700000000000: must be <= 100000000 ms from the trace's beginning"),
        ("9" * 5000, "line 1: '9999.*must be a whole number of ms"),
    ):
        path.write_text(text)
        with pytest.raises(ValueError, match=message):
            ei.TraceLink.from_mahimahi(path)
    with pytest.raises(ValueError, match=r"slot = 0\.0015: must be whole milliseconds"):
        ei.TraceLink.from_mahimahi(path, slot=0.0015)


def test_csv_trace(tmp_path):
    path = tmp_path / "drive.csv"
    path.write_text("time,downlink\n0,1.5\n1,0\n2,40\n")
    link = ei.TraceLink.from_csv(path, "downlink", slot=1.0, unit=1e6)
    np.testing.assert_array_equal(link.rates, [1.5e6, 0, 40e6])
    with pytest.raises(ValueError, match="column = 'up': must be one of"):
        ei.TraceLink.from_csv(path, "up", slot=1.0)
    for value in ("-1", "nan", "", "inf"):
        path.write_text(f"rate\n1\n{value},\n")
        with pytest.raises(ValueError, match=r"line 3: rate = .*: must be a number >= 0"):
            ei.TraceLink.from_csv(path, "rate", slot=1.0)
    path.write_text("rate\n")
    with pytest.raises(ValueError, match="must have a line behind its header"):
        ei.TraceLink.from_csv(path, "rate", slot=1.0)


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_csv_of_any_line_end(tmp_path, end):
    path = tmp_path / "drive.csv"
    path.write_bytes(b"\xef\xbb\xbf" + end.join(["rate,place", "1,a", '2,"b, c"', "3", "", ""]).encode())
    np.testing.assert_array_equal(ei.TraceLink.from_csv(path, "rate", slot=1.0).rates, [1, 2, 3])


@pytest.mark.parametrize(
    "text, message",
    [
        (b"rate,rate\n1,2\n", r"column = 'rate': must be one of \['rate', 'rate'\] in .*, and in it once"),
        (b"t,rate\n0,1,5\n", "line 2: has 3 fields: must have the header's 2"),
        (b"rate\n1\n\n3\n", "line 3: is blank, with rows behind it"),
        (b"r\xe4te,rate\n1,2\n", r"drive\.csv: must be UTF-8 text"),
        (b"rate\n" + b"1" * 200_000, r"line 2: must be CSV \(field larger"),
    ],
)
def test_csv_that_would_be_read_wrong_is_refused(tmp_path, text, message):
    path = tmp_path / "drive.csv"
    path.write_bytes(text)
    with pytest.raises(ValueError, match=message):
        ei.TraceLink.from_csv(path, "rate", slot=1.0)


def test_path_begins_at_the_slot_of_the_offset():
    # 0.3 / 0.1 is below 3.
    for slot in (0.1, 0.7, 1 / 3):
        starts = [next(ei.TraceLink(np.arange(1.0, 101), slot, offset=k * slot).path()) for k in range(100)]
        np.testing.assert_array_equal(starts, np.arange(1.0, 101))


@pytest.mark.parametrize(
    ("build", "text"),
    [
        (lambda: ei.TraceLink([0.0], 1.0), "one at least > 0"),
        (lambda: ei.TraceLink([[1.0]], 1.0), r"rates of shape \(1, 1\)"),
        (lambda: ei.TraceLink([1.0, -1.0], 1.0), r"rates\[1\] = -1"),
        (lambda: ei.TraceLink([1.0], 0.0), "slot = 0"),
        (lambda: ei.TraceLink([1.0], 1.0, offset=-1.0), "offset = -1"),
        (lambda: ei.TraceLink([1.0, 1e200], 1.0), r"rates\[1\] = 1e\+200: must be in \[0, 1e\+60\]"),
        (lambda: ei.TraceLink([1.0], 1e308), r"slot = 1e\+308: must be in \[1e-60, 1e\+60\]"),
        # Which had never come to an end.
        (lambda: ei.TraceLink([1.0], 0.1, offset=1.7e308), r"offset = 1.7e\+308: must be in \[0, 9.*e\+14\]"),
        (
            lambda: ei.simulate(ei.Pipeline([ei.Transfer(1e5, ei.TraceLink([1e6], 1e-15), "a")]), 1.0, 1.0),
            r"bits = 100000: over slots of 1e-15 s at 1e\+06 bit/s: must be at most 2e7 slots a transfer",
        ),
    ],
)
def test_bad_input_is_named(build, text):
    with pytest.raises(ValueError, match=text):
        build()
