"""One line a method: what the laws are tried on. A new method adds its line here, in METHODS, and its own file."""

from dataclasses import dataclass, field
from functools import cache
from typing import Any

import torch

from gpvae_core.models import ModelConfig, VariationalAutoencoder, build

IMAGES = 3


@dataclass(frozen=True)
class Case:
    """A small model of one method; ``options`` as in its config."""

    method: str
    options: dict[str, Any] = field(default_factory=dict)

    def config(self) -> ModelConfig:
        """d = 2, 8x8 pixels, noise so wide that posteriors are some tenths of the prior."""
        return ModelConfig(
            method=self.method, image_shape=(1, 8, 8), channels=(4, 8), hidden=12, std=0.25, options=self.options
        )

    def build(self) -> VariationalAutoencoder:
        """Its model in float64, every weight moved, so that nothing is 0 by construction."""
        return moved(build(self.config(), seed=0).double())

    @staticmethod
    def images(model: VariationalAutoencoder) -> torch.Tensor:
        """Images of the model itself."""
        return model.generative.simulate(IMAGES, generator=torch.Generator().manual_seed(1)).images


CASES = [
    Case("vae"),
    Case("vae-3"),
    Case("fullcov"),
    Case("me", {"components": 3}),
    Case("rme", {"components": 3}),
    Case("misvae", {"components": 3}),
    Case("hf", {"flows": 2}),
    Case("iaf", {"flows": 2}),
    Case("savae", {"steps": 2}),
    Case("svi", {"steps": 10}),
    Case("vlae", {"steps": 12}),
    Case("gn", {"starts": 2, "draws": 16, "steps": 3}),
    Case("gn", {"starts": 1, "draws": 16, "steps": 3, "encoder": False}),
    Case("gpvae"),
    Case("gpvae-shared"),
    Case("gpvae-unit"),
]


@torch.no_grad()
def moved(model: VariationalAutoencoder) -> VariationalAutoencoder:
    """The same model, its weights shifted a little, its decoder's contrast raised."""
    generator = torch.Generator().manual_seed(2)
    for name, p in model.named_parameters():
        if "log_std" not in name:
            p += 0.05 * torch.randn(p.shape, generator=generator, dtype=p.dtype)
        if "log_diagonal" in name:
            p += 5  # a Gaussian process that is to be seen
    for p in model.generative.decoder.parameters():
        p *= 3.5
    return model


@cache
def built(case_index: int) -> tuple[VariationalAutoencoder, torch.Tensor]:
    """The model and the images of a case, made once; the laws change neither."""
    model = CASES[case_index].build()
    return model.requires_grad_(False), CASES[case_index].images(model)
