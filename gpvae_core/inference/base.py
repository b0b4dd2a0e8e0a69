"""What an inference method is: images in, named posteriors out, each of which can be sampled with its log-density."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from gpvae_core.distributions import Posterior
from gpvae_core.errors import InputError
from gpvae_core.generative import GenerativeModel
from gpvae_core.inference.bounds import elbo_terms, importance_weighted_bound


@dataclass(frozen=True)
class Objective:
    """A training objective split into named parts, each in nats per image, averaged over the batch.

    ``value`` is the sum of ``parts``, every sign included: it is what training maximises.
    """

    parts: dict[str, Tensor]

    @property
    def value(self) -> Tensor:
        return torch.stack(list(self.parts.values())).sum()


@dataclass(frozen=True)
class Batch:
    """Images x (B, C, H, W) out of a data set of ``size`` images.

    ``seen`` is what the encoder is shown of x: x itself, or x with noise as a regulariser. ``draws``: of z, by which
    the objective is importance-weighted; none leaves the ELBO.
    """

    x: Tensor
    seen: Tensor
    size: int
    draws: int = 0


@dataclass(frozen=True)
class Inference:
    """What a method says of a batch of images: its posteriors by name, in the order in which they come about.

    The last one is the method's q(z|x); those before it are its stages. ``extras``: numbers beside them, (B, ...) each.
    ``path``: of a method that looks at the image step by step, its q before the first step and after each.
    """

    stages: Mapping[str, Posterior]
    extras: Mapping[str, Tensor] = field(default_factory=dict)
    path: Sequence[Posterior] = ()

    @property
    def q(self) -> Posterior:
        """The last stage: what the method stands for."""
        return list(self.stages.values())[-1]

    @property
    def start(self) -> Posterior:
        """The first stage: what one pass of the network says."""
        return next(iter(self.stages.values()))

    @property
    def uncertainty(self) -> Tensor | None:
        """U(x) = Tr V(f(x)|D) + Tr V(h(x)|D), (B,), in squared latent units; None without a Gaussian process."""
        variance = self.extras.get("gp_variance")
        return None if variance is None else variance.sum(-1)

    def detach(self) -> "Inference":
        """Cut off from the graph."""
        return Inference(
            {key: q.detach() for key, q in self.stages.items()},
            {key: t.detach() for key, t in self.extras.items()},
            [q.detach() for q in self.path],
        )


@dataclass(frozen=True)
class NoOptions:
    """Of a method that has none."""


def at_least(least: int, **given: int) -> None:
    """Raise InputError naming the first of the ``given`` options that is smaller."""
    for name, value in given.items():
        if value < least:
            raise InputError(f"{name} must be at least {least}, but it is {value}")


def positive(most: float, **given: float) -> None:
    """Raise InputError naming the first of the ``given`` options that is not above 0 and at most ``most``."""
    for name, value in given.items():
        if not 0 < value <= most:
            raise InputError(f"{name} must be above 0 and at most {most:g}, but it is {value:g}")


class Encoder(nn.Module, ABC):
    """A method of inference, with the networks it needs: images (B, C, H, W) -> ``Inference``.

    A subclass is one file: its architecture, its ``Options`` (a frozen dataclass of numbers and flags, which become
    the command line's and the config's) and ``labels``, the words for each stage.
    """

    Options: ClassVar[type] = NoOptions
    trained: ClassVar[bool] = True  # False: a plain VAE's encoder will do, see ``Checkpoint.with_method``
    grows: ClassVar[str] = ""  # the option that counts its parts, where they are added one at a time, see ``growing``
    capturable: ClassVar[bool] = True  # False: its objective waits for the device, so that no CUDA graph can hold it
    labels: ClassVar[Mapping[str, str]]

    def __init__(self, trunk: Callable[[], nn.Module], features: int, latent_dim: int, options: Any = None) -> None:
        """``trunk`` makes a network from images to ``features`` numbers; ``options``, by default the class's own."""
        super().__init__()

    @abstractmethod
    def infer(self, x: Tensor, model: GenerativeModel) -> Inference:
        """The method's posteriors of images x (B, C, H, W) under ``model``, in x's precision and on its device."""

    @abstractmethod
    def trunk_features(self, x: Tensor) -> Tensor:
        """What the network's last layer sees of x, (B, p)."""

    def objective(self, batch: Batch, model: GenerativeModel, *, generator: torch.Generator | None = None) -> Objective:
        """The training objective on a batch, to be maximised: by default the ELBO (2) of the method's q, or IWAE-K."""
        q = self.q_in_training(batch, model)
        if batch.draws:
            bound = importance_weighted_bound(model, batch.x, q, batch.draws, generator=generator)
            return Objective({"importance_weighted": bound.mean()})
        fit, neg_kl = elbo_terms(model, batch.x, q, generator=generator)
        return Objective({"log_likelihood": fit.mean(), "neg_kl_z": neg_kl.mean()})

    @property
    def weighs_draws(self) -> bool:
        """Whether the objective can be IWAE-K; not where a method brings its own."""
        return type(self).objective is Encoder.objective

    def q_in_training(self, batch: Batch, model: GenerativeModel) -> Posterior:
        """The q of a batch whose ELBO the default objective is: of what the encoder is shown."""
        return self.infer(batch.seen, model).q

    def taught(self, x: Tensor, model: GenerativeModel) -> Posterior:
        """The q of images x that the networks can be taught by its density: the method's own."""
        return self.infer(x, model).q

    def parameter_groups(self) -> dict[str, list[nn.Parameter]]:
        """Parameters by the part of the method that they belong to: a part may have a learning rate of its own."""
        return {"encoder": list(self.parameters())}

    def plain(self) -> "Encoder":
        """The plain VAE's encoder within this one; itself where there is none."""
        return self

    def start_from(self, other: "Encoder", x: Tensor, size: int) -> None:
        """Take what can be taken from a trained encoder; ``x``: some of the ``size`` images to be trained on.

        Raises InputError where the two share nothing.
        """
        try:
            self.load_state_dict(other.state_dict())
        except RuntimeError:
            raise cannot_start(self, other) from None

    def stand_on(self, other: "Encoder") -> None:
        """Take a trained encoder to work with as it is; the method itself needs no training."""
        self.start_from(other, torch.empty(0), 1)

    def health(self, x: Tensor) -> dict[str, float]:
        """Figures by which a dying part shows in training; empty where nothing can die."""
        return {}


def cannot_start(own: Encoder, other: Encoder) -> InputError:
    """The error of a method that another one's encoder cannot start."""
    return InputError(
        f"a {type(own).__name__} cannot start from a {type(other).__name__}: they share no weights; start it from its "
        "own method or from a plain vae of the same architecture"
    )
