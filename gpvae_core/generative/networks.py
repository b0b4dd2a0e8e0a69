"""Trunks and decoders, section 5 of the paper: 4x4 kernels of stride 2, then dense layers; or dense layers alone."""

from collections.abc import Callable, Sequence
from math import prod

from torch import Tensor, nn
from torch.nn.functional import fold

ACTIVATIONS: dict[str, Callable[[], nn.Module]] = {"silu": nn.SiLU, "relu": nn.ReLU}
ImageShape = tuple[int, int, int]


def _sizes(length: int, layers: int) -> list[int]:
    """Side lengths after each convolution of stride 2: 28 -> 28, 14, 7, 3."""
    return [length // 2**i for i in range(layers + 1)]


def flattened(shape: ImageShape, channels: Sequence[int]) -> int:
    """How many numbers the convolutions leave of an image; without any, those of the image itself."""
    n = len(channels)
    return channels[-1] * _sizes(shape[1], n)[-1] * _sizes(shape[2], n)[-1] if n else prod(shape)


class ConvTrunk(nn.Sequential):
    """Images (B, C, H, W) -> features (B, hidden): convolutions, then one dense layer, activated."""

    def __init__(self, shape: ImageShape, channels: Sequence[int], hidden: int, activation: str) -> None:
        act = ACTIVATIONS[activation]
        layers: list[nn.Module] = []
        for before, after in zip((shape[0], *channels[:-1]), channels, strict=True):
            layers += [nn.Conv2d(before, after, 4, stride=2, padding=1), act()]
        layers += [nn.Flatten(), nn.Linear(flattened(shape, channels), hidden), act()]
        super().__init__(*layers)


class FoldedConvTranspose2d(nn.ConvTranspose2d):
    """A transposed convolution of 4x4 kernels, stride 2, as one matrix product whose patches are added up.

    The same function with the same parameters; on a CPU three times faster for one output channel.
    """

    def forward(self, x: Tensor, output_size: list[int] | None = None) -> Tensor:
        batch, channels, height, width = x.shape
        patches = x.permute(0, 2, 3, 1).reshape(batch, height * width, channels) @ self.weight.flatten(1)
        size = (2 * height + self.output_padding[0], 2 * width + self.output_padding[1])
        return fold(patches.transpose(1, 2), size, kernel_size=4, padding=1, stride=2) + self._offset()

    def _offset(self) -> Tensor | float:
        return 0.0 if self.bias is None else self.bias[:, None, None]


class ConvDecoder(nn.Sequential):
    """Latents (B, d) -> pixel means in (0, 1), (B, C, H, W): the trunk mirrored, with a sigmoid at the end."""

    def __init__(self, shape: ImageShape, channels: Sequence[int], hidden: int, activation: str, dim: int) -> None:
        act = ACTIVATIONS[activation]
        heights, widths = _sizes(shape[1], len(channels)), _sizes(shape[2], len(channels))
        widest = (channels[-1], heights[-1], widths[-1])
        layers: list[nn.Module] = [nn.Linear(dim, hidden), act()]
        layers += [nn.Linear(hidden, widest[0] * widest[1] * widest[2]), act(), nn.Unflatten(1, widest)]
        outputs = (*reversed(channels[:-1]), shape[0])
        for i, (before, after) in enumerate(zip(reversed(channels), outputs, strict=True), 1):
            odd = (heights[-1 - i] % 2, widths[-1 - i] % 2)  # 3 -> 7, not 6
            kind = FoldedConvTranspose2d if i == len(channels) else nn.ConvTranspose2d
            layers += [kind(before, after, 4, stride=2, padding=1, output_padding=odd), act()]
        layers[-1] = nn.Sigmoid()
        super().__init__(*layers)


class DenseTrunk(nn.Sequential):
    """Images (B, C, H, W) -> features (B, hidden): two dense layers, activated."""

    def __init__(self, shape: ImageShape, hidden: int, activation: str) -> None:
        act = ACTIVATIONS[activation]
        super().__init__(nn.Flatten(), nn.Linear(prod(shape), hidden), act(), nn.Linear(hidden, hidden), act())


class DenseDecoder(nn.Sequential):
    """Latents (B, d) -> pixel means in (0, 1), (B, C, H, W): two hidden layers, then a sigmoid."""

    def __init__(self, shape: ImageShape, hidden: int, activation: str, dim: int) -> None:
        act = ACTIVATIONS[activation]
        layers = [nn.Linear(dim, hidden), act(), nn.Linear(hidden, hidden), act()]
        super().__init__(*layers, nn.Linear(hidden, prod(shape)), nn.Sigmoid(), nn.Unflatten(1, shape))


def trunk(shape: ImageShape, channels: Sequence[int], hidden: int, activation: str) -> nn.Sequential:
    """A trunk with convolutions of ``channels``; without any, a dense one."""
    return ConvTrunk(shape, channels, hidden, activation) if channels else DenseTrunk(shape, hidden, activation)


def decoder(shape: ImageShape, channels: Sequence[int], hidden: int, activation: str, dim: int) -> nn.Sequential:
    """The decoder that mirrors such a trunk."""
    if channels:
        return ConvDecoder(shape, channels, hidden, activation, dim)
    return DenseDecoder(shape, hidden, activation, dim)
