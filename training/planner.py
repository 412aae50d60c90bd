"""Train the planner, a small language model that follows storyboards, and export it to ONNX with a key-value cache.

`python training/planner.py --out build/planner` trains the small one for a fixed number of steps, in less than an hour
on two cores; `--minutes` ends by the clock instead. A run that was killed goes on from its last checkpoint. Storyboards
are drawn by worker processes ahead of the optimiser; none is seen twice. Those that come with the package were trained
on a GPU, with `--size medium --minutes 5.5 --batch 256 --workers 9` and `--minutes 5.5 --batch 256 --workers 3`.
"""

from __future__ import annotations

import argparse
import collections
import contextlib
import io
import json
import multiprocessing
import os
import platform
import time
import warnings
from collections.abc import Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import torch
from export import OPSET, halve
from torch import Tensor, nn
from torch.nn import functional
from train import check_same_run

from edgeinfer.scenes import storyboards
from edgeinfer.scenes.storyboards.tokens import POSITIONS_NEEDED as POSITIONS
from edgeinfer.scenes.storyboards.tokens import WORDS, answer, prompt

SEED = 1
ROTARY_BASE = 500.0
#: Storyboards that a worker draws at once; sorted by length before they are cut into batches.
POOL = 4096
WARM_UP = 100
DECAY = 0.4
SHORT = 0.15
HELD = (None, "objects", "forms")
Batches = list[tuple[np.ndarray, np.ndarray]]


@dataclass(frozen=True)
class Size:
    """A planner's width, layers and heads; batch and steps of a run of less than an hour on two cores."""

    width: int
    layers: int
    heads: int
    batch: int
    steps: int


SIZES = {"small": Size(80, 4, 5, 32, 9000), "medium": Size(128, 6, 4, 32, 5000)}


class Planner(nn.Module):
    """A decoder: pre-norm, rotary positions, squared ReLU, no biases. Weights of one kind are stacked over layers."""

    cosine: Tensor
    sine: Tensor

    def __init__(self, size: Size) -> None:
        super().__init__()
        width, layers = size.width, size.layers
        self.size = size
        self.words = nn.Embedding(len(WORDS), width)
        self.norms = nn.Parameter(torch.ones(2 * layers + 1, width))
        scale = width**-0.5

        def stack(*shape: int) -> nn.Parameter:
            return nn.Parameter(torch.randn(layers, *shape) * scale)

        self.attend = stack(3, width, width)
        self.mix = nn.Parameter(torch.zeros(layers, width, width))
        self.up = stack(4 * width, width)
        self.down = nn.Parameter(torch.zeros(layers, width, 4 * width))
        self.head = nn.Linear(width, len(WORDS), bias=False)
        nn.init.normal_(self.words.weight, std=0.5)
        nn.init.zeros_(self.head.weight)
        half = width // size.heads // 2
        angles = torch.arange(POSITIONS)[:, None] * ROTARY_BASE ** (-torch.arange(half) / half)
        self.register_buffer("cosine", angles.cos(), persistent=False)
        self.register_buffer("sine", angles.sin(), persistent=False)

    def norm(self, x: Tensor, index: int) -> Tensor:
        return functional.layer_norm(x, (self.size.width,), self.norms[index])

    @staticmethod
    def turn(x: Tensor, cosine: Tensor, sine: Tensor) -> Tensor:
        a, b = x.chunk(2, dim=-1)
        return torch.cat([a * cosine - b * sine, a * sine + b * cosine], dim=-1)

    def trunk(self, ids: Tensor, past: Tensor | None = None) -> tuple[Tensor, Tensor | None]:
        """What the head reads at each word, (B, n, width), and the cache, (layers, 2, B, heads, p + n, h)."""
        batch, n = ids.shape
        start = 0 if past is None else past.shape[4]
        cosine, sine = self.cosine[start : start + n], self.sine[start : start + n]
        x = functional.layer_norm(self.words(ids), (self.size.width,))
        cache = []
        for layer in range(self.size.layers):
            inside = self.norm(x, 2 * layer)
            joint = functional.linear(inside, self.attend[layer].flatten(0, 1))
            query, key, value = joint.reshape(batch, n, 3, self.size.heads, -1).permute(2, 0, 3, 1, 4)
            query, key = self.turn(query, cosine, sine), self.turn(key, cosine, sine)
            key = key.to(value.dtype)
            if past is not None:
                key, value = torch.cat([past[layer, 0], key], 2), torch.cat([past[layer, 1], value], 2)
                cache.append(torch.stack([key, value]))
            seen = self.look(query.to(value.dtype), key, value, start)
            x = x + functional.linear(seen.transpose(1, 2).reshape(batch, n, -1), self.mix[layer])
            inside = functional.linear(self.norm(x, 2 * layer + 1), self.up[layer])
            x = x + functional.linear(functional.relu(inside).square(), self.down[layer])
        return self.norm(x, 2 * self.size.layers), torch.stack(cache) if cache else None

    @staticmethod
    def look(query: Tensor, key: Tensor, value: Tensor, start: int) -> Tensor:
        if query.is_cuda:
            return functional.scaled_dot_product_attention(query, key, value, is_causal=True)
        # On a CPU the plain products are faster than the fused attention's backward pass.
        n, m = query.shape[2], key.shape[2]
        later = torch.ones(n, m, dtype=torch.bool, device=query.device).triu(start + 1)
        weights = (query @ key.transpose(2, 3)) * query.shape[-1] ** -0.5
        return weights.masked_fill(later, -torch.inf).softmax(-1).to(value.dtype) @ value

    def forward(self, ids: Tensor, past: Tensor) -> tuple[Tensor, Tensor]:
        """Logits of the words to come, (B, n, words), and the longer cache."""
        x, cache = self.trunk(ids, past)
        assert cache is not None
        return self.head(x), cache


@torch.no_grad()
def orthogonal(matrices: Tensor) -> Tensor:
    """Nearest orthogonal matrices of a stack, roughly: five Newton-Schulz steps (K. Jordan, 2024)."""
    tall = matrices.shape[-2] > matrices.shape[-1]
    x = matrices.mT if tall else matrices
    x = x / (x.norm(dim=(-2, -1), keepdim=True) + 1e-7)
    for _ in range(5):
        gram = x @ x.mT
        x = 3.4445 * x + (-4.7750 * gram + 2.0315 * gram @ gram) @ x
    return x.mT if tall else x


class Muon(torch.optim.Optimizer):
    """Momentum made orthogonal, for stacks of matrices; those of one shape are worked on together."""

    def __init__(self, parameters: list[nn.Parameter], rate: float) -> None:
        super().__init__(parameters, {"lr": rate, "momentum": 0.95, "decay": 0.05})

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:
        for group in self.param_groups:
            shapes = collections.defaultdict(list)
            for parameter in group["params"]:
                state = self.state[parameter]
                state.setdefault("momentum", torch.zeros_like(parameter))
                state["momentum"].lerp_(parameter.grad, 1 - group["momentum"])
                ahead = parameter.grad.lerp(state["momentum"], group["momentum"])
                shapes[parameter.shape[-2:]].append((parameter, ahead.flatten(0, -3)))
            for (rows, columns), members in shapes.items():
                turned = orthogonal(torch.cat([ahead for _, ahead in members]))
                turned *= max(1, rows / columns) ** 0.5
                parts = turned.split([len(ahead) for _, ahead in members])
                for (parameter, _), part in zip(members, parts, strict=True):
                    parameter.mul_(1 - group["lr"] * group["decay"])
                    parameter.add_(part.reshape(parameter.shape), alpha=-group["lr"])


def padded(rows: list[list[int]], multiple: int = 16) -> np.ndarray:
    """Rows of numbers in an array of bytes, padded to a multiple."""
    width = -(-max(map(len, rows)) // multiple) * multiple
    made = np.zeros((len(rows), width), np.uint8)
    for i, row in enumerate(rows):
        made[i, : len(row)] = row
    return made


def batches(seed: int, index: int, most: int, batch: int) -> Batches:
    """Batches of one pool of storyboards: words, and how many of each are the prompt's."""
    sequence = np.random.SeedSequence(seed, spawn_key=(index,))
    boards = storyboards.draw(POOL if batch > 64 else 12 * batch, np.random.default_rng(sequence), most=most)
    rows = [(prompt(board.sentences), answer(board.frames, board.sources)) for board in boards]
    rows.sort(key=lambda row: len(row[0]) + len(row[1]))
    made = []
    for start in range(0, len(rows), batch):
        part = rows[start : start + batch]
        made.append((padded([asked + said for asked, said in part]), np.array([len(asked) for asked, _ in part])))
    return [made[i] for i in np.random.default_rng(sequence.spawn(1)[0]).permutation(len(made))]


class Feed:
    """Batches drawn by worker processes, or by this one, in an order that depends on the seed alone."""

    def __init__(self, workers: int, seed: int, batch: int, first: int = 0) -> None:
        context = multiprocessing.get_context("spawn")
        self.pool = ProcessPoolExecutor(workers, context, initializer=os.nice, initargs=(5,)) if workers else None
        self.ahead: collections.deque[Future[Batches]] = collections.deque()
        self.seed, self.batch, self.next, self.depth = seed, batch, first, 3 * workers
        #: The most frames of those that are drawn next.
        self.most = 4 if first == 0 else 8
        self.fill()

    def fill(self) -> None:
        while self.pool and len(self.ahead) < self.depth:
            self.ahead.append(self.pool.submit(batches, self.seed, self.next, self.most, self.batch))
            self.next += 1

    def __iter__(self) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        while True:
            if self.pool:
                yield from self.ahead.popleft().result()
                self.fill()
            else:
                self.next += 1
                yield from batches(self.seed, self.next - 1, self.most, self.batch)

    @property
    def begun(self) -> int:
        """Pools that were begun: where a later run goes on."""
        return self.next - len(self.ahead)

    def close(self) -> None:
        if self.pool:
            self.pool.shutdown(wait=False, cancel_futures=True)


def loss_of(net: Planner, ids: Tensor, prompts: Tensor) -> Tensor:
    """Mean cross-entropy of the words of the answers."""
    place = torch.arange(1, ids.shape[1], device=ids.device)
    target = ids[:, 1:].masked_fill((place < prompts[:, None]) | (ids[:, 1:] == 0), -100)
    x, _ = net.trunk(ids[:, :-1])
    return functional.cross_entropy(net.head(x).float().flatten(0, 1), target.flatten())


def rate_at(step: int, done: float) -> float:
    """The factor of the learning rates: warm-up, level, and a linear fall over the last part of the run."""
    return min(1.0, (step + 1) / WARM_UP, (1 - done) / DECAY)


def optimisers(net: Planner, device: torch.device, rates: tuple[float, float]) -> list[torch.optim.Optimizer]:
    inner = [net.attend, net.mix, net.up, net.down]
    outer = [net.words.weight, net.norms, net.head.weight]
    adam = torch.optim.AdamW(outer, lr=rates[1], betas=(0.9, 0.98), weight_decay=0.0, fused=device.type == "cuda")
    return [Muon(inner, rates[0]), adam]


def save(path: Path, state: dict[str, Any]) -> None:
    torch.save(state, path.with_suffix(".part"))
    os.replace(path.with_suffix(".part"), path)


def train(arguments: argparse.Namespace, size: Size, device: torch.device) -> Planner:
    """Train, or go on where the checkpoint stands."""
    batch, limit = arguments.batch or size.batch, arguments.steps or size.steps
    path = arguments.out / "planner.pt"
    state: dict[str, Any] = {"step": 0, "pools": 0, "seconds": 0.0, "storyboards": 0}
    if path.exists():
        state = torch.load(path, map_location="cpu", weights_only=True)
        check_same_run(path, state, seed=arguments.seed, batch=batch)
    feed = None if state.get("finished") else Feed(arguments.workers, arguments.seed, batch, state["pools"])
    torch.manual_seed(arguments.seed)
    net = Planner(size).to(device)
    tools = optimisers(net, device, (arguments.rate, 0.3 * arguments.rate))
    levels = [group["lr"] for tool in tools for group in tool.param_groups]
    if path.exists():
        net.load_state_dict(state["net"])
    if feed is None:
        return net
    for tool, kept in zip(tools, state.get("tools", ()), strict=False):
        tool.load_state_dict(kept)
    low = torch.autocast("cuda", torch.bfloat16) if device.type == "cuda" else contextlib.nullcontext()
    started, losses, step, drawn = time.monotonic(), [], state["step"], state["storyboards"]
    for numbers, prompts in feed:
        seconds = state["seconds"] + time.monotonic() - started
        done = seconds / (60 * arguments.minutes) if arguments.minutes else step / limit
        if done >= 1:
            break
        feed.most = 4 if done < SHORT else 8
        for tool, level in zip(tools, levels, strict=True):
            tool.param_groups[0]["lr"] = level * rate_at(step, done)
        ids = torch.from_numpy(numbers).to(device, non_blocking=True).long()
        with low:
            loss = loss_of(net, ids, torch.from_numpy(prompts).to(device))
        for tool in tools:
            tool.zero_grad()
        loss.backward()
        for tool in tools:
            tool.step()
        step, drawn = step + 1, drawn + len(numbers)
        losses.append(loss.detach())
        if step % arguments.every == 0:
            mean = torch.stack(losses).mean().item()
            losses.clear()
            print(f"step {step} done {done:.3f} loss {mean:.4f} storyboards {drawn} {seconds:.0f} s", flush=True)
            state_now = {"step": step, "pools": feed.begun, "seconds": seconds, "storyboards": drawn}
            state_now |= {"batch": batch, "seed": arguments.seed}
            save(path, state_now | {"net": net.state_dict(), "tools": [tool.state_dict() for tool in tools]})
    feed.close()
    seconds = state["seconds"] + time.monotonic() - started
    told = {"step": step, "seconds": seconds, "storyboards": drawn, "finished": True, "size": asdict(size)}
    save(path, told | {"net": net.state_dict(), "batch": batch, "seed": arguments.seed, "device": device_name(device)})
    return net


def device_name(device: torch.device) -> str:
    return torch.cuda.get_device_name() if device.type == "cuda" else f"CPU, {torch.get_num_threads()} threads"


@torch.no_grad()
def exactness(net: Planner, n: int, device: torch.device, seed: int = 2) -> list[dict[str, Any]]:
    """Shares of exact storyboards and frames, by held-out kind and length, under greedy decoding.

    A storyboard is exact where each word of its answer is the likeliest after those before it: then greedy decoding
    writes that answer and no other, so one pass over prompt and answer decides.
    """
    rows = []
    for held in HELD:
        for count in (2, 4, 6, 8):
            rng = np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(HELD.index(held), count)))
            boards = storyboards.draw(n, rng, frames=count, held=held)
            exact, right = [], []
            for start in range(0, n, 256):
                part = boards[start : start + 256]
                asked = [prompt(board.sentences) for board in part]
                said = [answer(board.frames, board.sources) for board in part]
                ids = torch.from_numpy(padded([a + b for a, b in zip(asked, said, strict=True)])).to(device).long()
                best = net.head(net.trunk(ids[:, :-1])[0]).argmax(-1).cpu().numpy()
                for i, (a, b) in enumerate(zip(asked, said, strict=True)):
                    good = best[i, len(a) - 1 : len(a) + len(b) - 1] == np.array(b)
                    exact.append(bool(good.all()))
                    right.append(good[:-1].reshape(count, -1).all(1))
            told = {"held": held or "none", "frames": count, "n": n, "exact": float(np.mean(exact))}
            rows.append(told | {"frame": float(np.mean(right)), "by_kind": by_kind(boards, np.array(right))})
            print({name: value for name, value in rows[-1].items() if name != "by_kind"}, flush=True)
    return rows


def by_kind(boards: list[storyboards.Storyboard], right: np.ndarray) -> dict[str, list[float]]:
    """Share of right frames, and their number, by kind of edit."""
    kinds = np.array([board.kinds for board in boards])
    return {kind: [float(right[:, 1:][kinds == kind].mean()), int((kinds == kind).sum())] for kind in np.unique(kinds)}


def to_onnx(net: Planner) -> onnx.ModelProto:
    """One graph for the prompt and for each word after it: the cache that goes in may be empty."""
    size = net.size
    # The example must have several words and a cache, or tracing fixes their numbers.
    past = torch.zeros(size.layers, 2, 1, size.heads, 3, size.width // size.heads)
    buffer = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", (DeprecationWarning, torch.jit.TracerWarning))
        torch.onnx.export(
            net.eval(),
            (torch.zeros(1, 2, dtype=torch.int64), past),
            buffer,
            input_names=["input_ids", "past"],
            output_names=["logits", "present"],
            dynamic_axes={"input_ids": {1: "n"}, "past": {4: "p"}, "logits": {1: "n"}, "present": {4: "p_and_n"}},
            opset_version=OPSET,
            dynamo=False,
        )
    model = onnx.load_from_string(buffer.getvalue())
    onnx.checker.check_model(model, full_check=True)
    return model


def parity(model: onnx.ModelProto, net: Planner) -> float:
    """Largest difference of logits and cache between ONNX Runtime and torch, relative to the largest value."""
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    size, worst = net.size, 0.0
    rng = torch.Generator().manual_seed(0)
    for n, p in ((1, 0), (40, 0), (1, 40), (7, 33), (12, 100), (1, POSITIONS - 1)):
        ids = torch.randint(1, len(WORDS), (1, n), generator=rng)
        past = torch.randn(size.layers, 2, 1, size.heads, p, size.width // size.heads, generator=rng)
        ours = session.run(None, {"input_ids": ids.numpy(), "past": past.numpy()})
        with torch.no_grad():
            theirs = [value.numpy() for value in net(ids, past)]
        for a, b in zip(ours, theirs, strict=True):
            worst = max(worst, float(np.abs(a - b).max() / np.abs(b).max()))
    return worst


def export(net: Planner, folder: Path, told: dict[str, Any]) -> None:
    """Write `model.onnx` and `config.json`, checked against torch."""
    net = net.cpu().float().eval()
    folder.mkdir(parents=True, exist_ok=True)
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.copy_(parameter.half().float())
    whole = to_onnx(net)
    model = halve(whole)
    difference = parity(model, net)
    if difference > 1e-4:
        raise RuntimeError(f"ONNX Runtime differs from torch by {difference:.2g} of the largest value")
    told = {
        "format": 1,
        "parameters": sum(parameter.numel() for parameter in net.parameters()),
        "layers": net.size.layers,
        "heads": net.size.heads,
        "width": net.size.width,
        "positions": POSITIONS,
        "words": " ".join(WORDS),
        "parity": difference,
        "training": told,
        "versions": {"python": platform.python_version(), "torch": torch.__version__, "onnx": onnx.__version__},
    }
    (folder / "model.onnx").write_bytes(model.SerializeToString(deterministic=True))
    (folder / "config.json").write_text(json.dumps(told, indent=1) + "\n")
    print(f"exported to {folder}: {(folder / 'model.onnx').stat().st_size} bytes, parity {difference:.2g}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="folder for the checkpoint and, in model/, the export")
    parser.add_argument("--size", choices=list(SIZES), default="small")
    parser.add_argument("--seed", type=int, default=SEED)
    parser.add_argument("--steps", type=int, help="instead of the size's own")
    parser.add_argument("--minutes", type=float, help="train by the clock")
    parser.add_argument("--batch", type=int, help="storyboards a step")
    parser.add_argument("--rate", type=float, default=0.01, help="of Muon; AdamW takes 0.3 of it")
    parser.add_argument("--workers", type=int, default=1, help="processes that draw storyboards")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--every", type=int, default=100, help="steps between checkpoints")
    parser.add_argument("--evaluate", type=int, default=400, help="storyboards of each kind and length")
    parser.add_argument("--device", choices=("cpu", "cuda"))
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    torch.set_float32_matmul_precision("high")
    arguments.out.mkdir(parents=True, exist_ok=True)
    device = torch.device(arguments.device or ("cuda" if torch.cuda.is_available() else "cpu"))
    net = train(arguments, SIZES[arguments.size], device)
    state = torch.load(arguments.out / "planner.pt", map_location="cpu", weights_only=True)
    told = {name: state[name] for name in ("step", "seconds", "storyboards", "batch", "seed", "device")}
    export(net, arguments.out / "model", told)
    rows = exactness(net.to(device), arguments.evaluate, device)
    (arguments.out / "evaluation.json").write_text(json.dumps({"training": told, "rows": rows}, indent=1) + "\n")


if __name__ == "__main__":
    main()
