"""A sweep on a Ray cluster that loses a worker node half-way: every run once, equal to the runs made one by one.

    python -m benchmarks.cluster [--runs 6] [--epochs 12]

A local cluster: a head without a core, two nodes with one core each. Each run trains a small VAE on the digits from a
seed of its own. After the first result one node is killed, as soon as it is in the middle of a run. That nothing was
begun again is a failure: then nothing was lost, and nothing shown. Writes benchmarks/results/cluster.json.
"""

import argparse
import sys
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from benchmarks.common import command, fell_out, hardware, store_result, told
from gpvae_core.data import load_dataset
from gpvae_core.errors import InputError
from gpvae_core.identity import STATE
from gpvae_core.models import ModelConfig
from gpvae_core.spread import Engine, spread
from gpvae_core.training.fit import TrainingConfig
from gpvae_core.training.runs import run

PATIENCE = 120.0  # seconds for the node that is to be killed to be in the middle of a run


@dataclass(frozen=True)
class Small:
    """One training."""

    seed: int
    epochs: int
    folder: str


def made(one: Small) -> float:
    """The validation ELBO of its last epoch, in nats; it goes on where a lost worker stopped."""
    data = load_dataset("digits")
    training = TrainingConfig("digits", one.seed, one.epochs)
    out = Path(one.folder) / str(one.seed)
    with out.with_suffix(".begun").open("a") as begun:
        begun.write(f"{_node()}\n")
    config = ModelConfig(method="vae", hidden=32, channels=(8, 16, 16))
    elbo = [p.validation["elbo"] for p in run(out, data, config, training, resume=(out / STATE).exists())][-1]
    out.with_suffix(".done").touch()
    return elbo


def _node() -> str:
    """Of the cluster, the one that this process is on; none in a process that Ray did not start."""
    ray = sys.modules.get("ray")
    return str(ray.get_runtime_context().get_node_id()) if ray and ray.is_initialized() else ""


def begun_on(folder: Path, node: str) -> list[int]:
    """The runs that ``node`` is in the middle of: it has begun them last, an epoch is there, the end is not."""
    begun = {file: file.read_text().split()[-1:] for file in folder.glob("*.begun")}
    amid = [file for file, nodes in begun.items() if nodes == [node] and not file.with_suffix(".done").exists()]
    return [int(file.stem) for file in amid if (file.with_suffix("") / STATE).exists()]


def wait_for_a_run(folder: Path, node: str) -> None:
    """Until ``node`` is in the middle of a run. Raises InputError where it does not come to that."""
    ends = time.monotonic() + PATIENCE
    while not begun_on(folder, node):
        if time.monotonic() > ends:
            raise InputError(
                f"the node to be killed had no run in {PATIENCE:g} s, so none can be lost; give more --runs or --epochs"
            )
        time.sleep(0.05)


def main() -> None:
    """Both ways, and how they compare."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=6)
    parser.add_argument("--epochs", type=int, default=12)
    given = parser.parse_args()
    import ray  # an extra
    from ray.cluster_utils import Cluster

    with TemporaryDirectory() as serial, TemporaryDirectory() as folder:
        wanted = {one.seed: elbo for one, elbo in spread(made, _asked(given, serial), Engine(jobs=2), fell_out)}
        cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0})
        nodes = [cluster.add_node(num_cpus=1) for _ in range(2)]
        found, times, started = {}, Counter[int](), time.perf_counter()
        for one, elbo in spread(made, _asked(given, folder), Engine(ray=cluster.address), fell_out):
            found[one.seed] = elbo
            times[one.seed] += 1
            if len(found) == 1:
                wait_for_a_run(Path(folder), nodes[0].node_id)
                cluster.remove_node(nodes[0], allow_graceful=False)
        seconds = time.perf_counter() - started
        ray.shutdown()
        cluster.shutdown()
        begun = sum(len(file.read_text().splitlines()) for file in Path(folder).glob("*.begun"))
    if begun == given.runs:
        raise InputError("no run was begun again, so this shows nothing of a lost node; give more --runs or --epochs")
    record = {
        "runs": given.runs,
        "begun_again": begun - given.runs,
        "each_once": set(times) == set(wanted) and set(times.values()) == {1},
        "equal": found == wanted,
        "seconds": seconds,
        "command": command("cluster", None),
        "hardware": hardware(),
    }
    store_result("cluster.json", record)
    print(record)


def _asked(given: argparse.Namespace, folder: str) -> list[Small]:
    return [Small(seed, given.epochs, folder) for seed in range(given.runs)]


if __name__ == "__main__":
    told(main)
