"""Write pretrained/manifest.json: each shipped file's digest and the test numbers it must reproduce.

    python benchmarks/manifest.py [--data-dir DIR] NAME ...

A folder pretrained/NAME with weights and config must be there; the others' entries are kept.
"""

import argparse
import json
from pathlib import Path

from gpvae_core.checkpoints import load_checkpoint, read_json, write_atomically
from gpvae_core.data import load_dataset
from gpvae_core.evaluation import evaluate_elbo
from gpvae_core.paths import MANIFEST
from gpvae_core.posterior import PosteriorEngine
from gpvae_core.report import posterior_report

EXACT_IMAGES = 5


def entry(name: str, data_dir: Path | None) -> dict[str, object]:
    """Digest, provenance and test numbers of one checkpoint."""
    checkpoint = load_checkpoint(name)
    data = load_dataset(checkpoint.training["dataset"], data_dir, seed=checkpoint.training["seed"])
    means = {
        key: float(value.double().mean()) for key, value in evaluate_elbo(checkpoint.model, data.test, seed=0).items()
    }
    engine = PosteriorEngine(checkpoint.model.generative)
    keys = ("log_evidence", "kl_base", "kl_marginal", "uncertainty")
    exact = []
    for index in range(EXACT_IMAGES):
        report = posterior_report(engine, checkpoint.model, data.test.pixels(slice(index, index + 1)))
        exact.append({"index": index, **{key: report[key] for key in keys}})
    return {
        "sha256": checkpoint.digest,
        "dataset": data.name,
        "test": {"images": len(data.test), "noise_seed": 0, **means},
        "exact": exact,
    }


def main() -> None:
    """Update the manifest for the names given."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="+")
    parser.add_argument("--data-dir", type=Path)
    arguments = parser.parse_args()
    manifest = read_json(MANIFEST) if MANIFEST.exists() else {}
    for name in arguments.names:
        manifest[name] = entry(name, arguments.data_dir)
        print(name, json.dumps(manifest[name]["test"]))
    write_atomically(MANIFEST, (json.dumps(manifest, indent=2) + "\n").encode())


if __name__ == "__main__":
    main()
