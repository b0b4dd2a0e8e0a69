"""One step of Adam on a method's objective: as it is, on a GPU as one CUDA graph, or by parts of the batch."""

from dataclasses import dataclass

import torch
from torch import Tensor

from gpvae_core.data import as_pixels
from gpvae_core.inference.base import Batch, Objective
from gpvae_core.inference.bounds import elbo
from gpvae_core.models import VariationalAutoencoder
from gpvae_core.training import processes
from gpvae_core.training.transforms import random_draws, warped

CLIP_NORM = 500.0  # of the gradient of the mean objective in nats; a healthy step has about 100
LARGEST = 2**31  # seed: a CPU's generator hears the lower 32 bits alone
WARM = 3  # steps before a capture: libraries choose their kernels and the optimiser makes its moments


@dataclass(frozen=True)
class Weights:
    """What a method's own objective is made of and what is added to it; see ``TrainingConfig``."""

    encoder_noise: float = 0.0
    base_weight: float = 0.0
    augment: float = 0.0
    dreams: float = 0.0
    importance: int = 0


class Step:
    """Call it with the rows of a batch: the optimiser moves, and the objective's value and health come back.

    ``generator`` gives every draw; ``seed`` starts its stream again.
    """

    def __init__(
        self,
        model: VariationalAutoencoder,
        weights: Weights,
        optimizer: torch.optim.Optimizer,
        images: Tensor,
        generator: torch.Generator,
        *,
        dynamic: bool,
        parts: int = 1,
    ) -> None:
        self.model, self.weights, self.optimizer = model, weights, optimizer
        self.images, self.generator, self.dynamic, self.parts = images, generator, dynamic, parts
        self.names: tuple[str, ...] = ()

    def seed(self, seed: int) -> None:
        """Start all draws again."""
        self.generator.manual_seed(seed)

    def __call__(self, rows: Tensor) -> dict[str, float]:
        """Train on the images of numbers ``rows``: "objective", "gradient norm" and the objective's parts, in nats."""
        found = self._take(rows)
        return dict(zip(("objective", "gradient norm", *self.names), found.tolist(), strict=True))

    def _take(self, rows: Tensor) -> Tensor:
        """The step itself, with nothing that waits for the device."""
        self.optimizer.zero_grad(set_to_none=True)
        return self._moved(self._slope(rows, self.generator))

    def _slope(self, rows: Tensor, generator: torch.Generator, share: float = 1.0) -> Tensor:
        """Add the gradient of ``share`` times these images' objective; its value and parts, so many times."""
        x = as_pixels(self.images[rows])
        if self.dynamic:
            x = torch.bernoulli(x, generator=generator)
        objective = _objective(self.model, self.weights, x, len(self.images), generator)
        (-share * objective.value).backward()
        self.names = tuple(objective.parts)
        return share * torch.stack([objective.value, *objective.parts.values()]).detach()

    def _moved(self, found: Tensor) -> Tensor:
        """Move by the gradient that is there; ``found`` with the gradient's norm after its first number."""
        norm = torch.nn.utils.clip_grad_norm_(self.model.parameters(), CLIP_NORM)
        self.optimizer.step()
        return torch.cat([found[:1], norm.detach()[None], found[1:]])


class PartedStep(Step):
    """The same step with the batch in so many ``parts``, each with draws of its own.

    One process takes them one after the other; of several, each takes its own, and the gradients are added up. So the
    step does not depend on how many there are.
    """

    def seed(self, seed: int) -> None:
        """Start all draws again."""
        super().seed(seed)
        seeds = torch.randint(LARGEST, (self.parts,), generator=torch.Generator().manual_seed(seed)).tolist()
        self._own = [torch.Generator(self.generator.device).manual_seed(own) for own in seeds]

    def _take(self, rows: Tensor) -> Tensor:
        self.optimizer.zero_grad(set_to_none=True)
        batch = list(zip(rows.tensor_split(self.parts), self._own, strict=True))
        found = [
            self._slope(part, generator, len(part) / len(rows))
            for part, generator in batch[processes.rank() :: processes.count()]
            if len(part)  # an epoch's last batch may have fewer images than parts
        ]
        total = torch.stack(found).sum(0) if found else torch.zeros(1 + len(self.names), device=rows.device)
        slopes = []
        for parameter in self.model.parameters():
            if parameter.requires_grad:  # zeros where a part has none: all processes send the same numbers
                parameter.grad = torch.zeros_like(parameter) if parameter.grad is None else parameter.grad
                slopes.append(parameter.grad)
        processes.add_up([total, *slopes])
        return self._moved(total)


class CapturedStep(Step):
    """The same step as one CUDA graph: a launch instead of some hundreds. Batches of another size run as they are.

    Only for an encoder that is ``capturable``, and an optimiser made so, whose learning rates are tensors.
    """

    _graph: torch.cuda.CUDAGraph | None = None
    _steps = 0

    def _take(self, rows: Tensor) -> Tensor:
        if not self._steps:
            self._rows, self._side = torch.empty_like(rows), torch.cuda.Stream(rows.device)
        if len(rows) != len(self._rows):
            return super()._take(rows)
        self._steps += 1
        if self._steps <= WARM:
            return self._aside(rows)
        self._rows.copy_(rows)
        if self._graph is None:
            self._graph = torch.cuda.CUDAGraph()
            self._graph.register_generator_state(self.generator)
            with torch.cuda.graph(self._graph):
                self._found = super()._take(self._rows)
        self._graph.replay()
        return self._found

    def _aside(self, rows: Tensor) -> Tensor:
        """On a stream of its own, as a capture asks of the steps before it."""
        current = torch.cuda.current_stream(rows.device)
        self._side.wait_stream(current)
        with torch.cuda.stream(self._side):
            found = super()._take(rows)
        current.wait_stream(self._side)
        return found


def _objective(
    model: VariationalAutoencoder, weights: Weights, x: Tensor, size: int, generator: torch.Generator
) -> Objective:
    """The method's own on a batch x of ``size`` images, with what ``weights`` add to it."""
    if weights.augment:
        x = warped(x, weights.augment * random_draws(len(x), generator=generator))
        x = model.generative.likelihood.admitted(x, generator=generator)
    seen = x + weights.encoder_noise * torch.randn(x.shape, generator=generator, device=x.device)
    parts = dict(
        model.encoder.objective(Batch(x, seen, size, weights.importance), model.generative, generator=generator).parts
    )
    if weights.base_weight:
        start = model.encoder.infer(seen, model.generative).start
        parts["base_elbo"] = weights.base_weight * elbo(model.generative, x, start, generator=generator).mean()
    if weights.dreams:
        dream = model.generative.simulate(len(x), generator=generator)
        q = model.encoder.taught(dream.images, model.generative)
        parts["dreams"] = weights.dreams * q.log_prob(dream.latents).mean()
    return Objective(parts)
