"""What steps of the priors do to images, for noise of several strengths to begin from: `python training/steps.py`.

Needs no torch. Held-out captions, half of which fix the layout; the decoder takes one step without guidance. Printed
are the CLIP score, the share that the checker and the referee find right, and how far objects lie from the places that
captions name (root mean square, px, of what the referee finds right); each with half of its 95 % interval, and the
difference of scores from the first row's, paired by caption.
"""

from __future__ import annotations

import argparse
import dataclasses
from collections.abc import Sequence

import numpy as np
from evaluate import Judges, over_batches

from edgeinfer import bridge, scenes
from edgeinfer.bridge.cascade.section import Section

Scores = dict[str, np.ndarray]


def weaker(cascade: bridge.GenerativeCascade, sigma: float) -> bridge.GenerativeCascade:
    """The cascade whose walks begin from noise of this standard deviation."""
    scheduler = dataclasses.replace(cascade.manifest.scheduler, init_noise_sigma=sigma)
    return bridge.GenerativeCascade(dataclasses.replace(cascade.manifest, scheduler=scheduler), threads=cascade.threads)


def paint(cascade: bridge.GenerativeCascade, captions: Sequence[str], lower: int, upper: int) -> np.ndarray:
    """One image a caption, with steps of the first prior and of the second."""
    first, second = (network.part.name for network in cascade.manifest.prior.networks)

    def batch(words: Sequence[str], seeds: np.ndarray) -> np.ndarray:
        coarse = cascade.prior(words, lower, seeds, section=Section([first]))
        fine = cascade.prior(words, upper, seeds, section=Section([second], previous=coarse))
        return cascade.decode(words, fine, 1, seeds, guidance=1)

    return over_batches(batch, captions, np.arange(len(captions)))


def judged(judges: Judges, drawn: scenes.Scenes, captions: Sequence[str], images: np.ndarray) -> Scores:
    """Scores of each image, and the squared distance of its objects from named places."""
    seen = scenes.measure(images)
    right = scenes.score(captions, seen)["all"]
    places = np.array(scenes.PLACES)[drawn.place][:, None]
    named = (drawn.place >= 0)[:, None] & right[:, None, None] & np.isfinite(seen.centre)
    return {
        "clip": judges.clip_scores(images, captions),
        "checker": 100.0 * scenes.judge(captions, judges.checker(images))["all"],
        "referee": 100.0 * right,
        "squares": np.square(seen.centre - places)[named],
    }


def line(name: str, scores: Scores, first: Scores) -> str:
    cells = [f"{name:24s}"]
    for measure in ("clip", "checker", "referee"):
        values, gains = scores[measure], scores[measure] - first[measure]
        half, gain = (1.96 * v.std() / len(v) ** 0.5 for v in (values, gains))
        cells.append(f"{measure} {values.mean():6.2f} ±{half:.2f} ({gains.mean():+.2f} ±{gain:.2f})")
    return "  ".join([*cells, f"places {scores['squares'].mean() ** 0.5:.2f} px"])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", nargs="?", help="the shipped cascade by default")
    parser.add_argument("--captions", type=int, default=1024)
    parser.add_argument("--steps", type=int, nargs="+", default=[2, 4, 8, 16, 32], help="of the first prior")
    parser.add_argument("--upper", type=int, default=1, help="steps of the second prior; 0: as many as of the first")
    parser.add_argument("--sigma", type=float, nargs="+", default=[1.0, 0.8], help="standard deviations to begin from")
    parser.add_argument("--seed", type=int, default=777)
    arguments = parser.parse_args()
    cascade = bridge.load(arguments.folder, threads=1)
    judges = Judges(cascade.manifest.folder)
    halves = [
        scenes.draw(arguments.captions // 2, arguments.seed + k, layout=layout, held=True)
        for k, layout in enumerate(("fixed", "free"))
    ]
    drawn = scenes.Scenes(*(np.concatenate(pair) for pair in zip(*(vars(h).values() for h in halves), strict=True)))
    captions = scenes.captions(drawn)
    first = judged(judges, drawn, captions, scenes.render(drawn))
    print(line("real", first, first), flush=True)
    rows: list[Scores] = []
    for sigma in arguments.sigma:
        painter = weaker(cascade, sigma)
        for steps in arguments.steps:
            images = paint(painter, captions, steps, arguments.upper or steps)
            rows.append(judged(judges, drawn, captions, images))
            print(line(f"sigma {sigma:g}, {steps} steps", rows[-1], rows[0]), flush=True)


if __name__ == "__main__":
    main()
