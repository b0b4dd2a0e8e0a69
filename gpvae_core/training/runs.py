"""A training from what is asked of it to a run in a folder: for the command line and ``gpvae_core.train`` alike."""

import json
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
from filelock import FileLock, Timeout

from gpvae_core.checkpoints import Checkpoint, load_checkpoint
from gpvae_core.data import Dataset, check_shape, dataset_of, lasting_name, load_dataset
from gpvae_core.data.recipes import BINARY
from gpvae_core.errors import InputError
from gpvae_core.fields import check
from gpvae_core.files import read_json
from gpvae_core.identity import RUN, STATE, check_one_run, lasting, run_of
from gpvae_core.models import ModelConfig, build
from gpvae_core.paths import CONFIG, WEIGHTS
from gpvae_core.tensors import origin_of, usable_device
from gpvae_core.training import processes
from gpvae_core.training.fit import OnStep, Progress, TrainingConfig, check_run, fit, start_from
from gpvae_core.training.growing import Step, steps

LOCK = ".training.lock"
NETWORKS = ("conv", "dense")
LARGE, HIDDEN_COLOUR = 64, 512  # Kim (2022), section 5: L = 4 on CelebA, h = 512 on everything in colour


@dataclass(frozen=True)
class Wanted:
    """What a fresh model shall be; None leaves it to the data set or to ``ModelConfig``."""

    latent_dim: int | None = None
    likelihood: str | None = None
    s_x: float | None = None
    activation: str | None = None
    network: str | None = None
    hidden: int | None = None


def images_for(name: str | None, given: Checkpoint | None, *, seed: int, folder: Path | None = None) -> Dataset:
    """The data set ``name`` to train on, split by ``seed``; on the decoder of ``given``, as the decoder's own is.

    By default the decoder's own, or digits. So no encoder learns from an image that its decoder is tested on.
    """
    return dataset_of(given, name, folder) if given else load_dataset(name or "digits", folder, seed=seed)


def config_for(
    data: Dataset, method: str, options: Mapping[str, Any], wanted: Wanted, given: Checkpoint | None
) -> ModelConfig:
    """Of the model to train: a fresh one, or an encoder on the decoder of ``given``."""
    if given:
        return _config_on(given, data, method, options, wanted)
    return _fresh_config(data, method, options, wanted)


def _fresh_config(data: Dataset, method: str, options: Mapping[str, Any], wanted: Wanted) -> ModelConfig:
    """Of a model whose decoder is trained too. Raises InputError for a likelihood that the pixels do not have."""
    binary = data.name.startswith(BINARY)
    shape = data.train.shape
    config = ModelConfig(
        method=method,
        latent_dim=ModelConfig.latent_dim if wanted.latent_dim is None else wanted.latent_dim,
        image_shape=shape,
        channels=() if wanted.network == "dense" else _channels(shape),
        hidden=wanted.hidden or (ModelConfig.hidden if shape[0] == 1 else HIDDEN_COLOUR),
        activation=wanted.activation or ModelConfig.activation,
        likelihood=wanted.likelihood or ("bernoulli" if binary else "gaussian"),
        std=ModelConfig.std if wanted.s_x is None else wanted.s_x,
        train_std=wanted.s_x is None,
        options=dict(options),
    )
    if config.likelihood == "bernoulli" and not binary:
        raise InputError(
            f"--likelihood bernoulli needs binary pixels, but those of data set '{data.name}' are not; use binary-mnist"
        )
    return config


def _channels(shape: tuple[int, int, int]) -> tuple[int, ...]:
    """The paper's L = 3 convolutions, and a fourth one from LARGE pixels a side on."""
    usual = ModelConfig.channels
    return usual if min(shape[1:]) < LARGE else (*usual, usual[-1])


def _config_on(
    given: Checkpoint, data: Dataset, method: str, options: Mapping[str, Any], wanted: Wanted
) -> ModelConfig:
    """Of an encoder on the decoder of ``given``. Raises InputError where something else is asked of that decoder."""
    clash = next((name for name, value in asdict(wanted).items() if value is not None), None)
    if clash:
        raise InputError(
            f"--{clash.replace('_', '-')} belongs to the decoder, and --decoder {given.name} has its own; leave it out"
        )
    config = replace(given.config, method=method, options=dict(options))
    check_shape(config.image_shape, data.train)
    return config


def run(
    out: Path,
    data: Dataset,
    config: ModelConfig,
    training: TrainingConfig,
    *,
    device: torch.device | str = "cpu",
    resume: bool = False,
    on_step: OnStep | None = None,
    tensorboard: bool = False,
) -> Iterator[Progress]:
    """Train a fresh model of ``config``, or go on with the run in ``out``; see ``fit``.

    ``training`` may name a checkpoint to start from and one whose decoder is kept. Runs that lead up to it, see
    ``growing``, are kept under ``out``, and go on by themselves. Raises InputError where ``out`` holds a run that was
    not asked for, or another one's settings, or where another program trains into it.
    """
    *before, last = steps(out, config, training)
    rest: dict[str, Any] = {"device": device, "on_step": on_step, "tensorboard": tensorboard}
    if before and not (out / STATE).exists():
        begun = (before[0].folder / STATE).exists()
        _check_out(out, last.config, last.training, resume and not begun)
        return _led_up(before, last, data, rest)
    return _one(last, data, resume=resume, **rest)


def _led_up(before: list[Step], last: Step, data: Dataset, rest: dict[str, Any]) -> Iterator[Progress]:
    """One run after the other, each gone on with where it is."""
    for step in [*before, last]:
        yield from _one(step, data, resume=(step.folder / STATE).exists(), **rest)
        processes.wait()  # its weights are written by one, and read by all


def _one(
    step: Step, data: Dataset, *, device: torch.device | str, resume: bool, on_step: OnStep | None, tensorboard: bool
) -> Iterator[Progress]:
    """A run by itself."""
    out, config, training = step.folder, step.config, step.training
    device = usable_device(device)
    _check_out(out, config, training, resume)
    model = build(config, seed=training.seed).to(device)
    if training.initial:
        start_from(model, load_checkpoint(training.initial, device=device).model, data.train)
    if training.decoder:
        model.generative.load_state_dict(load_checkpoint(training.decoder).model.generative.state_dict())
    check_run(model, config, training, data)
    epochs = fit(model, config, training, data, out, resume=resume, on_step=on_step, tensorboard=tensorboard)
    return _alone(out, epochs)


def _alone(out: Path, epochs: Iterator[Progress]) -> Iterator[Progress]:
    """``epochs``, while no other program trains into ``out``. The system takes the lock from one that was killed.

    Where nothing was saved, what was made for it is removed: the folders, too.
    """
    if processes.rank():  # the first of several holds it for all
        yield from epochs
        return
    lock = FileLock(out / LOCK, timeout=0)
    made = [folder for folder in (out, *out.parents) if not folder.exists()]
    try:
        out.mkdir(parents=True, exist_ok=True)
        lock.acquire()
    except Timeout:
        raise InputError(f"another training writes into {out}; wait for its end, or choose another --out") from None
    except OSError as error:
        raise InputError(f"cannot write to {out} ({error.strerror}); choose another --out") from None
    try:
        yield from epochs
    finally:
        with suppress(OSError):  # on Windows an open file stays
            (out / LOCK).unlink()
        lock.release()
        with suppress(OSError):  # the first that is not empty
            for folder in made:
                folder.rmdir()


def _check_out(out: Path, config: ModelConfig, training: TrainingConfig, resume: bool) -> None:
    """Never overwrite a run that was not asked for, nor go on with another one's settings."""
    begun = (out / STATE).exists()
    if (out / WEIGHTS).exists() and not begun:
        raise InputError(f"{out} holds a model without its {STATE}, so no run can go on there; choose another --out")
    if begun and not resume:
        raise InputError(f"{out} already holds a run; go on with it by --resume, or choose another --out")
    if resume and not begun:
        raise InputError(f"{out} holds no run to resume; leave --resume out to start one")
    if resume and (out / WEIGHTS).exists() and not (out / CONFIG).exists():
        raise InputError(
            f"{out} holds weights without the {CONFIG} that says whose; restore it, or choose another --out"
        )
    if resume and not (out / CONFIG).exists():  # cut off at its first save
        _check_state(out, config, training)
    elif resume:
        _check_settings(out, config, training)


def _check_state(out: Path, config: ModelConfig, training: TrainingConfig) -> None:
    """Raise InputError where a state that lies alone is not of the run that is asked for."""
    if origin_of(out / STATE).get(RUN) != run_of(asdict(config), asdict(training)):
        raise InputError(
            f"{out / STATE} is not of the run that is asked for, and the {CONFIG} beside it is gone; give the "
            "settings that it was started with, or choose another --out"
        )


def _check_settings(out: Path, config: ModelConfig, training: TrainingConfig) -> None:
    """Raise InputError where the run in ``out`` was started with others, or where a file there is another run's."""
    record = read_json(out / CONFIG)
    defaults = {**asdict(ModelConfig()), **asdict(TrainingConfig(dataset=""))}  # of settings newer than the run
    for part in ("model", "training"):
        check(part, record.get(part, {}), dict[str, Any])
    saved = {**json.loads(json.dumps(defaults)), **record.get("model", {}), **record.get("training", {})}
    saved["dataset"] = lasting_name(str(saved.get("dataset")))  # written before names were lasting, it may not be
    for key, value in json.loads(json.dumps({**asdict(config), **asdict(training)})).items():
        if lasting(saved.get(key)) != lasting(value):  # a checkpoint that it starts from may have moved
            raise InputError(f"the run in {out} was started with {key} = {saved.get(key)}, not {value}; give that")
    check_one_run(out, run_of(record.get("model", {}), record.get("training", {})))
