"""Mixture encoders: several Gaussians an image, trained together, or one after another."""

from collections.abc import Callable
from dataclasses import dataclass
from math import log
from typing import ClassVar

import torch
from torch import Tensor, nn

from gpvae_core.distributions import DiagonalGaussian, Mixture, standard_normal_log_prob
from gpvae_core.generative import GenerativeModel
from gpvae_core.inference.base import Batch, Encoder, Inference, Objective, at_least, cannot_start, positive
from gpvae_core.inference.bounds import elbo_terms, held_log_likelihood
from gpvae_core.inference.gaussian import OnTrunk

MOST_BOUND = 1e6  # nats
APART = 0.1  # of fresh weights that are added to a VAE's, so that the components differ


@dataclass(frozen=True)
class MixtureOptions:
    """How many ``components``."""

    components: int = 2

    def __post_init__(self) -> None:
        at_least(1, components=self.components)


class MixtureEncoder(OnTrunk):
    """q(z|x) = sum_k a_k(x) N(b_k(x), Diag(c_k(x))^2), everything linear in one trunk's features.

    Trained by the stratified ELBO sum_k a_k E_{q_k}[log p(x, z) - log q(z)], differentiable in the weights, too.
    """

    Options: ClassVar[type] = MixtureOptions
    labels: ClassVar[dict[str, str]] = {"q": "encoder's mixture"}

    def __init__(
        self, trunk: Callable[[], nn.Module], features: int, latent_dim: int, options: MixtureOptions = MixtureOptions()
    ) -> None:
        super().__init__(trunk, features, latent_dim)
        count = options.components
        self.heads = nn.ModuleList(nn.Linear(features, 2 * latent_dim) for _ in range(count))
        self.logits = nn.Linear(features, count)

    def infer(self, x: Tensor, model: GenerativeModel) -> Inference:
        return Inference({"q": self.mixture(x)})

    def mixture(self, x: Tensor) -> Mixture:
        """q of images x (B, C, H, W)."""
        features = self.trunk_features(x)
        parts = [head(features).chunk(2, dim=-1) for head in self.heads]
        components = tuple(DiagonalGaussian(mean, torch.exp(log_std)) for mean, log_std in parts)
        return Mixture(torch.log_softmax(self.logits(features), -1), components)

    def take_head(self, head: nn.Linear) -> None:
        """For every component, all but the first a little apart."""
        for k, own in enumerate(self.heads):
            for mine, theirs in zip(own.parameters(), head.parameters(), strict=True):
                mine.copy_(theirs + (APART * mine if k else 0))

    def start_from(self, other: Encoder, x: Tensor, size: int) -> None:
        """Go on from a mixture of fewer components, or take all from an equal one; else as any method on a trunk."""
        if isinstance(other, MixtureEncoder) and len(other.heads) < len(self.heads):
            self._extend(other)
        else:
            super().start_from(other, x, size)

    @torch.no_grad()
    def _extend(self, smaller: "MixtureEncoder") -> None:
        """The same mixture: new components are its first one's twins and share its weight; draws part them."""
        twin_of = [*range(len(smaller.heads)), *[0] * (len(self.heads) - len(smaller.heads))]
        try:
            self.trunk.load_state_dict(smaller.trunk.state_dict())
            for own, k in zip(self.heads, twin_of, strict=True):
                own.load_state_dict(smaller.heads[k].state_dict())
        except RuntimeError:
            raise cannot_start(self, smaller) from None
        self.logits.weight.copy_(smaller.logits.weight[twin_of])
        self.logits.bias.copy_(smaller.logits.bias[twin_of])
        for row, k in enumerate(twin_of):
            if k == 0:
                self.logits.bias[row] -= log(twin_of.count(0))


class CodedMixtureEncoder(OnTrunk):
    """q(z|x) = 1/S sum_s N(b(x, s), Diag(c(x, s))^2): one network that is told which component it speaks for.

    The code s, one-hot, enters a layer behind the trunk, whose result is added to the trunk's features (Hotti et al.
    2024). Trained by the stratified ELBO, which with equal weights is MISELBO.
    """

    Options: ClassVar[type] = MixtureOptions
    labels: ClassVar[dict[str, str]] = {"q": "encoder's mixture by codes"}

    def __init__(
        self, trunk: Callable[[], nn.Module], features: int, latent_dim: int, options: MixtureOptions = MixtureOptions()
    ) -> None:
        super().__init__(trunk, features, latent_dim)
        self.count = options.components
        self.coded = nn.Linear(features + self.count, features)
        self.added = nn.Linear(features, features)
        self.head = nn.Linear(features, 2 * latent_dim)

    def infer(self, x: Tensor, model: GenerativeModel) -> Inference:
        features = self.trunk_features(x)
        components = tuple(self.component(features, s) for s in range(self.count))
        return Inference({"q": Mixture(features.new_full((len(x), self.count), -log(self.count)), components)})

    def component(self, features: Tensor, s: int) -> DiagonalGaussian:
        """N(b(x, s), Diag(c(x, s))^2) from the trunk's features (B, p)."""
        code = features.new_zeros(len(features), self.count)
        code[:, s] = 1
        behind = features + self.added(nn.functional.silu(self.coded(torch.cat([features, code], -1))))
        mean, log_std = self.head(behind).chunk(2, dim=-1)
        return DiagonalGaussian(mean, torch.exp(log_std))

    def take_head(self, head: nn.Linear) -> None:
        """For every component, each a little apart by its code; one alone is the VAE."""
        self.head.load_state_dict(head.state_dict())
        for p in self.added.parameters():
            p.mul_(APART if self.count > 1 else 0.0)


class RecursiveMixtureEncoder(MixtureEncoder):
    """The same mixture, each component taught to go where those before it are not (Kim & Pavlovic 2020).

    It begins as a trained VAE and takes one component more at a time, see ``training.growing``.
    Component k climbs E_q[log p(x, z) - log q(z) + min(log q(z) - log Q(z), ``bound``)] with Q the mixture of those
    before it, held: its ELBO and a bounded KL(q || Q), by one draw. The weights and the decoder climb the mixture's own
    ELBO, the components held.
    """

    @dataclass(frozen=True)
    class Options(MixtureOptions):
        """How many ``components``, and the ``bound`` of the KL that drives a new one away, in nats."""

        bound: float = 10.0

        def __post_init__(self) -> None:
            super().__post_init__()
            positive(MOST_BOUND, bound=self.bound)

    grows: ClassVar[str] = "components"
    labels: ClassVar[dict[str, str]] = {"q": "encoder's recursive mixture"}

    def __init__(
        self, trunk: Callable[[], nn.Module], features: int, latent_dim: int, options: Options = Options()
    ) -> None:
        super().__init__(trunk, features, latent_dim, options)
        self.bound = options.bound

    def take_head(self, head: nn.Linear) -> None:
        """For every component, of equal weight: q is the plain VAE's, and draws part the components."""
        for own in self.heads:
            own.load_state_dict(head.state_dict())
        for p in self.logits.parameters():
            p.zero_()

    def objective(self, batch: Batch, model: GenerativeModel, *, generator: torch.Generator | None = None) -> Objective:
        q = self.mixture(batch.seen)
        parts = {}
        for k, component in enumerate(q.components):
            z, log_q = component.rsample_with_log_prob(generator=generator)
            own = held_log_likelihood(model, batch.x, z) + standard_normal_log_prob(z) - log_q
            if k:
                before = Mixture(torch.log_softmax(q.log_weights[:, :k], -1), q.components[:k]).detach()
                own = own + (log_q - before.log_prob(z)).clamp(max=self.bound)
            parts[f"component_{k}"] = own.mean()
        held = Mixture(q.log_weights, tuple(component.detach() for component in q.components))
        fit, neg_kl = elbo_terms(model, batch.x, held, generator=generator)
        return Objective(parts | {"log_likelihood": fit.mean(), "neg_kl_z": neg_kl.mean()})
