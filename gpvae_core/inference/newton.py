"""Gauss-Newton steps on the image: VLAE's damped ones, and ours with a line search and several starts."""

import weakref
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from gpvae_core.distributions import DiagonalGaussian, Posterior
from gpvae_core.errors import InputError
from gpvae_core.generative import GenerativeModel
from gpvae_core.generative.draws import PriorDraws
from gpvae_core.generative.laplace import Laplace, laplace
from gpvae_core.inference.base import Inference, at_least
from gpvae_core.inference.refining import Refiner

HALVINGS = 6


class NewtonEncoder(Refiner):
    """q(z|x) = N(z*, H^-1), z* reached by Gauss-Newton steps on log p(x, z) from the encoder's mean or a prior draw.

    Every step looks at the decoder's value and Jacobian. With ``search`` a step is halved until log p(x, z) rises, and
    H is that of the last look, from where one more step was taken. Without it this is VLAE (Park, Kim & Kim 2019):
    steps of length 1/2, 1/4, 1/6, ... of the full one, and a last look, for H alone.
    """

    @dataclass(frozen=True)
    class Options:
        """``steps`` of a climb, and from where.

        Places to start from: the encoder's mean, unless ``encoder`` is False, and, except in training, the ``starts``
        best of so many ``draws`` of the prior, see ``PriorDraws``. Half of ``starts`` goes on from there, and again
        half after each look, by Laplace's log p(x): of several hills the one that holds most. The draws have been
        looked at before, so without the encoder the first look is free, and no network is asked.
        """

        steps: int = 4
        starts: int = 4
        draws: int = 4096
        search: bool = True
        encoder: bool = True

        def __post_init__(self) -> None:
            at_least(1, steps=self.steps, starts=self.starts)
            at_least(0, draws=self.draws)
            places = int(self.encoder) + self.draws
            if self.starts > places:
                among = f"the encoder's and {self.draws} draws" if self.encoder else f"{self.draws} draws"
                raise InputError(
                    f"there are {places} places to start from, {among}; choose at most so many starts, "
                    f"not {self.starts}"
                )

    labels: ClassVar[dict[str, str]] = {
        "start": "q(z|x) before the steps",
        "q": "Laplace's q(z|x) after Gauss-Newton steps",
    }

    def __init__(
        self, trunk: Callable[[], nn.Module], features: int, latent_dim: int, options: Options = Options()
    ) -> None:
        super().__init__(trunk, features, latent_dim)
        self.options = options
        self._kept: tuple[Any, PriorDraws] | None = None

    def infer(self, x: Tensor, model: GenerativeModel) -> Inference:
        if self.options.encoder:
            return super().infer(x, model)
        with torch.no_grad():
            starts = self.options.starts
            path = self._onward(x, model, self._draws(model, x).looks(model, x, starts), starts)
        return Inference({"start": path[0], "q": path[-1]}, path=path)

    def refine(self, x: Tensor, model: GenerativeModel, start: DiagonalGaussian) -> list[Posterior]:
        near = laplace(model, x, start.mean)
        if self.options.draws:
            near = Laplace.joined([near, self._draws(model, x).looks(model, x, self.options.starts)])
        return self._onward(x, model, near, self.options.starts)

    def refine_in_training(self, x: Tensor, model: GenerativeModel, start: DiagonalGaussian) -> list[Posterior]:
        """From the encoder's mean alone: all draws would have to be decoded anew for every batch."""
        return self.climb(x, model, start.mean[None])

    def climb(self, x: Tensor, model: GenerativeModel, z: Tensor) -> list[Posterior]:
        """Laplace's Gaussians for images x (B, C, H, W) on the climb from each of the places z (K, B, d).

        At each look the one that holds most, then the one after the last step, of that look's width.
        """
        return self._onward(x, model, laplace(model, _repeated(x, len(z)), z.flatten(0, 1)), len(z))

    def _onward(self, x: Tensor, model: GenerativeModel, near: Laplace, kept: int) -> list[Posterior]:
        """``climb`` from the first look at all places on: B for the first place, then B for the second, ..."""
        steps, path = self.options.steps, list[Posterior]()
        for t in range(steps):
            kept = -(-kept // 2) if t + 1 < steps else 1
            near = _heaviest(near, len(x), kept)
            best = near.take(torch.arange(len(x), device=x.device))
            path.append(best.gaussian(best.place))
            if not self.options.search:
                damped = near.place + near.step().to(near.place) / (2 * (t + 1))
                near = laplace(model, _repeated(x, kept), damped)
            elif t + 1 < steps:
                near = _risen(model, _repeated(x, kept), near)
        last = searched(model, x, near, near.step().to(near.place)) if self.options.search else near.place
        return [*path, near.gaussian(last)]

    def _draws(self, model: GenerativeModel, like: Tensor) -> PriorDraws:
        """The prior's draws under this decoder, made anew only where it is another one or its weights have changed."""
        weights = [(p.data_ptr(), p._version) for p in model.parameters()]
        key = (weakref.ref(model), weights, like.dtype, like.device)
        kept = self._kept
        if kept is None or kept[0] != key:
            self._kept = kept = key, PriorDraws.of(model, self.options.draws, like)
        return kept[1]


def _heaviest(near: Laplace, images: int, count: int) -> Laplace:
    """Of several places for each image, one after the other, the ``count`` where Laplace's log p(x) is largest."""
    evidence = torch.nan_to_num(near.log_evidence(), -torch.inf).reshape(-1, images)
    rows = evidence.topk(count, 0).indices * images + torch.arange(images, device=evidence.device)
    return near.take(rows.flatten())


def _risen(model: GenerativeModel, x: Tensor, near: Laplace) -> Laplace:
    """The look after a whole step; where that does not raise log p(x, z), after as much of it as does."""
    step = near.step().to(near.place)
    there = laplace(model, x, near.place + step)
    low = torch.nonzero(~(there.height > near.height)).flatten()
    if not len(low):
        return there
    again = laplace(model, x[low], searched(model, x[low], near.take(low), 0.5 * step[low]))
    return there.put(low, again)


def _repeated(x: Tensor, count: int) -> Tensor:
    return x.repeat(count, *[1] * (x.dim() - 1))


def searched(model: GenerativeModel, x: Tensor, near: Laplace, step: Tensor) -> Tensor:
    """The place + step, or as much of it, halved and halved again, as raises log p(x, z); itself where nothing does."""
    z, left = near.place.clone(), torch.arange(len(x), device=x.device)
    for halving in range(HALVINGS):
        trial = z[left] + step[left] / 2**halving
        rises = model.log_joint(x[left], trial) > near.height[left]
        z[left[rises]] = trial[rises]
        left = left[~rises]
        if not len(left):
            break
    return z
