"""What each network of the scenes cascade is trained on: data, loss and schedule, all functions of (seed, step)."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from networks import CHECKED, READ, TRAIN_TIMESTEPS, Embedder, TextReader, UNet, alphas_cumprod, classes
from spoiled import damaged, pictures
from torch import Tensor, nn
from torch.nn import functional as F

from edgeinfer import scenes

Encode = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class Stage:
    """A part's schedule.

    AdamW's rate warms up over 100 steps, holds, and falls linearly to zero over the second half.
    """

    loss: Callable[[nn.Module, Draw, Encode | None], Tensor]
    steps: int
    batch: int
    rate: float

    def rate_at(self, step: int) -> float:
        return self.rate * min(1.0, (step + 1) / 100, 2 * (self.steps - step) / self.steps)


class Draw:
    """The random things of one training step: the same for the same seed, part and step."""

    def __init__(self, seed: int, part: str, step: int, batch: int, device: torch.device | str = "cpu") -> None:
        sequence = np.random.SeedSequence(seed, spawn_key=(*part.encode(), step))
        self.rng = np.random.default_rng(sequence)
        self.torch = torch.Generator().manual_seed(int(sequence.generate_state(1, np.uint64)[0] >> 1))
        self.scenes = scenes.draw(batch, self.rng)
        self.batch = batch
        self.device = torch.device(device)

    def captions(self) -> Tensor:
        return self.here(scenes.encode(scenes.captions(self.scenes)))

    def images(self) -> Tensor:
        """(batch, 3, 64, 64) in [-1, 1]."""
        return self.model_range(scenes.render(self.scenes))

    def model_range(self, pixels: np.ndarray) -> Tensor:
        """(n, side, side, 3) uint8 to (n, 3, side, side) in [-1, 1]."""
        return self.here(pixels).permute(0, 3, 1, 2).float() / 127.5 - 1

    def here(self, values: np.ndarray) -> Tensor:
        return torch.from_numpy(values).to(self.device)

    # Random numbers are drawn on the processor, so that they are the same wherever a network trains.
    def uniform(self, *shape: int) -> Tensor:
        return torch.rand(shape, generator=self.torch).to(self.device)

    def normal(self, *shape: int) -> Tensor:
        return torch.randn(shape, generator=self.torch).to(self.device)

    def autocast(self) -> torch.autocast:
        # Processors without AVX-512 emulate bfloat16, seven times slower than float32.
        native = self.device.type != "cpu" or torch.backends.cpu.get_cpu_capability() == "AVX512"
        return torch.autocast(self.device.type, torch.bfloat16, enabled=native)


def degrade(image: Tensor, draw: Draw, degree: float) -> Tensor:
    """The lower stage's image as it might come out: wobbling, blurred and noisy, each to a random degree.

    This is noise-conditioning augmentation; the warp and the blur stand for what a lower stage gets wrong about
    outlines, so that the stage learns to take the shape from the caption where the image does not show it.
    """
    n, _, side, _ = image.shape
    # Displacements of half the images, smooth over a quarter of the side.
    grain = F.interpolate(draw.normal(n, 2, 5, 5), size=(side, side), mode="bilinear", align_corners=True)
    strength = 0.7 * degree * draw.uniform(n, 1, 1, 1) * (draw.uniform(n, 1, 1, 1) < 0.5)
    identity = torch.eye(2, 3, device=image.device).expand(n, 2, 3)
    grid = F.affine_grid(identity, list(image.shape), align_corners=False)
    grid = grid + (grain * strength * 2 / side).permute(0, 2, 3, 1)
    image = F.grid_sample(image, grid, padding_mode="border", align_corners=False)
    # Gaussian blur of half the images.
    sigma = (0.05 + degree * draw.uniform(n) * (draw.uniform(n) < 0.5)).reshape(n, 1)
    taps = torch.exp(-(torch.arange(-2.0, 3.0, device=image.device) ** 2) / (2 * sigma**2))
    taps = (taps / taps.sum(1, keepdim=True)).repeat_interleave(3, 0)
    flat = F.pad(image, (2, 2, 2, 2), mode="replicate").reshape(1, 3 * n, side + 4, side + 4)
    flat = F.conv2d(flat, taps[:, None, :, None], groups=3 * n)
    image = F.conv2d(flat, taps[:, None, None, :], groups=3 * n).reshape(n, 3, side, side)
    return image + 0.25 * degree * draw.uniform(n, 1, 1, 1) * draw.normal(*image.shape)


def diffusion_loss(
    side: int, below: int | None = None, degree: float = 1.0, dropout: float = 0.0
) -> Callable[..., Tensor]:
    """Mean squared error of v at a random time, spread evenly over the batch; weighted as the network's scaling asks.

    `degree` is how far the image below is degraded, and 1 means up to 0.7 px of displacement, 1 px of blur and noise of
    0.25; `dropout` is the probability of the null condition.
    """
    levels = alphas_cumprod()

    def loss(net: nn.Module, draw: Draw, encode: Encode | None) -> Tensor:
        assert encode is not None and isinstance(net, UNet)
        images = draw.images()
        clean = F.avg_pool2d(images, scenes.SIDE // side) if side < scenes.SIDE else images
        context = encode(draw.captions())
        extra = []
        if below is not None:
            extra.append(degrade(F.avg_pool2d(images, scenes.SIDE // below), draw, degree))
        if dropout:
            # Caption and image go together, so that the pass without them is the unconditional one of guidance.
            kept = (draw.uniform(draw.batch) >= dropout).float()
            context = context * kept[:, None, None]
            extra = [image * kept[:, None, None, None] for image in extra]
        time = ((torch.arange(draw.batch, device=draw.device) + draw.uniform(1)) / draw.batch * TRAIN_TIMESTEPS).long()
        level = levels.to(draw.device)[time].float()[:, None, None, None]
        noise = draw.normal(*clean.shape)
        noisy = level.sqrt() * clean + (1 - level).sqrt() * noise
        target = level.sqrt() * noise - (1 - level).sqrt() * clean
        with draw.autocast():
            output = net(noisy.contiguous(memory_format=torch.channels_last), time, context, *extra)
        weight = net.loss_weight(time, *(extra or [None]))
        return (weight * (output.float() - target) ** 2).mean()

    return loss


def _masked(logits: Tensor, target: Tensor) -> Tensor:
    return F.cross_entropy(logits.float(), target, ignore_index=-1)


def text_loss(net: nn.Module, draw: Draw, encode: Encode | None) -> Tensor:
    """The scene's table from the mean of the words, and from each word the object it belongs to."""
    assert isinstance(net, TextReader)
    batch = draw.scenes
    sentences = scenes.captions(batch)
    ids = draw.here(scenes.encode(sentences))
    table, word = net(ids)
    asked = scenes.request(sentences)
    losses = []
    for part, head in zip(
        table.split([len(values) + 1 for values in scenes.HEADS.values()], 1), scenes.HEADS, strict=True
    ):
        # What the caption leaves open is a class of its own.
        target = torch.from_numpy(np.where(asked[head] < 0, len(scenes.HEADS[head]), asked[head]))
        losses.append(F.cross_entropy(part, target.to(part.device)))
    is_shape = torch.isin(ids, torch.tensor([scenes.WORDS.index(shape) for shape in scenes.SHAPES]).to(ids))
    mention = torch.cumsum(is_shape, 1) - is_shape.long()
    slot = (mention + draw.here(batch.first)[:, None]) % 2
    inside = mention < is_shape.sum(1, keepdim=True)
    rows = torch.arange(len(sentences), device=draw.device)[:, None]
    for part, (name, count) in zip(word.split(list(net.own.values()), 2), net.own.items(), strict=True):
        if name == "role":
            layout = draw.here(batch.layout)[:, None]
            value = torch.where(layout > 0, 2 * layout - 1 + slot, 0)
        else:
            value = draw.here(np.stack([asked[f"{name}_a"], asked[f"{name}_b"]], 1))[rows, slot]
            if name == "size":
                value = torch.where(value < 0, count - 1, value)
        losses.append(_masked(part.flatten(0, 1), torch.where(inside, value, -1).flatten()))
    return torch.stack(losses).sum()


def _noised(draw: Draw) -> Tensor:
    """Images with a little noise on half of them; no blur, so that 64-pixel detail counts."""
    images = draw.images()
    strength = 0.1 * draw.uniform(draw.batch, 1, 1, 1) * (draw.uniform(draw.batch, 1, 1, 1) < 0.5)
    return (images + strength * draw.normal(*images.shape)).contiguous(memory_format=torch.channels_last)


def checker_loss(net: nn.Module, draw: Draw, encode: Encode | None) -> Tensor:
    """All attributes of the scene, named in the caption or not."""
    with draw.autocast():
        output = net(_noised(draw)).float()
    truth = scenes.labels(draw.scenes)
    logits, measures = output[:, : classes()], output[:, classes() :]
    loss = _cross_entropies(logits, truth, scenes.HEADS)
    if measures.shape[1]:
        batch = draw.scenes
        target = np.concatenate([(batch.centre - 32).reshape(len(batch), 4), batch.width - 24], axis=1) / 8
        here = np.repeat(batch.shape >= 0, 2, axis=1)
        weight = draw.here(np.concatenate([here, batch.shape >= 0], axis=1)).float()
        loss = loss + 4 * (weight * (measures - draw.here(target).float()) ** 2).mean()
    return loss


def second_checker_loss(net: nn.Module, draw: Draw, encode: Encode | None) -> Tensor:
    """All attributes of pictures, spoiled ones among them, as a painter might draw them: bent, faded and noisy."""
    pixels, truth = pictures(draw.scenes, draw.rng)
    images = degrade(draw.model_range(pixels), draw, 1.5) * (1 - 0.15 * draw.uniform(draw.batch, 1, 1, 1))
    with draw.autocast():
        output = net(images.contiguous(memory_format=torch.channels_last)).float()
    return _cross_entropies(output, truth, CHECKED)


def caption_loss(net: nn.Module, draw: Draw, encode: Encode | None) -> Tensor:
    """What captions asked for before up to a third of the words of most of them were damaged."""
    sentences = scenes.captions(draw.scenes)
    share = np.where(draw.rng.random(draw.batch) < 0.4, 0, draw.rng.uniform(0, 1 / 3, draw.batch))
    output = net(draw.here(scenes.encode(damaged(sentences, share, draw.rng))))
    asked = scenes.request(sentences)
    return _cross_entropies(output, {h: np.where(asked[h] < 0, len(READ[h]) - 1, asked[h]) for h in READ}, READ)


def _cross_entropies(output: Tensor, truth: Mapping[str, np.ndarray], heads: Mapping[str, Sequence[str]]) -> Tensor:
    """Sum over heads whose logits stand side by side; -1 is no class."""
    parts = output.split([len(values) for values in heads.values()], 1)
    return torch.stack(
        [_masked(part, torch.from_numpy(truth[head]).to(part.device)) for part, head in zip(parts, heads, strict=True)]
    ).sum()


def _spoil(batch: scenes.Scenes, rng: np.random.Generator) -> scenes.Scenes:
    """The scenes with one thing that their captions say changed, or two objects' shapes exchanged."""
    n = len(batch)
    shape, colour, size = batch.shape.copy(), batch.colour.copy(), batch.size.copy()
    pair = batch.layout > 0
    slot = np.where(pair, rng.integers(0, 2, n), 0)
    rows = np.arange(n)
    kind = rng.integers(0, 4, n)
    kind[(kind == 2) & ~batch.says_size[rows, slot]] = 0
    kind[(kind == 3) & (~pair | (shape[:, 0] == shape[:, 1]))] = 0
    for index, values, count in ((0, shape, len(scenes.SHAPES)), (1, colour, len(scenes.COLOURS)), (2, size, 2)):
        here = rows[kind == index]
        values[here, slot[here]] = (values[here, slot[here]] + rng.integers(1, count, len(here))) % count
    shape[kind == 3] = shape[kind == 3, ::-1]
    fields = {name: getattr(batch, name) for name in batch.__dataclass_fields__}
    return scenes.Scenes(**fields | {"shape": shape, "colour": colour, "size": size})


def embedder_loss(net: nn.Module, draw: Draw, encode: Encode | None) -> Tensor:
    """Contrast over the batch in both directions; each image also meets a caption with one thing wrong."""
    assert isinstance(net, Embedder)
    wrong = _spoil(draw.scenes, draw.rng)
    ids = torch.cat([draw.captions(), draw.here(scenes.encode(scenes.captions(wrong)))])
    with draw.autocast():
        image, text = net.embed_image(_noised(draw)).float(), net.embed_text(ids).float()
    products = image @ text.T * net.scale.clamp(max=math.log(100.0)).exp()
    target = torch.arange(draw.batch, device=draw.device)
    # Two captions of a batch that are alike are no contrast.
    same = (ids[None] == ids[: draw.batch, None]).all(2)
    same[target, target] = False
    same[:, draw.batch :] |= draw.here(scenes.held_out(wrong))[None]
    products = products.masked_fill(same, -torch.inf)
    return F.cross_entropy(products, target) + F.cross_entropy(products[:, : draw.batch].T, target)


STAGES = {
    "text_encoder": Stage(text_loss, steps=2400, batch=64, rate=2e-3),
    "prior_16": Stage(diffusion_loss(16), steps=3600, batch=64, rate=1.5e-3),
    "prior_32": Stage(diffusion_loss(32, 16), steps=2400, batch=64, rate=1.5e-3),
    "decoder": Stage(diffusion_loss(64, 32, degree=0.4, dropout=0.1), steps=3000, batch=32, rate=1.5e-3),
    "checker": Stage(checker_loss, steps=1200, batch=128, rate=2e-3),
    "embedder": Stage(embedder_loss, steps=500, batch=256, rate=1.5e-3),
    "feature": Stage(checker_loss, steps=600, batch=128, rate=2e-3),
    "checker_2": Stage(second_checker_loss, steps=2000, batch=96, rate=1.5e-3),
    "text_reader": Stage(caption_loss, steps=3000, batch=128, rate=1.5e-3),
}
