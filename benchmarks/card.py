"""A checkpoint's card in Markdown, every figure of it computed from the files beside it."""

from collections.abc import Iterator, Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np
import torch

from app.figures.sheet import FIGURE_2_QUANTILES
from benchmarks.claims import coverage, mean
from benchmarks.common import markdown
from gpvae_core.checkpoints import Checkpoint, heads_origin, load_checkpoint
from gpvae_core.data import Dataset
from gpvae_core.diagnostics.scores import SCORES
from gpvae_core.diagnostics.statistics import partial_spearman, spearman
from gpvae_core.diagnostics.stored import Columns, stored_columns
from gpvae_core.files import read_json
from gpvae_core.inference.gp import has_process
from gpvae_core.paths import CONFIG, HEADS, MANIFEST
from gpvae_core.training.fit import TrainingConfig

ALIVE = 1000  # images for V(f) / v
CARD = """\
# {name}

GPVAE with two latent dimensions and {pixels}, trained on {train:,} images of `{dataset}`; {validation:,} more chose the
epoch, number {best_epoch} of {epochs}. Weights `{digest}`; {sizes}. Licence: MIT, as the code; no image of
the data set is in here.

```sh
{commands}
```
{note}
All {test:,} test images against their exact posteriors (`test.parquet`, from which and from the weights
`python -m benchmarks.ship {name}` computes this card); nats; +- is 1.96 standard errors over images.{made}

{gaps}

{facts}

{scores}
"""
MADE = " Images that the\nmodel made carry its full pixel noise, which the encoder has not seen."


def card(checkpoint: Checkpoint, data: Dataset, out: str | None) -> str:
    """The whole card of a checkpoint that was trained into the folder ``out``; without it the commands stay."""
    columns = stored_columns(checkpoint, data.name, len(data.test))
    files = sorted(p for p in checkpoint.folder.iterdir() if p.suffix in (".safetensors", ".parquet"))
    return CARD.format(
        name=checkpoint.name,
        pixels=_pixels(checkpoint),
        made=MADE if checkpoint.config.likelihood == "gaussian" else "",
        dataset=data.name,
        train=len(data.train),
        validation=len(data.validation),
        test=len(data.test),
        best_epoch=checkpoint.training["best_epoch"],
        epochs=checkpoint.training["epochs"],
        digest=checkpoint.digest[:16],
        sizes=", ".join(f"`{p.name}` {p.stat().st_size:,} bytes" for p in files),
        commands="\n".join(_standing(checkpoint.folder) if out is None else _commands(checkpoint.folder, out)),
        note=f"\n{checkpoint.training['note']}\n" if "note" in checkpoint.training else "",
        gaps=markdown(_gaps(checkpoint, columns)),
        facts="\n".join(f"- {fact}" for fact in _facts(checkpoint, data, columns)),
        scores=markdown(_scores(columns)),
    )


def _standing(folder: Path) -> list[str]:
    """The command lines that a card holds already: the runs before the last may lie on another machine."""
    block = (folder / "README.md").read_text().split("```sh\n")[1].split("\n```")[0]
    return block.splitlines()


def _commands(folder: Path, out: str) -> list[str]:
    return [*commands(read_json(folder / CONFIG), out), *_calibration(folder, out)]


def commands(record: Mapping[str, Any], out: str) -> list[str]:
    """The command lines that made a run, the one it started from first, as far as that is on this machine."""
    model, training = record["model"], record["training"]
    if earlier := training.get("settled_from"):
        return [*_earlier(earlier), f"python -m gpvae_core settle --checkpoint {earlier} --out {out}"]
    options = {"dataset": training["dataset"], "method": model["method"]} | {
        f.name: training[f.name]
        for f in fields(TrainingConfig)
        if f.name in ("seed", "epochs") or training.get(f.name, f.default) != f.default
    }
    if not model["train_std"]:
        options["s_x"] = model["std"]
    initial = options.pop("initial", None)
    if initial:
        options["init"] = initial
    words = [f"--{key.replace('_', '-')}" + ("" if value is True else f" {value}") for key, value in options.items()]
    return [*_earlier(initial), " ".join(["python -m gpvae_core train", *words, f"--out {out}"])]


def _earlier(run: str | None) -> list[str]:
    """The commands that made the run another one started from, if that is on this machine."""
    config = Path(run or "") / CONFIG
    return commands(read_json(config), run) if run and config.exists() else []


def _calibration(folder: Path, out: str) -> list[str]:
    """The command lines that fitted the learned scores, if there are any."""
    if not (folder / HEADS).exists():
        return []
    origin = heads_origin(folder)
    options = f"--split validation --limit {origin['images']} --tolerance {origin['tolerance']}"
    return [
        f"python -m gpvae_core gaps --checkpoint {out} {options} --out validation.parquet",
        f"python -m gpvae_core calibrate --checkpoint {out} --gaps validation.parquet",
    ]


def shipped() -> Iterator[tuple[str, Checkpoint, Columns]]:
    """Every shipped checkpoint, with its name and the columns of its test table."""
    for name, entry in read_json(MANIFEST).items():
        checkpoint = load_checkpoint(name)
        yield name, checkpoint, stored_columns(checkpoint, entry["dataset"], entry["test"]["images"])


def thirds(columns: Columns, target: str) -> list[float]:
    """Medians of a column in the lower, middle and upper third of U(x)."""
    parts = np.array_split(np.argsort(columns["uncertainty"], kind="stable"), 3)
    return [float(np.median(columns[target][rows])) for rows in parts]


def zoo() -> list[list[str]]:
    """One line for each shipped checkpoint, from the manifest and the test tables."""
    rows = [["model", "pixels", "ELBO", "KL of base: median, mean", "gain by marginalising", "negentropy", "rho"]]
    for name, checkpoint, columns in shipped():
        base, marginal = columns["kl_base"], columns["kl_marginal"]
        gain, half = mean(base - marginal)
        best = max((s for s in SCORES if s in columns), key=lambda score: spearman(columns[score], marginal))
        rows.append(
            [
                f"[`{name}`](../pretrained/{name}/README.md)",
                _pixels(checkpoint),
                f"{(columns['log_evidence'] - marginal).mean():.2f}",
                f"{np.median(base):.2f}, {base.mean():.2f}",
                f"{gain:.4f} +- {half:.4f}",
                f"{np.median(columns['negentropy']):.3f}, {np.quantile(columns['negentropy'], 0.9):.3f}",
                f"{spearman(columns['uncertainty'], marginal):+.2f}; {SCORES[best].label} "
                f"{spearman(columns[best], marginal):+.2f}",
            ]
        )
    return rows


def _pixels(checkpoint: Checkpoint) -> str:
    if checkpoint.config.likelihood == "bernoulli":
        return "Bernoulli pixels"
    how = "trained" if checkpoint.config.train_std else "fixed"
    return f"Gaussian pixels, s_x = {float(checkpoint.model.generative.likelihood.std):.4g} ({how})"


def _gaps(checkpoint: Checkpoint, columns: Columns) -> list[list[str]]:
    kls = [columns["kl_base"], columns["kl_marginal"]]
    simulated: Any = coverage(checkpoint)
    held = [" / ".join(f"{share:.1%}" for share in simulated[q].values()) for q in ("base", "marginal")]
    return [
        ["", "base encoder", "marginalised"],
        ["KL(q, p(z given x)), median", *(f"{np.median(kl):.3f}" for kl in kls)],
        ["mean", *("{:.2f} +- {:.2f}".format(*mean(kl)) for kl in kls)],
        ["90 % quantile", *(f"{np.quantile(kl, 0.9):.2f}" for kl in kls)],
        [f"q's 50 / 80 / 95 % regions hold the true z of {simulated['images']:,} images that the model made", *held],
    ]


def _facts(checkpoint: Checkpoint, data: Dataset, columns: Columns) -> list[str]:
    gains, negentropy = columns["kl_base"] - columns["kl_marginal"], columns["negentropy"]
    low, middle, high = np.quantile(gains, FIGURE_2_QUANTILES)
    facts = [
        f"Marginalising gains {mean(gains)[0]:.4f} +- {mean(gains)[1]:.4f} nats on average and makes "
        f"{(gains < 0).mean():.1%} of the images worse; Figure 2's quantiles of the gain: {low:+.4f}, {middle:+.4f}, "
        f"{high:+.4f}.",
        f"log p(x) is {columns['log_evidence'].mean():.2f} on average.",
        f"Posteriors: negentropy {np.median(negentropy):.3f} in the median, {np.quantile(negentropy, 0.9):.3f} at the "
        f"90 % quantile; {(columns['modes'] > 1).mean():.1%} have several modes; "
        f"{(columns['mass_outside_box'] > 0.5).sum()} lie outside the box of +-4.5.",
    ]
    encoder = checkpoint.model.encoder
    if has_process(encoder):
        kl, width = ([f"{v:.3g}" for v in thirds(columns, key)] for key in ("kl_marginal", "negentropy"))
        facts.append(
            f"Figure 1, by thirds of ascending U(x): median KL {', '.join(kl)}; median negentropy {', '.join(width)}."
        )
        with torch.no_grad():
            correction = encoder.correction(x := data.test.pixels(slice(0, ALIVE)))
        share = float(correction.share_of_f().mean())
        facts.append(f"V(f) is {share:.2g} of q's variance, mean over both dimensions of the first {len(x):,} images.")
    return facts


def _scores(columns: Columns) -> list[list[str]]:
    """Spearman's rho of each score with the exact KL and the negentropy, and the same given q's width."""
    rows = [["Spearman's rho", "with KL", "given width", "with negentropy", "given width"]]
    for name in (name for name in SCORES if name in columns):
        row = [SCORES[name].label]
        for target in ("kl_marginal", "negentropy"):
            given = partial_spearman(columns[name], columns[target], columns["log_width"])
            row += [f"{spearman(columns[name], columns[target]):+.2f}", "" if given is None else f"{given:+.2f}"]
        rows.append(row)
    return rows
