"""The networks that read for strategies: the second checker, and the caption reader on whole and damaged captions."""

import json

import numpy as np
import pytest

from edgeinfer import bridge, quality, scenes

RNG = 20_261_126


@pytest.fixture(scope="module")
def read():
    """Logits of a shipped network by head."""
    root = bridge.shipped("scenes")

    def logits(part, inputs):
        heads = json.loads((root / part / "config.json").read_text())["heads"]
        for head, classes in scenes.HEADS.items():
            assert tuple(heads[head][: len(classes)]) == classes
        output = quality.Extractor(root / part / "model.onnx", threads=1, batch=64)(inputs)
        return dict(zip(heads, np.split(output, np.cumsum([len(c) for c in heads.values()])[:-1], axis=1), strict=True))

    return logits


def right(logits, asked):
    """Whether every class that is asked for is the likeliest, (n,)."""
    return np.logical_and.reduce([(want < 0) | (logits[head].argmax(1) == want) for head, want in asked.items()])


def kappa(one, other):
    """Cohen's: agreement beyond what chance gives two that say yes as often."""
    chance = one.mean() * other.mean() + (1 - one.mean()) * (1 - other.mean())
    return ((one == other).mean() - chance) / (1 - chance)


def test_the_second_checker_is_right_on_renderings(read):
    drawn = scenes.draw(1000, RNG, held=True)
    seen = right(read("checker_2", scenes.render(drawn)), scenes.request(scenes.captions(drawn)))
    # Of 1,000 renderings more than four wrong would be met by chance in 0.4 % of runs if 99.9 % are right.
    assert (~seen).sum() <= 4


def test_the_second_checker_knows_what_no_caption_asks_for(read):
    drawn = scenes.draw(400, RNG + 1)
    empty = scenes.render(scenes.Scenes(**vars(drawn) | {"shape": np.full((400, 2), -1)}))
    layout = read("checker_2", empty)["layout"].argmax(1)
    assert (layout == len(scenes.HEADS["layout"])).mean() > 0.98
    # A pair and a copy of its first object where there is room for one.
    pairs = scenes.draw(600, RNG + 2)
    pairs = pairs[pairs.layout > 0]
    corner = np.where(pairs.centre[:, 0] > 32, 12.0, 52.0)
    free = (np.hypot(*(pairs.centre - corner[:, None]).transpose(2, 0, 1)) > pairs.width / 2 + 16).all(1)
    pairs, corner = pairs[free], corner[free]
    centre, width = pairs.centre.copy(), pairs.width.copy()
    centre[:, 0], width[:, 0] = corner, 18.0
    two, third = scenes.render(pairs), scenes.render(scenes.Scenes(**vars(pairs) | {"centre": centre, "width": width}))
    ground = np.array(list(scenes.BACKGROUNDS.values()))[pairs.background][:, None, None]
    three = np.where((two == ground).all(-1, keepdims=True), third, two)
    assert len(three) > 100
    seen, plain = (read("checker_2", images)["layout"].argmax(1) for images in (three, two))
    assert (seen == len(scenes.HEADS["layout"]) + 1).mean() > 0.9
    assert (plain < len(scenes.HEADS["layout"])).mean() > 0.99


def test_the_checkers_err_on_different_pictures(read):
    """On pictures of one prior step, which is where many are wrong; the referee judges the judges."""
    captions = scenes.captions(scenes.draw(96, RNG + 3, held=True))
    pictures = bridge.load(threads=1).generate(captions, 1, 1, range(96), guidance=1)
    asked = scenes.request(captions)
    true = scenes.score(captions, scenes.measure(pictures))["all"]
    wrong = [right(read(part, pictures), asked) != true for part in ("checker", "checker_2")]
    found = kappa(*wrong)
    print(f"errors of 96: {wrong[0].sum()} and {wrong[1].sum()}, both {(wrong[0] & wrong[1]).sum()}, kappa {found:.2f}")
    assert found < 0.8


def damaged(captions, share, rng):
    """Each word lost or replaced with probability `share`, half each; a caption keeps at least one word."""
    spoiled = []
    for caption in captions:
        words = []
        for word in caption.split():
            fate = rng.random()
            if fate >= share / 2:
                words.append(word if fate >= share else scenes.WORDS[rng.integers(1, len(scenes.WORDS))])
        spoiled.append(" ".join(words or caption.split()[:1]))
    return spoiled


def table(logits):
    """Classes of all heads, (n, heads); the last of each is "not said"."""
    return np.stack([part.argmax(1) for part in logits.values()], axis=1)


@pytest.fixture(scope="module")
def asked():
    drawn = scenes.draw(1500, RNG + 4, held=True)
    captions = scenes.captions(drawn)
    wanted = scenes.request(captions)
    return captions, np.stack([np.where(v < 0, len(scenes.HEADS[h]), v) for h, v in wanted.items()], axis=1)


def test_the_reader_reads_whole_captions(read, asked):
    captions, wanted = asked
    exact = (table(read("text_reader", scenes.encode(captions))) == wanted).all(1).mean()
    print(f"exact {exact:.4f}")
    assert exact >= 0.99


def test_three_damaged_copies_have_at_most_half_the_errors_of_one(read, asked):
    captions, wanted = asked
    rng = np.random.default_rng(RNG)
    copies = [read("text_reader", scenes.encode(damaged(captions, 0.15, rng))) for _ in range(3)]
    alone = [(table(copy) == wanted).all(1).mean() for copy in copies]
    together = (table({head: np.sum([copy[head] for copy in copies], axis=0) for head in copies[0]}) == wanted).all(1)
    print(f"one damaged copy {np.mean(alone):.3f}, the mean of the logits of three {together.mean():.3f}")
    # 33 % of captions keep every word that says something; the rest can only be guessed.
    assert 0.3 < np.mean(alone) < 0.5
    assert 1 - together.mean() <= (1 - max(alone)) / 2
