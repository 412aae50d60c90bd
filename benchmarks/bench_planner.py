"""A word of the planners over the cache, beside reading the whole storyboard again for it and ONNX Runtime alone."""

import numpy as np
from common import best, machine, report

from edgeinfer.scenes import storyboards
from edgeinfer.strategies import Planner
from edgeinfer.strategies.planner import PLANNERS

LIMIT = 1.5
BEFORE = (40, 100, 150)


def main() -> None:
    print(machine())
    board = storyboards.draw(1, 4, frames=8)[0]
    numbers = storyboards.prompt(board.sentences) + storyboards.answer(board.frames, board.sources)
    for name in PLANNERS:
        planner = Planner(name=name)
        for words in BEFORE:
            _, past = planner.predict(numbers[:words])
            feeds = {"input_ids": np.array([numbers[words : words + 1]]), "past": past}
            ours = best(lambda p=planner, w=words, c=past: p.predict(numbers[w : w + 1], c), 300)
            others = {
                "no cache": best(lambda p=planner, w=words: p.predict(numbers[: w + 1]), 50) * 1e3,
                "ONNX Runtime alone": best(lambda p=planner, f=feeds: p._session.run(None, f), 300) * 1e3,
            }
            report(f"{name}, a word after {words}, one thread", "ms", ours * 1e3, others, f"<= {LIMIT:g} ms")
        story = best(lambda p=planner: p.plan(board.sentences), 3)
        print(f"{name}, {len(board.frames)} frames from {len(board.sentences)} sentences: {story * 1e3:.3g} ms")


if __name__ == "__main__":
    main()
