"""How fast the exact engine is: one image at a time, opening a checkpoint, and the naive ways to the same number.

A section of ``benchmarks.posterior``.
"""

import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import torch
from scipy.integrate import cubature

from app.compute import TOLERANCE
from benchmarks.common import Figures, counting, test_images
from gpvae_core.checkpoints import Checkpoint, load_checkpoint
from gpvae_core.diagnostics.judgement import places
from gpvae_core.exact import PosteriorEngine
from gpvae_core.exact.divergences import elbos
from gpvae_core.exact.joint import Decoded
from tests import reference


def speed(source: str, data_dir: Path | None, count: int) -> Figures:
    """One image at a time, warm, to 1e-3 nats and as the app asks, and beside it the naive ways; milliseconds."""
    checkpoint = load_checkpoint(source)
    images = test_images(checkpoint, data_dir, count)
    engine, in_the_app = (checkpoint.engine(tolerance=nats) for nats in (1e-3, TOLERANCE))
    for x in images[:5]:
        _exact(engine, checkpoint, x[None])
    preview = [_milliseconds(lambda x=x: engine.preview(x)) for x in images]
    exact = [_milliseconds(lambda x=x: _exact(engine, checkpoint, x[None])) for x in images]
    rough = [_milliseconds(lambda x=x: _exact(in_the_app, checkpoint, x[None])) for x in images]
    decodes = _decodes(engine, lambda x: _exact(engine, checkpoint, x[None]), images)
    columns = {"preview_ms": preview, "exact_ms": exact, f"exact_to_{TOLERANCE:g}_ms": rough, "exact_decodes": decodes}
    figures: Figures = {"images": len(images), **_opening(source)}
    for name, values in columns.items():
        p50, p95, most = (float(np.percentile(values, q)) for q in (50, 95, 100))
        figures[name] = {"p50": p50, "p95": p95, "max": most}
    return figures | _naive(checkpoint, engine, images[:1])


def _exact(engine: PosteriorEngine, checkpoint: Checkpoint, x: torch.Tensor) -> tuple[object, ...]:
    """Everything the page shows: evidence, moments, contours, both KLs."""
    encoding = checkpoint.infer(x)
    posterior = engine.posterior(x, near=places(encoding)[0])
    bounds = elbos([posterior, posterior], [encoding.start[0], encoding.q[0]])
    return bounds, posterior.mean, posterior.covariance, posterior.hdr_levels(), posterior.log_evidence_error


def _decodes(engine: PosteriorEngine, call: Callable[[torch.Tensor], object], images: torch.Tensor) -> list[int]:
    """Of each image, those in float32: the search for modes, the integral, the KLs."""
    sizes, counts = counting(engine.model), []
    for x in images:
        call(x)
        counts.append(sum(sizes))
        sizes.clear()
    return counts


def _milliseconds(call: Callable[[], object]) -> float:
    start = time.perf_counter()
    call()
    return 1e3 * (time.perf_counter() - start)


OPENING = """
import sys, time
from pathlib import Path
from gpvae_core.checkpoints import load_checkpoint
from gpvae_core.exact import PosteriorEngine
resident = lambda: int(Path("/proc/self/statm").read_text().split()[1]) * 4096 / 2**20
before, start = resident(), time.perf_counter()
engine = load_checkpoint(sys.argv[1]).engine(cache=Path(sys.argv[2]))
seconds = time.perf_counter() - start
engine.grid.eta.sum()  # a mapped file counts once it is read
print(seconds, resident() - before)
"""


def _opening(source: str) -> Figures:
    """Opening a checkpoint in a process of its own: first without, then with the grid on disk."""
    with TemporaryDirectory() as folder:
        runs = [
            subprocess.run([sys.executable, "-c", OPENING, source, folder], capture_output=True, text=True, check=True)
            for _ in range(2)
        ]
    (cold, cold_memory), (cached, memory) = ([float(n) for n in run.stdout.split()] for run in runs)
    return {"open_cold_s": cold, "open_cached_s": cached, "memory_cached_mib": memory, "memory_cold_mib": cold_memory}


def _naive(checkpoint: Checkpoint, engine: PosteriorEngine, images: torch.Tensor) -> Figures:
    """The ways of others on the same images: a fixed grid decoded anew, a fine one, and SciPy's cubature."""
    rows: dict[str, list[tuple[float, float]]] = {"grid_101": [], "grid_1000": [], "scipy_cubature": []}
    for x in images:
        joint, exact = Decoded(checkpoint.model.generative, x[None]), engine.posterior(x).log_evidence
        for n in (101, 1000):
            box = reference.square(np.zeros(2), 4.0)
            start = time.perf_counter()
            value = reference.log_integral(lambda z, j=joint: j(np.zeros(len(z), int), z), [box], 8 / n)
            rows[f"grid_{n}"].append((1e3 * (time.perf_counter() - start), abs(value - exact)))
        start = time.perf_counter()
        top = exact + 5

        def density(z: np.ndarray, j: Decoded = joint, top: float = top) -> np.ndarray:
            return np.exp(j(np.zeros(len(z), int), z) - top)

        result = cubature(density, [-4, -4], [4, 4], rule="gk15", rtol=1e-3, atol=0, max_subdivisions=300)
        value = top + float(np.log(max(float(result.estimate), 1e-300)))
        rows["scipy_cubature"].append((1e3 * (time.perf_counter() - start), abs(value - exact)))
    return {
        name: {"ms": float(np.median([t for t, _ in pairs])), "errors_nats": [e for _, e in pairs]}
        for name, pairs in rows.items()
    }
