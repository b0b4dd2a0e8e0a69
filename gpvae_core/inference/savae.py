"""Semi-amortised inference (Kim, Wiseman, Miller, Sontag & Rush 2018): a few steps on the image, trained through."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn

from gpvae_core.distributions import DiagonalGaussian
from gpvae_core.errors import InputError
from gpvae_core.generative import GenerativeModel
from gpvae_core.inference.base import Inference
from gpvae_core.inference.gaussian import FromGaussian
from gpvae_core.inference.refining import rule

FAR, WIDE = 3.0, 0.5  # the most that a step moves the mean, in standard deviations, and log s
STEEPEST = 100.0  # the most that training hears of an image through one step, in nats for a standard deviation


class SemiAmortizedEncoder(FromGaussian):
    """``steps`` gradient steps on each image's own ELBO in (m, log s), from where the encoder says.

    ``curved`` multiplies the gradient by the inverse Fisher information of q: s^2 for m, 1/2 for log s, so that one
    rate suits posteriors of any width. Without it the steps are the paper's, plain gradients of a fixed rate: 1e-3
    there. Training differentiates through the steps. Through many of them gradients explode, as in any recurrent
    network, so an image's is held to STEEPEST where it leaves a step; Kim, Wiseman et al. clip them there, too.
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

    labels: ClassVar[dict[str, str]] = {"start": "encoder's q(z|x)", "q": "q(z|x) after steps on the image"}

    trained: ClassVar[bool] = False

    def __init__(
        self, trunk: Callable[[], nn.Module], features: int, latent_dim: int, options: Options = Options()
    ) -> None:
        super().__init__(trunk, features, latent_dim)
        if options.steps < 1 or not options.rate > 0:
            raise InputError(f"steps and rate must be positive, but they are {options.steps} and {options.rate:g}")
        if options.draws < 2 or options.draws % 2:
            raise InputError(f"draws come in pairs, z and its mirror image: give an even number, not {options.draws}")
        self.options = options

    def infer(self, x: Tensor, model: GenerativeModel) -> Inference:
        start = self.first(x)
        path = self.walk(x, model, start)
        return Inference({"start": start, "q": path[-1]}, path=path)

    def walk(self, x: Tensor, model: GenerativeModel, start: DiagonalGaussian) -> list[DiagonalGaussian]:
        """q before and after every step."""
        training = torch.is_grad_enabled()
        nodes, weights = rule(start.dim, start.mean, self.options.draws)
        mean, log_std = start.mean, torch.log(start.std)
        path = [start]
        for step in range(self.options.steps):
            if training and step:
                mean, log_std = held_in(mean, torch.exp(log_std).detach()), held_in(log_std, torch.ones_like(log_std))
            with torch.enable_grad():
                if not mean.requires_grad:
                    mean, log_std = mean.detach().requires_grad_(), log_std.detach().requires_grad_()
                values = model.log_joint(x, mean + torch.exp(log_std) * nodes[:, None])
                bound = (weights @ values + log_std.sum(-1)).sum()  # every image's own: a sum, not a mean
                of_mean, of_width = torch.autograd.grad(bound, (mean, log_std), create_graph=training)
            mean, log_std = self._stepped(mean, log_std, of_mean, of_width)
            if not training:
                mean, log_std = mean.detach(), log_std.detach()
            path.append(DiagonalGaussian(mean, torch.exp(log_std)))
        return path

    def _stepped(self, mean: Tensor, log_std: Tensor, of_mean: Tensor, of_width: Tensor) -> tuple[Tensor, Tensor]:
        rate = self.options.rate
        if not self.options.curved:
            return mean + rate * of_mean, log_std + rate * of_width
        std = torch.exp(log_std)
        far = (rate * std * of_mean).clamp(-FAR, FAR)
        return mean + std * far, log_std + (0.5 * rate * of_width).clamp(-WIDE, WIDE)


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
