"""fit() trains a model and yields a record after every epoch; it prints nothing and can be killed at any time."""

import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import torch
from pydantic import Field
from torch import Tensor

from gpvae_core.checkpoints import load_weights, save_checkpoint
from gpvae_core.data import Dataset, ImageSet, check_shape
from gpvae_core.data.recipes import recipe_of
from gpvae_core.errors import InputError
from gpvae_core.fields import Count, Seed, check_fields
from gpvae_core.identity import RUN, STATE, run_of
from gpvae_core.models import ModelConfig, VariationalAutoencoder
from gpvae_core.paths import WEIGHTS
from gpvae_core.tensors import read_tensors, write_tensors
from gpvae_core.training import processes
from gpvae_core.training.curves import Curves
from gpvae_core.training.evaluation import evaluate_elbo, evaluate_iwae
from gpvae_core.training.steps import CapturedStep, PartedStep, Step, Weights

OnStep = Callable[[int, int, float], None]  # (epoch, images, objective)
RAISING = ("base_lr_scale", "psi_lr_scale", "base_weight", "encoder_noise", "augment", "dreams")  # of the settings
CHECKED = 500  # of the training images: whether their pixels suit the likelihood

MOST_DRAWS = 1000  # of each image in training: their decodes are held at once
MOST_SCALE, MOST_WEIGHT = 100.0, 1e6  # beyond them float32 ends before sense does
Scale = Annotated[float, Field(ge=0, le=MOST_SCALE)]
Weight = Annotated[float, Field(ge=0, le=MOST_WEIGHT)]


@dataclass(frozen=True)
class TrainingConfig:
    """How a model is trained: Adam on a one-cycle schedule, the data set resident on the device.

    With method 'gpvae', ``base_lr_scale`` and ``psi_lr_scale`` multiply the learning rate of b and c, and of the
    feature networks; 0 freezes them. ``base_weight`` times the ELBO of the base encoder joins the objective.
    ``encoder_noise`` is the standard deviation, in pixels, of noise on what the encoder sees in training (not on what
    is reconstructed): the amortised inference regularisation of Shu et al. (2018), against the gap between training and
    test images. ``patience`` epochs without a better validation ELBO end the run. ``initial``: the checkpoint it starts
    from. ``decoder``: the one whose decoder it has, which then stays as it is.

    On such a decoder two more ways to train the encoder make sense. ``augment`` > 0 transforms every training image at
    random, 1 as far as ``transforms`` goes. ``dreams`` is the weight of log q(z|x) of images that the decoder made from
    known z ("reverse half-asleep" of Zhang, Hayes & Barber 2022).

    ``importance`` draws of z for each image make the objective IWAE's bound (Burda et al. 2016) and, on validation, the
    best epoch's; 0 leaves the ELBO. A method with an objective of its own (gpvae, rme, vlae, gn) has no other.

    ``parts``: each batch is taken in so many parts, each with noise of its own, one after the other or by several
    processes (``processes``), a multiple of whose number it must be. Which of the two changes nothing but rounding.

    ``split`` and ``recipe`` find the images of ``dataset`` again. They are set where the split is by another seed than
    the run's, or where a folder was prepared as another data set. So an encoder learns from its decoder's training
    images. See ``on``.
    """

    dataset: str
    seed: Seed = 0
    epochs: Count = 40
    batch_size: Count = 128
    learning_rate: Annotated[float, Field(gt=0, lt=math.inf)] = 2e-3
    base_lr_scale: Scale = 1.0
    psi_lr_scale: Scale = 1.0
    base_weight: Weight = 0.0
    encoder_noise: Scale = 0.0
    patience: Count = 20
    initial: str | None = None
    decoder: str | None = None
    augment: Scale = 0.0
    dreams: Weight = 0.0
    importance: Annotated[int, Field(ge=0, le=MOST_DRAWS)] = 0
    parts: Count = 1
    split: Seed | None = None
    recipe: str | None = None

    @classmethod
    def on(cls, data: Dataset, **settings: Any) -> "TrainingConfig":
        """``settings`` of a run on ``data``, with what finds these very images again."""
        config = cls(data.name, **settings)
        split = None if data.seed == config.seed else data.seed
        recipe = None if data.recipe == recipe_of(data.name).name else data.recipe
        return replace(config, split=split, recipe=recipe)

    def __post_init__(self) -> None:
        check_fields(self)
        for name in ("augment", "dreams"):
            if getattr(self, name) and not self.decoder:
                raise InputError(f"--{name} trains an encoder for a decoder that stays as it is; give --decoder, too")


@dataclass(frozen=True)
class Progress:
    """One epoch: objective parts (training means, nats), bounds on validation (nats), health, speed."""

    epoch: int
    parts: dict[str, float]
    validation: dict[str, float]
    health: dict[str, float]
    images_per_second: float
    best_epoch: int
    best_bound: float
    seconds: float
    finished: bool = False


@dataclass
class _State:
    """What a resumed run needs besides the weights and the optimiser's moments."""

    epoch: int = 0
    best_epoch: int = 0
    best_bound: float = -math.inf
    seconds: float = 0.0

    def take(self, validation: Mapping[str, float]) -> None:
        """Note this epoch's bound on validation: IWAE's, where that is the objective, else the ELBO."""
        bound = validation.get("iwae", validation["elbo"])
        if bound > self.best_bound:
            self.best_bound, self.best_epoch = bound, self.epoch


def start_from(model: VariationalAutoencoder, trained: VariationalAutoencoder, images: ImageSet) -> None:
    """Take decoder and likelihood from ``trained``, and its encoder as far as the methods share one.

    ``images`` are those to be trained on: the first thousand and their number set a Gaussian process's first scale.

    Raises InputError where they share none.
    """
    try:
        model.generative.load_state_dict(trained.generative.state_dict())
        model.encoder.start_from(trained.encoder, images.pixels(slice(0, 1000)).to(model.device), len(images))
    except (RuntimeError, InputError):
        raise InputError(
            "the starting checkpoint has another architecture or method than the model to train; start from a plain "
            "vae, or from the same method, with the same latent dimension, activation and likelihood"
        ) from None


def fit(
    model: VariationalAutoencoder,
    model_config: ModelConfig,
    config: TrainingConfig,
    dataset: Dataset,
    folder: Path,
    *,
    resume: bool = False,
    on_step: OnStep | None = None,
    tensorboard: bool = False,
) -> Iterator[Progress]:
    """Train ``model`` and keep in ``folder`` the weights of the best epoch on validation, the last state, the curves.

    Epoch 0 is the start, where the run has an ``initial`` one: it is kept if no epoch is better.

    Every epoch's permutation, pixel draws and latent noise come from (seed, epoch) alone, so that a run that was
    killed and resumed ends with the same weights as one that was not. ``on_step(epoch, images, objective)`` is
    called after each step. On a GPU every step is one CUDA graph, if the method is ``capturable``. Of several processes
    that train together the first one writes. Raises InputError on a non-finite objective, naming the step and the part.
    """
    check_run(model, model_config, config, dataset)
    captured = model.device.type == "cuda" and model.encoder.capturable and config.parts == 1
    optimizer = adam(model, config, captured)
    begun = resume and (folder / STATE).exists()
    state = _resume(folder, model, optimizer) if begun else _State()
    step = _step(model, config, optimizer, dataset, captured)
    save = partial(_save_state, folder, model, optimizer, state, run_of(asdict(model_config), asdict(config)))
    keep = partial(_keep_best, folder, model, model_config, config, state)
    processes.wait()  # all have read what there was before one writes
    curves = None if processes.rank() else Curves(folder, state.epoch, tensorboard=tensorboard)
    if begun:
        keep()  # what was cut off after its state lacks the weights
    elif config.initial:  # a start that no epoch betters is what is kept
        state.take(_validated(model, config, dataset, 0))
        save()
        keep()
    while state.epoch < config.epochs and state.epoch - state.best_epoch < config.patience:
        started = time.perf_counter()
        state.epoch += 1
        parts = _epoch(step, config, state.epoch, on_step)
        speed = len(dataset.train) / (time.perf_counter() - started)
        validation = _validated(model, config, dataset, state.epoch)
        state.take(validation)
        state.seconds += time.perf_counter() - started
        progress = Progress(
            epoch=state.epoch,
            parts=parts,
            validation=validation,
            health=_health(model, dataset),
            images_per_second=speed,
            best_epoch=state.best_epoch,
            best_bound=state.best_bound,
            seconds=state.seconds,
            finished=state.epoch == config.epochs,
        )
        if curves:  # before the state: a run that is cut off between makes this epoch and its line again
            curves.add(asdict(progress))
        save()
        keep()
        yield progress


def check_run(
    model: VariationalAutoencoder, model_config: ModelConfig, config: TrainingConfig, dataset: Dataset
) -> None:
    """Raise InputError where the images do not suit the model, or where they cannot be shared as is asked."""
    check_shape(model_config.image_shape, dataset.train)
    if not dataset.dynamic:
        model.generative.likelihood.check(dataset.train.pixels(slice(0, CHECKED)).to(model.device))
    if config.importance and not model.encoder.weighs_draws:
        raise InputError(f"{model_config.method} has an objective of its own, not IWAE's; leave --importance out")
    _check_parts(config)


def _check_parts(config: TrainingConfig) -> None:
    """Raise InputError where the processes, or the images of a batch, cannot share the parts."""
    count = processes.count()
    if config.parts % count:
        raise InputError(f"{count} processes cannot share {config.parts} parts of a batch; give --parts {count}")
    if config.parts > config.batch_size:
        raise InputError(
            f"a batch of {config.batch_size} images has no {config.parts} parts; lower --parts or raise --batch-size"
        )


def _validated(model: VariationalAutoencoder, config: TrainingConfig, dataset: Dataset, epoch: int) -> dict[str, float]:
    """The ELBO of every stage on the validation images, in nats. Raises InputError where it is not finite."""
    found = {k: float(v.mean()) for k, v in evaluate_elbo(model, dataset.validation, seed=0).items()}
    if not math.isfinite(found["elbo"]):
        raise InputError(
            f"training stopped after epoch {epoch}: the validation ELBO is {found['elbo']}; {_anew(config, epoch)}"
        )
    if config.importance:
        values = evaluate_iwae(model, dataset.validation, samples=config.importance, seed=0)
        found["iwae"] = float(values.mean())
    return found


def _anew(config: TrainingConfig, epoch: int) -> str:
    """What helps where numbers end in ``epoch``: what raises them, and what is kept of the epochs before."""
    usual = TrainingConfig("")
    raised = [name for name in RAISING if getattr(config, name) > getattr(usual, name)]
    lower = " or ".join(f"--{name.replace('_', '-')}" for name in ("learning_rate", *raised))
    wider = "" if config.decoder else ", or a larger --s-x"
    if epoch > 1 or (config.initial and epoch):
        return f"train anew into another --out, with a lower {lower}{wider}; epoch {epoch - 1} is kept"
    return f"train anew with a lower {lower}{wider}; nothing is saved yet"


def _keep_best(
    folder: Path, model: VariationalAutoencoder, model_config: ModelConfig, config: TrainingConfig, state: _State
) -> None:
    """Write the weights where this epoch is the best, after the state: a run cut off between makes up for it."""
    if state.best_epoch == state.epoch and processes.rank() == 0:
        save_checkpoint(folder, model, model_config, {**asdict(config), "best_epoch": state.best_epoch})


def adam(model: VariationalAutoencoder, config: TrainingConfig, captured: bool) -> torch.optim.Adam:
    """The optimiser of ``fit``; for captured steps it keeps its state and its learning rates on the device."""
    rate = torch.tensor(config.learning_rate, device=model.device) if captured else config.learning_rate
    groups = [group | {"lr": rate.clone() if isinstance(rate, Tensor) else rate} for group in _groups(model, config)]
    return torch.optim.Adam(groups, fused=model.device.type in ("cpu", "cuda"), capturable=captured)


def _groups(model: VariationalAutoencoder, config: TrainingConfig) -> list[dict[str, Any]]:
    """Parameters by learning-rate scale; those of scale 0 are frozen, which also saves their backward pass."""
    by_part = {"base": config.base_lr_scale, "psi": config.psi_lr_scale, "decoder": 0.0 if config.decoder else 1.0}
    parts = {**model.encoder.parameter_groups(), "decoder": list(model.generative.parameters())}
    scales = {p: by_part.get(part, 1.0) for part, parameters in parts.items() for p in parameters}
    groups: dict[float, list[Tensor]] = {}
    for parameter in model.parameters():
        scale = scales[parameter]
        parameter.requires_grad_(scale > 0)
        if scale > 0:
            groups.setdefault(scale, []).append(parameter)
    return [{"params": group, "scale": scale} for scale, group in groups.items()]


def one_cycle(fraction: float) -> float:
    """Learning-rate factor at a fraction of the run: up from 0.04 in the first quarter, down to 0 by cosines."""
    if fraction < 0.25:
        return 0.04 + 0.96 * 0.5 * (1 - math.cos(math.pi * fraction / 0.25))
    return 0.5 * (1 + math.cos(math.pi * (fraction - 0.25) / 0.75))


def _step(
    model: VariationalAutoencoder,
    config: TrainingConfig,
    optimizer: torch.optim.Optimizer,
    dataset: Dataset,
    captured: bool,
) -> Step:
    """A step of this training, its images on the device."""
    weights = Weights(**{f.name: getattr(config, f.name) for f in fields(Weights)})
    images = torch.from_numpy(dataset.train.images).to(model.device)
    kind = CapturedStep if captured else Step if config.parts == 1 else PartedStep
    generator = torch.Generator(model.device)
    return kind(model, weights, optimizer, images, generator, dynamic=dataset.dynamic, parts=config.parts)


def _epoch(step: Step, config: TrainingConfig, epoch: int, on_step: OnStep | None) -> dict[str, float]:
    """One pass over the training images; the mean of each part of the objective."""
    images = step.images
    step.seed(config.seed * 1_000_003 + epoch)
    batches = torch.randperm(len(images), generator=step.generator, device=images.device).split(config.batch_size)
    totals: dict[str, float] = {}
    for k, rows in enumerate(batches):
        _set_rates(step.optimizer, config.learning_rate * one_cycle((epoch - 1 + k / len(batches)) / config.epochs))
        found = step(rows)
        if not all(map(math.isfinite, found.values())):
            raise _not_finite(found, config, (epoch - 1) * len(batches) + k, epoch)
        for name in step.names:
            totals[name] = totals.get(name, 0.0) + found[name] * len(rows)
        if on_step:
            on_step(epoch, len(rows), found["objective"])
    return {name: total / len(images) for name, total in totals.items()}


def _set_rates(optimizer: torch.optim.Optimizer, rate: float) -> None:
    """Of every group, by its scale; a captured step reads its own from a tensor."""
    for group in optimizer.param_groups:
        if isinstance(group["lr"], Tensor):
            group["lr"].fill_(rate * group["scale"])
        else:
            group["lr"] = rate * group["scale"]


def _not_finite(found: dict[str, float], config: TrainingConfig, step: int, epoch: int) -> InputError:
    broken = {name: value for name, value in found.items() if not math.isfinite(value)}
    parts = {name: value for name, value in broken.items() if name not in ("objective", "gradient norm")} or broken
    return InputError(
        f"training stopped at step {step} (epoch {epoch}): "
        f"{', '.join(f'{name} = {value}' for name, value in parts.items())} is not finite; "
        f"{_anew(config, epoch)}"
    )


def _health(model: VariationalAutoencoder, dataset: Dataset) -> dict[str, float]:
    with torch.no_grad():
        return model.encoder.health(dataset.validation.pixels(slice(0, 500)).to(model.device))


def _save_state(
    folder: Path, model: VariationalAutoencoder, optimizer: torch.optim.Optimizer, state: _State, run: str
) -> None:
    """Weights, Adam's moments and the counters of ``run`` in one file, so that they can never disagree."""
    if processes.rank():
        return
    tensors = {f"model.{name}": t for name, t in model.state_dict().items()}
    for index, moments in optimizer.state_dict()["state"].items():
        tensors |= {f"adam.{index}.{key}": torch.as_tensor(value) for key, value in moments.items()}
    counters = [state.epoch, state.best_epoch, state.best_bound, state.seconds]
    tensors["counters"] = torch.tensor(counters, dtype=torch.float64)
    write_tensors(folder / STATE, tensors, {RUN: run})


def saved_epoch(folder: Path) -> int | None:
    """The last whole epoch of the run in ``folder``, 0 for its start; None where nothing was saved.

    Raises InputError where the state is damaged.
    """
    return int(read_tensors(folder / STATE)["counters"][0]) if (folder / STATE).exists() else None


def _resume(folder: Path, model: VariationalAutoencoder, optimizer: torch.optim.Optimizer) -> _State:
    tensors = read_tensors(folder / STATE)
    weights = {name.removeprefix("model."): t for name, t in tensors.items() if name.startswith("model.")}
    load_weights(model, weights, folder / STATE)
    parameters = [p for group in optimizer.param_groups for p in group["params"]]
    try:
        moments = _moments(tensors, parameters)
        epoch, best_epoch, best_bound, seconds = tensors["counters"].tolist()
        state = _State(int(epoch), int(best_epoch), best_bound, seconds)
        if not 0 <= state.best_epoch <= state.epoch:
            raise ValueError(f"its counters are {tensors['counters'].tolist()}")
    except (IndexError, KeyError, OverflowError, TypeError, ValueError) as error:
        raise InputError(
            f"{folder / STATE} is not the state of such a run ({error}); restore it, or train anew into another --out"
        ) from None
    if state.best_epoch < state.epoch and not (folder / WEIGHTS).exists():
        raise InputError(
            f"{folder} has lost the {WEIGHTS} of its best epoch, {state.best_epoch}; restore it, or train anew into "
            "another --out"
        )
    optimizer.load_state_dict({"state": moments, "param_groups": optimizer.state_dict()["param_groups"]})
    return state


def _moments(tensors: Mapping[str, Tensor], parameters: Sequence[Tensor]) -> dict[int, dict[str, Tensor]]:
    """Adam's of each parameter. Raises one of Python's own errors where these are another optimiser's."""
    moments: dict[int, dict[str, Tensor]] = {}
    for name, tensor in tensors.items():
        if name.startswith("adam."):
            _, index, key = name.split(".")
            like = parameters[int(index)]
            if tensor.shape not in (like.shape, ()) or (tensor.ndim == 0) != (key == "step" or like.ndim == 0):
                raise ValueError(f"{name} has the shape {tuple(tensor.shape)}, not {tuple(like.shape)}")
            # the fused step walks memory: a moment needs its parameter's strides, which the file does not keep
            moments.setdefault(int(index), {})[key] = (
                torch.empty_like(like).copy_(tensor) if tensor.shape == like.shape else tensor
            )
    for number, own in moments.items():
        if own.keys() != {"step", "exp_avg", "exp_avg_sq"}:
            raise ValueError(f"adam.{number} has {', '.join(own) or 'nothing'}")
    return moments
