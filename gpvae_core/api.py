"""What most programs need, as functions: import gpvae_core as gp. The rooms behind them offer the rest."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from gpvae_core.checkpoints import Checkpoint, load_checkpoint
from gpvae_core.diagnostics import judgement
from gpvae_core.diagnostics.judgement import Judged
from gpvae_core.diagnostics.references import References, load_references
from gpvae_core.distributions import Posterior
from gpvae_core.errors import InputError
from gpvae_core.exact import ExactPosterior, PosteriorEngine
from gpvae_core.exact.best_gaussian import GaussianFit, best_gaussians, is_diagonal
from gpvae_core.exact.divergences import check_proper
from gpvae_core.extras import extras
from gpvae_core.generative import GenerativeModel
from gpvae_core.inference import METHODS, Method
from gpvae_core.paths import at_home

if TYPE_CHECKING:  # these rooms need extras
    from gpvae_core.data import Dataset
    from gpvae_core.training.fit import Progress


def load(
    name: str | Path,
    *,
    method: str | None = None,
    options: Mapping[str, Any] = MappingProxyType({}),
    device: torch.device | str = "cpu",
) -> Checkpoint:
    """A trained model: its decoder, its encoder, its exact posteriors.

    Args:
        name: A shipped model, such as "digits-2d", or the folder that a training wrote.
        method: Another method of inference on its decoder and encoder: one that needs no training ("gn", "svi", ...),
            an encoder stored beside it, or "vae", the plain VAE's encoder that it starts from.
        options: That method's own, by name.
        device: Where its weights shall lie.

    Returns:
        The checkpoint: frozen, in evaluation mode. ``checkpoint.model.generative`` is p(x, z).

    Raises:
        InputError: There is no such checkpoint, it is damaged, or it has to be fetched and nothing says from where.

    Example:
        >>> import gpvae_core as gp
        >>> gp.load("digits-2d").config.latent_dim
        2
    """
    if options and not method:
        raise InputError(f'the options {", ".join(options)} are a method\'s; name it, as in method="gn"')
    checkpoint = load_checkpoint(name, device=device)
    return checkpoint.with_method(method, options) if method else checkpoint


def dataset(name: str, *, folder: Path | None = None, seed: int = 0) -> "Dataset":
    """Training, validation and test images; needs the extra ``data``.

    Args:
        name: "digits", "mnist", "omniglot", "binary-mnist", "folder:PATH" or "simulated:CHECKPOINT".
        folder: Where data sets are kept; by default GPVAE_DATA_DIR, or the user's cache folder.
        seed: Chooses the tenth of the training images that is held out for validation.

    Returns:
        A ``Dataset``. ``dataset.test.pixels(slice(0, 3))`` is a float32 tensor (3, 1, H, W) with pixels in [0, 1].

    Raises:
        InputError: The name is unknown, or the images are not at hand and cannot be downloaded.

    Example:
        >>> import gpvae_core as gp
        >>> len(gp.dataset("digits").test)
        359
    """
    with extras():
        from gpvae_core.data import load_dataset

    return load_dataset(name, folder, seed=seed)


def methods() -> Mapping[str, Method]:
    """Every method of inference by the name that ``train`` takes.

    Returns:
        name -> its label, its paper and year, its options; in the order of the tables.

    Example:
        >>> import gpvae_core as gp
        >>> gp.methods()["gpvae"].source
        'Kim 2022'
    """
    return MappingProxyType(METHODS)


def posterior(model: Checkpoint | GenerativeModel, x: Tensor, *, tolerance: float = 1e-3) -> ExactPosterior:
    """The exact p(z|x) of one image under a decoder with two latent dimensions.

    Args:
        model: A checkpoint, or p(x, z) with any decoder. A checkpoint keeps its decoded grid for the next call; for
            many images of a ``GenerativeModel`` keep a ``PosteriorEngine`` instead.
        x: The image, (C, H, W) or (1, C, H, W), pixels in [0, 1].
        tolerance: What the error estimate of log p(x) shall stay below, in nats.

    Returns:
        log p(x), moments, modes, regions, samples and divergences, each with the estimate of its error.

    Raises:
        InputError: The latent is not two-dimensional, or the pixels are outside the likelihood's support.

    Example:
        The five lines: a model, an image, its posterior, a q, its exact KL in nats.

        >>> import gpvae_core as gp
        >>> checkpoint = gp.load("digits-2d")
        >>> x = checkpoint.simulate(1, seed=0).images
        >>> exact = gp.posterior(checkpoint, x)
        >>> kl = exact.kl_from(checkpoint.infer(x).q[0])
        >>> kl.value > 0 and kl.error < 1e-2
        True
    """
    return _engine(model, tolerance).posterior(x)


def best_gaussian(
    posterior: ExactPosterior, family: str = "diagonal", *, start: Posterior | None = None
) -> GaussianFit:
    """The Gaussian q of the highest ELBO under an exact posterior: what is left of the gap is the family's own.

    Args:
        posterior: What ``posterior`` gave.
        family: "diagonal", or "full" for any covariance.
        start: A q from which the search starts, beside starts of its own; it never makes the result worse.

    Returns:
        ``q``; ``elbo`` with its error, in nats; and ``path``, every step from ``start`` on, or from the search's first.

    Raises:
        InputError: There is no such family.

    Example:
        The approximation gap in nats (Cremer, Li & Duvenaud 2018), smaller for the larger family.

        >>> import gpvae_core as gp
        >>> checkpoint = gp.load("digits-2d")
        >>> exact = gp.posterior(checkpoint, checkpoint.simulate(1, seed=0).images)
        >>> fits = [gp.best_gaussian(exact, family) for family in ("diagonal", "full")]
        >>> diagonal, full = (exact.kl_from(fit.q).value for fit in fits)
        >>> 0 <= full <= diagonal
        True
    """
    diagonal = is_diagonal(family)
    if start is not None:
        check_proper(start)
    (fit,) = best_gaussians([posterior], [[] if start is None else [start]], diagonal=diagonal)
    return fit


def judge(
    checkpoint: Checkpoint, images: Tensor, *, tolerance: float = 1e-3, families: Sequence[str] = ("diagonal",)
) -> list[Judged]:
    """Each image's exact posterior, and every stage of the checkpoint's method against it.

    Args:
        checkpoint: The model with its encoder; two latent dimensions.
        images: (B, C, H, W), pixels in [0, 1].
        tolerance: What the error estimate of log p(x) shall stay below, in nats.
        families: Of which Gaussians the best one is sought, for the gap's parts: "diagonal", "full".

    Returns:
        For each image its posterior, the ELBO and KL of each stage, the best Gaussians, U(x).
        ``judged.row()`` is all of it as numbers with their errors.

    Raises:
        InputError: As ``posterior``.

    Example:
        >>> import gpvae_core as gp
        >>> checkpoint = gp.load("digits-2d")
        >>> (judged,) = gp.judge(checkpoint, checkpoint.simulate(1, seed=0).images)
        >>> list(judged.of)
        ['base', 'marginal']
    """
    labels, engine = checkpoint.model.encoder.labels, _engine(checkpoint, tolerance)
    return judgement.judge(engine, images, checkpoint.infer(images), labels, families=families)


def train(
    data: "Dataset | str",
    folder: str | Path,
    *,
    method: str = "gpvae",
    options: Mapping[str, Any] = MappingProxyType({}),
    latent_dim: int | None = None,
    decoder: str | None = None,
    initial: str | None = None,
    epochs: int = 40,
    learning_rate: float = 2e-3,
    seed: int = 0,
    device: torch.device | str = "cpu",
    resume: bool = False,
    on_epoch: Callable[["Progress"], None] = lambda progress: None,
) -> Checkpoint:
    """Train a model and open it; needs the extra ``train``. Killed, it goes on with ``resume``, to the same weights.

    Args:
        data: A ``Dataset``, or the name of one.
        folder: Where the best epoch on validation and the state of the run are kept.
        method: One of ``methods()``.
        options: The method's own, by name.
        latent_dim: d; 2 by default, for which posteriors are exact.
        decoder: A checkpoint whose decoder is kept as it is: the encoder alone is trained.
        initial: A checkpoint to start from.
        epochs: At most; a run without progress on validation for 20 epochs ends before.
        learning_rate: The highest of the schedule.
        seed: Of weights, noise and order.
        device: Where to train.
        resume: Go on with the run in ``folder``.
        on_epoch: Told each epoch's ``Progress``: objective, validation ELBO, images per second.

    Returns:
        The checkpoint of the best epoch.

    Raises:
        InputError: Settings that do not fit, a folder that holds another run, an objective that is not finite.
    """
    with extras():
        from gpvae_core.training import runs
        from gpvae_core.training.fit import TrainingConfig

    given = load_checkpoint(decoder) if decoder else None
    images = runs.images_for(data, given, seed=seed) if isinstance(data, str) else data
    config = runs.config_for(images, method, options, runs.Wanted(latent_dim), given)
    training = TrainingConfig.on(
        images, seed=seed, epochs=epochs, learning_rate=learning_rate, initial=initial, decoder=decoder
    )
    for progress in runs.run(at_home(folder), images, config, training, device=device, resume=resume):
        on_epoch(progress)
    return load_checkpoint(at_home(folder))


def references(name: str | Path) -> References:
    """Stored posteriors of a shipped model's first test images: nodes, weights, moments, each with its error.

    Args:
        name: As for ``load``.

    Returns:
        A sequence of ``ReferencePosterior``; nothing is decoded.

    Raises:
        InputError: None are stored beside that checkpoint, or they belong to other weights.

    Example:
        >>> import gpvae_core as gp
        >>> first = gp.references("digits-2d")[0]
        >>> first.expectation(first.points) - first.mean < 1e-4
        array([ True,  True])
    """
    return load_references(load_checkpoint(name))


def _engine(model: Checkpoint | GenerativeModel, tolerance: float) -> PosteriorEngine:
    if isinstance(model, Checkpoint):
        return model.kept_engine(tolerance)
    if isinstance(model, GenerativeModel):
        return PosteriorEngine(model, tolerance=tolerance)
    raise InputError(f"a {type(model).__name__} has no posterior; give a Checkpoint or a GenerativeModel")
