"""The networks of the scenes cascade, in torch: what is trained here and exported to ONNX."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from edgeinfer import scenes

TEXT_WIDTH = 128
TRAIN_TIMESTEPS = 1000
IMAGE_SPREAD = 0.8
#: The heads of the second checker: those of the captions, and classes for pictures that no caption asks for.
CHECKED = {
    head: values + {"layout": ("none", "other"), "shape_a": ("other",), "shape_b": ("other",)}.get(head, ())
    for head, values in scenes.HEADS.items()
}
#: What the caption reader tells: the classes of each head, and that the caption does not say.
READ = {head: (*values, "not said") for head, values in scenes.HEADS.items()}


def classes() -> int:
    """How many logits the heads of the attribute checker have in all."""
    return sum(len(values) for values in scenes.HEADS.values())


def alphas_cumprod() -> Tensor:
    """The squaredcos_cap_v2 schedule, (T,)."""

    def level(time: float) -> float:
        return math.cos((time + 0.008) / 1.008 * math.pi / 2) ** 2

    steps = range(TRAIN_TIMESTEPS)
    betas = [min(1 - level((t + 1) / TRAIN_TIMESTEPS) / level(t / TRAIN_TIMESTEPS), 0.999) for t in steps]
    return torch.cumprod(1 - torch.tensor(betas, dtype=torch.float64), 0)


class Attention(nn.Module):
    """Heads of 32 that look at the tokens themselves and, where given, at a context."""

    def __init__(self, width: int, context: int = 0) -> None:
        super().__init__()
        self.heads = width // 32
        self.query = nn.Linear(width, width)
        self.own = nn.Linear(width, 2 * width)
        self.context = nn.Linear(context, 2 * width) if context else None
        self.out = nn.Linear(width, width)
        nn.init.zeros_(self.out.weight)
        nn.init.zeros_(self.out.bias)

    def _split(self, x: Tensor) -> Tensor:
        return x.reshape(x.shape[0], x.shape[1], self.heads, -1).transpose(1, 2)

    def forward(self, x: Tensor, context: Tensor | None = None) -> Tensor:
        pairs = self.own(x)
        if self.context is not None:
            pairs = torch.cat([pairs, self.context(context)], dim=1)
        key, value = pairs.chunk(2, dim=-1)
        query = self._split(self.query(x)) / 32**0.5
        # On a CPU and for so few tokens this is several times faster than the fused attention's backward pass.
        weights = (query @ self._split(key).transpose(2, 3)).softmax(-1)
        y = weights.to(value.dtype) @ self._split(value)
        return self.out(y.transpose(1, 2).reshape(x.shape))


class TextEncoder(nn.Module):
    """Words to contextual vectors, (B, L) -> (B, L, width). Pads are words like others, so no mask is needed."""

    def __init__(self, width: int = TEXT_WIDTH, layers: int = 2) -> None:
        super().__init__()
        self.words = nn.Embedding(len(scenes.WORDS), width)
        self.places = nn.Parameter(torch.randn(scenes.LENGTH, width))
        self.near = nn.Conv1d(width, width, 5, padding=2)
        self.norms = nn.ModuleList(nn.LayerNorm(width) for _ in range(2 * layers + 1))
        self.attentions = nn.ModuleList(Attention(width) for _ in range(layers))
        self.mixes = nn.ModuleList(
            nn.Sequential(nn.Linear(width, 2 * width), nn.SiLU(), nn.Linear(2 * width, width)) for _ in range(layers)
        )

    def forward(self, input_ids: Tensor) -> Tensor:
        x = self.words(input_ids) + self.places
        x = x + self.near(x.transpose(1, 2)).transpose(1, 2)
        for i, (attention, mix) in enumerate(zip(self.attentions, self.mixes, strict=True)):
            x = x + attention(self.norms[2 * i](x))
            x = x + mix(self.norms[2 * i + 1](x))
        return self.norms[-1](x)


class TextReader(nn.Module):
    """The text encoder with the heads that it is pre-trained through: the scene's table, and each word's own object."""

    own: ClassVar = {
        "shape": len(scenes.SHAPES),
        "colour": len(scenes.COLOURS),
        "size": len(scenes.SIZES) + 1,
        "role": 5,
    }

    def __init__(self) -> None:
        super().__init__()
        self.encoder = TextEncoder()
        self.table = nn.Linear(TEXT_WIDTH, classes() + len(scenes.HEADS))
        self.word = nn.Linear(TEXT_WIDTH, sum(self.own.values()))

    def forward(self, input_ids: Tensor) -> tuple[Tensor, Tensor]:
        context = self.encoder(input_ids)
        return self.table(context.mean(1)), self.word(context)


class Block(nn.Module):
    """Two convolutions with a residual; the embedding scales and shifts between them."""

    def __init__(self, inputs: int, width: int, embedding: int) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.GroupNorm(8, inputs), nn.GroupNorm(8, width)
        self.conv1 = nn.Conv2d(inputs, width, 3, padding=1)
        self.conv2 = nn.Conv2d(width, width, 3, padding=1)
        self.film = nn.Linear(embedding, 2 * width)
        self.skip = nn.Conv2d(inputs, width, 1) if inputs != width else nn.Identity()
        nn.init.zeros_(self.conv2.weight)
        nn.init.zeros_(self.conv2.bias)

    def forward(self, x: Tensor, embedding: Tensor) -> Tensor:
        scale, shift = self.film(embedding)[:, :, None, None].chunk(2, dim=1)
        y = self.conv1(F.silu(self.norm1(x)))
        y = self.norm2(y) * (1 + scale) + shift
        return self.skip(x) + self.conv2(F.silu(y))


class SpatialAttention(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm = nn.GroupNorm(8, width)
        self.attention = Attention(width, TEXT_WIDTH)

    def forward(self, x: Tensor, context: Tensor) -> Tensor:
        tokens = self.norm(x).flatten(2).transpose(1, 2)
        return x + self.attention(tokens, context).transpose(1, 2).reshape(x.shape)


class UNet(nn.Module):
    """A denoiser that predicts v from a noisy image, the time, the caption and, in an upper stage, the image below.

    Parameters
    ----------
    side : side of the image, px
    patch : pixels of a patch's side are put into channels
    widths : channels on each level, from fine to coarse; the last one attends to itself and the caption
    spread : for an upper stage, how far (root mean square) a clean image is from the enlarged image below, roughly

    An upper stage works on what is missing from the enlarged image below, scaled to unit size at every noise level as
    Karras et al. (2022) do; where there is no image below (all zero, the null condition), on the image itself.
    """

    def __init__(
        self, side: int, patch: int, widths: tuple[int, ...], spread: float | None = None, embedding: int = 128
    ) -> None:
        super().__init__()
        self.patch, self.spread = patch, spread
        self.register_buffer("levels", alphas_cumprod().float(), persistent=False)
        grid = side // patch
        axis = (torch.arange(grid) + 0.5) / grid * 2 - 1
        self.register_buffer("places", torch.stack(torch.meshgrid(axis, axis, indexing="ij"))[None], persistent=False)
        frequencies = torch.exp(-math.log(10_000) * torch.arange(32) / 32)
        self.register_buffer("frequencies", frequencies, persistent=False)
        self.time = nn.Sequential(nn.Linear(64, embedding), nn.SiLU(), nn.Linear(embedding, embedding))
        self.caption = nn.Linear(TEXT_WIDTH, embedding)
        self.enter = nn.Conv2d(3 * patch**2 + 2 + (3 if spread else 0), widths[0], 3, padding=1)
        self.down, self.up = nn.ModuleList(), nn.ModuleList()
        self.shrink, self.grow = nn.ModuleList(), nn.ModuleList()
        for i, width in enumerate(widths):
            self.down.append(nn.ModuleList([Block(width, width, embedding), Block(width, width, embedding)]))
            self.up.append(nn.ModuleList([Block(width, width, embedding), Block(width, width, embedding)]))
            if i + 1 < len(widths):
                self.shrink.append(nn.Conv2d(width, widths[i + 1], 3, stride=2, padding=1))
                self.grow.append(nn.Conv2d(widths[i + 1], width, 1))
        self.look_down = nn.ModuleList([SpatialAttention(widths[-1]), SpatialAttention(widths[-1])])
        self.look_up = nn.ModuleList([SpatialAttention(widths[-1]), SpatialAttention(widths[-1])])
        self.norm = nn.GroupNorm(8, widths[0])
        self.leave = nn.Conv2d(widths[0], 3 * patch**2, 3, padding=1)
        nn.init.zeros_(self.leave.weight)
        nn.init.zeros_(self.leave.bias)

    def _scales(self, timestep: Tensor, image: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """The share of signal, the spread, and the variance of what is missing plus noise, (B, 1, 1, 1) each."""
        level = self.levels[timestep][:, None, None, None]
        blank = (image.abs().amax((1, 2, 3), keepdim=True) == 0).float()
        spread = self.spread + blank * (IMAGE_SPREAD - self.spread)
        return level, spread, level * spread**2 + 1 - level

    def loss_weight(self, timestep: Tensor, image: Tensor | None) -> Tensor | float:
        """What turns the squared error of v into that of the scaled output."""
        if image is None:
            return 1.0
        _, spread, variance = self._scales(timestep, image)
        return variance / spread**2

    def forward(
        self, sample: Tensor, timestep: Tensor, encoder_hidden_states: Tensor, image: Tensor | None = None
    ) -> Tensor:
        if image is None:
            return self._output(sample, timestep, encoder_hidden_states)
        level, spread, variance = self._scales(timestep, image)
        enlarged = F.interpolate(image, scale_factor=2.0, mode="bicubic", align_corners=False)
        missing = sample - level.sqrt() * enlarged
        output = self._output(missing * variance.rsqrt(), timestep, encoder_hidden_states, image)
        # v of the best linear guess at the clean image from `missing`, and the network's correction to it.
        guess = (level * (1 - level)).sqrt() * (1 - spread**2) / variance * missing - (1 - level).sqrt() * enlarged
        return guess - spread * variance.rsqrt() * output

    def _output(
        self, sample: Tensor, timestep: Tensor, encoder_hidden_states: Tensor, image: Tensor | None = None
    ) -> Tensor:
        angles = timestep[:, None].float() * self.frequencies
        embedding = self.time(torch.cat([angles.cos(), angles.sin()], dim=1))
        embedding = F.silu(embedding + self.caption(encoder_hidden_states.mean(1)))
        x = F.pixel_unshuffle(sample, self.patch) if self.patch > 1 else sample
        parts = [x, self.places.expand(x.shape[0], -1, -1, -1)]
        if image is not None:
            parts.append(image)
        x = self.enter(torch.cat(parts, dim=1))
        left = []
        last = len(self.down) - 1
        for i, blocks in enumerate(self.down):
            for k, block in enumerate(blocks):
                x = block(x, embedding)
                if i == last:
                    x = self.look_down[k](x, encoder_hidden_states)
            left.append(x)
            if i < last:
                x = self.shrink[i](x)
        for i in range(last, -1, -1):
            if i < last:
                x = F.interpolate(self.grow[i](x), scale_factor=2.0, mode="nearest")
            x = x + left[i]
            for k, block in enumerate(self.up[i]):
                x = block(x, embedding)
                if i == last:
                    x = self.look_up[k](x, encoder_hidden_states)
        x = self.leave(F.silu(self.norm(x)))
        return F.pixel_shuffle(x, self.patch) if self.patch > 1 else x


class Trunk(nn.Module):
    """A convolutional network from a 64 x 64 image to a vector."""

    def __init__(self, outputs: int, widths: tuple[int, ...] = (24, 48, 64, 96)) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        inputs = 3
        for width in widths:
            layers += [nn.Conv2d(inputs, width, 3, stride=2, padding=1), nn.GroupNorm(8, width), nn.SiLU()]
            layers += [nn.Conv2d(width, width, 3, padding=1), nn.GroupNorm(8, width), nn.SiLU()]
            inputs = width
        self.layers = nn.Sequential(*layers)
        self.out = nn.Linear(inputs * (scenes.SIDE >> len(widths)) ** 2, outputs)

    def forward(self, image: Tensor) -> Tensor:
        return self.out(self.layers(image).flatten(1))


class Checker(nn.Module):
    """Image to the logits of all heads side by side, and for `measures` also to centres and widths."""

    def __init__(self, measures: int = 0) -> None:
        super().__init__()
        self.trunk = Trunk(128)
        self.heads = nn.Linear(128, classes() + measures)

    def forward(self, image: Tensor) -> Tensor:
        return self.heads(F.silu(self.trunk(image)))


class Pooling(nn.Module):
    """One learned query a head, which picks what it reads from the tokens, (B, n, width) -> (B, heads, width)."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.queries = nn.Parameter(torch.randn(heads, width))
        self.key, self.value = nn.Linear(width, width), nn.Linear(width, width)

    def forward(self, tokens: Tensor) -> Tensor:
        weights = (self.queries @ self.key(tokens).transpose(1, 2) / tokens.shape[-1] ** 0.5).softmax(-1)
        return weights.to(tokens.dtype) @ self.value(tokens)


class Heads(nn.Module):
    """A pooling and a small network for each head; all logits side by side."""

    def __init__(self, width: int, sizes: Sequence[int]) -> None:
        super().__init__()
        self.pooling = Pooling(width, len(sizes))
        self.outs = nn.ModuleList(nn.Sequential(nn.Linear(width, 32), nn.SiLU(), nn.Linear(32, size)) for size in sizes)

    def forward(self, tokens: Tensor) -> Tensor:
        pooled = self.pooling(tokens)
        return torch.cat([out(pooled[:, k]) for k, out in enumerate(self.outs)], dim=1)


class SecondChecker(nn.Module):
    """A checker built otherwise: residual convolutions, attention over places and a query for each head.

    Its heads have classes more for what no caption asks for: no object, other numbers than one or two, other shapes.
    """

    def __init__(self, widths: tuple[int, ...] = (24, 48, 96)) -> None:
        super().__init__()
        layers: list[nn.Module] = [nn.Conv2d(3, widths[0], 6, stride=2, padding=2)]
        for inputs, width in itertools.pairwise(widths):
            layers += [nn.GroupNorm(4, inputs), nn.GELU(), nn.Conv2d(inputs, width, 3, stride=2, padding=1)]
            layers += [Residual(width)]
        self.layers = nn.Sequential(*layers)
        width, side = widths[-1], scenes.SIDE >> len(widths)
        self.places = nn.Parameter(0.1 * torch.randn(side**2, width))
        self.norm, self.attention, self.norm_out = nn.LayerNorm(width), Attention(width), nn.LayerNorm(width)
        self.heads = Heads(width, [len(values) for values in CHECKED.values()])

    def forward(self, image: Tensor) -> Tensor:
        tokens = self.layers(image).flatten(2).transpose(1, 2) + self.places
        tokens = tokens + self.attention(self.norm(tokens))
        return self.heads(self.norm_out(tokens))


class Residual(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        parts = [
            part for _ in range(2) for part in (nn.GroupNorm(4, width), nn.GELU(), nn.Conv2d(width, width, 3, 1, 1))
        ]
        self.layers = nn.Sequential(*parts)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.layers(x)


class CaptionReader(nn.Module):
    """Captions, whole or damaged, to the logits of what they ask for; each head's last class is "not said"."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder = TextEncoder()
        self.heads = Heads(TEXT_WIDTH, [len(values) for values in READ.values()])

    def forward(self, input_ids: Tensor) -> Tensor:
        return self.heads(self.encoder(input_ids))


class Embedder(nn.Module):
    """Images and captions to unit vectors whose product is high where they fit."""

    def __init__(self, width: int = 64) -> None:
        super().__init__()
        self.trunk = Trunk(128)
        self.image_out = nn.Linear(128, width)
        self.encoder = TextEncoder(96)
        self.text_out = nn.Linear(96, width)
        self.scale = nn.Parameter(torch.tensor(math.log(10.0)))

    def embed_image(self, image: Tensor) -> Tensor:
        return F.normalize(self.image_out(F.silu(self.trunk(image))), dim=1)

    def embed_text(self, input_ids: Tensor) -> Tensor:
        return F.normalize(self.text_out(self.encoder(input_ids).mean(1)), dim=1)


def build(part: str) -> nn.Module:
    """The network to train for a part of the cascade."""
    match part:
        case "text_encoder":
            return TextReader()
        case "prior_16":
            return UNet(16, 1, (64, 128))
        case "prior_32":
            return UNet(32, 2, (48, 96), spread=0.3)
        case "decoder":
            return UNet(64, 2, (32, 48, 64), spread=0.15)
        case "embedder":
            return Embedder()
        case "checker":
            return Checker()
        case "checker_2":
            return SecondChecker()
        case "text_reader":
            return CaptionReader()
        case "feature":
            return Checker(measures=6)
    raise ValueError(f"part = {part!r} is unknown")
