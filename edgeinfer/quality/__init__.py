"""How good generated images are: metrics with intervals, and their surfaces over denoising steps."""

from edgeinfer.quality.distances import fid, kid
from edgeinfer.quality.extractors import Extractor, convolution_inputs, haar_detail
from edgeinfer.quality.measures import (
    ImageMeasure,
    SetMeasure,
    attribute_measure,
    clip_measure,
    fid_measure,
    kid_measure,
    lpips_measure,
    psnr_measure,
)
from edgeinfer.quality.metrics import (
    attribute_accuracy,
    attributes_right,
    clip_score,
    clip_scores,
    lpips,
    lpips_scores,
    mean_score,
    psnr,
    psnr_scores,
)
from edgeinfer.quality.surfaces import image_seed, surface

__all__ = [
    "Extractor",
    "ImageMeasure",
    "SetMeasure",
    "attribute_accuracy",
    "attribute_measure",
    "attributes_right",
    "clip_measure",
    "clip_score",
    "clip_scores",
    "convolution_inputs",
    "fid",
    "fid_measure",
    "haar_detail",
    "image_seed",
    "kid",
    "kid_measure",
    "lpips",
    "lpips_measure",
    "lpips_scores",
    "mean_score",
    "psnr",
    "psnr_measure",
    "psnr_scores",
    "surface",
]
