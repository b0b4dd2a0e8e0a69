"""Semi-amortised inference (Kim, Wiseman, Miller, Sontag & Rush 2018): a few steps on the image, trained through."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn

from gpvae_core.distributions import DiagonalGaussian
from gpvae_core.errors import InputError
from gpvae_core.generative import GenerativeModel
from gpvae_core.inference.base import Batch, Inference, at_least, positive
from gpvae_core.inference.gaussian import OnEncoder
from gpvae_core.inference.refining import rule

FAR, WIDE = 3.0, 0.5  # the most that a step moves the mean, in standard deviations, and log s
FASTEST = 100.0  # rate: a step is held to FAR and WIDE long before
STEEPEST = 100.0  # the most that training hears of an image through one step, in nats for a standard deviation


class SemiAmortizedEncoder(OnEncoder):
    """``steps`` gradient steps on each image's own ELBO in (m, log s), from where the encoder says.

    ``curved`` multiplies the gradient by the inverse Fisher information of q: s^2 for m, 1/2 for log s, so that one
    rate suits posteriors of any width. A step in many coordinates that hang together goes too far: it ends where the
    decoder's curvature along it says that the climb does. Without ``curved`` the steps are the paper's, plain gradients
    of a fixed rate: 1e-3 there.

    Training differentiates through the steps. Through many of them gradients explode, as in any recurrent network, so
    an image's is held to STEEPEST where it leaves a step; Kim, Wiseman et al. clip them there, too.
    """

    @dataclass(frozen=True)
    class Options:
        """How many ``steps``, at which ``rate``, and whether they suit the curvature.

        ``draws``: decodes a step beyond two latent dimensions, an even number; to two, a rule of 5 or 25 points.
        """

        steps: int = 2
        rate: float = 0.5
        curved: bool = True
        draws: int = 8

        def __post_init__(self) -> None:
            at_least(1, steps=self.steps)
            positive(FASTEST, rate=self.rate)
            if self.draws < 2 or self.draws % 2:
                raise InputError(f"draws come in pairs, z and its mirror image: give an even number, not {self.draws}")

    labels: ClassVar[dict[str, str]] = {"start": "encoder's q(z|x)", "q": "q(z|x) after steps on the image"}

    def __init__(
        self, trunk: Callable[[], nn.Module], features: int, latent_dim: int, options: Options = Options()
    ) -> None:
        super().__init__(trunk, features, latent_dim)
        self.options = options

    def infer(self, x: Tensor, model: GenerativeModel) -> Inference:
        start = self.first(x, model)
        path = self.walk(x, model, start)
        return Inference({"start": start, "q": path[-1]}, path=path)

    def q_in_training(self, batch: Batch, model: GenerativeModel) -> DiagonalGaussian:
        """The steps are on the image itself, whatever the encoder is shown."""
        return self.walk(batch.x, model, self.first(batch.seen, model))[-1]

    def walk(self, x: Tensor, model: GenerativeModel, start: DiagonalGaussian) -> list[DiagonalGaussian]:
        """q before and after every step."""
        training = torch.is_grad_enabled()
        nodes, weights = rule(start.dim, start.mean, self.options.draws)
        mean, log_std = start.mean, torch.log(start.std)
        path = [start]
        for number in range(self.options.steps):
            if training and number:
                mean, log_std = held_in(mean, torch.exp(log_std).detach()), held_in(log_std, torch.ones_like(log_std))
            with torch.enable_grad():
                if not mean.requires_grad:
                    mean, log_std = mean.detach().requires_grad_(), log_std.detach().requires_grad_()
                values = model.log_joint(x, mean + torch.exp(log_std) * nodes[:, None])
                bound = (weights @ values + log_std.sum(-1)).sum()  # every image's own: a sum, not a mean
                of_mean, of_width = torch.autograd.grad(bound, (mean, log_std), create_graph=training)
            step, wider = self._step(mean, log_std, of_mean, of_width)
            if self.options.curved:
                step = step * share_of_the_way(model, x, mean, step, of_mean)
            mean, log_std = mean + step, log_std + wider
            if not training:
                mean, log_std = mean.detach(), log_std.detach()
            path.append(DiagonalGaussian(mean, torch.exp(log_std)))
        return path

    def _step(self, mean: Tensor, log_std: Tensor, of_mean: Tensor, of_width: Tensor) -> tuple[Tensor, Tensor]:
        """How far the slopes take the mean and log s."""
        rate = self.options.rate
        if not self.options.curved:
            return rate * of_mean, rate * of_width
        std = torch.exp(log_std)
        far = (rate * std * of_mean).clamp(-FAR, FAR)
        return std * far, (0.5 * rate * of_width).clamp(-WIDE, WIDE)


@torch.no_grad()
def share_of_the_way(model: GenerativeModel, x: Tensor, z: Tensor, step: Tensor, slope: Tensor) -> Tensor:
    """The share of a ``step`` (B, d) from z at which a parabola of that ``slope`` (B, d) is highest, 1 at most: (B, 1).

    Its curvature along the step is Gauss-Newton's, w |J step|^2 + |step|^2 for images x, by two decodes.
    """
    length = step.norm(dim=-1, keepdim=True).clamp_min(1e-12)
    along = (1e-3 if z.dtype == torch.float32 else 1e-5) / length * step
    ahead, behind = (model.decode(place).flatten(1) for place in (z + along, z - along))
    moved = (ahead - behind) / (2 * along.norm(dim=-1, keepdim=True)) * length
    weight = model.likelihood.precision(0.5 * (ahead + behind))
    curvature = (weight * moved**2).sum(-1, keepdim=True) + length**2
    share: Tensor = (slope * step).sum(-1, keepdim=True) / curvature
    return share.clamp(max=1.0)


def held_in(t: Tensor, unit: Tensor) -> Tensor:
    """t (B, d) itself; of a mean over B images the gradient that goes back beyond it is at most STEEPEST a ``unit``."""
    if not t.requires_grad:
        return t
    beyond, most = t.view_as(t), STEEPEST / len(t)

    def shortened(gradient: Tensor) -> Tensor:
        length = (gradient * unit).norm(dim=-1, keepdim=True)
        return torch.nan_to_num(gradient * (most / length).clamp(max=1.0), 0.0, 0.0, 0.0)

    beyond.register_hook(shortened)
    return beyond.view_as(beyond)  # a step's own gradient is taken here, and must be whole
