"""Checkpoints: a folder of safetensors weights with their config, and errors that say the cure."""

import json
from collections.abc import Callable, Mapping
from contextlib import suppress
from copy import deepcopy
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from hashlib import sha256
from pathlib import Path
from types import MappingProxyType
from typing import Any

import torch
from torch import Tensor

from gpvae_core.catalogue import catalogue
from gpvae_core.diagnostics.gap_heads import GapHead, GapHeads
from gpvae_core.distributions import Posterior
from gpvae_core.encoders import Offer, encoder_weights, offers
from gpvae_core.errors import InputError
from gpvae_core.exact import Estimate, PosteriorEngine
from gpvae_core.exact.divergences import check_proper, elbos_by_decodes
from gpvae_core.exact.joint import Decoded, no_pause
from gpvae_core.fields import Count, Roughness, Seed, check
from gpvae_core.files import json_bytes, read_bytes, read_json, write_atomically
from gpvae_core.generative import Simulation
from gpvae_core.generative.likelihoods import GaussianLikelihood
from gpvae_core.generative.networks import flattened
from gpvae_core.identity import RUN, check_one_run, run_of
from gpvae_core.inference import METHODS, GaussianEncoder, Inference
from gpvae_core.models import LEAST_STD, MOST_STD, ModelConfig, VariationalAutoencoder, build
from gpvae_core.paths import CONFIG, HEADS, OWN_CHECKPOINTS, WEIGHTS, at_home, grid_cache_if_known, own_folders
from gpvae_core.shipped import check_intact, fetched, manifest
from gpvae_core.tensors import (
    image_batch,
    metadata,
    origin_of,
    parse_tensors,
    read_tensors,
    tensor_bytes,
    tensor_digest,
    usable_device,
    write_tensors,
)

FOUND_BY = {"dataset": str, "seed": Seed, "split": Seed | None, "recipe": str | None}  # in config.json, "training"

LOGARITHMS = ".log_diagonal"  # of the widths of a Gaussian process's weights
NOISE = (LEAST_STD / 10, 10 * MOST_STD)  # of s_x, which training moves


@dataclass(frozen=True)
class Checkpoint:
    """A trained model, how it was trained (``training``: data set, seed, epochs, ...) and its identity.

    ``digest`` is the SHA-256 of the weights and their names, ``folder`` where they lie.
    """

    folder: Path
    name: str
    model: VariationalAutoencoder
    config: ModelConfig
    training: dict[str, Any]
    digest: str

    @property
    def dataset(self) -> str:
        """The data set that it was trained on."""
        name: str = self.training.get("dataset", "digits")
        return name

    @property
    def seed(self) -> int:
        """The seed of its training."""
        seed: int = self.training.get("seed", 0)
        return seed

    @property
    def split(self) -> int:
        """The seed that chose its validation images, and a folder's test images: its own, or that of its decoder."""
        split: int | None = self.training.get("split")
        return self.seed if split is None else split

    @property
    def recipe(self) -> str | None:
        """The recipe that made its images, where it is not the usual one of its data set."""
        return self.training.get("recipe")

    @cached_property
    def decoder_digest(self) -> str:
        """SHA-256 of the generative model's tensors: the same for every encoder that was trained on one decoder."""
        return tensor_digest(self.model.generative.state_dict())

    @cached_property
    def _exact_model(self) -> VariationalAutoencoder:
        return deepcopy(self.model).cpu().double()

    def infer(self, images: Tensor) -> Inference:
        """What the encoder says of images (B, C, H, W), in float64 on the CPU; see ``VariationalAutoencoder.infer``.

        The float64 copy is kept: the weights of a checkpoint do not change. Raises InputError for what is no batch of
        this model's images.
        """
        return self._exact_model.infer_as_it_is(image_batch(images, self.config.image_shape))

    def elbo(self, image: Tensor, q: Posterior, tolerance: float = 1e-3) -> Estimate:
        """E_q[log p(x, z) - log q(z)] of one image (1, C, H, W) for any q without a batch, by quadrature, in nats.

        ``tolerance`` of its error, in nats; with inf, the first attempt and its error. Raises InputError for another
        image, q or tolerance.
        """
        model, image = self.model.generative, image_batch(image, self.config.image_shape)
        check("tolerance", tolerance, Roughness)
        check_proper(q)
        if len(image) != 1:
            raise InputError(f"give one image (1, C, H, W), not {len(image)}; of several ask for each")
        model.likelihood.check(image)
        exact = Decoded(self._exact_model.generative, image)
        return elbos_by_decodes(Decoded(model, image), exact, [[q]], [not model.has_kinks], tolerance)[0][0]

    def simulate(self, count: int, *, seed: int) -> Simulation:
        """Images (count, C, H, W) drawn from the model, with the latents (count, d) they were drawn at."""
        check("count", count, Count)
        check("seed", seed, Seed)
        device = next(self.model.parameters()).device
        return self.model.generative.simulate(count, generator=torch.Generator(device).manual_seed(seed))

    @property
    def encoders(self) -> dict[str, Offer]:
        """What ``with_method`` takes: encoders stored beside this decoder, and methods that need no training."""
        return offers(self.folder)

    @property
    def _within(self) -> list[Offer]:
        """The encoders that this one is made of: the plain VAE's that it starts from, and itself."""
        plain = self.model.encoder.plain()
        single = isinstance(plain, GaussianEncoder) and not plain.others
        return [Offer("vae", "vae")] * single + [Offer(self.config.method, self.config.method, self.config.options)]

    def with_method(self, name: str, options: Mapping[str, Any] = MappingProxyType({})) -> "Checkpoint":
        """The same decoder with another encoder: a stored one, or this one with a method that needs no training on it.

        Args:
            name: One of ``encoders``: "gn", "svi", "vlae", "savae", and what is stored beside the decoder. Besides the
                checkpoint's own method, and "vae" where a plain VAE's encoder is within it.
            options: The method's own, by name; a trained encoder has those that it was trained with.

        Raises:
            InputError: There is no such encoder here, its weights are of another decoder, or an option does not fit.
        """
        stored = self.encoders
        offers = {offer.name: offer for offer in self._within} | stored
        offer = offers.get(name)
        if offer is None:
            cure = f"; train one with python -m gpvae_core train --method {name} --decoder {self.name}"
            raise InputError(
                f"{self.name} has no encoder '{name}'; choose one of {', '.join(offers)}"
                + (cure if name in METHODS else "")
            )
        if options and (offer.weights is not None or METHODS[offer.method].encoder.trained):
            raise InputError(f"'{name}' is a trained encoder, its options are fixed; leave out {', '.join(options)}")
        if name == self.config.method and offer.weights is None and not options:
            return self
        own = self.config.options if offer.method == self.config.method else {}
        config = replace(self.config, method=offer.method, options={**own, **offer.options, **options})
        model = build(config, seed=0)
        model.generative.load_state_dict(self.model.generative.state_dict())
        if offer.weights is not None:
            load_weights(model.encoder, encoder_weights(offer, self.decoder_digest), offer.weights)
        else:
            model.encoder.stand_on(self.model.encoder)
        model.requires_grad_(False).eval().to(self.model.device)
        weights = "" if offer.weights is None else sha256(read_bytes(offer.weights)).hexdigest()
        digest = sha256(json.dumps([self.digest, offer.method, config.options, weights]).encode()).hexdigest()
        return replace(self, model=model, config=config, digest=digest)

    @cached_property
    def _engines(self) -> dict[float, PosteriorEngine]:
        return {}

    def kept_engine(self, tolerance: float = 1e-3) -> PosteriorEngine:
        """``engine``, opened once for each tolerance and kept with the checkpoint, its grid in the user's cache folder.

        That folder is known where the extra ``data`` is installed; elsewhere the grid is decoded by each program anew.
        """
        if tolerance not in self._engines:
            self._engines[tolerance] = self.engine(tolerance=tolerance, cache=grid_cache_if_known())
        return self._engines[tolerance]

    def engine(
        self,
        *,
        tolerance: float = 1e-3,
        cache: Path | None = None,
        report: Callable[[float], None] = lambda share: None,
        pause: Callable[[], None] = no_pause,
    ) -> PosteriorEngine:
        """Exact posteriors under its decoder, to ``tolerance`` nats in log p(x); see ``PosteriorEngine``.

        The base grid is kept in the folder ``cache`` if one is given.
        """
        model, digest = self.model.generative, self.decoder_digest
        return PosteriorEngine(model, tolerance=tolerance, cache=cache, digest=digest, report=report, pause=pause)


def save_checkpoint(folder: Path, model: VariationalAutoencoder, config: ModelConfig, training: dict[str, Any]) -> None:
    """Write weights and config into ``folder``, each file whole or not at all. Raises InputError on a full disk.

    The weights name the run that ``config`` and ``training`` describe, see ``run_of``.
    Learned scores are written with them only if they were fitted to these very weights. Scores of other weights that
    lie in ``folder`` are removed, because nothing can open a folder that holds them.
    """
    weights = model.state_dict()
    digest = tensor_digest(weights)
    write_atomically(folder / CONFIG, json_bytes({"model": asdict(config), "training": training}))
    write_tensors(folder / WEIGHTS, weights, {RUN: run_of(asdict(config), training)})
    if model.gap_heads is not None and model.gap_heads.origin.get("digest") == digest:
        _write_heads(folder, model.gap_heads, model.gap_heads.origin)
    elif (folder / HEADS).is_file() and _digest_of_heads(folder) != digest:
        (folder / HEADS).unlink(missing_ok=True)


def save_heads(checkpoint: Checkpoint, heads: GapHeads, *, images: int, tolerance: float) -> None:
    """Keep learned scores beside the weights they belong to, and what they were fitted to."""
    origin = {"digest": checkpoint.digest, "images": str(images), "tolerance": f"{tolerance:g}"}
    _write_heads(checkpoint.folder, heads, origin)


def _write_heads(folder: Path, heads: GapHeads, origin: Mapping[str, str]) -> None:
    write_atomically(folder / HEADS, tensor_bytes(heads.state_dict(), dict(origin)))


def heads_origin(folder: Path) -> dict[str, str]:
    """What the learned scores in ``folder`` belong to: the weights' digest, images, tolerance of their KLs in nats."""
    return origin_of(folder / HEADS)


def _digest_of_heads(folder: Path) -> str | None:
    """The weights that the learned scores in ``folder`` belong to; None where there are none that can be read."""
    try:
        return heads_origin(folder).get("digest")
    except InputError:
        return None


def _load_heads(folder: Path, digest: str) -> GapHeads | None:
    """The learned scores in ``folder``, if any. Raises InputError where they belong to other weights."""
    path = folder / HEADS
    if not path.exists():
        return None
    tensors = read_tensors(path)
    origin = heads_origin(folder)
    fitted_to = origin.get("digest", "unknown")
    if fitted_to != digest:
        raise InputError(
            f"{path} was fitted to other weights ({fitted_to[:8]}) than those beside it ({digest[:8]}); delete it or "
            "fit it again with python -m gpvae_core calibrate"
        )
    centres = (tensors.get(f"{name}.centre", torch.zeros(0)) for name in ("encoder", "decode"))
    encoder, decode = (GapHead(centre.numel()) for centre in centres)
    heads = GapHeads(encoder, decode, origin)
    load_weights(heads.parts, tensors, path)
    return heads


def load_checkpoint(reference: str | Path, *, device: torch.device | str = "cpu") -> Checkpoint:
    """Open a checkpoint by its name in pretrained/ or its folder's path; the model is frozen, in eval mode.

    Raises InputError where it does not exist, is damaged, or its weights do not fit its config or are another run's.
    """
    device, folder = usable_device(device), _locate(reference)
    check_intact(folder)
    record = read_json(folder / CONFIG)
    config = model_config(record.get("model"), folder / CONFIG)
    data = read_bytes(folder / WEIGHTS)
    training = _training(record.get("training", {}), folder / CONFIG)
    tensors = parse_tensors(data, folder / WEIGHTS)
    _check_sizes(config, tensors, folder / WEIGHTS)
    model = build(config, seed=0)
    load_weights(model, tensors, folder / WEIGHTS)
    _check_noise(model, folder / WEIGHTS)
    run = run_of(record["model"], training)
    if metadata(data).get(RUN, run) != run:
        check_one_run(folder, run)
    digest = tensor_digest(tensors)
    heads = _load_heads(folder, digest)
    model.requires_grad_(False).eval().to(device)
    model.gap_heads = heads and heads.ready(torch.empty(0, device=device))
    return Checkpoint(folder, folder.name, model, config, training, digest)


def _locate(reference: str | Path) -> Path:
    with suppress(OSError):  # a name too long for a path is no path
        if (at_home(reference) / WEIGHTS).is_file():
            return at_home(reference)
    found = catalogue(own_folders())
    if str(reference) in found:
        return found[str(reference)]
    if str(reference) in manifest():
        return fetched(str(reference))
    raise InputError(
        f"there is no checkpoint '{reference}': give a folder that holds {WEIGHTS}, or a name in pretrained/ or below "
        f"{OWN_CHECKPOINTS} ({', '.join(found) or 'none'})"
    )


def model_config(fields: Any, path: Path) -> ModelConfig:
    """A ModelConfig from JSON. Raises InputError naming the file."""
    try:
        check("model", fields, dict[str, Any])
        tuples: dict[str, Any] = {
            key: tuple(value) if isinstance(value, list) else value for key, value in fields.items()
        }
        return ModelConfig(**tuples)
    except (TypeError, InputError) as error:
        raise InputError(f"{path} does not describe a model ({error}); restore the file or train again") from None


def _training(fields: Any, path: Path) -> dict[str, Any]:
    """How it was trained, from JSON: what the images are found by is checked. Raises InputError naming the file."""
    try:
        check("training", fields, dict[str, Any])
        for name, hint in FOUND_BY.items():
            if name in fields:
                check(name, fields[name], hint)
    except InputError as error:
        raise InputError(f"{path} does not say what it was trained on ({error}); restore the file") from None
    found: dict[str, Any] = fields
    return found


def load_weights(model: torch.nn.Module, tensors: dict[str, Tensor], path: Path) -> None:
    """Load ``tensors`` into ``model``. Raises InputError naming the first leaf that does not fit, or is no number.

    -inf is one in LOGARITHMS alone: of a width that is 0.
    """
    wanted = model.state_dict()
    for name in sorted(wanted.keys() | tensors.keys()):
        have, want = (tuple(t[name].shape) if name in t else "nothing" for t in (tensors, wanted))
        if have != want:
            raise InputError(
                f"{path} is of another architecture than its config: {name} holds {have} where the config "
                f"needs {want}; use the {CONFIG} that was saved with it"
            )
        there = tensors[name]
        if there.is_floating_point() != wanted[name].is_floating_point() or there.is_complex():
            raise InputError(
                f"{path} is damaged: {name} holds {there.dtype}, not {wanted[name].dtype}; restore the file"
            )
        if there.is_floating_point() and not _are_numbers(name, there):
            raise InputError(f"{path} is damaged: {name} holds values that are no finite numbers; restore the file")
    model.load_state_dict(tensors)


def _are_numbers(name: str, values: Tensor) -> bool:
    fine = values.isfinite() | values.isneginf() if name.endswith(LOGARITHMS) else values.isfinite()
    return bool(fine.all())


def _check_noise(model: VariationalAutoencoder, path: Path) -> None:
    """Raise InputError where s_x of a Gaussian likelihood is none that a model can be described or trained with."""
    likelihood = model.generative.likelihood
    std = float(likelihood.std.detach()) if isinstance(likelihood, GaussianLikelihood) else 1.0
    if not NOISE[0] <= std <= NOISE[1]:
        raise InputError(
            f"{path} is damaged: its pixel noise s_x is {std:g}, not between {NOISE[0]:g} and {NOISE[1]:g}; restore "
            "the file"
        )


def _check_sizes(config: ModelConfig, tensors: dict[str, Tensor], path: Path) -> None:
    """Raise InputError where the file has no tensor of a size that ``config`` names: before memory is taken for it."""
    sides = {side for tensor in tensors.values() for side in tensor.shape}
    sizes = {"latent_dim": config.latent_dim, "hidden": config.hidden, "channels": max(config.channels, default=1)}
    sizes["image_shape"] = flattened(config.image_shape, config.channels)
    for name, size in sizes.items():
        if size not in sides | {1}:
            raise InputError(
                f"{path} is of another architecture than its config: {name} = {getattr(config, name)} asks for tensors "
                f"of size {size}, and it holds none; use the {CONFIG} that was saved with it"
            )
