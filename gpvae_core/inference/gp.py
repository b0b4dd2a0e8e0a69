"""GPVAE (Kim, CVPR 2022): Gaussian-process corrections to the encoder, marginalised in one forward pass."""

from collections.abc import Callable
from copy import deepcopy
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn.functional import normalize

from gpvae_core.distributions import DiagonalGaussian
from gpvae_core.distributions.gaussian import kl_cholesky_to_prior
from gpvae_core.distributions.special import expected_log_square
from gpvae_core.errors import InputError
from gpvae_core.generative import GenerativeModel
from gpvae_core.inference.base import Batch, Encoder, Inference, Objective, cannot_start
from gpvae_core.inference.gaussian import GaussianEncoder

BLOCK = 64  # columns


class WeightPosterior(nn.Module):
    """prod_j N(w_j; mu_j, L_j L_j'), eq. (10): one full Gaussian over p weights for each latent dimension.

    Written relative to D_j = Diag(exp(log_diagonal)): L_j = D_j (I + strictly lower ``off_diagonal``) and
    mu_j = D_j ``relative_mean``. One step size then suits weights of any scale; with absolute ones Adam's noise in
    the off-diagonals drowns the covariance, and mu'psi takes the mean over from b within an epoch.
    """

    def __init__(self, latent_dim: int, features: int, initial_std: float) -> None:
        super().__init__()
        self.relative_mean = nn.Parameter(torch.zeros(latent_dim, features))
        self.log_diagonal = nn.Parameter(torch.full((latent_dim, features), initial_std).log())
        self.off_diagonal = nn.Parameter(torch.zeros(latent_dim, features, features))

    @property
    def mean(self) -> Tensor:
        """The means mu_j, (d, p)."""
        return torch.exp(self.log_diagonal) * self.relative_mean

    @property
    def scale_tril(self) -> Tensor:
        """The Cholesky factors L_j, (d, p, p)."""
        below = torch.tril(self.off_diagonal, -1)
        unit = below + torch.eye(below.shape[-1], dtype=below.dtype, device=below.device)
        return torch.exp(self.log_diagonal)[..., None] * unit

    @torch.no_grad()
    def set_covariance(self, covariance: Tensor) -> None:
        """Make ``covariance`` (d, p, p) the L_j L_j', the means kept."""
        mean, factor = self.mean, torch.linalg.cholesky(covariance)
        diagonal = factor.diagonal(dim1=-2, dim2=-1)
        self.log_diagonal.copy_(torch.log(diagonal))
        self.relative_mean.copy_(mean.to(diagonal) / diagonal)
        self.off_diagonal.copy_(torch.tril(factor / diagonal[..., None], -1))

    def project(self, features: Tensor) -> tuple[Tensor, Tensor]:
        """Mean mu_j'psi and variance psi'L_j L_j'psi of w_j'psi for features (B, p), both (B, d)."""
        return features @ self.mean.T, self._variance(features).T

    def _variance(self, features: Tensor) -> Tensor:
        """|psi'L_j|^2, (d, B): by blocks of L_j's columns, since nothing stands above their diagonals."""
        scaled = features * torch.exp(self.log_diagonal)[:, None]  # psi'D_j, (d, B, p)
        parts = []
        for start in range(0, features.shape[-1], BLOCK):
            stop = start + BLOCK
            own, rest = scaled[..., start:stop], scaled[..., stop:]
            below = torch.tril(self.off_diagonal[:, start:stop, start:stop], -1)
            spread = torch.baddbmm(own, own, below)
            if rest.shape[-1]:
                spread = torch.baddbmm(spread, rest, self.off_diagonal[:, stop:, start:stop])
            parts.append(torch.linalg.vecdot(spread, spread))
        return torch.stack(parts).sum(0)

    def kl_to_prior(self) -> Tensor:
        """KL(q(W) || N(0, I)) in nats, a scalar."""
        below = torch.tril(self.off_diagonal, -1)
        trace = (torch.exp(2 * self.log_diagonal) * (1 + (below**2).sum(-1))).sum(-1)  # |L_j|^2, row by row
        return kl_cholesky_to_prior(self.mean, self.log_diagonal, trace).sum()

    def silence(self) -> None:
        """Set mean and covariance to 0: the deterministic zero-noise weights of section 3.2."""
        with torch.no_grad():
            self.log_diagonal.fill_(-torch.inf)


@dataclass(frozen=True)
class Correction:
    """What the GP adds to the base encoder N(b, Diag(c)^2), each (B, d), in latent units (squared for var)."""

    base: DiagonalGaussian
    mean_f: Tensor  # mu_j'psi_m
    var_f: Tensor  # psi_m'Sigma_j psi_m
    mean_h: Tensor  # eta_j'psi_s
    var_h: Tensor  # psi_s'Gamma_j psi_s

    def marginal(self) -> DiagonalGaussian:
        """Eq. (12): m = b + mu'psi_m, v = (c + eta'psi_s)^2 + psi_m'Sigma psi_m + psi_s'Gamma psi_s."""
        variance = (self.base.std + self.mean_h) ** 2 + self.var_f + self.var_h
        return DiagonalGaussian(self.base.mean + self.mean_f, torch.sqrt(variance))

    def expected_kl(self) -> Tensor:
        """Eq. (15): E_{q(W,U)} KL(q(z|x,W,U) || p(z)) in nats, (B,), E log X^2 in closed form."""
        q = self.marginal()
        log_square = expected_log_square(self.base.std + self.mean_h, torch.sqrt(self.var_h))
        return 0.5 * (q.std**2 + q.mean**2 - 1 - log_square).sum(-1)

    def share_of_f(self) -> Tensor:
        """V(f_j(x)|D) over q's variance v_j, (B, d)."""
        return self.var_f / self.marginal().std ** 2

    def variance(self) -> Tensor:
        """V(f_j(x)|D) + V(h_j(x)|D), (B, d): its sum over j is U(x)."""
        return self.var_f + self.var_h


class GPEncoder(Encoder):
    """The encoder of eqs. (3)-(12): q(z|x,W,U) = N(b + W psi_m, Diag(c + U psi_s)^2), marginalised over W, U."""

    @dataclass(frozen=True)
    class Options:
        """Which features the Gaussian process sees.

        ``shared``: psi_m and psi_s are the base encoder's own, one trunk instead of three. ``unit``: features are
        scaled to length 1, so that the prior variance of f_j(x) and h_j(x) is 1 for every x: V(f) then says how unlike
        the training images x is, not how long its features are. ``trunks``: of the base encoder, all of whose features
        a shared process sees.
        """

        shared: bool = False
        unit: bool = False
        trunks: int = 1

    labels: ClassVar[dict[str, str]] = {"base": "base encoder", "marginal": "marginalised q(z|x)"}
    INITIAL_STD = 3e-4  # of the weights, where no trained VAE says how wide the posteriors are

    def __init__(
        self, trunk: Callable[[], nn.Module], features: int, latent_dim: int, options: Options = Options()
    ) -> None:
        super().__init__(trunk, features, latent_dim)
        self.shared, self.unit = options.shared, options.unit
        self.base_encoder = GaussianEncoder(trunk, features, latent_dim, GaussianEncoder.Options(options.trunks))
        if not self.shared:
            self.psi_mean = trunk()
            self.psi_std = trunk()
        seen = options.trunks * features if self.shared else features
        self.weights_mean = WeightPosterior(latent_dim, seen, self.INITIAL_STD)
        self.weights_std = WeightPosterior(latent_dim, seen, self.INITIAL_STD)

    def plain(self) -> GaussianEncoder:
        return self.base_encoder

    def trunk_features(self, x: Tensor) -> Tensor:
        return self.base_encoder.trunk_features(x)

    def features(self, x: Tensor) -> tuple[Tensor, Tensor, DiagonalGaussian]:
        """psi_m and psi_s, (B, p), and the base encoder's q."""
        own = self.trunk_features(x)
        psi_mean, psi_std = (own, own) if self.shared else (self.psi_mean(x), self.psi_std(x))
        if self.unit:
            psi_mean, psi_std = normalize(psi_mean), normalize(psi_std)
        return psi_mean, psi_std, self.base_encoder.gaussian(own)

    def correction(self, x: Tensor) -> Correction:
        """The base encoder's q, and what the GP adds to it."""
        psi_mean, psi_std, base = self.features(x)
        mean_f, var_f = self.weights_mean.project(psi_mean)
        mean_h, var_h = self.weights_std.project(psi_std)
        return Correction(base, mean_f, var_f, mean_h, var_h)

    def infer(self, x: Tensor, model: GenerativeModel) -> Inference:
        """The base encoder's q, the marginalised one, and ``gp_variance``: V(f_j(x)|D) + V(h_j(x)|D), (B, d)."""
        correction = self.correction(x)
        stages = {"base": correction.base, "marginal": correction.marginal()}
        return Inference(stages, {"gp_variance": correction.variance()})

    def parameter_groups(self) -> dict[str, list[nn.Parameter]]:
        networks = [] if self.shared else [*self.psi_mean.parameters(), *self.psi_std.parameters()]
        weights = [*self.weights_mean.parameters(), *self.weights_std.parameters()]
        return {"base": list(self.base_encoder.parameters()), "psi": networks, "gp": weights}

    def kl_weights(self) -> Tensor:
        """KL(q(W,U) || N(0, I)) in nats, a scalar."""
        return self.weights_mean.kl_to_prior() + self.weights_std.kl_to_prior()

    def objective(self, batch: Batch, model: GenerativeModel, *, generator: torch.Generator | None = None) -> Objective:
        """The GP objective (14). Not the ELBO of the marginalised encoder: that one is larger."""
        correction = self.correction(batch.seen)
        z = correction.marginal().rsample(generator=generator)
        return Objective(
            {
                "log_likelihood": model.log_likelihood(batch.x, z).mean(),
                "neg_expected_kl_z": -correction.expected_kl().mean(),
                "neg_kl_weights": -self.kl_weights() / batch.size,
            }
        )

    def start_from(self, other: Encoder, x: Tensor, size: int) -> None:
        """Take all from a GPVAE of as many trunks; else see ``start_from_vae``."""
        plain = other.plain()
        alike = isinstance(other, GPEncoder) and other.shared == self.shared
        if not alike and isinstance(plain, GaussianEncoder):
            try:
                self.start_from_vae(plain, x, size)
            except RuntimeError:
                raise cannot_start(self, other) from None
        else:
            super().start_from(other, x, size)

    @torch.no_grad()
    def start_from_vae(self, trained: GaussianEncoder, x: Tensor, size: int) -> None:
        """Take b and c from a trained VAE, and its trunk as the starting point of both feature networks.

        V(f_j) starts where N = ``size`` observations of precision 1/c_j^2 leave a linear function of p features, at
        (p/N) c_j^2 on average over images ``x``: Adam could not get there in time from a scale ten times off.
        """
        self.base_encoder.load_state_dict(trained.state_dict())
        if not self.shared:
            self.psi_mean.load_state_dict(deepcopy(trained.trunk.state_dict()))
            self.psi_std.load_state_dict(deepcopy(trained.trunk.state_dict()))
        psi_mean, psi_std, base = self.features(x)
        leverage = (psi_mean.shape[1] / size) ** 0.5
        width = (base.std**2).mean(0).sqrt()
        for weights, psi in ((self.weights_mean, psi_mean), (self.weights_std, psi_std)):
            length = (psi**2).sum(-1).mean().sqrt()
            weights.log_diagonal.copy_(torch.log(leverage * width / length)[:, None].expand_as(weights.log_diagonal))

    def health(self, x: Tensor) -> dict[str, float]:
        """Live features (share varying over the batch), KL of the weights, V(f), V(h), mean shift, V(f) over v."""
        features = torch.cat(self.features(x)[:2], dim=-1)
        correction = self.correction(x)
        return {
            "live_features": float((features.std(0) > 1e-4).float().mean()),
            "kl_w": float(self.weights_mean.kl_to_prior()),
            "kl_u": float(self.weights_std.kl_to_prior()),
            "var_f": float(correction.var_f.mean()),
            "var_h": float(correction.var_h.mean()),
            "shift_f": float(correction.mean_f.abs().mean()),
            "share_of_f": float(correction.share_of_f().mean()),
        }


def has_process(encoder: Encoder) -> bool:
    """Whether a method has a Gaussian process, which ``process_of`` gives."""
    return isinstance(encoder, GPEncoder)


def process_of(encoder: Encoder) -> GPEncoder:
    """The Gaussian process of a method. Raises InputError where there is none."""
    if not isinstance(encoder, GPEncoder):
        raise InputError("this method has no Gaussian process; put one on a plain vae with python -m gpvae_core settle")
    return encoder
