"""A whole VAE from a small frozen description: networks, likelihood and inference method."""

from copy import deepcopy
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Annotated, Any

import torch
from pydantic import Field
from torch import Tensor, nn

from gpvae_core.errors import InputError
from gpvae_core.fields import check_fields
from gpvae_core.generative import GenerativeModel
from gpvae_core.generative.likelihoods import BernoulliLikelihood, GaussianLikelihood
from gpvae_core.generative.networks import ACTIVATIONS, decoder, flattened, trunk
from gpvae_core.inference import METHODS, Encoder, Inference

if TYPE_CHECKING:
    from gpvae_core.diagnostics.gap_heads import GapHeads

LIKELIHOODS = ("gaussian", "bernoulli")
MOST_LATENT = 1_000  # dimensions, a mean and a width each; beyond it memory ends before sense does
MOST_UNITS = 10_000  # numbers in a layer
LEAST_STD, MOST_STD = 1e-6, 1e6  # of s_x, in pixels of [0, 1]
MOST_WEIGHTS = 200_000_000  # of a layer: with its moments 2.4 GB
Units = Annotated[int, Field(ge=1, le=MOST_UNITS)]


@dataclass(frozen=True)
class ModelConfig:
    """What it takes to rebuild a model: the architecture of section 5 of the paper, L = 3 and h = 256 on MNIST.

    ``channels`` of the encoder's convolutions, which the decoder mirrors; without any, both are dense.
    ``std`` is s_x of a Gaussian likelihood in pixels of [0,1]: the starting value if ``train_std``. ``options`` are
    the method's own, where they are not its defaults.
    """

    method: str = "gpvae"
    latent_dim: Annotated[int, Field(ge=1, le=MOST_LATENT)] = 2
    image_shape: tuple[Units, Units, Units] = (1, 28, 28)
    channels: Annotated[tuple[Units, ...], Field(max_length=8)] = (32, 64, 64)
    hidden: Units = 256
    activation: str = "silu"
    likelihood: str = "gaussian"
    std: Annotated[float, Field(ge=LEAST_STD, le=MOST_STD)] = 0.26  # about the standard deviation of MNIST's pixels
    train_std: bool = True
    options: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        check_fields(self)
        known = {"method": tuple(METHODS), "activation": tuple(ACTIVATIONS), "likelihood": LIKELIHOODS}
        for name, names in known.items():
            if getattr(self, name) not in names:
                raise InputError(f"{name} '{getattr(self, name)}' is unknown; choose one of {', '.join(names)}")
        layers, sides = len(self.channels), self.image_shape[1:]
        if min(sides) < 2**layers:
            raise InputError(
                f"images of {sides[0]}x{sides[1]} pixels are too small for {layers} convolutions, each of which halves "
                f"their sides; give images of {2**layers}x{2**layers} pixels at least, or use --network dense"
            )
        largest = self.hidden * max(self.hidden, flattened(self.image_shape, self.channels))
        if largest > MOST_WEIGHTS:
            raise InputError(
                f"images of {sides[0]}x{sides[1]} pixels with {self.hidden} hidden units ask for a layer of "
                f"{largest:.3g} weights, more than {MOST_WEIGHTS:.0e}; give smaller images or --hidden"
            )
        METHODS[self.method].configured(self.options)


class VariationalAutoencoder(nn.Module):
    """A generative model with the encoder that infers in it.

    ``gap_heads`` predict its gaps, where they were fitted. They stand beside the model: none of its parameters.
    """

    def __init__(self, generative: GenerativeModel, encoder: Encoder) -> None:
        super().__init__()
        self.generative = generative
        self.encoder = encoder
        self.gap_heads: GapHeads | None = None

    @property
    def device(self) -> torch.device:
        return next(self.parameters()).device

    def infer(self, images: Tensor) -> Inference:
        """What the encoder says of images (B, C, H, W), in float64 on the CPU, without a graph.

        float32's rounding depends on the batch, and where a KL is 300 nats it moves that KL by 1e-3. Every call copies
        the model; ``Checkpoint.infer`` keeps the copy.
        """
        return deepcopy(self).cpu().double().infer_as_it_is(images)

    @torch.no_grad()
    def infer_as_it_is(self, images: Tensor) -> Inference:
        """``infer`` in the model's own precision and on its device."""
        return self.encoder.infer(images.to(next(self.parameters())), self.generative).detach()


def build(config: ModelConfig, *, seed: int) -> VariationalAutoencoder:
    """The model with fresh float32 weights drawn from ``seed``; the global random stream is left alone."""
    shape = (config.image_shape, config.channels, config.hidden, config.activation)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        made = decoder(*shape, config.latent_dim)
        encoder = METHODS[config.method].build(partial(trunk, *shape), config.hidden, config.latent_dim, config.options)
    likelihood = (
        GaussianLikelihood(config.std, trained=config.train_std)
        if config.likelihood == "gaussian"
        else BernoulliLikelihood()
    )
    model = VariationalAutoencoder(GenerativeModel(made, likelihood, config.latent_dim), encoder)
    return model.to(memory_format=torch.channels_last)  # type: ignore[call-overload,no-any-return]
