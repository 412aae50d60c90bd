"""How good generated images are: metrics with intervals, and their surfaces over denoising steps."""

from edgeinfer.quality.metrics import (
    attribute_accuracy,
    attributes_right,
    clip_score,
    clip_scores,
    fid,
    kid,
    lpips,
    lpips_scores,
    psnr,
    psnr_scores,
)

__all__ = [
    "attribute_accuracy",
    "attributes_right",
    "clip_score",
    "clip_scores",
    "fid",
    "kid",
    "lpips",
    "lpips_scores",
    "psnr",
    "psnr_scores",
]
