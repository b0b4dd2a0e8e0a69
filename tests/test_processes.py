"""One training over several processes: the parts of a batch, and who takes them, change nothing but rounding."""

import json
import math
import subprocess
import sys

import pytest
import torch
from click.testing import CliRunner

from gpvae_core.cli import cli
from gpvae_core.errors import InputError
from gpvae_core.identity import STATE
from gpvae_core.inference.base import Batch
from gpvae_core.models import ModelConfig, build
from gpvae_core.paths import WEIGHTS
from gpvae_core.tensors import read_tensors
from gpvae_core.training import processes
from gpvae_core.training.fit import TrainingConfig, adam, fit
from gpvae_core.training.steps import PartedStep, Weights

SMALL = ModelConfig(hidden=16, channels=(4, 4, 4))
TRAIN = ["train", "--dataset", "digits", "--method", "gpvae", "--hidden", "16", "--epochs", "1"]


def test_a_parted_step_climbs_the_mean_of_its_parts():
    model = build(SMALL, seed=1)
    images = torch.randint(0, 256, (11, 28, 28), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    optimizer = adam(model, TrainingConfig("digits"), captured=False)
    step = PartedStep(model, Weights(), optimizer, images, torch.Generator(), dynamic=False, parts=3)
    step.seed(7)
    draws = [generator.clone_state() for generator in step._own]
    assert len({generator.initial_seed() for generator in draws}) == 3
    wanted, slopes = 0.0, []
    for rows, generator in zip(torch.arange(11).tensor_split(3), draws, strict=True):
        x = images[rows][:, None] / 255
        torch.randn(x.shape, generator=generator)  # what the encoder's noise would be
        value = len(rows) / 11 * model.encoder.objective(Batch(x, x, 11), model.generative, generator=generator).value
        wanted += value.item()
        slopes.append(torch.autograd.grad(-value, list(model.parameters()), allow_unused=True))
    norm = torch.stack([sum(s for s in own if s is not None).norm() for own in zip(*slopes, strict=True)]).norm()
    found = step(torch.arange(11))
    assert found["objective"] == pytest.approx(wanted, rel=1e-5)
    assert found["gradient norm"] == pytest.approx(float(norm), rel=1e-4)
    assert math.isfinite(step(torch.arange(2))["objective"])  # fewer images than parts


def epochs_of(said: str) -> list[str]:
    return [line for line in said.splitlines() if "objective=" in line]


@pytest.mark.long
def test_two_processes_train_as_one_does(tmp_path):
    """Every parameter, and every moment of Adam, to 1e-5 of the largest."""
    together = [
        sys.executable,
        "-m",
        "torch.distributed.run",
        "--standalone",
        "--nproc-per-node",
        "2",
        "-m",
        "gpvae_core",
    ]
    both = [*together, *TRAIN, "--out", str(tmp_path / "both")]
    ran = subprocess.run(both, capture_output=True, text=True, timeout=600, check=False)
    assert ran.returncode == 0, ran.stderr[-3000:]
    one = CliRunner().invoke(cli, [*TRAIN, "--out", str(tmp_path / "one"), "--parts", "2"], catch_exceptions=False)
    assert len(epochs_of(ran.stdout + ran.stderr)) == len(epochs_of(one.output)) == 1  # the second process says nothing
    states = [read_tensors(tmp_path / name / STATE) for name in ("both", "one")]
    for name, tensor in states[0].items():
        if name != "counters":
            torch.testing.assert_close(tensor, states[1][name], rtol=1e-4, atol=1e-5 * float(tensor.abs().max()))
    assert (tmp_path / "both" / WEIGHTS).exists()
    assert json.loads((tmp_path / "both" / "config.json").read_text())["training"]["parts"] == 2


def test_parts_that_cannot_be_shared_are_named(tmp_path, digits, monkeypatch):
    model, config = build(SMALL, seed=0), TrainingConfig("digits", batch_size=4, parts=5)
    with pytest.raises(InputError, match="a batch of 4 images has no 5 parts; lower --parts or raise --batch-size"):
        next(fit(model, SMALL, config, digits, tmp_path))
    monkeypatch.setattr(processes, "count", lambda: 2)
    with pytest.raises(InputError, match="2 processes cannot share 3 parts of a batch; give --parts 2"):
        next(fit(model, SMALL, TrainingConfig("digits", parts=3), digits, tmp_path))
    monkeypatch.setenv("WORLD_SIZE", "2")
    with (
        pytest.raises(InputError, match="several processes train on cpu or cuda, not on mps"),
        processes.joined(torch.device("mps")),
    ):
        pass
    monkeypatch.delenv("RANK", raising=False)
    with pytest.raises(InputError, match=r"the 2 processes of WORLD_SIZE cannot join .*; start them by torchrun"):
        processes.joined(torch.device("cpu")).__enter__()
    for said in ("abc", "0", "-1", "²"):
        monkeypatch.setenv("WORLD_SIZE", said)
        with pytest.raises(InputError, match=f"WORLD_SIZE='{said}' is no whole number from 1 up; unset it"):
            processes.joined(torch.device("cpu")).__enter__()
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.delenv("LOCAL_RANK", raising=False)
    with pytest.raises(InputError, match="LOCAL_RANK='' is no whole number from 0 up"):
        processes.joined(torch.device("cuda")).__enter__()
    with pytest.raises(InputError, match="'parts' is 0"):
        TrainingConfig("digits", parts=0)
