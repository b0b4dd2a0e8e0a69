"""A method that adds its parts one at a time, from a trained plain VAE: the runs that lead up to it."""

from dataclasses import dataclass, replace
from pathlib import Path

from gpvae_core.checkpoints import load_checkpoint
from gpvae_core.inference import METHODS
from gpvae_core.models import ModelConfig
from gpvae_core.training.fit import TrainingConfig

STEPS = "steps"  # beside a run: the folder of those before it


@dataclass(frozen=True)
class Step:
    """One run: its folder, the model and the training."""

    folder: Path
    config: ModelConfig
    training: TrainingConfig


def steps(out: Path, config: ModelConfig, training: TrainingConfig) -> list[Step]:
    """The runs that end with the one in ``out``, in order, each from the one before; most methods have no other.

    Of a recursive mixture: a plain VAE, unless ``training`` starts from a checkpoint, then one component more each
    time. They share its epochs; its ``initial`` is where the first one starts.
    """
    option = METHODS[config.method].encoder.grows
    counts = _counts(config, training.initial, option) if option else []
    if len(counts) < 2:
        return [Step(out, config, training)]
    folders = [*(out / STEPS / f"{option}-{count}" for count in counts[:-1]), out]
    found: list[Step] = []
    for k, (count, folder) in enumerate(zip(counts, folders, strict=True)):
        epochs = max(1, (k + 1) * training.epochs // len(counts) - k * training.epochs // len(counts))
        initial = str(folders[k - 1]) if k else training.initial
        own = config if folder == out else _smaller(config, option, count)
        found.append(Step(folder, own, replace(training, epochs=epochs, initial=initial)))
    return found


def before(out: Path) -> list[Path]:
    """The folders of the runs that led up to the one in ``out``, as far as they have begun."""
    return sorted((out / STEPS).iterdir()) if (out / STEPS).exists() else []


def _counts(config: ModelConfig, initial: str | None, option: str) -> range:
    """How many parts each run has."""
    wanted = getattr(METHODS[config.method].configured(config.options), option)
    return range(1 + (_held(initial, option) if initial else 0), wanted + 1)


def _held(initial: str, option: str) -> int:
    """How many of the parts a checkpoint has: a plain VAE, which others have within, is one."""
    own = load_checkpoint(initial).config
    return int(getattr(METHODS[own.method].configured(own.options), option, 1))


def _smaller(config: ModelConfig, option: str, count: int) -> ModelConfig:
    """The same with fewer parts: with one it is a plain VAE."""
    if count == 1:
        return replace(config, method="vae", options={})
    return replace(config, options={**config.options, option: count})
