"""Averages over a data set: the ELBO of the encoder and of its base, and the importance-weighted bound."""

from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from gpvae_core.data import ImageSet
from gpvae_core.errors import InputError
from gpvae_core.models import VariationalAutoencoder
from gpvae_core.objectives import elbo, importance_weighted_bound

BATCH = 500


def generator_on(device: torch.device, seed: int) -> torch.Generator:
    """A stream of its own on ``device``, started from ``seed``."""
    return torch.Generator(device).manual_seed(seed)


def _batches(images: ImageSet, device: torch.device) -> Iterator[Tensor]:
    for start in range(0, len(images), BATCH):
        yield images.pixels(slice(start, start + BATCH)).to(device)


def check_shape(model_shape: tuple[int, int, int], images: ImageSet) -> None:
    """Raise InputError where the images are not what the model takes."""
    have = (1, *images.images.shape[1:])
    if have != model_shape:
        raise InputError(f"the images measure {have} but the checkpoint takes {model_shape}; choose another data set")


def _per_image(images: ImageSet, model: VariationalAutoencoder, value: Callable[[Tensor], Tensor]) -> torch.Tensor:
    with torch.no_grad():
        return torch.cat([value(x).cpu() for x in _batches(images, model.device)])


def evaluate_elbo(model: VariationalAutoencoder, images: ImageSet, *, seed: int, samples: int = 1) -> dict[str, Tensor]:
    """Sampled ELBO per image, (N,), in nats: of the method's q as ``elbo``, of the base encoder as ``elbo_base``."""
    values = {}
    for name, encoder in (("elbo", model.encoder), ("elbo_base", model.encoder.base)):
        generator = generator_on(model.device, seed)
        values[name] = _per_image(
            images,
            model,
            lambda x, e=encoder, g=generator: elbo(model.generative, x, e(x), samples, generator=g),  # type: ignore[misc]
        )
    return values


def evaluate_iwae(
    model: VariationalAutoencoder, images: ImageSet, *, samples: int, seed: int, chunk: int = 5_000
) -> Tensor:
    """IWAE-K per image, (N,), in nats, the method's q as the proposal; ``chunk`` bounds the decodes at once."""
    generator = generator_on(model.device, seed)
    rows = max(1, chunk // samples)

    def bound(x: Tensor) -> Tensor:
        parts = [
            importance_weighted_bound(model.generative, part, model.encoder(part), samples, generator=generator)
            for part in x.split(rows)
        ]
        return torch.cat(parts)

    return _per_image(images, model, bound)
