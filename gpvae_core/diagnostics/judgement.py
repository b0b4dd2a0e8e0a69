"""What is said of one image: its exact posterior, and each q of a method against it. One place for app, CLI, tables."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import numpy as np
import torch
from torch import Tensor

from gpvae_core.distributions import DiagonalGaussian, Posterior
from gpvae_core.errors import InputError
from gpvae_core.exact import Estimate, ExactPosterior, PosteriorEngine
from gpvae_core.exact.best_gaussian import GaussianFit, Step, best_gaussians, is_diagonal
from gpvae_core.exact.divergences import elbos, gap, kl_to
from gpvae_core.exact.expectations import moments
from gpvae_core.exact.joint import FARTHEST
from gpvae_core.inference import Inference
from gpvae_core.models import VariationalAutoencoder


@dataclass(frozen=True)
class Judgement:
    """One q against the exact posterior, in nats: its ELBO and KL(q || p(z|x)) = log p(x) - ELBO."""

    key: str
    label: str
    q: Posterior
    elbo: Estimate
    kl: Estimate


@dataclass(frozen=True)
class Judged:
    """One image: its exact posterior, the judgement of every stage, the best Gaussians, U(x) where there is one.

    ``others``: the judgements of other methods on the same decoder. ``best``: by family, "diagonal" or "full".
    ``half_width``: of the box on screen, in latent units. ``paths``: the q's on the way of each method that makes
    steps, where they were asked for.
    """

    exact: ExactPosterior
    of: dict[str, Judgement]
    others: dict[str, Judgement]
    best: dict[str, GaussianFit]
    uncertainty: float | None
    half_width: float
    paths: dict[str, list[Step]]

    def row(self) -> dict[str, Any]:
        """Every number of the image under its column's name, with the error of each, in nats.

        For the stage or other method ``key``: ``elbo_key`` and ``kl_key``. The gap taken apart as in Cremer, Li &
        Duvenaud (2018): ``approximation_gap`` is log p(x) less the ELBO of the best diagonal Gaussian,
        ``approximation_gap_full`` that of the best one of full covariance. ``amortization_gap`` is the best diagonal
        Gaussian's ELBO less the method's own, ``amortization_gap_key`` less that of an earlier stage or another method.
        A q that is no diagonal Gaussian has no amortization gap: it is not what that one is the best of.
        """
        exact = self.exact
        row: dict[str, Any] = _with_error("log_evidence", Estimate(exact.log_evidence, exact.log_evidence_error))
        for key, one in self.judgements.items():
            row |= {**_with_error(f"elbo_{key}", one.elbo), **_with_error(f"kl_{key}", one.kl)}
        row |= {"uncertainty": self.uncertainty, "modes": len(exact.modes), "evaluations": exact.evaluations}
        row |= _with_error("entropy", Estimate(exact.entropy, exact.entropy_error))
        row |= _with_error("negentropy", Estimate(exact.negentropy, exact.negentropy_error))
        outside = Estimate(exact.mass_outside(self.half_width), exact.mass_outside_error(self.half_width))
        return row | _with_error("mass_outside_box", outside) | self._gaps()

    @property
    def judgements(self) -> dict[str, Judgement]:
        """Every q that is judged, by its key: the method's own stages first."""
        return {**self.of, **self.others}

    def doubts(self) -> list[str]:
        """A sentence for each q that has no ELBO: whose it is and why."""
        return [
            f"the {one.label} puts q(z|x) where the decoder's arithmetic ends (means of "
            f"{' and standard deviations of '.join(_numbers(part) for part in one.q.mean_and_std())}), so it has no "
            "finite ELBO; train that encoder again; log p(x) does not hang on it"
            for one in self.judgements.values()
            if not np.isfinite(one.elbo.value)
        ]

    def _gaps(self) -> dict[str, Any]:
        row: dict[str, Any] = {}
        for family, suffix in (("diagonal", ""), ("full", "_full")):
            if family in self.best:
                bound = self.best[family].elbo
                row[f"elbo_best_{family}"] = bound.value
                row |= _with_error(f"approximation_gap{suffix}", gap(self.exact, bound))
        if "diagonal" in self.best:
            best, last = self.best["diagonal"].elbo, list(self.of)[-1]
            for key, one in self.judgements.items():
                if isinstance(one.q, DiagonalGaussian):
                    name = "amortization_gap" if key == last else f"amortization_gap_{key}"
                    row |= _with_error(name, _less(best, one.elbo))
        return row

    def report(self) -> dict[str, Any]:
        """``row`` with what one image's page shows besides, JSON-ready: reverse KLs, moments, the modes' places, and
        ``without_elbo``, sentences, where a q has none.

        For each of ``judgements``, and for ``best``, the best diagonal Gaussian: ``kl_to_key`` = KL(p(z|x) || q), mean
        and standard deviations of q.
        """
        exact, best = self.exact, self.best["diagonal"]
        qs = {**{key: (one.q, one.elbo) for key, one in self.judgements.items()}, "best": (best.q, best.elbo)}
        report = self.row() | {"elbo_best": best.elbo.value} | _with_error("kl_best", gap(exact, best.elbo))
        for key, (q, bound) in qs.items():
            mean, covariance = moments(q)
            defined = np.isfinite(bound.value)  # else q is where arithmetic ends, and its density no number
            report |= _with_error(f"kl_to_{key}", kl_to(exact, q) if defined else Estimate(np.inf, np.inf))
            report |= {f"{key}_mean": mean.tolist(), f"{key}_std": np.sqrt(np.diag(covariance)).tolist()}
        modes = [mode.location.tolist() for mode in exact.modes]
        shape = {"mean": exact.mean, "mean_error": exact.mean_error}
        shape |= {"covariance": exact.covariance, "covariance_error": exact.covariance_error}
        report |= {name: values.tolist() for name, values in shape.items()} | {"modes": modes}
        return report | ({"without_elbo": self.doubts()} if self.doubts() else {})


def judge(
    engine: PosteriorEngine,
    x: Tensor,
    inference: Inference,
    labels: Mapping[str, str] = MappingProxyType({}),
    *,
    families: Sequence[str] = ("diagonal",),
    others: Mapping[str, Inference] = MappingProxyType({}),
    paths: bool = False,
    preview: bool = False,
) -> list[Judged]:
    """Each image of x (B, C, H, W), whose inference is there already; all of them share decodes.

    ``labels``: words for the stages and the others, by default their keys. ``families``: of which Gaussians the best
    one is sought. ``others``: what other methods on this decoder say of the images; the q of each is judged as well.
    Modes are sought from all their places, so that methods that are judged together share one log p(x). ``paths``:
    whether every step of a method that makes steps is judged, too. ``preview``: against ``engine.preview`` instead.
    """
    own, count = inference.stages, len(x)
    every = {**own, **{key: one.q for key, one in others.items()}}
    if len(every) < len(own) + len(others):
        raise InputError(f"another method cannot be called {' or '.join(own)}: these are stages of this one")
    near = torch.cat([places(one) for one in (inference, *others.values())], 1)
    posteriors = [engine.preview(one) for one in x] if preview else engine.posteriors(x, near=near)
    found = elbos([p for _ in every for p in posteriors], [q[k] for q in every.values() for k in range(count)])
    bounds = {key: found[i * count : (i + 1) * count] for i, key in enumerate(every)}
    starts = [[inference.start[k]] for k in range(count)]
    fits = {name: best_gaussians(posteriors, starts, diagonal=is_diagonal(name)) for name in families}
    scores = inference.uncertainty
    steps = _paths(posteriors, {list(own)[-1]: inference, **others}) if paths else [{} for _ in posteriors]

    def judged(keys: Iterable[str], k: int) -> dict[str, Judgement]:
        return {
            key: Judgement(key, labels.get(key, key), every[key][k], bounds[key][k], gap(posteriors[k], bounds[key][k]))
            for key in keys
        }

    return [
        Judged(
            exact,
            judged(own, k),
            judged(others, k),
            {name: fit[k] for name, fit in fits.items()},
            None if scores is None else float(scores[k]),
            engine.half_width,
            steps[k],
        )
        for k, exact in enumerate(posteriors)
    ]


def _paths(posteriors: Sequence[ExactPosterior], said: Mapping[str, Inference]) -> list[dict[str, list[Step]]]:
    """For each image the steps of every method that makes some, without those that stand still or have no place."""
    asked = [
        (k, name, q[k])
        for name, inference in said.items()
        for k in range(len(posteriors))
        for q in (inference.path if len(inference.path) > 1 else ())
    ]
    bounds = elbos([posteriors[k] for k, *_ in asked], [q for *_, q in asked])
    found: list[dict[str, list[Step]]] = [{} for _ in posteriors]
    for (k, name, q), bound in zip(asked, bounds, strict=True):
        mean, covariance = moments(q)
        path = found[k].setdefault(name, [])
        here = np.append(covariance, mean)
        if np.isfinite(here).all() and not (path and (here == np.append(path[-1].covariance, path[-1].mean)).all()):
            path.append(Step(mean, covariance, bound.value))
    return found


def places(inference: Inference) -> Tensor:
    """Where a method puts mass, (B, k, d): the middle of every part of every stage.

    A middle that is not finite, or beyond FARTHEST, is no place; the prior's own stands for it.
    """
    parts = [part for q in inference.stages.values() for _, part in q.parts()]
    zero = torch.zeros(1, *parts[0].batch_shape, parts[0].dim, dtype=torch.float64)
    middles = torch.cat([part.transport(zero)[0] for part in parts]).transpose(0, 1)
    return torch.where((middles.abs() <= FARTHEST).all(-1, keepdim=True), middles, 0.0)


def posterior_report(
    engine: PosteriorEngine,
    model: VariationalAutoencoder,
    x: Tensor,
    others: Mapping[str, VariationalAutoencoder] = MappingProxyType({}),
) -> dict[str, Any]:
    """``Judged.report`` of one image x (1, C, H, W) under every stage of the model's method, and under ``others``."""
    said = {name: other.infer(x) for name, other in others.items()}
    (judged,) = judge(engine, x, model.infer(x), model.encoder.labels, others=said)
    return judged.report()


def _numbers(values: Tensor) -> str:
    return " and ".join(f"{value:.3g}" for value in values.tolist())


def _with_error(name: str, estimate: Estimate) -> dict[str, float]:
    return {name: estimate.value, f"{name}_error": estimate.error}


def _less(one: Estimate, other: Estimate) -> Estimate:
    return Estimate(one.value - other.value, one.error + other.error)
