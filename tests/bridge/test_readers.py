"""The caption reader, on whole and damaged captions."""

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
