"""An amortised Gaussian of full covariance: the plain VAE's encoder with correlations."""

from collections.abc import Callable
from typing import ClassVar

import torch
from torch import Tensor, nn

from gpvae_core.distributions import FullGaussian
from gpvae_core.generative import GenerativeModel
from gpvae_core.inference.base import Inference, NoOptions
from gpvae_core.inference.gaussian import OnTrunk


class FullGaussianEncoder(OnTrunk):
    """q(z|x) = N(b(x), L(x) L(x)'), b, log diag L and L's lower triangle linear in a trunk's features."""

    labels: ClassVar[dict[str, str]] = {"q": "encoder's q(z|x), full covariance"}

    def __init__(
        self, trunk: Callable[[], nn.Module], features: int, latent_dim: int, options: NoOptions | None = None
    ) -> None:
        super().__init__(trunk, features, latent_dim)
        self.head = nn.Linear(features, 2 * latent_dim)
        pairs = latent_dim * (latent_dim - 1) // 2
        self.correlations = nn.Linear(features, pairs) if pairs else None

    def take_head(self, head: nn.Linear) -> None:
        self.head.load_state_dict(head.state_dict())
        for parameter in [] if self.correlations is None else self.correlations.parameters():
            parameter.zero_()

    def infer(self, x: Tensor, model: GenerativeModel) -> Inference:
        features = self.trunk_features(x)
        mean, log_diagonal = self.head(features).chunk(2, dim=-1)
        scale = torch.exp(log_diagonal)
        d = mean.shape[-1]
        below = mean.new_zeros(*mean.shape[:-1], d, d)
        row, column = torch.tril_indices(d, d, -1, device=mean.device)
        if self.correlations is not None:
            below[..., row, column] = self.correlations(features)
        # row i of L is s_i (unit lower triangular): a correlation means the same at every width
        scale_tril = scale[..., None] * (below + torch.eye(d, dtype=mean.dtype, device=mean.device))
        return Inference({"q": FullGaussian(mean, scale_tril)})
