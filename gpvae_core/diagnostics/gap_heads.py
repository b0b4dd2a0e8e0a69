"""Learned difficulty: KL(q || p(z|x)) predicted in nats, from the encoder alone or from one decode besides.

Fitted to exact gaps of images that neither encoder nor decoder was trained on.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property

import torch
from torch import Tensor, nn
from torch.nn.functional import huber_loss

from gpvae_core.distributions import DiagonalGaussian, FullGaussian
from gpvae_core.errors import InputError
from gpvae_core.generative.laplace import Laplace, laplace
from gpvae_core.inference import Inference
from gpvae_core.models import VariationalAutoencoder

HIDDEN = 32
EPOCHS, BATCH, LEARNING_RATE, WEIGHT_DECAY = 40, 64, 2e-3, 0.1
FEWEST = 2  # images: of one no spread is known
FARTHEST = 5.0  # standard deviations of the fitted images at which features are cut


class GapHead(nn.Module):
    """Features (B, F) -> exp of a small network's value, (B,): a gap in nats, or a factor to one."""

    centre: Tensor
    spread: Tensor
    target: Tensor

    def __init__(self, features: int) -> None:
        super().__init__()
        self.register_buffer("centre", torch.zeros(features))
        self.register_buffer("spread", torch.ones(features))
        self.register_buffer("target", torch.tensor([0.0, 1.0]))
        layers: list[nn.Module] = []
        for before, after in ((features, HIDDEN), (HIDDEN, HIDDEN)):
            layers += [nn.Linear(before, after), nn.SiLU(), nn.Dropout(0.1)]
        self.net = nn.Sequential(*layers, nn.Linear(HIDDEN, 1))

    def forward(self, features: Tensor) -> Tensor:
        standard = ((features - self.centre) / self.spread).clamp(-FARTHEST, FARTHEST)
        value: Tensor = torch.exp(self.target[0] + self.target[1] * self.net(standard)[:, 0])
        return value


@dataclass(frozen=True)
class GapHeads:
    """Both predictors of one model: ``encoder`` needs no decode, ``decode`` corrects the Laplace gap.

    No nn.Module itself: as one it would become a part of the model that keeps it, and be saved among its weights.
    ``origin`` says what they were fitted to: the weights' digest, images, tolerance of their KLs in nats; empty until
    they are saved.
    """

    encoder: GapHead
    decode: GapHead
    origin: Mapping[str, str] = field(default_factory=dict)

    @property
    def parts(self) -> nn.ModuleDict:
        """Both as one module, under the names of their tensors in a file."""
        return nn.ModuleDict({"encoder": self.encoder, "decode": self.decode})

    def state_dict(self) -> dict[str, Tensor]:
        """The tensors of both, as they are kept in a file."""
        return dict(self.parts.state_dict())

    def ready(self, like: Tensor) -> "GapHeads":
        """Frozen, in eval mode, on the device and in the dtype of ``like``."""
        self.parts.requires_grad_(False).eval().to(like)
        return self


@dataclass(frozen=True)
class Look:
    """Images x (B, C, H, W) under a model, with their inference: what a score may use. What takes a decode is kept."""

    model: VariationalAutoencoder
    x: Tensor
    inference: Inference

    @cached_property
    def q(self) -> DiagonalGaussian:
        """The diagonal Gaussian of the method's q: itself, or that of its mean and standard deviations."""
        return DiagonalGaussian(*self.inference.q.mean_and_std())

    @cached_property
    def near(self) -> Laplace:
        """Laplace's Gaussian at q's mean."""
        return laplace(self.model.generative, self.x, self.q.mean)

    @property
    def factor(self) -> Tensor:
        """The Cholesky factor of q's covariance where the method's q is a Gaussian, (B, d, d); else that of ``q``'s."""
        own = self.inference.q
        return own.scale_tril if isinstance(own, FullGaussian) else self.q.scale_tril

    @cached_property
    def variance(self) -> Tensor:
        """q's variance in the precision of ``near``, (B, d)."""
        return (self.q.std**2).to(self.near.slope)

    @cached_property
    def laplace_gap(self) -> Tensor:
        """KL(q || Laplace's Gaussian), (B,), in nats."""
        return self.near.gap(self.factor.to(self.near.slope))


def predicted_gap(look: Look) -> Tensor:
    """KL(q || p(z|x)) in nats, (B,), from what the encoder computes anyway. Raises InputError without heads."""
    gap: Tensor = _heads(look).encoder(encoder_features(look))
    return gap


def corrected_gap(look: Look) -> Tensor:
    """KL(q || p(z|x)) in nats, (B,): the Laplace gap times a learned factor. Raises InputError without heads."""
    gap: Tensor = look.laplace_gap.to(look.x) * _heads(look).decode(decode_features(look))
    return gap


def encoder_features(look: Look) -> Tensor:
    """The trunk's features, q's mean and log std, (B, p + 2d)."""
    x, q = look.x, look.q
    return torch.cat([look.model.encoder.trunk_features(x), q.mean.to(x), torch.log(q.std).to(x)], -1)


def decode_features(look: Look) -> Tensor:
    """Logarithms of the Laplace gap and its parts, of the reconstruction error and q's std; q's mean. (B, 4 + 2d)."""
    x, near, log_variance = look.x, look.near, torch.log(look.variance)
    numbers = [look.laplace_gap, near.pull(), ((x.flatten(1) - near.means) ** 2).sum(1)]
    volume = torch.linalg.slogdet(near.precision).logabsdet + log_variance.sum(-1)
    logs = torch.stack([*(torch.log(n.to(x).clamp_min(1e-12)) for n in numbers), volume.to(x)], -1)
    return torch.cat([logs, log_variance.to(x) / 2, look.q.mean.to(x)], -1)


def _heads(look: Look) -> GapHeads:
    if look.model.gap_heads is None:
        raise InputError(
            "this encoder has no learned scores: they belong to the encoder they were fitted to; fit some with "
            "python -m gpvae_core calibrate, or choose another score"
        )
    return look.model.gap_heads.ready(look.x)


# --- fitting --------------------------------------------------------------------------------------------------


@torch.no_grad()
def fit_heads(model: VariationalAutoencoder, x: Tensor, inference: Inference, kl: Tensor, *, seed: int) -> GapHeads:
    """Both heads from images x (N, C, H, W), held out from training, and their exact KLs (N,) in nats.

    Least Huber loss in log KL: Adam with decoupled weight decay, the same fixed schedule for every model. Raises
    InputError where a KL is not positive.
    """
    if len(kl) < FEWEST:
        raise InputError(f"scores cannot be fitted to {len(kl)} images; compute the gaps of at least {FEWEST}")
    if not bool((kl > 0).all()):
        raise InputError(
            "a KL that is not positive cannot be fitted in logarithms; compute the gaps to a finer tolerance"
        )
    log_kl, look = torch.log(kl).to(x), Look(model, x, inference)
    of_encoder, of_decode = encoder_features(look), decode_features(look)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        heads = GapHeads(GapHead(of_encoder.shape[1]), GapHead(of_decode.shape[1]))
        _fit(heads.encoder, of_encoder, log_kl)
        _fit(heads.decode, of_decode, log_kl - torch.log(look.laplace_gap).to(x))
    return heads.ready(of_encoder)


def _fit(head: GapHead, features: Tensor, target: Tensor) -> None:
    head.centre.copy_(features.mean(0))
    head.spread.copy_(features.std(0).clamp_min(1e-6))
    head.target.copy_(torch.stack([target.mean(), target.std()]))
    optimizer = torch.optim.AdamW(head.net.parameters(), LEARNING_RATE, weight_decay=WEIGHT_DECAY)
    steps = EPOCHS * -(-len(features) // BATCH)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    with torch.enable_grad():
        for _ in range(EPOCHS):
            for rows in torch.randperm(len(features)).split(BATCH):
                standard = (torch.log(head(features[rows])) - target[rows]) / head.target[1]
                optimizer.zero_grad()
                huber_loss(standard, torch.zeros_like(standard)).backward()
                optimizer.step()
                schedule.step()
