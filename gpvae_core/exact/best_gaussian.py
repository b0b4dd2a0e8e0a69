"""The best diagonal and the best full-covariance Gaussian for one image: the exact ELBO climbed from several starts."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from gpvae_core.distributions import FullGaussian, Posterior
from gpvae_core.errors import InputError
from gpvae_core.exact.divergences import Estimate, elbos, shared
from gpvae_core.exact.expectations import hermite, moments
from gpvae_core.exact.joint import Array, LogJoint, Task, run
from gpvae_core.exact.posterior import ExactPosterior

FAMILIES = {"diagonal": True, "full": False}  # see ``is_diagonal``
STEPS = 60
SETTLED = 1e-5  # nats that a step still promises
MODES = 3  # starts at the posterior's heaviest modes
SMOOTH, FINER, KINKED = 5, 12, 24  # Gauss-Hermite orders of the search; the result's ELBO is to the engine's tolerance
ROUGH = 5e-3  # nats between the two
SAME = 0.1  # standard deviations between two ends


def is_diagonal(family: str) -> bool:
    """Whether the members of a family of Gaussians are diagonal. Raises InputError where there is none of that name."""
    if family not in FAMILIES:
        raise InputError(f"there is no family {family!r} of Gaussians; use one of {', '.join(FAMILIES)}")
    return FAMILIES[family]


@dataclass(frozen=True)
class Step:
    """One Gaussian on the way: mean (2,), covariance (2, 2) and its ELBO in nats."""

    mean: Array
    covariance: Array
    elbo: float


@dataclass(frozen=True)
class GaussianFit:
    """The best member of a family for one image: q, its ELBO, and the path from the first start.

    ``short``: nats by which that path ends below q, both by the search's own nodes; 0 where it ends there.
    """

    q: FullGaussian
    elbo: Estimate
    path: list[Step]
    short: float

    @property
    def misjudged(self) -> float:
        """Nats by which the search's own nodes are wrong at its end."""
        return abs(self.path[-1].elbo + self.short - self.elbo.value)


def best_gaussians(
    posteriors: Sequence[ExactPosterior], starts: Sequence[Sequence[Posterior]], *, diagonal: bool
) -> list[GaussianFit]:
    """argmax_q ELBO[q] over diagonal or full Gaussians for each posterior.

    Climbed by variational Newton steps on Gauss-Hermite nodes from each of ``starts[k]``, from the posterior's own
    moments and from its heaviest modes where there are several; the highest wins. The path of the first start is kept.
    Where the nodes misjudge the end by more than ROUGH, as on broad posteriors, FINER ones go on from there.
    """
    begun = [[*map(_start, starts[k]), *_own_starts(posterior)] for k, posterior in enumerate(posteriors)]
    climbs = _climbs(posteriors, begun, diagonal, SMOOTH)
    found = _highest(posteriors, climbs)
    rough = [k for k, fit in enumerate(found) if posteriors[k].smooth and fit.misjudged > ROUGH]
    if rough:  # the search climbed the errors of its nodes: once more on finer ones, from where it came out
        some = [posteriors[k] for k in rough]
        again = [[begun[k][0], *_distinct(climbs[k][1:])] for k in rough]
        for k, fit in zip(rough, _highest(some, _climbs(some, again, diagonal, FINER)), strict=True):
            if fit.elbo.value > found[k].elbo.value:
                found[k] = fit
    return found


def _climbs(
    posteriors: Sequence[ExactPosterior], begun: Sequence[Sequence[tuple[Array, Array]]], diagonal: bool, order: int
) -> list[list[list[Step]]]:
    """The path from each start of each posterior; ``order``: of the nodes where its decoder has no kinks."""
    paths: list[list[list[Step]]] = [[] for _ in posteriors]
    for rows, joint, _ in shared(posteriors):
        owner = [i for i, k in enumerate(rows) for _ in begun[k]]
        tasks = [_climb(*one, diagonal, order if posteriors[k].smooth else KINKED) for k in rows for one in begun[k]]
        for i, path in zip(owner, run(tasks, joint, owner), strict=True):
            paths[rows[i]].append(path)
    return paths


def _highest(posteriors: Sequence[ExactPosterior], climbs: Sequence[Sequence[list[Step]]]) -> list[GaussianFit]:
    """Of each posterior the highest end, with its ELBO to the engine's tolerance."""
    tops = [max((path[-1] for path in paths), key=lambda step: step.elbo) for paths in climbs]
    qs = [FullGaussian(torch.as_tensor(top.mean), torch.as_tensor(_cholesky(top.covariance))) for top in tops]
    return [
        GaussianFit(q, bound, paths[0], top.elbo - paths[0][-1].elbo)
        for q, bound, paths, top in zip(qs, elbos(posteriors, qs), climbs, tops, strict=True)
    ]


def _distinct(paths: Sequence[list[Step]]) -> list[tuple[Array, Array]]:
    """The ends of ``paths``, each once: those that lie within a tenth of a width of a higher one are left out."""
    ends: list[Step] = []
    for end in sorted((path[-1] for path in paths), key=lambda step: -step.elbo):
        width = np.sqrt(np.diag(end.covariance))
        if all((np.abs(end.mean - other.mean) > SAME * width).any() for other in ends):
            ends.append(end)
    return [(end.mean, _cholesky(end.covariance)) for end in ends]


def climb(joint: LogJoint, q: Posterior, *, smooth: bool) -> list[Step]:
    """Uphill from any q to a diagonal Gaussian that no small change betters: every step, the first one at q's moments.

    ``joint``: log p(x, z) of one image. ``smooth``: whether the decoder has no kinks.
    """
    (path,) = run([_climb(*_start(q), True, SMOOTH if smooth else KINKED)], joint)
    return path


def _start(q: Posterior) -> tuple[Array, Array]:
    """The Gaussian of q's own moments; the prior's where q has none."""
    mean, covariance = moments(q)
    if not (np.isfinite(mean).all() and np.isfinite(covariance).all()):
        return np.zeros(2), np.eye(2)
    try:
        return mean, _cholesky(covariance)
    except np.linalg.LinAlgError:  # so narrow that its squares are 0
        return np.zeros(2), np.eye(2)


def _own_starts(posterior: ExactPosterior) -> list[tuple[Array, Array]]:
    """The Gaussian of the posterior's own moments, and, where there are several modes, Laplace's at the heaviest."""
    several = posterior.modes[:MODES] if len(posterior.modes) > 1 else []
    laplace = [(mode.location, _cholesky(np.linalg.inv(mode.precision))) for mode in several]
    return [*laplace, (posterior.mean, _cholesky(posterior.covariance))]


def _climb(mean: NDArray[Any], frame: Array, diagonal: bool, order: int) -> Task[list[Step]]:
    """Variational Newton ascent of the ELBO; every step of the path is higher than the one before.

    H = E_q[Hessian of log p(x, z)] and g = E_q[gradient] come from values alone, by Stein's identities. A step is
    mean += (-H)^-1 g, precision -> -H (or its diagonal), both shortened by half until the ELBO rises.
    """
    u, w = hermite(order)
    covariance = frame @ frame.T
    if diagonal:  # the best diagonal Gaussian for a Gaussian target keeps the precision's diagonal
        covariance = np.diag(1 / np.diag(np.linalg.inv(covariance)))
    frame = _cholesky(covariance)
    values = yield mean + u @ frame.T
    path = [Step(mean, covariance, _elbo(values, w, frame))]
    if not np.isfinite(values).all():  # a start beyond the decoder's arithmetic: no slope leads back
        return path
    for _ in range(STEPS):
        gradient, curvature = _stein(values, u, w, frame)
        step = np.linalg.solve(curvature, gradient)
        target = np.diag(np.diag(curvature)) if diagonal else curvature
        promise = 0.5 * gradient @ step + _scale_promise(target, covariance)
        length = 1.0
        while promise * length > SETTLED:
            trial_mean = mean + length * step
            precision = (1 - length) * np.linalg.inv(covariance) + length * target
            trial_frame = _cholesky(np.linalg.inv(precision))
            trial = yield trial_mean + u @ trial_frame.T
            height = _elbo(trial, w, trial_frame)
            if height > path[-1].elbo:
                break
            length /= 2
        else:
            return path
        mean, frame, values = trial_mean, trial_frame, trial
        covariance = frame @ frame.T
        path.append(Step(mean, covariance, height))
    return path


def _elbo(values: Array, w: Array, frame: Array) -> float:
    return float(w @ values + np.log(2 * np.pi * np.e) + np.linalg.slogdet(frame)[1])


def _stein(values: Array, u: Array, w: Array, frame: Array) -> tuple[Array, Array]:
    """E_q of the gradient (2,), and minus E_q of the Hessian (2, 2) made positive definite."""
    centred = w * (values - w @ values)
    inverse = np.linalg.inv(frame)
    gradient: Array = inverse.T @ (u.T @ centred)
    hessian = inverse.T @ ((u * centred[:, None]).T @ u) @ inverse
    eigenvalues, vectors = np.linalg.eigh(-hessian)
    # log p(x, z) curves at least like the prior at its modes; where it does not, step as if it did
    curvature: Array = (vectors * np.maximum(np.abs(eigenvalues), 1.0)) @ vectors.T
    return gradient, curvature


def _scale_promise(target: Array, covariance: Array) -> float:
    """What moving the precision to ``target`` promises: KL between the two widths, in nats."""
    ratio = np.linalg.eigvals(target @ covariance).real
    return float(0.5 * (ratio - 1 - np.log(np.maximum(ratio, 1e-300))).sum())


def _cholesky(covariance: NDArray[Any]) -> Array:
    factor: Array = np.linalg.cholesky(covariance)
    return factor
