"""Whether SVI ends at the best diagonal Gaussian: its KL(q || p) beside the floor of its family, image by image.

    python -m benchmarks.floor [digits-2d mnist-2d ...] [--data-dir DIR] [--images 500]

The floor is ``best_gaussians``' diagonal member, which climbs by other steps on other nodes, from the encoder's q and
from every mode of the exact posterior. An image is at the floor where SVI's KL is at most TOLERANCE above it; "other
climber there too": where it is not, how often ``best_gaussians``' own climb from the encoder's q ended as high as SVI.
Writes benchmarks/results/floor.json.
"""

import argparse
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.common import command, hardware, store_part, test_images, told
from gpvae_core.checkpoints import load_checkpoint
from gpvae_core.exact.best_gaussian import best_gaussians

TOLERANCE = 1e-2  # nats
TOGETHER = 50


def compared(name: str, data_dir: Path | None, count: int) -> dict[str, Any]:
    """SVI's KL less the floor's of ``count`` test images spread over the test set, in nats."""
    base = load_checkpoint(name)
    svi, engine = base.with_method("svi"), base.kept_engine()
    above, caught, kls = [], [], []
    for x in test_images(base, data_dir, count).split(TOGETHER):
        posteriors = engine.posteriors(x)
        q, start = svi.infer(x).q, base.infer(x).start
        fits = best_gaussians(posteriors, [[start[k]] for k in range(len(x))], diagonal=True)
        for k, (exact, best) in enumerate(zip(posteriors, fits, strict=True)):
            bound = exact.elbo(q[k]).value
            above.append(best.elbo.value - bound)
            caught.append(best.elbo.value - best.short - bound)  # short: where the climb from the encoder's q ended
            kls.append(exact.log_evidence - bound)
    over = np.array(above)
    elsewhere = over > TOLERANCE
    return {
        "images": len(over),
        "at the floor": int((~elsewhere).sum()),
        "other climber there too": int((np.abs(np.array(caught)[elsewhere]) <= TOLERANCE).sum()),
        "lowest": float(over.min()),
        "kl": float(np.mean(kls)),
        "floor": float(np.mean(kls) - over.mean()),
    }


def main() -> None:
    """Measure what is asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("decoders", nargs="*", default=["digits-2d"])
    parser.add_argument("--data-dir", type=Path)
    parser.add_argument("--images", type=int, default=500)
    given = parser.parse_args()
    about = {"command": command("floor", given.data_dir), "hardware": hardware()}
    for name in given.decoders:
        found = compared(name, given.data_dir, given.images)
        store_part("floor.json", name, found | about)
        print(f"{name}: {found['at the floor']} of {found['images']} at the floor, lowest {found['lowest']:.1e}")


if __name__ == "__main__":
    told(main)
