import numpy as np
import pandas
import pytest

import edgeinfer as ei


def covered(samples, confidence):
    """Whether the uniform law on [0, 1] lies between the slowest and the fastest law of the band."""
    stage = ei.Measured(samples, "x", confidence=confidence, longest=1.0)
    n = len(samples)
    slow, fast = stage.slowest().samples, stage.fastest().samples
    below, upto = np.arange(n) / n, np.arange(1, n + 1) / n
    # At each jump, the cdf of the slow law is the larger after it, that of the fast one the smaller before it.
    return bool((upto[slow < 1] <= slow[slow < 1] + 1e-12).all() and (below >= fast - 1e-12).all())


@pytest.mark.parametrize("confidence", [0.8, 0.95])
def test_a_thousand_studies_are_covered_as_often_as_is_said(confidence):
    rng = np.random.default_rng(7)
    sizes = np.rint(10 ** rng.uniform(2, 5, 1000)).astype(int)
    hits = sum(covered(rng.random(n), confidence) for n in sizes)
    # At exactly the stated coverage, fewer hits than that by 4 standard deviations have probability below 1e-4.
    assert hits >= 1000 * confidence - 4 * np.sqrt(1000 * confidence * (1 - confidence))


def test_violation_probabilities_are_covered():
    # The law behind the samples is known, and with it the truth: an M/G/1 queue.
    law = np.linspace(0.05, 0.2, 64)
    truth = ei.violation_bracket(ei.Pipeline([ei.Measured(law, "x")]), 3.0, 0.6)
    rng, hits = np.random.default_rng(3), 0
    for _ in range(40):
        stage = ei.Measured(rng.choice(law, 200), "x", confidence=0.8, longest=0.25)
        found = ei.violation_bracket(ei.Pipeline([stage]), 3.0, 0.6)
        hits += bool(found.lower <= truth.upper and found.upper >= truth.lower)
    # As above: 32 expected at least, a standard deviation of 2.6.
    assert hits >= 22


def test_a_guarantee_says_its_confidence_and_is_wider_than_a_bracket():
    times = np.random.default_rng(1).gamma(50, 0.002, 2000)
    safe = ei.Measured(times, "decode", confidence=0.95, longest=0.3)
    other = ei.Measured(times / 2, "edge", confidence=0.99, longest=0.2)
    link = ei.Transfer(1e6, ei.RayleighLink(10e6, 31, -100, 128.1, 0.01), "down")
    pipeline = ei.Pipeline([other, link, safe])
    found = ei.violation_bracket(pipeline, 2.0, [1.0, 2.0])
    plain = ei.violation_bracket(
        ei.Pipeline([ei.Measured(times / 2, "edge"), link, ei.Measured(times, "decode")]), 2.0, [1.0, 2.0]
    )
    assert isinstance(found, ei.Guarantee) and found.confidence == pytest.approx(0.94)
    assert not isinstance(plain, ei.Guarantee)
    assert (found.lower < plain.lower).all() and (found.upper > plain.upper).all()
    assert (ei.violation_bound(pipeline, 2.0, [1.0, 2.0]) == found.upper).all()


def test_other_pairs_of_ends_are_those_of_the_fastest_and_of_the_slowest_law():
    safe = ei.Measured(np.random.default_rng(1).gamma(4, 0.1, 400), "gpu", confidence=0.9, longest=2.0)

    def timely(stage):
        return ei.timely(ei.Pipeline([ei.Session([stage], [[0.7, 0.0], [0.2, 0.1]])]), 0.8, 1.0)

    def mean(stage):
        return ei.mean_sojourn(ei.Pipeline([stage, ei.Constant(0.2, "x")]), 0.8, service="tandem")

    def cell(stage):
        return ei.cell_bracket(ei.Cell(ei.Terminals(4, 0.2, ei.Pipeline([stage]), edge=0), ei.EdgeNode()), 1.5)

    for ends, grows in ((timely, False), (mean, True), (cell, True)):
        found, fast, slow = (ends(stage) for stage in (safe, safe.fastest(), safe.slowest()))
        below, above = (fast, slow) if grows else (slow, fast)
        assert isinstance(found, ei.Guarantee) and found.confidence == pytest.approx(0.9)
        assert (found.lower, found.upper) == (below.lower, above.upper) and above.lower > 1.3 * below.upper


def test_searches_certify_for_the_slowest_law():
    times = np.random.default_rng(1).gamma(50, 0.004, 200)
    safe = ei.Measured(times, "gpu", confidence=0.95, longest=1.0)
    link = ei.Transfer(2e5, ei.RayleighLink(5e6, 23, -100, 105, 0.005), "up")
    found, slow = (ei.Pipeline([stage, link]) for stage in (safe, safe.slowest()))
    searches = [
        lambda pipeline: ei.deadline_at(pipeline, 1.0, 0.01),
        lambda pipeline: ei.max_arrival_rate(pipeline, 4.0, 0.01),
        lambda pipeline: ei.min_bandwidth(pipeline, 1.0, 8.0, 0.01, tolerance=0.1),
        # Beyond what the slowest law carries, as no bandwidth helps: the search went on to an infinite one.
        lambda pipeline: ei.min_bandwidth(pipeline, 1.1 / safe.mean(), 8.0, 0.01),
    ]
    answers = [[search(pipeline) for pipeline in (found, slow)] for search in searches]
    assert all(one == other for one, other in answers)
    assert np.isfinite(answers[2][0]) and answers[3][0] == np.inf
    assert 1.1 / safe.mean() * safe.fastest().mean() < 1


def test_bands_that_may_all_fail_have_no_confidence():
    stages = [ei.Measured(np.full(20, 0.1), f"gpu{k}", confidence=0.5, longest=0.2) for k in range(3)]
    assert ei.Pipeline(stages).confidence == 0 and ei.Pipeline(stages[:1]).confidence == 0.5
    assert ei.violation_bracket(ei.Pipeline(stages), 1.0, 1.0).confidence == 0
    cell = ei.Cell(ei.Terminals(2, 0.2, ei.Pipeline(stages), edge=2), ei.EdgeNode())
    assert ei.cell_bracket(cell, 1.0).confidence == 0


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"confidence": 0.9}, "must be given together"),
        ({"longest": 0.9}, "must be given together"),
        ({"confidence": 0.4, "longest": 1.0}, r"confidence = 0.4.*: must be in \[0.5, 1\)"),
        ({"confidence": 0.9, "longest": 0.1}, r"longest = 0.1.*: must be in \[0.2, inf\)"),
        ({"confidence": 0.999999, "longest": 1.0}, "samples: 2 of them: must be at least 9"),
    ],
)
def test_bad_input_is_named(options, text):
    with pytest.raises(ValueError, match=text):
        ei.Measured([0.1, 0.2], "x", **options)


def test_ends_of_several_are_taken_one_by_one():
    pipeline, deadlines = ei.Pipeline([ei.Exponential(0.5, "server")]), [1.0, 2.0, 3.0]
    several = ei.violation_bracket(pipeline, 1.0, deadlines)
    assert list(several) == [ei.violation_bracket(pipeline, 1.0, deadline) for deadline in deadlines]
    assert type(several[0].lower) is float and several[:2][1] == several[1]
    with pytest.raises(TypeError, match="a Bracket of one element is no sequence; its parts are lower, upper, lower_"):
        list(several[0])
    with pytest.raises(TypeError, match=r"pandas.DataFrame\(vars\(many\)\) is a table of many"):
        pandas.DataFrame(several)
    assert list(pandas.DataFrame(vars(several))["upper"]) == [one.upper for one in several]
    safe = ei.Pipeline([ei.Measured(np.full(20, 0.5), "server", confidence=0.6, longest=0.6)])
    one = ei.violation_bracket(safe, 1.0, deadlines)[2]
    assert type(one) is ei.Guarantee and one == ei.violation_bracket(safe, 1.0, 3.0)


def test_samples_of_a_file(tmp_path):
    path = tmp_path / "times.csv"
    path.write_text("request,decode_ms\n" + "".join(f"{i},{200 + i % 7}\n" for i in range(20)))
    samples = 1e-3 * (200.0 + np.arange(20) % 7)
    assert ei.Measured.from_csv(path, "decode_ms", "decode", unit=1e-3) == ei.Measured(samples, "decode")
    safe = ei.Measured.from_csv(path, "decode_ms", "decode", 1e-3, confidence=0.6, longest=0.5)
    assert safe == ei.Measured(samples, "decode", 0.6, 0.5)
    with pytest.raises(ValueError, match="column = 'decode': must be one of"):
        ei.Measured.from_csv(path, "decode", "decode")
    path.write_text("ms\n1\n-1\n")
    with pytest.raises(ValueError, match=r"line 3: ms = '-1': must be a number >= 0"):
        ei.Measured.from_csv(path, "ms", "decode")
    path.write_text("ms\n")
    with pytest.raises(ValueError, match="must have a line behind its header"):
        ei.Measured.from_csv(path, "ms", "decode")
