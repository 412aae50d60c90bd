"""Searches by ends that are known in closed form, and what they ask of them."""

import numpy as np
import pytest

import edgeinfer as ei
from edgeinfer.delay.search import largest, shortest


class Ends:
    """Ends about exp(-t^power), further apart by a lighter effort, and what was asked of them."""

    def __init__(self, power=1.0, step=0.0):
        self.power, self.step, self.asked = power, step, []

    def __call__(self, times, effort):
        assert (np.diff(times) > 0).all() and (times >= 0).all()
        self.asked.append((effort, times))
        at = np.floor(times / self.step) * self.step if self.step else times
        truth, apart = np.exp(-(at**self.power)), 1.5 if effort == "light" else 1.01
        return truth / apart, np.minimum(truth * apart, 1)

    def crossing(self, target, apart=1.01):
        return np.log(apart / target) ** (1 / self.power)


@pytest.mark.parametrize("efforts", [("fast",), ("light", "fast")])
@pytest.mark.parametrize("power", [0.8, 1.0, 2.0])
@pytest.mark.parametrize("target", [0.5, 1e-4, 1e-12])
def test_the_answer_is_asked_for_and_as_near_as_wanted(efforts, power, target):
    ends = Ends(power)
    found = shortest(ends, 0.7, target, 1e-4, efforts, most=1 << 16)
    asked = np.concatenate([times for effort, times in ends.asked if effort == efforts[-1]])
    assert found in asked and ends.crossing(target) <= found <= (1 + 1.0001e-4) * ends.crossing(target)
    # Of the dear effort one call where a light one says where to look, else at most four.
    assert sum(effort == "fast" for effort, _ in ends.asked) <= (1 if len(efforts) == 2 else 4)


def test_ends_that_fall_in_steps():
    ends = Ends(step=0.3)
    found = shortest(ends, 0.7, 1e-4, 1e-5, ("light", "fast"))
    step = 0.3 * np.ceil(ends.crossing(1e-4) / 0.3)
    assert step <= found <= (1 + 1e-5) * step


def test_ends_that_rise_again_are_not_trusted():
    asked = []

    def ends(times, effort):
        upper = np.exp(-times) * np.where((times > 8) & (times < 12), 300.0, 1.0)
        asked.append((effort, times, upper))
        return np.zeros(times.shape), upper

    found = shortest(ends, 1.0, 1e-4, 1e-3, ("fast",))
    assert any(found in times and upper[times == found] <= 1e-4 for _, times, upper in asked)


def test_a_light_effort_that_knows_nothing_costs_one_call():
    def ends(times, effort):
        truth = np.exp(-times)
        return (np.zeros(times.shape), np.ones(times.shape)) if effort == "light" else (truth, truth)

    assert shortest(ends, 1.0, 1e-6, 1e-4, ("light", "fast")) == pytest.approx(-np.log(1e-6), rel=1e-4)


def test_no_deadline_is_certified():
    nothing = shortest(lambda times, effort: (0 * times, 0 * times + 1), 1.0, 0.1, 0.1, ("fast",))
    slotted = shortest(lambda times, effort: (0 * times, 0 * times + 1), 1.0, 0.1, 0.1, ("fast",), slotted=True)
    assert nothing == slotted == np.inf
    assert shortest(lambda times, effort: (0 * times, 0 * times), 0.0, 0.1, 0.1, ("light", "fast")) == 0


CHAINS = [
    [ei.Constant(0.5, "a"), ei.Exponential(0.5, "b"), ei.Constant(0.4, "c")],
    [ei.Exponential(0.5, "a"), ei.Constant(0.45, "b"), ei.Exponential(0.4, "c"), ei.Delay(ei.Exponential(0.3, "d"))],
]


@pytest.mark.parametrize("stages", CHAINS)
def test_a_light_bracket_holds_the_fast_one(stages):
    pipeline, times = ei.Pipeline(stages), [0.1, 2.0, 5.0, 9.0, np.inf]
    light, fast = (ei.violation_bracket(pipeline, 1.3, times, effort=effort) for effort in ("light", "fast"))
    # An independent time is taken in cells of another size.
    assert (light.lower <= fast.lower).all() and (fast.upper <= light.upper).all()
    assert (light.upper[1:4] > fast.upper[1:4]).any()


def test_efforts_of_a_deadline():
    pipeline = ei.Pipeline(CHAINS[0])
    found = [ei.deadline_at(pipeline, 1.0, 1e-2, effort=effort, tolerance=1e-2) for effort in ("light", "fast")]
    for deadline, effort in zip(found, ("light", "fast"), strict=True):
        assert ei.violation_bracket(pipeline, 1.0, deadline, effort=effort).upper <= 1e-2
    assert found[1] <= 1.01 * found[0]
    with pytest.raises(ValueError, match="effort = 'tight': only method = 'bracket'"):
        ei.deadline_at(pipeline, 1.3, 1e-3, method="union", effort="tight")
    with pytest.raises(ValueError, match="effort"):
        ei.deadline_at(pipeline, 1.3, 1e-3, effort="slow")


def test_deadlines_of_one_call_do_not_touch_each_other():
    pipeline, times = ei.Pipeline(CHAINS[1]), np.array([0.0, 1.0, 2.5, 2.6, np.inf])
    beside = ei.violation_bracket(pipeline, 1.0, times, effort="light")
    alone = [ei.violation_bracket(pipeline, 1.0, time, effort="light") for time in times]
    assert beside.lower.tolist() == [each.lower for each in alone]
    assert beside.upper.tolist() == [each.upper for each in alone]


@pytest.mark.parametrize("looser", [[], [30.0], [30.0, 2.0]])
@pytest.mark.parametrize("target", [1e-9, 1e-3, 0.3])
def test_the_largest_value_was_asked_for(looser, target):
    asked = []

    def bound(factor):
        def ends(x):
            assert 0 < x < 1
            asked.append((factor, x, min(factor * np.exp(-5 * (1 - x) / x), 1)))
            return asked[-1][2] / 50, asked[-1][2]

        return ends

    found = largest([bound(factor) for factor in (*looser, 1.0)], target, 1.0, 1e-4)
    own = [(x, upper) for factor, x, upper in asked if factor == 1]
    truth = 5 / (5 - np.log(target))
    assert any(x == found and upper <= target for x, upper in own)
    assert (1 - 1.0001e-4) * truth <= found <= truth
    assert len(own) <= (8 if looser else 14)


def test_a_value_that_only_looser_bounds_keep_is_none():
    assert largest([lambda x: (0.0, 0.0), lambda x: (0.5, 1.0)], 0.1, 1.0, 1e-4) == 0
    assert largest([lambda x: (0.0, 1.0), lambda x: (0.0, 0.05 + x)], 0.1, 1.0, 1e-4) == pytest.approx(0.05, rel=1e-3)
    least = largest([lambda x: (0.0, 1.0 if x > 1e-9 else 0.0)], 0.1, 1.0, 0.1, 1e-12)
    assert 0.9e-9 <= least <= 1e-9
