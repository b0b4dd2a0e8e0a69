"""Do regions keep their promise? Over images that the decoder made, the mass at the true z: uniform if they do."""

import numpy as np
import torch
from scipy.stats import binom

from app.compute import Array
from app.jobs import Report
from app.meter import the
from app.words import t
from gpvae_core.checkpoints import Checkpoint
from gpvae_core.diagnostics.judgement import places
from gpvae_core.diagnostics.regions import mass_above
from gpvae_core.exact import PosteriorEngine

IMAGES, TOGETHER, DRAWS = 100, 4, 1000
EXACT = "exact posterior"
PROMISE = (
    "Of 100 images, the {mass:.0f} % region should hold the true z in {mass:.0f}, give or take {chance:.0f} by chance: "
    "{parts}."
)
OUTSIDE = (
    "Outside that range: {those}. By chance alone an honest region's count is there in {share:.1f} of 100 such runs."
)
HELD = "that of {q} in **{count:.0f}**"


@torch.no_grad()
def masses(checkpoint: Checkpoint, engine: PosteriorEngine, seed: int, report: Report) -> dict[str, Array]:
    """For the exact posterior and each q, by their words: the mass of the region on whose edge the true z lies.

    (IMAGES,) each, of images that the decoder made from known z, with its full pixel noise.
    """
    made = checkpoint.simulate(IMAGES, seed=seed)
    inference = checkpoint.infer(made.images)
    middle = places(inference)
    found: dict[str, list[float]] = {EXACT: []}
    for start in range(0, IMAGES, TOGETHER):
        rows = slice(start, start + TOGETHER)
        posteriors = engine.posteriors(made.images[rows], near=middle[rows])
        found[EXACT] += [p.hdr_mass(z.numpy()) for p, z in zip(posteriors, made.latents[rows].double(), strict=True)]
        report((start + TOGETHER) / IMAGES)
    for key, q in inference.stages.items():
        generator = torch.Generator().manual_seed(seed)
        masses_of = mass_above(q, made.latents.double(), draws=DRAWS, generator=generator)
        found[checkpoint.model.encoder.labels[key]] = masses_of.tolist()
    return {words: np.array(values) for words, values in found.items()}


def sentence(found: dict[str, Array], mass: float = 0.8) -> str:
    """How often each region of ``mass`` held the true z."""
    counts = {the(words): 100 * float((values <= mass).mean()) for words, values in found.items()}
    parts = [t(HELD, q=q, count=count) for q, count in counts.items()]
    chance = round(1.96 * 100 * (mass * (1 - mass) / IMAGES) ** 0.5)
    said = t(PROMISE, mass=100 * mass, chance=chance, parts=", ".join(parts))
    outside = [t("that of {q}", q=q) for q, count in counts.items() if abs(count - 100 * mass) > chance + 1e-9]
    return f"{said} {t(OUTSIDE, those=', '.join(outside), share=100 * _by_chance(chance, mass))}" if outside else said


def _by_chance(most: int, mass: float) -> float:
    """The probability that a binomial count of IMAGES with ``mass`` is more than ``most`` from its mean."""
    middle, count = round(IMAGES * mass), binom(IMAGES, mass)
    return float(count.cdf(middle - most - 1) + count.sf(middle + most))
