"""Train the scenes cascade from nothing and export it: `python training/train.py --out build/scenes`.

Two processes of one thread each work through the parts, on an accelerator where torch finds one; each part is a
function of the seed and of step counts alone. A run that was killed goes on from its last checkpoints when it is
started again.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import time
from pathlib import Path
from typing import Any

import torch
from networks import TextReader, build
from stages import STAGES, Draw, Encode
from torch import nn

SEED = 1
EVERY = 100
WORKERS = (
    ("text_encoder", "prior_16", "embedder", "feature", "text_reader"),
    ("checker", "prior_32", "decoder", "checker_2"),
)
NEEDS_TEXT = ("prior_16", "prior_32", "decoder")
DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")


def checkpoint(folder: Path, part: str) -> Path:
    return folder / f"{part}.pt"


def check_same_run(path: Path, state: dict[str, Any], **asked: Any) -> None:
    """Refuse a checkpoint of another seed or batch, of what it says."""
    for name, value in asked.items():
        if state.get(name, value) != value:
            raise ValueError(f"{path}: is of {name} = {state[name]}, not {value}: remove it, or give another --out")


def trained(folder: Path, part: str, *, finished: bool = True) -> nn.Module:
    """A part with its averaged weights; `finished` False takes those of a run under way."""
    state = torch.load(checkpoint(folder, part), weights_only=True, map_location="cpu")
    if finished and state["step"] < state["steps"]:
        raise RuntimeError(f"{part} is trained for {state['step']} of {state['steps']} steps only")
    net = build(part)
    net.load_state_dict(state["average"])
    return net.eval()


def wait_for_text(folder: Path) -> Encode:
    """The frozen text encoder, once the other worker has trained it."""
    while True:
        try:
            reader = trained(folder, "text_encoder")
            break
        except (FileNotFoundError, RuntimeError):
            time.sleep(2)
    assert isinstance(reader, TextReader)
    return torch.no_grad()(reader.encoder.to(DEVICE))


def train(folder: Path, part: str, seed: int = SEED, steps: int | None = None, batch: int | None = None) -> None:
    """Train one part, or go on where its checkpoint stands; `steps` and `batch` cut it short for a smoke test."""
    stage = STAGES[part]
    limit, batch = steps or stage.steps, batch or stage.batch
    torch.manual_seed(seed)
    net = build(part).to(DEVICE, memory_format=torch.channels_last)
    average = {name: value.clone() for name, value in net.state_dict().items()}
    optimizer = torch.optim.AdamW(net.parameters(), lr=stage.rate, betas=(0.9, 0.99), weight_decay=0.01)
    state: dict[str, Any] = {"step": 0, "seconds": 0.0}
    path = checkpoint(folder, part)
    if path.exists():
        state = torch.load(path, weights_only=True, map_location=DEVICE)
        check_same_run(path, state, seed=seed, batch=batch)
        net.load_state_dict(state["net"])
        optimizer.load_state_dict(state["optimizer"])
        average = state["average"]
    encode = wait_for_text(folder) if part in NEEDS_TEXT and state["step"] < limit else None
    started, spent, recent = time.monotonic(), state["seconds"], 0.0
    for step in range(state["step"], limit):
        for group in optimizer.param_groups:
            group["lr"] = stage.rate_at(step)
        loss = stage.loss(net, Draw(seed, part, step, batch, DEVICE), encode)
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(net.parameters(), 1.0)
        optimizer.step()
        keep = min(0.999, (1 + step) / (10 + step))
        with torch.no_grad():
            for name, value in net.state_dict().items():
                average[name].lerp_(value, 1 - keep)
        recent += loss.item()
        if (step + 1) % EVERY == 0 or step + 1 == limit:
            state = {
                "step": step + 1,
                "steps": limit,
                "batch": batch,
                "seed": seed,
                "seconds": spent + time.monotonic() - started,
                "net": net.state_dict(),
                "average": average,
                "optimizer": optimizer.state_dict(),
            }
            torch.save(state, path.with_suffix(".part"))
            os.replace(path.with_suffix(".part"), path)
            print(f"{part} {step + 1}/{limit} loss {recent / EVERY:.4f} {state['seconds']:.0f} s", flush=True)
            recent = 0.0


def work(folder: Path, parts: tuple[str, ...], seed: int) -> None:
    torch.set_num_threads(1)
    for part in parts:
        train(folder, part, seed)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="folder for checkpoints and, in model/, the export")
    parser.add_argument("--seed", type=int, default=SEED)
    parser.add_argument("--parts", nargs="+", choices=list(STAGES), help="train these in this process, export nothing")
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)
    if arguments.parts:
        work(arguments.out, tuple(arguments.parts), arguments.seed)
        return
    context = multiprocessing.get_context("spawn")
    workers = [context.Process(target=work, args=(arguments.out, parts, arguments.seed)) for parts in WORKERS]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    if any(worker.exitcode for worker in workers):
        raise SystemExit("a worker failed; start again to go on from the last checkpoints")
    from export import export

    export(arguments.out, arguments.out / "model")


if __name__ == "__main__":
    main()
