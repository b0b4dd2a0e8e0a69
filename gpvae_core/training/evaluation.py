"""Averages over a data set: the ELBO of every stage of a method, and the importance-weighted bound."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from math import ceil, log

import torch
from torch import Tensor

from gpvae_core.data import ImageSet
from gpvae_core.distributions import Posterior, standard_normal_log_prob
from gpvae_core.exact.divergences import elbos_by_decodes
from gpvae_core.exact.joint import Decoded
from gpvae_core.generative import GenerativeModel
from gpvae_core.inference import Inference
from gpvae_core.inference.bounds import elbo
from gpvae_core.models import VariationalAutoencoder
from gpvae_core.tensors import full_precision, in_float64

BATCH = 500
QUADRATURE_BATCH = 100
TOLERANCE = 0.01  # of an image's ELBO, in nats: the mean over images is better, and comes with its error
DRAWS, DRAWS_IN_ALL = 64, 20_000  # at least, of each image and of all together: rare bad decodes must be among them
CHUNK = 5_000  # decodes at once


@dataclass(frozen=True)
class Bound:
    """A bound on log p(x) of each image, ``values`` (N,), and what its computation leaves open, ``errors`` (N,); nats.

    ``method`` says how it was computed. ``errors`` are standard errors over draws if ``drawn``, and so independent
    between images; else estimates of a numerical error, which may all have one sign.
    """

    values: Tensor
    errors: Tensor
    method: str
    drawn: bool

    @property
    def error(self) -> float | None:
        """Of the mean over these images, in nats; None where one draw cannot tell."""
        mean = self.errors.square().sum().sqrt() / len(self.errors) if self.drawn else self.errors.mean()
        return float(mean) if bool(torch.isfinite(mean)) else None

    @property
    def stderr(self) -> float | None:
        """Standard error of the mean if other images were drawn, in nats; None for a single image."""
        return float(self.values.std() / len(self.values) ** 0.5) if len(self.values) > 1 else None


def generator_on(device: torch.device, seed: int) -> torch.Generator:
    """A stream of its own on ``device``, started from ``seed``."""
    return torch.Generator(device).manual_seed(seed)


def _batches(images: ImageSet, device: torch.device) -> Iterator[Tensor]:
    for start in range(0, len(images), BATCH):
        yield images.pixels(slice(start, start + BATCH)).to(device)


def named(inference: Inference) -> dict[str, Posterior]:
    """Each posterior by the name of its ELBO: ``elbo`` of the method's q, ``elbo_KEY`` of an earlier stage."""
    *stages, _ = inference.stages
    return {"elbo": inference.q, **{f"elbo_{key}": inference.stages[key] for key in stages}}


@torch.no_grad()
@full_precision()
def evaluate_elbo(model: VariationalAutoencoder, images: ImageSet, *, seed: int, samples: int = 1) -> dict[str, Tensor]:
    """Sampled ELBO per image, (N,), in nats, by the names of ``named``: with the same noise for each of them."""
    parts: dict[str, list[Tensor]] = {}
    generators: dict[str, torch.Generator] = {}
    for x in _batches(images, model.device):
        for name, q in named(model.encoder.infer(x, model.generative)).items():
            own = generators.setdefault(name, generator_on(model.device, seed))
            parts.setdefault(name, []).append(elbo(model.generative, x, q, samples, generator=own).cpu())
    return {name: torch.cat(values) for name, values in parts.items()}


def evaluate_bounds(
    model: VariationalAutoencoder, images: ImageSet, *, seed: int, on_batch: Callable[[int], None] | None = None
) -> dict[str, Bound]:
    """ELBOs in nats, with their errors, by the names of ``named``.

    By quadrature for two latent dimensions; else by draws, so many that their interval covers. ``on_batch(n)`` is
    called after every n images.
    """
    draws = max(DRAWS, ceil(DRAWS_IN_ALL / len(images)))
    planar = model.generative.latent_dim == 2
    generator = generator_on(model.device, seed)
    rows = QUADRATURE_BATCH if planar else max(1, CHUNK // draws)
    parts: dict[str, list[Tensor]] = {}
    exact = in_float64(model)
    for start in range(0, len(images), rows):
        x = images.pixels(slice(start, start + rows)).to(model.device)
        found = _integrated(model, exact, x) if planar else _drawn(model, x, draws, generator)
        for name, values_and_errors in found.items():
            parts.setdefault(name, []).append(values_and_errors)
        if on_batch:
            on_batch(len(x))
    method = "exact quadrature" if planar else f"{draws} draws per image"
    return {name: _bound(part, method, drawn=not planar) for name, part in parts.items()}


def _bound(parts: list[Tensor], method: str, *, drawn: bool) -> Bound:
    """Of batches of values and errors, (2, B) each."""
    values, errors = torch.cat(parts, 1)
    return Bound(values, errors, method, drawn)


def _integrated(model: VariationalAutoencoder, exact: VariationalAutoencoder, x: Tensor) -> dict[str, Tensor]:
    """ELBO and its numerical error, (2, B), by the names of ``named``; ``exact``: the model in float64."""
    joint = Decoded(model.generative, x)
    yardstick = Decoded(exact.generative, x)
    smooth = [not model.generative.has_kinks] * len(x)
    qs = {name: q.to("cpu") for name, q in named(exact.infer_as_it_is(x)).items()}
    found = elbos_by_decodes(joint, yardstick, [[q[i] for q in qs.values()] for i in range(len(x))], smooth, TOLERANCE)
    numbers = torch.tensor([[[e.value, e.error] for e in own] for own in found], dtype=torch.float64)
    return {name: numbers[:, k].T for k, name in enumerate(qs)}


@torch.no_grad()
@full_precision()
def _drawn(model: VariationalAutoencoder, x: Tensor, draws: int, generator: torch.Generator) -> dict[str, Tensor]:
    """ELBO and its standard error over ``draws``, (2, B), by the names of ``named``."""
    found = {}
    for name, q in named(model.encoder.infer(x, model.generative)).items():
        z, log_q = q.rsample_with_log_prob(draws, generator=generator)
        fits, known = _log_likelihood(model.generative, x, z), q.kl_to_prior()
        if known is None:
            fits, known = fits + (standard_normal_log_prob(z) - log_q).cpu().double(), torch.zeros(())
        found[name] = torch.stack([fits.mean(0) - known.cpu(), fits.std(0) / draws**0.5])
    return found


def _log_likelihood(model: GenerativeModel, x: Tensor, z: Tensor) -> Tensor:
    """log p(x | z) (S, B) for z (S, B, d), summed in float64: float32's sum errs alike for images that are alike."""
    return model.likelihood.log_prob(x, model.decode(z)).flatten(2).sum(-1, dtype=torch.float64).cpu()


def evaluate_iwae(
    model: VariationalAutoencoder, images: ImageSet, *, samples: int, seed: int, chunk: int = CHUNK
) -> Tensor:
    """IWAE-K per image, (N,), in nats, the method's q as the proposal; ``chunk`` bounds the decodes at once."""
    return iwae_bound(model, images, samples=samples, seed=seed, chunk=chunk).values


@torch.no_grad()
@full_precision()
def iwae_bound(
    model: VariationalAutoencoder,
    images: ImageSet,
    *,
    samples: int,
    seed: int,
    chunk: int = CHUNK,
    on_batch: Callable[[int], None] | None = None,
) -> Bound:
    """``evaluate_iwae`` with its error over draws: the jackknife's over the K draws of each image.

    By the inequality of Efron & Stein (1981) its square is too large on average rather than too small.
    """
    generator = generator_on(model.device, seed)
    parts: list[Tensor] = []
    for x in _batches(images, model.device):
        for part in x.split(max(1, chunk // samples)):
            q = model.encoder.infer(part, model.generative).q
            z, log_q = q.rsample_with_log_prob(samples, generator=generator)
            rest = standard_normal_log_prob(z) - log_q
            log_weights = _log_likelihood(model.generative, part, z) + rest.cpu().double()
            bound = torch.logsumexp(log_weights, 0) - log(samples)
            parts.append(torch.stack([bound, _jackknife(log_weights)]))
            if on_batch:
                on_batch(len(part))
    return _bound(parts, f"{samples} draws per image", drawn=True)


def _jackknife(log_weights: Tensor) -> Tensor:
    """Standard error of the log mean of weights (K, B), from leaving out each in turn; NaN for one weight."""
    count = len(log_weights)
    total = torch.logsumexp(log_weights, 0)
    # the largest may be nearly all of the total: what remains without it is added up, not subtracted
    largest = torch.zeros_like(log_weights, dtype=torch.bool).scatter_(0, log_weights.argmax(0, keepdim=True), True)
    rest = torch.logsumexp(log_weights.masked_fill(largest, -torch.inf), 0)
    without = torch.where(largest, rest, total + torch.log1p(-torch.exp(log_weights - total)))
    error: Tensor = without.std(0) * (count - 1) / count**0.5 if count > 1 else torch.full_like(total, torch.nan)
    return error
