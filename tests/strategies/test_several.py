"""Several subjects in one process, by agents whose answers are known: rounds, races, votes, reviews, limits."""

import itertools
import time

import numpy as np
import pytest
import xarray

from edgeinfer import scenes, strategies
from edgeinfer.paper.measured import outcomes, subjects
from edgeinfer.strategies import Attempt, Findings, Picture, Rules, Seed, Spreads, Table, Team, Verdict, votes
from edgeinfer.strategies.bodies import Finding

CAPTION = "a red circle above a small blue square"
RULES = Rules(Spreads(2.0, 4.0, 0.1), passing=1.0, review=1.5, sure=3.0)


class Known:
    """Agents whose n-th picture shows n, and whose checkers say of it what they are told to."""

    def __init__(self, margins, seconds=None, scores=(), wait=0.0):
        self.margins, self.seconds = margins, seconds or [100.0] * len(margins)
        self.scores, self.wait, self.painted, self.seeds = scores, wait, itertools.count(), []
        agents = {"painter": self.paint, "checker": self.check, "reviewer": self.review, "judge": self.judge}
        self.team = Team({"interpreter": self.read} | agents)

    def read(self, request, *, progress=None):
        return Seed(Table.of_caption(request.text), request.noise)

    def paint(self, seed, *, progress=None):
        time.sleep(self.wait)
        self.seeds.append(seed)
        return Picture(np.full((64, 64, 3), next(self.painted), np.uint8))

    def _findings(self, margin):
        return Findings(() if margin > 0 else (Finding("colour_a", 1, 0),), margin)

    def check(self, picture, plan, *, progress=None):
        return self._findings(self.margins[picture.pixels[0, 0, 0]])

    def review(self, picture, plan, *, progress=None):
        return self._findings(self.seconds[picture.pixels[0, 0, 0]])

    def judge(self, *bodies, progress=None):
        scores = [self.scores[picture.pixels[0, 0, 0]] for picture in bodies[:-1]]
        return Verdict(int(np.argmax(scores)), True, tuple(scores))


def run(name, known, **options):
    return getattr(strategies, name)(CAPTION, device=known.team, rules=options.pop("rules", RULES), **options)


def test_cooperative_repaints_with_new_noise_and_then_on_the_edge():
    known = Known([-1.0, 1.9, 9.0])
    done = run("cooperative", known)
    assert (done.reason, done.rounds, done.chosen, done.best_so_far) == ("right", 3, (2,), False)
    assert [(s.prior_steps, s.decode_steps) for s in known.seeds] == [(4, 1), (4, 1), (8, 4)]
    assert len({s.noise for s in known.seeds}) == 3
    # What each found, in spreads: the first checker's alone where it does not let the picture through.
    assert [p.findings.margin for p in done.proposals] == [-0.5, pytest.approx(0.95), 4.5]
    assert done.proposals[0].findings.found == (Finding("colour_a", 1, 0),)
    assert [said.kind for said in done.messages if said.direction] == ["seed", "picture"]
    assert done.context_bytes <= 256
    assert [p.painter for p in done.proposals] == ["painter@device", "painter@device", "painter@edge"]


def test_the_second_checker_is_not_asked_where_the_first_is_sure():
    done = run("cooperative", Known([6.1], [-9.0]))
    assert (done.reason, done.rounds) == ("right", 1) and "reviewer" not in [step.role for step in done.steps]


def test_the_second_checker_may_refuse_what_the_first_lets_through():
    done = run("cooperative", Known([5.0, 5.0], [3.9, 4.1]))
    assert (done.reason, done.rounds) == ("right", 2)
    assert [p.findings.margin for p in done.proposals] == [pytest.approx(0.975), pytest.approx(1.025)]


@pytest.mark.parametrize("rounds", [1, 2, 5])
def test_at_the_limit_the_best_so_far_is_returned_and_marked(rounds):
    margins = [-3.0, -1.0, -2.0, -4.0, -5.0]
    done = run("cooperative", Known(margins), rounds=rounds)
    assert (done.reason, done.rounds, done.best_so_far) == ("round limit", rounds, True)
    assert len(done.proposals) == rounds
    assert done.chosen == (int(np.argmax(margins[:rounds])),)
    assert done.image[0, 0, 0] == done.chosen[0]


def test_the_deadline_is_looked_at_before_a_round():
    done = run("cooperative", Known([-1.0] * 9, wait=0.15), rounds=9, deadline=0.4)
    assert done.reason == "deadline" and 1 <= done.rounds < 9 and done.best_so_far
    assert done.seconds < 2
    with pytest.raises(TimeoutError, match="deadline"):
        run("cooperative", Known([9.0], wait=1.0), deadline=0.1)


def test_the_context_is_bounded():
    """Thirty rounds say more than 256 bytes: the session stops with the best so far."""
    done = run("cooperative", Known([-1.0 - k for k in range(30)]), rounds=30)
    assert done.reason == "context limit" and done.context_bytes <= 256 and done.chosen == (0,)


def test_competitive_takes_what_the_judge_picks():
    done = run("competitive", Known([9.0, 9.0, 9.0], scores=[1.0, 3.0, 2.0]))
    assert (done.reason, done.chosen, len(done.proposals), done.rounds) == ("right", (1,), 3, 1)
    assert len({p.seed.noise for p in done.proposals}) == 3
    assert run("competitive", Known([9.0, -1.0, 9.0], scores=[1.0, 3.0, 2.0])).reason == "round limit"
    five = [Attempt("device", 2, 1)] * 5
    assert run("competitive", Known([9.0] * 5, scores=[0, 0, 0, 0, 1.0]), attempts=five).chosen == (4,)


def test_a_race_stops_at_the_first_that_passes():
    done = run("race", Known([-1.0, 9.0, 9.0]))
    assert (done.reason, done.chosen, len(done.proposals)) == ("right", (1,), 2)
    lost = run("race", Known([-1.0, -0.5, -2.0]))
    assert (lost.reason, len(lost.proposals), lost.chosen, lost.best_so_far) == ("round limit", 3, (1,), True)


def test_an_ensemble_takes_what_most_pictures_show():
    done = run("ensemble", Known([-1.0, 9.0, 9.0]))
    assert (done.reason, done.chosen) == ("right", (1,))
    wrong = run("ensemble", Known([-1.0, -1.0, 9.0]))
    assert (wrong.reason, wrong.chosen) == ("round limit", (0,)), "two that err alike outvote the third"


def test_review_only_where_there_is_doubt():
    sure = run("review", Known([9.0, 9.0], scores=[0.0, 1.0]))
    assert (sure.reason, sure.rounds, len(sure.proposals)) == ("right", 1, 1)
    doubt = run("review", Known([2.9, 2.0], scores=[1.0, 0.0]))
    assert (doubt.reason, doubt.rounds, doubt.chosen) == ("right", 2, (0,)), "the judge keeps the better"
    assert run("review", Known([2.9, 9.0], scores=[1.0, 0.0])).chosen == (1,)


def test_an_agent_that_fails_does_not_stop_the_others():
    known = Known([9.0, 9.0, 9.0], scores=[1.0, 2.0, 3.0])
    good = known.team

    def broken(seed, *, progress=None):
        raise OSError("no memory")

    edge = Team({role: broken if role == "painter" else agent for role, agent in good.items()})
    done = strategies.competitive(CAPTION, device=good, edge=edge, rules=RULES)
    assert len(done.proposals) == 2 and done.failures == ("no memory",) and done.reason == "right"


def _table(rng, n, runs):
    shape = (len(runs), n)
    told = {
        "right": rng.integers(0, 2, shape).astype(np.int8),
        "strict": np.ones(shape, np.int8),
        "doubted": np.zeros(shape, np.int8),
        "margin": rng.normal(2, 3, shape).round(3),
        "second": rng.normal(5, 4, shape).round(3),
        "similarity": rng.normal(0.5, 0.1, shape),
    }
    costs = {"flop": [10.0, 10.0, 30.0], "seconds": [1.0, 1.0, 3.0], "png_bytes": [500.0] * 3}
    variables = {name: (("run", "caption"), values) for name, values in told.items()}
    variables["reading"] = (("run", "caption", "head"), np.zeros((*shape, len(scenes.HEADS)), np.int8))
    variables |= {name: ("run", values) for name, values in costs.items()}
    looks = {"checker_flop": 1.0, "second_flop": 2.0, "embedder_flop": 4.0}
    spreads = {f"spread_{name}": value for name, value in vars(RULES.spreads).items()}
    return xarray.Dataset(variables, {"run": runs, "head": list(scenes.HEADS)}, looks | spreads)


def test_the_study_follows_the_rule_that_runs():
    """Forty random tables of outcomes: the same rounds, the same picture, and the work that was done."""
    runs = ["4+1 0", "4+1 1", "8+4 3"]
    table = _table(np.random.default_rng(3), 40, runs)
    told = outcomes.Outcomes(table, sure=RULES.sure)
    found = told.cooperative(runs, RULES.passing, edge=[False, False, True])
    reviewed = told.reviewed("4+1 0", "8+4 3", RULES.review)
    picked = told.competitive(runs)
    score = np.stack([told.score(run_) for run_ in runs])
    for k in range(40):
        margin, second = (table[name].values[:, k].tolist() for name in ("margin", "second"))
        done = run("cooperative", Known(margin, second))
        assert (done.rounds, not done.best_so_far) == (found.rounds[k], found.passed[k])
        assert table["right"].values[done.chosen[0], k] == found.right[k]
        looks = [step.role for step in done.steps]
        work = [10.0, 20.0, 50.0][done.rounds - 1] + looks.count("checker") + 2 * looks.count("reviewer")
        assert work == found.flop[k]
        assert found.bytes[k] == (done.rounds == 3) * (500 + outcomes.SEED_BYTES)
        sent = sum(said.bytes for said in done.messages if said.direction == "up")
        assert sent == (done.rounds == 3) * outcomes.SEED_BYTES
        # The judge here knows the scores; the study computes them from margins and similarity.
        one = [0, 2]
        pair = run("review", Known([margin[i] for i in one], [second[i] for i in one], scores=score[one, k].tolist()))
        assert len(pair.proposals) == reviewed.rounds[k]
        assert table["right"].values[one[pair.chosen[0]], k] == reviewed.right[k]
        looks = [step.role for step in pair.steps]
        judged = 14 * looks.count("judge")
        work = [10.0, 40.0][pair.rounds - 1] + looks.count("checker") + 2 * looks.count("reviewer") + judged
        assert work == reviewed.flop[k]
        assert picked.right[k] == table["right"].values[score[:, k].argmax(), k]


def test_captions_of_calibration_are_never_those_of_the_test():
    sets = subjects.captions({"test": 300, "calibration": 150})
    assert [len(sets[name]) for name in ("test", "calibration")] == [300, 150]
    assert not set(sets["test"]) & set(sets["calibration"])
    with pytest.raises(ValueError, match=r"calibration: .* captions: must be at least"):
        subjects.captions({"test": 1, "calibration": 60})


def test_damaged_copies_are_read_by_a_vote(team):
    """Each copy alone has lost what was asked; together they have it."""
    copies = "a red on black\na red ring at the top left\na ring at the top left on black"
    seed = team["interpreter"](strategies.Request(copies), progress=None)
    assert seed.table.caption == "a red ring at the top left on black"
    with pytest.raises(ValueError, match="word 'mauve'"):
        team["interpreter"](strategies.Request("a mauve ring\na red ring"), progress=None)
    with pytest.raises(ValueError, match="expected a colour and a shape"):
        team["interpreter"](strategies.Request("a red on black"), progress=None)


def test_words_alone_read_whole_captions_as_the_grammar_does():
    captions = scenes.captions(scenes.draw(300, 6))
    asked, found = scenes.request(captions), votes.scan(captions)
    for head in asked:
        np.testing.assert_array_equal(found[head], asked[head], err_msg=head)


def test_three_damaged_copies_have_at_most_half_the_errors_of_one(team):
    """15 % of the words: by the network of the folder; on one copy nobody can, since most lose what they ask."""
    captions = scenes.captions(scenes.draw(400, 7, held=True))
    copies = [votes.damage(captions, 0.15, seed) for seed in range(3)]
    folder = team["painter"].__self__.cascade.manifest.folder
    reader = strategies.HeadReader(folder / "text_reader", threads=1)
    read = [reader.captions(copy) for copy in copies]
    asked = scenes.request(captions)

    def wrong(found):
        return 1 - np.all([found[head] == asked[head] for head in asked], axis=0).mean()

    single = [wrong(each.classes()) for each in read] + [wrong(votes.scan(copy)) for copy in copies]
    # Of 400 captions; the vote has a quarter of the errors, so that a half is far beyond chance.
    assert wrong(votes.average(read).classes()) < min(single) / 2
    informative = set(scenes.WORDS[7:])
    kept = [
        [w for w in a.split() if w in informative] == [w for w in b.split() if w in informative]
        for a, b in zip(captions, copies[0], strict=True)
    ]
    assert np.mean(kept) < 0.4
