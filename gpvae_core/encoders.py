"""The encoders on offer for one decoder: those stored beside its checkpoint, and methods that need no training."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from gpvae_core.errors import InputError
from gpvae_core.fields import check_fields
from gpvae_core.files import json_bytes, read_json, write_atomically
from gpvae_core.inference import METHODS
from gpvae_core.paths import ENCODERS
from gpvae_core.tensors import origin_of, read_tensors, tensor_bytes

LIST = "encoders.json"
NAMED = re.compile(r"[\w+-][\w.+ -]{0,99}")  # a file of this folder


@dataclass(frozen=True)
class Offer:
    """One way to infer under a decoder: a method with its options, and its weights where it was trained.

    ``measured``: what it was measured at on the test set, in nats: "mean", "stderr" and "median" of KL(q || p(z|x)),
    over so many "images", and of the "first" ones; empty where it was not.
    """

    name: str
    method: str
    options: Mapping[str, Any] = field(default_factory=dict)
    note: str = ""
    weights: Path | None = None
    measured: Mapping[str, Any] = field(default_factory=dict)

    @property
    def label(self) -> str:
        """The method's words and what is particular about this encoder."""
        particular = [_worded(*option) for option in self.options.items()] + [self.note] * bool(self.note)
        return ", ".join([METHODS[self.method].label, *particular])


def _worded(name: str, value: Any) -> str:
    """An option as part of a label."""
    return name if value is True else f"no {name}" if value is False else f"{name} {value}"


def offers(folder: Path) -> dict[str, Offer]:
    """Name -> offer: what is stored in a checkpoint's ``folder``, then every other method that needs no training."""
    path = folder / ENCODERS / LIST
    stored = read_json(path) if path.exists() else {}
    found = {name: _offer(path, name, entry) for name, entry in stored.items()}
    ready = {name: Offer(name, name) for name, one in METHODS.items() if not one.encoder.trained}
    return found | {name: offer for name, offer in ready.items() if name not in found}


def _offer(path: Path, name: str, entry: Any) -> Offer:
    """One entry of the list at ``path``. Raises InputError where it describes none."""
    weights = path.parent / f"{name}.safetensors"
    try:
        if not NAMED.fullmatch(name):
            raise ValueError("its name is no file's")
        offer = Offer(name=name, **entry)
        check_fields(offer)
        if offer.method not in METHODS:
            raise ValueError(f"its method is '{offer.method}'")
        METHODS[offer.method].configured(offer.options)
    except (TypeError, ValueError) as error:
        raise InputError(f"{path} has an entry '{name}' that describes no encoder ({error}); remove it") from None
    # a trained one is never without: where its file is missing, opening it says so
    return replace(offer, weights=weights) if METHODS[offer.method].encoder.trained or weights.exists() else offer


def store_encoder(folder: Path, name: str, tensors: Mapping[str, Tensor], decoder_digest: str) -> None:
    """Keep an encoder's weights beside its decoder's checkpoint, in half precision."""
    half = {key: t.half() if t.is_floating_point() else t for key, t in tensors.items()}
    write_atomically(
        folder / ENCODERS / f"{name}.safetensors", tensor_bytes(half, {"decoder": decoder_digest, "name": name})
    )


def store_list(folder: Path, entries: Mapping[str, Mapping[str, Any]]) -> None:
    """Keep the list that ``offers`` reads: name -> the fields of an ``Offer``."""
    write_atomically(folder / ENCODERS / LIST, json_bytes(entries))


def encoder_weights(offer: Offer, decoder_digest: str) -> dict[str, Tensor]:
    """The weights of a stored encoder, float32. Raises InputError where they are another's, or of another decoder."""
    assert offer.weights is not None
    tensors = read_tensors(offer.weights)
    trained_on = origin_of(offer.weights).get("decoder", "unknown")
    if trained_on != decoder_digest:
        raise InputError(
            f"{offer.weights} was trained on another decoder ({trained_on[:8]}) than the one beside it "
            f"({decoder_digest[:8]}); restore both from one place"
        )
    named = origin_of(offer.weights).get("name", offer.name)  # older files do not say
    if named != offer.name:
        raise InputError(f"{offer.weights} holds the encoder '{named}', not '{offer.name}'; give it back its name")
    return {key: t.to(torch.get_default_dtype()) if t.is_floating_point() else t for key, t in tensors.items()}
