import json

import pytest

from edgeinfer.bridge.cascade.choices import DEFAULT, StepChoice, allocate, read_allocations

TABLE = (StepChoice(4, 16, 20.0), StepChoice(16, 4, 24.0), StepChoice(32, 16, 25.0))


def choose(choices=TABLE, deadline=10.0, quality=None, prior=0.1, decode=0.2, waiting=0.0):
    return allocate(
        choices,
        deadline=deadline,
        quality=quality,
        prior_step_seconds=prior,
        decode_step_seconds=decode,
        waiting_seconds=waiting,
    )


def test_fastest_that_reaches_the_quality():
    assert choose(quality=20.0) == TABLE[1]  # 2.4 s against 3.6 s, better besides
    assert choose(quality=20.0, decode=0.01) == TABLE[0]
    assert choose(quality=24.5, deadline=0.1) == TABLE[2]
    with pytest.raises(ValueError, match="quality = 26: must be at most 25"):
        choose(quality=26.0)
    with pytest.raises(ValueError, match="quality = 1: must be at most -inf"):
        choose(DEFAULT, quality=1.0)


def test_best_within_the_deadline():
    assert choose(deadline=7.0) == TABLE[2]
    assert choose(deadline=7.0, waiting=4.0) == TABLE[1]
    assert choose(deadline=1.0) == TABLE[1]  # none is in time: the fastest
    assert choose(DEFAULT, deadline=3.3) == StepChoice(16, 8)
    assert choose(DEFAULT, prior=0.0, decode=0.0) == DEFAULT[-1]


def test_file(tmp_path):
    path = tmp_path / "table.json"
    path.write_text(json.dumps([{"prior_steps": 4, "decode_steps": 2, "quality": 1.5}]))
    assert read_allocations(path) == (StepChoice(4, 2, 1.5),)
    for text, reason in [
        ("[]", "at least one"),
        ("[{}]", "prior_steps"),
        ("{", "table.json"),
        ('[{"prior_steps": 0, "decode_steps": 1}]', "prior_steps = 0"),
    ]:
        path.write_text(text)
        with pytest.raises(ValueError, match=reason):
            read_allocations(path)
