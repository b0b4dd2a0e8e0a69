"""How fast every method trains, beside pythae's VAE of the same layers and the processor's own matrix products.

    python -m benchmarks.training [--only NAME ...] [--rounds 5] [--steps 10] [--device cpu]

MNIST's shape, d = 10, batches of 128, float32, images of noise: what is in them costs nothing. A round takes STEPS
steps of every row, one row after the other, so that all see the same machine; the fastest counts. Ours is the step of
``fit``; pythae's is its trainer's own loop over its own data set, with ordinary convolutions. "of the peak": the
multiplications that torch counts in one step, each second, as a share of what a product of two matrices reaches.
pythae is measured where it is installed: pip install pythae. Writes benchmarks/results/training.json.
"""

import argparse
import logging
import tempfile
import time
from collections.abc import Callable
from functools import partial
from importlib.metadata import PackageNotFoundError, version
from itertools import cycle
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry

from benchmarks.common import command, device_name, hardware, markdown, store_result, told
from benchmarks.paper_tables import CELLS
from gpvae_core.models import ModelConfig, build
from gpvae_core.training.fit import TrainingConfig, adam
from gpvae_core.training.steps import Step, Weights

DIM, BATCH, SIDE, WARM = 10, 128, 28, 3
NAMES = ("vae", "vae-3", "gpvae", "fullcov", "savae-2", "iaf-2", "hf-2", "me-2", "rme-2", "vlae-4", "gn-2")
ROWS = {name: CELLS[name] for name in NAMES} | {"gpvae-unit": ("gpvae-unit", {})}
PYTHAE = "pythae's VAE"
CHANNELS = ModelConfig().channels
PRODUCT = 2048  # a side of the matrices
Run = Callable[[int], None]  # so many steps


def ours(name: str, device: str) -> Run:
    """Steps of one method, as ``fit`` makes them."""
    method, options = ROWS[name]
    model = build(ModelConfig(method=method, options=options, latent_dim=DIM), seed=0).to(device)
    images = torch.randint(0, 256, (50 * BATCH, SIDE, SIDE), dtype=torch.uint8, device=device)
    generator = torch.Generator(device)
    optimizer = adam(model, TrainingConfig("noise"), captured=False)
    step = Step(model, Weights(), optimizer, images, generator, dynamic=False)
    batches = cycle(torch.randperm(len(images), generator=generator, device=device).split(BATCH))

    def run(steps: int) -> None:
        for _ in range(steps):
            step(next(batches))

    return run


def pythaes(steps: int, device: str) -> Run:
    """An epoch of ``steps`` batches of pythae's VAE, by its own trainer, with the layers of our default networks."""
    from pythae.data.datasets import BaseDataset
    from pythae.models import VAE, VAEConfig
    from pythae.models.base.base_utils import ModelOutput
    from pythae.models.nn import BaseDecoder, BaseEncoder
    from pythae.trainers import BaseTrainer, BaseTrainerConfig

    logging.getLogger("pythae").setLevel(logging.ERROR)
    hidden = ModelConfig().hidden

    class Encoder(BaseEncoder):
        def __init__(self) -> None:
            super().__init__()
            layers: list[nn.Module] = []
            for before, after in zip((1, *CHANNELS[:-1]), CHANNELS, strict=True):
                layers += [nn.Conv2d(before, after, 4, stride=2, padding=1), nn.SiLU()]
            self.trunk = nn.Sequential(*layers, nn.Flatten(), nn.Linear(9 * CHANNELS[-1], hidden), nn.SiLU())
            self.head = nn.Linear(hidden, 2 * DIM)

        def forward(self, x: Tensor) -> ModelOutput:
            mean, log_variance = self.head(self.trunk(x)).chunk(2, dim=-1)
            return ModelOutput(embedding=mean, log_covariance=log_variance)

    class Decoder(BaseDecoder):
        def __init__(self) -> None:
            super().__init__()
            first, second, third = CHANNELS
            layers: list[nn.Module] = [nn.Linear(DIM, hidden), nn.SiLU(), nn.Linear(hidden, 9 * third), nn.SiLU()]
            layers += [nn.Unflatten(1, (third, 3, 3))]
            for before, after, odd in ((third, second, 1), (second, first, 0), (first, 1, 0)):
                layers += [nn.ConvTranspose2d(before, after, 4, stride=2, padding=1, output_padding=odd), nn.SiLU()]
            self.net = nn.Sequential(*layers[:-1], nn.Sigmoid())

        def forward(self, z: Tensor) -> ModelOutput:
            return ModelOutput(reconstruction=self.net(z))

    model = VAE(VAEConfig(input_dim=(1, SIDE, SIDE), latent_dim=DIM), encoder=Encoder(), decoder=Decoder())
    data = BaseDataset(torch.rand(steps * BATCH, 1, SIDE, SIDE), torch.zeros(steps * BATCH))
    config = BaseTrainerConfig(
        output_dir=tempfile.mkdtemp(), per_device_train_batch_size=BATCH, num_epochs=1, no_cuda=device == "cpu"
    )
    trainer = BaseTrainer(model, train_dataset=data, training_config=config)
    trainer.prepare_training()

    def run(count: int) -> None:
        assert count <= steps
        trainer.train_step(epoch=1)

    return run


def rounds(runs: dict[str, Run], count: int, steps: int, device: str) -> dict[str, list[float]]:
    """Images a second of every row in each of ``count`` rounds."""
    found: dict[str, list[float]] = {name: [] for name in runs}
    for _ in range(count):
        for name, run in runs.items():
            took = _seconds(partial(run, steps), device)
            found[name].append(steps * BATCH / took)
            print(f"{name}: {found[name][-1]:,.0f} images/s", flush=True)
    return found


def _seconds(act: Callable[[], object], device: str) -> float:
    def now() -> float:
        if device == "cuda":
            torch.cuda.synchronize()
        return time.perf_counter()

    started = now()
    act()
    return now() - started


class Counter(TorchDispatchMode):
    """Adds up the floating-point operations that torch knows of: products of matrices, convolutions, their slopes.

    torch's own counter also follows modules, which fails where a method asks for slopes inside its step.
    """

    total = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        count = flop_registry.get(func._overloadpacket)
        if count:
            self.total += count(*args, **(kwargs or {}), out_val=out)
        return out


def multiplications(run: Run) -> int:
    """Floating-point operations of one step, forwards and backwards."""
    with Counter() as counter:
        run(1)
    return counter.total


def peak(device: str) -> float:
    """Floating-point operations a second of one large product in float32."""
    a = torch.rand(PRODUCT, PRODUCT, device=device)
    return 2 * PRODUCT**3 / min(_seconds(lambda: a @ a, device) for _ in range(10))


def table(found: dict[str, Any]) -> list[list[str]]:
    """The rows of the page, the fastest first."""
    rows = [["method", "images/s", "time, VAE = 1", "of the peak"]]
    plain = found["rows"]["vae"]["images_per_second"]
    for name, row in sorted(found["rows"].items(), key=lambda item: -item[1]["images_per_second"]):
        speed, share = row["images_per_second"], row.get("share_of_peak")
        rows.append([name, f"{speed:,.0f}", f"{plain / speed:.2f}", "" if share is None else f"{100 * share:.0f} %"])
    return rows


def main() -> None:
    """Measure what is asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", choices=list(ROWS), default=list(ROWS), metavar="NAME")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--steps", type=int, default=10)
    parser.add_argument("--device", default="cpu", choices=["cpu", "cuda"])
    given = parser.parse_args()
    runs = {name: ours(name, given.device) for name in dict.fromkeys(["vae", *given.only])}
    counted = {name: multiplications(run) for name, run in runs.items()}
    about = {"command": command("training", None), "hardware": hardware(), "device": device_name(given.device)}
    try:
        about["pythae"] = version("pythae")
        runs[PYTHAE] = pythaes(given.steps, given.device)
    except PackageNotFoundError:
        print("pythae is not installed, so it is not measured: pip install pythae")
    for run in runs.values():
        run(WARM)
    highest = peak(given.device)
    speeds = rounds(runs, given.rounds, given.steps, given.device)
    rows: dict[str, dict[str, float]] = {}
    for name, several in speeds.items():
        rows[name] = {"images_per_second": max(several), "median": float(np.median(several))}
        if name in counted:
            rows[name]["share_of_peak"] = counted[name] / BATCH * max(several) / highest
    found = about | {"peak_flops": highest, "rounds": given.rounds, "steps": given.steps, "rows": rows}
    store_result("training.json", found)
    print(markdown(table(found)))


if __name__ == "__main__":
    told(main)
