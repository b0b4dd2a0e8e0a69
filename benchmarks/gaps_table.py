"""The exact-gap table: every method's q on one frozen decoder, against the exact posteriors of the whole test set.

    python -m benchmarks.gaps_table mnist-2d --data-dir DIR [--only NAME ...] [--images N] [--seeds 0]
                                            [--epochs 40] [--device cuda] [--jobs 8] [--times | --ship]

An encoder that has to be trained starts from the shipped VAE's and trains EPOCHS more on its decoder. Epochs are equal,
decodes are not: an image has 1 a step with vae and iaf-4, 4 with me-4 and misvae-4, 8 with rme-4. runs/encoders holds
each as DECODER/NAME, and a run that was killed goes on. The others need no training. KL(q || p(z|x)) is the stored
exact log p(x) less q's ELBO by quadrature; KL(p || q) is over the stored reference posteriors; coverage is of images
that the decoder made. Several seeds are several trainings: NAME, seed 1.
--times measures what a batch of 128 takes in float32 on the CPU, all rows side by side; weights do not matter for it.
Writes benchmarks/results/exact-gaps-DECODER.json, a method at a time.
"""

import argparse
import time
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.common import (
    RESULTS,
    add_options,
    change_result,
    check_all_made,
    command,
    device_name,
    engine,
    fell_out,
    hardware,
    results_so_far,
    store_part,
    told,
)
from benchmarks.referee import TOGETHER, errors_of, judged, log_weights
from gpvae_core.checkpoints import Checkpoint, load_checkpoint
from gpvae_core.data import Dataset, ImageSet, dataset_of
from gpvae_core.diagnostics.references import load_references
from gpvae_core.diagnostics.regions import mass_above
from gpvae_core.diagnostics.stored import stored_columns
from gpvae_core.encoders import store_encoder, store_list
from gpvae_core.files import json_bytes, read_json, write_atomically
from gpvae_core.identity import STATE
from gpvae_core.models import ModelConfig, VariationalAutoencoder, build
from gpvae_core.paths import MANIFEST, WEIGHTS
from gpvae_core.shipped import digests, manifest
from gpvae_core.spread import spread
from gpvae_core.tensors import in_float64
from gpvae_core.training import growing
from gpvae_core.training.evaluation import evaluate_bounds, iwae_bound
from gpvae_core.training.fit import TrainingConfig, start_from
from gpvae_core.training.runs import run

RUNS = Path("runs/encoders")
EPOCHS, RATE, NOISE = 40, 1e-3, 0.1
IMAGES_AN_EPOCH = 20_000  # fewer images: as many more epochs
MADE, DRAWS, MASSES = 1000, 400, (0.5, 0.8, 0.95)
BATCH, REPEATS = 128, 5
IWAE = 100
FIRST = 3  # images whose KLs a test computes again
REFEREED = 300


@dataclass(frozen=True)
class Row:
    """One line: a method, its options, and how its encoder is trained; None: not at all.

    ``ship``: the name under which it is kept beside the decoder, if it is; ``note``: what is particular about it.
    """

    method: str
    options: dict[str, Any] = field(default_factory=dict)
    training: dict[str, Any] | None = None
    ship: str = ""
    note: str = ""


ROWS = {
    "vae": Row("vae"),
    "gpvae": Row("gpvae", {"unit": True}),
    "vae, trained on": Row("vae", training={}),
    "vae, augmented": Row("vae", training={"augment": 1.0}, ship="vae-augmented", note="augmented images"),
    "vae, decoder's own images": Row("vae", training={"dreams": 1.0}),
    "vae-3": Row("vae-3", training={}),
    "gpvae, trained on": Row("gpvae", training={}),
    "fullcov": Row("fullcov", training={}, ship="fullcov"),
    "me-2": Row("me", {"components": 2}, {}),
    "me-4": Row("me", {"components": 4}, {}, "me-4"),
    "misvae-4": Row("misvae", {"components": 4}, {}),
    "rme-2": Row("rme", {"components": 2}, {}),
    "rme-4": Row("rme", {"components": 4}, {}, "rme-4"),
    "hf-4": Row("hf", {"flows": 4}, {}, "hf-4"),
    "iaf-4": Row("iaf", {"flows": 4}, {}, "iaf-4"),
    "iaf-8": Row("iaf", {"flows": 8}, {}),
    "savae-2": Row("savae", {"steps": 2}),
    "savae-8": Row("savae", {"steps": 8}, ship="savae-8"),
    "savae-8, plain steps of 1e-3": Row("savae", {"steps": 8, "rate": 1e-3, "curved": False}),
    "svi": Row("svi", ship="svi"),
    "vlae-2": Row("vlae", {"steps": 2}),
    "vlae-4": Row("vlae", {"steps": 4}, ship="vlae"),
    "gn, 1 step from the encoder": Row("gn", {"starts": 1, "draws": 0, "steps": 1}),
    "gn, 2 steps from the encoder": Row("gn", {"starts": 1, "draws": 0, "steps": 2}),
    "gn, 4 steps from the encoder": Row("gn", {"starts": 1, "draws": 0, "steps": 4}),
    "gn, 2 steps, no encoder": Row("gn", {"starts": 1, "steps": 2, "draws": 8192, "encoder": False}, ship="gn-fast"),
    "gn, 2 steps, 1 start": Row("gn", {"starts": 1, "steps": 2}),
    "gn, 4 steps, 4 starts": Row("gn", ship="gn"),
}


@dataclass(frozen=True)
class Asked:
    """A row of one decoder's table that is to be made, and where."""

    name: str
    seed: int
    decoder: str
    images: int | None
    data_dir: Path | None
    device: str
    epochs: int
    runs: Path = RUNS

    @property
    def key(self) -> str:
        return f"{self.name}, seed {self.seed}" if self.seed else self.name

    def __str__(self) -> str:
        return self.key


def split_key(key: str) -> tuple[str, int]:
    """The row and the seed of one entry of the results."""
    name, _, seed = key.partition(", seed ")
    return name, int(seed or 0)


def encoder(
    key: str, base: Checkpoint, data: Dataset, device: str = "cpu", epochs: int = EPOCHS, runs: Path = RUNS
) -> VariationalAutoencoder:
    """A row's encoder on the decoder of ``base``, trained under ``runs`` if it has to be, on ``device``, and there."""
    name, seed = split_key(key)
    row = ROWS[name]
    if row.training is None:
        return untrained(key, base, data).to(device)
    config = config_of(row, base)
    out = folder_of(key, base, runs)
    epochs *= max(1, round(IMAGES_AN_EPOCH / len(data.train)))
    training = TrainingConfig.on(
        data,
        seed=seed,
        epochs=epochs,
        patience=epochs,  # the best epoch is kept; the schedule ends in a rate of 0
        learning_rate=RATE,
        encoder_noise=NOISE,
        initial=base.name,
        decoder=base.name,
        **row.training,
    )
    if (out / STATE).exists() or not (out / WEIGHTS).exists():  # a run whose state was removed is finished
        for progress in run(out, data, config, training, device=device, resume=(out / STATE).exists()):
            print(f"{key}: epoch {progress.epoch}, validation ELBO {progress.validation['elbo']:.3f}", flush=True)
    model = load_checkpoint(out, device=torch.device(device)).model
    rounded = {key: t.half().float() for key, t in model.encoder.state_dict().items()}  # as it is shipped
    model.encoder.load_state_dict(rounded)
    return model


def config_of(row: Row, base: Checkpoint) -> ModelConfig:
    """The row's method on the decoder of ``base``."""
    return replace(base.config, method=row.method, options=row.options)


def untrained(key: str, base: Checkpoint, data: Dataset) -> VariationalAutoencoder:
    """A row's model as it starts from ``base``."""
    model = build(config_of(ROWS[split_key(key)[0]], base), seed=0)
    start_from(model, base.model, data.train)
    return model.requires_grad_(False).eval()


def folder_of(key: str, base: Checkpoint, runs: Path = RUNS) -> Path:
    """Where a row's encoder is trained."""
    return runs / base.name / key.replace(",", "").replace(" ", "-").replace("'", "")


def trained_for(key: str, base: Checkpoint, runs: Path = RUNS) -> dict[str, int]:
    """``epochs`` of a row's encoder, 0: it was not trained; ``best_epoch``, the kept one: 0 is the first weights."""
    if not trainable(split_key(key)[0]):
        return {"epochs": 0}
    out = folder_of(key, base, runs)
    earlier = sum(int(load_checkpoint(folder).training["epochs"]) for folder in growing.before(out))
    training = load_checkpoint(out).training
    return {name: earlier + int(training[name]) for name in ("epochs", "best_epoch")}


def ship(base: Checkpoint, data: Dataset, stored: dict[str, Any]) -> None:
    """Keep the encoders that have been measured beside their decoder, and the list of them with their gaps."""
    entries: dict[str, dict[str, Any]] = {}
    for name, numbers in stored.items():
        row = ROWS.get(name)
        if row is None or not row.ship:
            continue
        measured = {key: numbers[key] for key in ("mean", "stderr", "median", "images", "first") if key in numbers}
        entries[row.ship] = {"method": row.method, "options": row.options, "note": row.note, "measured": measured}
        if row.training is not None:
            weights = encoder(name, base, data).encoder.state_dict()
            store_encoder(base.folder, row.ship, weights, base.decoder_digest)
    store_list(base.folder, entries)
    shipped = manifest()
    shipped[base.name]["files"] = digests(base.folder)
    write_atomically(MANIFEST, json_bytes(shipped))


def measure(model: VariationalAutoencoder, base: Checkpoint, images: ImageSet, evidence: np.ndarray) -> dict[str, Any]:
    """Every number of one line but its times; KLs of each image beside them, under ``kl``, with ``errors``."""
    exact = in_float64(model)  # one copy: what a method decodes once is decoded once
    bound = evaluate_bounds(model, images, seed=0)["elbo"]
    kl = evidence - bound.values.numpy()
    iwae = iwae_bound(model, images.take(np.arange(min(len(images), 1000))), samples=IWAE, seed=0).values.numpy()
    return {
        "kl": kl,
        "errors": bound.errors.numpy(),
        "first": kl[:FIRST].tolist(),
        "mean": float(kl.mean()),
        "stderr": float(kl.std() / len(kl) ** 0.5),
        "median": float(np.median(kl)),
        "90 %": float(np.quantile(kl, 0.9)),
        "largest_error": float(bound.errors.max()),
        "iwae_less_evidence": float((iwae - evidence[: len(iwae)]).mean()),
        **reverse(exact, base, images),
        **referee(model, images, kl),
        "coverage": coverage(exact, base),
        "parameters": sum(p.numel() for p in model.encoder.parameters()),
    }


def share_better(kl: np.ndarray, errors: np.ndarray, stored: dict[str, np.ndarray]) -> float:
    """The share of images whose KL lies below the VAE's by more than both errors: rounding wins nothing."""
    count = len(kl)
    return float((kl + errors < stored["kl_base"][:count] - stored["kl_base_error"][:count]).mean())


def reverse(model: VariationalAutoencoder, base: Checkpoint, images: ImageSet) -> dict[str, float]:
    """KL(p(z|x) || q), its median over the stored posteriors."""
    posteriors = load_references(base)[: len(images)]
    values: list[float] = []
    for first in range(0, len(posteriors), 250):
        some = posteriors[first : first + 250]
        q = model.infer_as_it_is(images.pixels(slice(first, first + len(some)))).q.to("cpu")
        for k, one in enumerate(some):
            log_q = q[k].log_prob(torch.as_tensor(one.points)).numpy()
            values.append(float(-one.numbers["entropy"] - one.weights @ log_q))
    return {"reverse_kl_median": float(np.median(values))}


def referee(model: VariationalAutoencoder, images: ImageSet, kl: np.ndarray) -> dict[str, Any]:
    """What those who cannot compute p(z|x) would have been told of the first REFEREED images, and how often wrongly.

    A miss: k of 0.7 or less, though q is a nat or more away. A false alarm: k above 0.7, though it is 0.1 nats or less.
    """
    seen: list[dict[str, float]] = []
    for first in range(0, min(REFEREED, len(images)), TOGETHER):
        x = images.pixels(slice(first, first + TOGETHER)).to(model.device)
        seen += judged(log_weights(model.generative, x, model.infer_as_it_is(x).q, first))
    k = np.array([one["k"] for one in seen])
    found = errors_of("k", k, kl[: len(k)])
    return {
        "k_median": float(np.median(k)),
        "ess_median": float(np.median([one["draws"] for one in seen])),
        "k_spearman": found["spearman"],
        "k_missed": found["missed"],
        "far": found["far"],
        "k_false_alarms": found["false_alarms"],
        "near": found["near"],
        "worst_trusted": found["worst_trusted"],
        "refereed": len(k),
    }


def coverage(model: VariationalAutoencoder, base: Checkpoint) -> list[float]:
    """The share of images the decoder made whose true z lies in q's own region of 50, 80 and 95 %."""
    made = base.simulate(MADE, seed=1)
    within: list[float] = []
    for x, z in zip(made.images.split(250), made.latents.double().split(250), strict=True):
        q = model.infer_as_it_is(x).q.to("cpu")
        within += mass_above(q, z, draws=DRAWS, generator=torch.Generator().manual_seed(0)).tolist()
    return [float((np.array(within) <= mass).mean()) for mass in MASSES]


def milliseconds(model: VariationalAutoencoder, images: ImageSet) -> float:
    """For q of 128 images, the fastest of several times, in float32."""
    x, times = images.pixels(slice(0, BATCH)), []
    for _ in range(REPEATS):
        started = time.perf_counter()
        model.infer_as_it_is(x)
        times.append(time.perf_counter() - started)
    return 1e3 * min(times)


def trainable(name: str) -> bool:
    """Whether another seed gives another encoder."""
    return ROWS[name].training is not None


def made(row: Asked) -> dict[str, Any]:
    """What the table says of one row; its encoder is trained first if it has to be."""
    base = load_checkpoint(row.decoder)
    data = dataset_of(base, None, row.data_dir)
    count = min(row.images or len(data.test), len(data.test))
    stored = stored_columns(base, data.name, len(data.test))
    images, evidence = data.test.take(np.arange(count)), stored["log_evidence"][:count]
    found = measure(encoder(row.key, base, data, row.device, row.epochs, row.runs), base, images, evidence)
    better = share_better(found.pop("kl"), found.pop("errors"), stored)
    found |= {"better_than_vae": better, "better_stderr": float((better * (1 - better) / count) ** 0.5)}
    return found | trained_for(row.key, base, row.runs) | {"images": count, "device": device_name(row.device)}


def timed(base: Checkpoint, data: Dataset, stored: dict[str, Any]) -> None:
    """Put the times of all rows into the results; a row's network need not be trained for that."""
    times = {key: {"ms": milliseconds(untrained(key, base, data), data.test)} for key in stored}
    change_result(
        f"exact-gaps-{base.name}.json", lambda now: {key: row | times.get(key, {}) for key, row in now.items()}
    )


def times_of(row: Asked) -> dict[str, float]:
    """What ``--times`` measured of a row earlier, side by side with the others: it stays beside new gaps."""
    stored = results_so_far(f"exact-gaps-{row.decoder}.json").get(row.key, {})
    return {"ms": stored["ms"]} if "ms" in stored else {}


def main() -> None:
    """Measure what is asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("decoder")
    parser.add_argument("--data-dir", type=Path)
    parser.add_argument("--only", nargs="+", choices=list(ROWS), default=list(ROWS), metavar="NAME")
    parser.add_argument("--images", type=int)
    parser.add_argument("--epochs", type=int, default=EPOCHS)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--device", default="cpu", choices=["cpu", "cuda"])
    add_options(parser)
    parser.add_argument("--ship", action="store_true", help="Only put what was measured into pretrained/.")
    parser.add_argument("--times", action="store_true", help="Only measure the times of all stored rows, side by side.")
    given = parser.parse_args()
    if given.ship or given.times:
        base = load_checkpoint(given.decoder)
        data = dataset_of(base, None, given.data_dir)
        (ship if given.ship else timed)(base, data, read_json(RESULTS / f"exact-gaps-{base.name}.json"))
        return
    # absolute: a worker elsewhere has a working directory of its own
    data_dir = given.data_dir and given.data_dir.resolve()
    rest = (given.decoder, given.images, data_dir, given.device, given.epochs, RUNS.resolve())
    asked = [Asked(name, seed, *rest) for seed in given.seeds for name in given.only if trainable(name) or not seed]
    about = {"command": command("gaps_table", given.data_dir), "hardware": hardware()}
    count = 0
    for row, found in spread(made, asked, engine(given), fell_out):
        count += 1
        store_part(f"exact-gaps-{row.decoder}.json", row.key, found | about | times_of(row))
        print(
            f"{row.key}: KL {found['mean']:.3f} ± {1.96 * found['stderr']:.3f}, median {found['median']:.4f}",
            flush=True,
        )
    check_all_made(count, len(asked))


if __name__ == "__main__":
    told(main)
