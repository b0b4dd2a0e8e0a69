"""The functions of the script that computes a figure again: their text is what is exported."""

import base64
import zlib

import numpy as np
import torch

from gpvae_core.checkpoints import load_checkpoint
from gpvae_core.diagnostics.judgement import posterior_report
from gpvae_core.paths import grid_cache


def check(
    name: str,
    weights: str,
    images: torch.Tensor,
    others: tuple[str, ...],
    tolerance: float,
    expected: list[dict[str, tuple[float, float]]],
) -> None:
    """Compute the numbers of images under a checkpoint; expected: value and error of each number, image by image."""
    checkpoint = load_checkpoint(name)
    assert checkpoint.digest == weights, f"other weights: {checkpoint.digest}"
    models = {other: checkpoint.with_method(other).model for other in others}
    engine = checkpoint.engine(tolerance=tolerance, cache=grid_cache())
    for x, row in zip(images.split(1), expected, strict=True):
        report = posterior_report(engine, checkpoint.model, x, models)
        for number, (value, error) in row.items():
            allowed = error + report[f"{number}_error"]
            print(f"{number} {report[number]:.4f}, on the page {value:.4f}, may differ by {allowed:.1e}")
            assert abs(report[number] - value) <= allowed, f"{number} is {report[number]}, not {value}"


def unpacked(pixels: str, shape: tuple[int, ...]) -> torch.Tensor:
    """Images from the text that holds their float32 pixels."""
    values = np.frombuffer(zlib.decompress(base64.b64decode(pixels)), dtype="<f4")
    return torch.from_numpy(values.copy().reshape(shape))
