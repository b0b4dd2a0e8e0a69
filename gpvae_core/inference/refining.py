"""What methods share that start where a network says and improve q on the image itself."""

from abc import abstractmethod
from functools import lru_cache
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor

from gpvae_core.distributions import DiagonalGaussian, Posterior
from gpvae_core.generative import GenerativeModel
from gpvae_core.generative.draws import normal_points
from gpvae_core.inference.base import Batch, Inference, Objective
from gpvae_core.inference.bounds import elbo, elbo_terms
from gpvae_core.inference.gaussian import OnEncoder

HERMITE_ORDER = 5
DRAWS = 64  # of the rule beyond two dimensions


class Refiner(OnEncoder):
    """A plain VAE's encoder says where to start; ``refine`` goes on from there with decodes of the image's own.

    Trained, the objective is the mean of two ELBOs: the encoder's own, and that of the refined q, which the decoder
    alone climbs. Both are bounds on log p(x). Without the first a decoder learns from places that the encoder does not
    find, and ends worse than a plain VAE's.
    """

    capturable: ClassVar[bool] = False  # which images still climb is looked up after each step
    labels: ClassVar[dict[str, str]] = {"start": "encoder's q(z|x)", "q": "refined q(z|x)"}

    @abstractmethod
    def refine(self, x: Tensor, model: GenerativeModel, start: DiagonalGaussian) -> list[Posterior]:
        """q after each step for images x, without a graph: the last is what the method stands for."""

    def refine_in_training(self, x: Tensor, model: GenerativeModel, start: DiagonalGaussian) -> list[Posterior]:
        """``refine`` where the decoder changes after every batch."""
        return self.refine(x, model, start)

    def infer(self, x: Tensor, model: GenerativeModel) -> Inference:
        start = self.first(x, model)
        with torch.no_grad():
            path = [start, *self.refine(x, model, start.detach())]
        return Inference({"start": start, "q": path[-1]}, path=path)

    def taught(self, x: Tensor, model: GenerativeModel) -> Posterior:
        """What the network says: no gradient comes through the steps."""
        return self.first(x, model)

    def objective(self, batch: Batch, model: GenerativeModel, *, generator: torch.Generator | None = None) -> Objective:
        start = self.first(batch.seen, model)
        bound = elbo(model, batch.x, start, generator=generator).mean()
        if not any(p.requires_grad for p in model.parameters()):  # the refined q would train nothing
            return Objective({"elbo_start": bound})
        with torch.no_grad():
            *_, q = self.refine_in_training(batch.x, model, start.detach())
        fit, neg_kl = elbo_terms(model, batch.x, q, generator=generator)
        parts = {"elbo_start": bound, "log_likelihood": fit.mean(), "neg_kl_z": neg_kl.mean()}
        return Objective({name: 0.5 * part for name, part in parts.items()})


def rule(dim: int, like: Tensor, draws: int = DRAWS) -> tuple[Tensor, Tensor]:
    """Nodes u (S, d) and weights (S,) for expectations under N(0, I): the same for every image and call.

    Gauss-Hermite to two dimensions, beyond them ``draws`` scrambled Sobol points and their negatives, half each.
    """
    return _rule(dim, draws, like.dtype, like.device)


@lru_cache(16)
def _rule(dim: int, count: int, dtype: torch.dtype, device: torch.device) -> tuple[Tensor, Tensor]:
    like = torch.empty(0, dtype=dtype, device=device)
    if dim <= 2:
        x, w = np.polynomial.hermite_e.hermegauss(HERMITE_ORDER)
        nodes, weights = (np.stack(np.meshgrid(*[one] * dim, indexing="ij"), -1).reshape(-1, dim) for one in (x, w))
        shares = weights.prod(1) / weights.prod(1).sum()
        return torch.as_tensor(nodes).to(like), torch.as_tensor(shares).to(like)
    half = normal_points(dim, count // 2)
    draws = torch.cat([half, -half])
    draws = draws / (draws**2).mean(0).sqrt()  # each coordinate's variance is 1 exactly
    return draws.to(like), torch.full((len(draws),), 1 / len(draws)).to(like)
