"""Training: resumable to the last bit, loud when it breaks, and never losing what was saved."""

import json
import math
import re
import resource
import subprocess
import sys
from copy import deepcopy
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from click.testing import CliRunner
from torch.distributions import Normal

from gpvae_core.checkpoints import load_checkpoint, save_checkpoint
from gpvae_core.cli import cli
from gpvae_core.distributions import Mixture
from gpvae_core.errors import InputError
from gpvae_core.files import write_atomically
from gpvae_core.identity import STATE
from gpvae_core.inference.base import Batch
from gpvae_core.inference.bounds import importance_weighted_bound
from gpvae_core.models import ModelConfig, build
from gpvae_core.paths import CONFIG, WEIGHTS
from gpvae_core.tensors import read_tensors
from gpvae_core.training.curves import CURVES, EVENTS, KEYS, Curves
from gpvae_core.training.fit import TrainingConfig, _anew, adam, fit, one_cycle, start_from
from gpvae_core.training.runs import run
from gpvae_core.training.steps import CLIP_NORM, Step, Weights

SMALL = ModelConfig(hidden=8, channels=(4, 4, 4))
PLAIN = replace(SMALL, method="vae")


def config(**changes) -> TrainingConfig:
    return TrainingConfig(**{"dataset": "tiny", "epochs": 4, "batch_size": 16, "encoder_noise": 0.1, **changes})


def train(folder, data, training=None, *, resume=False, stop_after=None, model_config=SMALL):
    model = build(model_config, seed=0)
    records = []
    for record in fit(model, model_config, training or config(), data, folder, resume=resume):
        records.append(record)
        if record.epoch == stop_after:
            break
    return model, records


def same(a, b) -> bool:
    return all(torch.equal(x, y) for x, y in zip(a.state_dict().values(), b.state_dict().values(), strict=True))


def test_two_runs_of_one_seed_agree_to_the_last_bit_and_leave_the_global_stream_alone(tmp_path, tiny_dataset):
    before = torch.get_rng_state()
    first, _ = train(tmp_path / "a", tiny_dataset)
    second, _ = train(tmp_path / "b", tiny_dataset)
    assert same(first, second)
    assert torch.equal(before, torch.get_rng_state())


def test_a_killed_and_resumed_run_ends_like_one_that_was_not(tmp_path, tiny_dataset):
    whole, records = train(tmp_path / "whole", tiny_dataset)
    train(tmp_path / "cut", tiny_dataset, stop_after=2)
    resumed, rest = train(tmp_path / "cut", tiny_dataset, resume=True)
    assert [r.epoch for r in rest] == [3, 4]
    assert same(whole, resumed)
    assert rest[-1].validation == records[-1].validation
    assert (tmp_path / "cut" / WEIGHTS).read_bytes() == (tmp_path / "whole" / WEIGHTS).read_bytes()


def test_a_training_by_iwae_is_judged_by_iwae_and_goes_on_bit_for_bit(tmp_path, tiny_dataset):
    by_draws = config(importance=5)
    whole, records = train(tmp_path / "whole", tiny_dataset, by_draws, model_config=PLAIN)
    train(tmp_path / "cut", tiny_dataset, by_draws, stop_after=2, model_config=PLAIN)
    resumed, _ = train(tmp_path / "cut", tiny_dataset, by_draws, resume=True, model_config=PLAIN)
    assert same(whole, resumed)
    assert all(r.parts.keys() == {"importance_weighted"} for r in records)
    assert records[-1].best_bound == max(r.validation["iwae"] for r in records)


def test_the_objective_of_k_draws_is_their_mean_weights_logarithm(tiny_dataset):
    """Written out with the same noise: decode, normal densities and a mean, image by image."""
    model, x = build(PLAIN, seed=1), tiny_dataset.train.pixels(slice(0, 4))
    batch = Batch(x, x, len(x), draws=3)
    with torch.no_grad():
        found = model.encoder.objective(batch, model.generative, generator=torch.Generator().manual_seed(2))
        q, noise = model.encoder.infer(x, model.generative).q, torch.Generator().manual_seed(2)
        z = q.rsample(3, generator=noise).double()
        means, s_x = model.generative.decode(z.float()).double(), float(model.generative.likelihood.std)
        joint = Normal(means, s_x).log_prob(x.double()).flatten(2).sum(-1) + Normal(0.0, 1.0).log_prob(z).sum(-1)
        density = Normal(q.mean.double(), q.std.double()).log_prob(z).sum(-1)
        expected = (joint - density).exp().mean(0).log().mean()
    assert float(found.parts["importance_weighted"]) == pytest.approx(float(expected), abs=1e-3)


def test_the_bound_of_several_draws_moves_a_mixtures_weights(tiny_dataset):
    """By its derivative: weight onto the component that explains more, as finite differences say."""
    model, x = (
        build(replace(PLAIN, method="me", options={"components": 2}), seed=1).double(),
        tiny_dataset.train.pixels(slice(0, 3)).double(),
    )
    q = model.encoder.infer(x, model.generative).q.detach()

    def bound(moved):
        log_weights = torch.log_softmax(q.log_weights + moved * torch.tensor([1.0, 0.0]), -1)
        noise = torch.Generator().manual_seed(4)
        mixture = Mixture(log_weights, q.components)
        return importance_weighted_bound(model.generative, x, mixture, 4, generator=noise).mean()

    moved = torch.zeros((), dtype=torch.float64, requires_grad=True)
    (slope,) = torch.autograd.grad(bound(moved), moved)
    with torch.no_grad():
        differences = (bound(torch.tensor(1e-5)) - bound(torch.tensor(-1e-5))) / 2e-5
    assert abs(float(slope)) > 1e-3 and float(slope) == pytest.approx(float(differences), rel=1e-4)


@pytest.mark.parametrize("method", ["gpvae", "rme", "gn"])
def test_a_method_with_an_objective_of_its_own_names_iwae(method, tmp_path, tiny_dataset):
    own = replace(SMALL, method=method)
    with pytest.raises(InputError, match=r"has an objective of its own.*leave --importance out"):
        train(tmp_path, tiny_dataset, config(importance=2), model_config=own)


@pytest.mark.parametrize("initial", [None, "start"])
def test_a_run_that_is_killed_at_any_of_its_writes_goes_on_to_the_same_end(
    initial, tmp_path, tiny_dataset, monkeypatch
):
    """Between state, config and weights too: no folder is a dead end, and the best weights are not lost."""
    config = ModelConfig(method="vae", hidden=8, channels=(4, 4, 4))
    if initial:
        initial = str(tmp_path / "start")
        list(run(tmp_path / "start", tiny_dataset, config, TrainingConfig("tiny", seed=1, epochs=1)))
    training = TrainingConfig("tiny", epochs=2, initial=initial)
    replace_file, writes = Path.replace, []

    def killed(source, target):
        writes.append(target)
        if len(writes) == last:
            raise KeyboardInterrupt
        return replace_file(source, target)

    monkeypatch.setattr(Path, "replace", killed)
    last = 0
    list(run(tmp_path / "whole", tiny_dataset, config, training))
    whole = (tmp_path / "whole" / WEIGHTS).read_bytes()
    for last in range(1, len(writes) + 1):
        out = tmp_path / str(last)
        writes.clear()
        with pytest.raises(KeyboardInterrupt):
            list(run(out, tiny_dataset, config, training))
        writes.clear()
        stored, last = last, 0
        list(run(out, tiny_dataset, config, training, resume=(out / STATE).exists()))
        assert (out / WEIGHTS).read_bytes() == whole, f"killed at write {stored}"
        assert (out / CONFIG).read_bytes() == (tmp_path / "whole" / CONFIG).read_bytes()


def lines_of(folder: Path) -> list[dict]:
    return [json.loads(line) for line in (folder / CURVES).read_text().splitlines()]


def test_every_epoch_leaves_one_line_also_where_the_run_was_killed(tmp_path, tiny_dataset):
    _, records = train(tmp_path / "whole", tiny_dataset)
    assert [line["epoch"] for line in lines_of(tmp_path / "whole")] == [1, 2, 3, 4]
    assert lines_of(tmp_path / "whole")[2] == {key: getattr(records[2], key) for key in KEYS}
    train(tmp_path / "cut", tiny_dataset, stop_after=2)
    with (tmp_path / "cut" / CURVES).open("a") as file:  # killed after the line of epoch 3, before its state
        file.write(json.dumps(lines_of(tmp_path / "cut")[-1] | {"epoch": 3, "seconds": -1.0}) + "\n")
    resumed, _ = train(tmp_path / "cut", tiny_dataset, resume=True)
    speed = ("images_per_second", "seconds")
    whole, cut = (
        [{k: v for k, v in line.items() if k not in speed} for line in lines_of(tmp_path / name)]
        for name in ("whole", "cut")
    )
    assert cut == whole and all(line["seconds"] > 0 for line in lines_of(tmp_path / "cut"))
    assert same(resumed, train(tmp_path / "again", tiny_dataset)[0])


def test_a_number_that_json_cannot_say_is_null(tmp_path):
    curves = Curves(tmp_path, 0)
    curves.add({key: {} for key in KEYS} | {"epoch": 1, "health": {"a": math.nan, "b": 1.0}, "seconds": math.inf})
    (line,) = lines_of(tmp_path)
    assert (line["health"], line["seconds"]) == ({"a": None, "b": 1.0}, None)
    (tmp_path / CURVES).write_text("[]\n")
    assert Curves(tmp_path, 1).lines == []


class Events:
    """TensorBoard's writer, as far as it is used."""

    def __init__(self, log_dir: str) -> None:
        self.folder = Path(log_dir)
        self.folder.mkdir(parents=True)

    def add_scalar(self, name: str, value: float, epoch: int) -> None:
        with (self.folder / "events").open("a") as file:
            file.write(f"{epoch} {name}\n")

    def flush(self) -> None:
        pass


def test_tensorboards_events_have_every_epoch_once_or_say_what_is_missing(tmp_path, tiny_dataset, monkeypatch):
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", SimpleNamespace(SummaryWriter=Events))
    parts = {"data": tiny_dataset, "config": SMALL, "training": config(), "tensorboard": True}
    next(run(tmp_path / "r", **parts))
    assert len(list(run(tmp_path / "r", **parts, resume=True))) == 3
    events = (tmp_path / "r" / EVENTS / "events").read_text().splitlines()
    assert [line for line in events if line.endswith("validation/elbo")] == [
        f"{k} validation/elbo" for k in (1, 2, 3, 4)
    ]
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    with pytest.raises(
        InputError, match="tensorboard is not installed, and --tensorboard needs it; pip install tensor"
    ):
        list(run(tmp_path / "s", **parts))


def test_a_second_training_into_one_folder_is_refused_and_a_killed_one_leaves_no_lock(tmp_path, tiny_dataset):
    config, training = ModelConfig(method="vae"), TrainingConfig("tiny", epochs=3)
    first = run(tmp_path / "run", tiny_dataset, config, training)
    next(first)
    with pytest.raises(InputError, match="another training writes into"):
        next(run(tmp_path / "run", tiny_dataset, config, training, resume=True))
    first.close()  # as if killed
    assert [r.epoch for r in run(tmp_path / "run", tiny_dataset, config, training, resume=True)] == [2, 3]


def test_the_objective_rises_and_its_parts_are_named(tmp_path, tiny_dataset):
    _, records = train(tmp_path, tiny_dataset, config(epochs=30, learning_rate=5e-3))
    assert set(records[0].parts) == {"log_likelihood", "neg_expected_kl_z", "neg_kl_weights"}
    assert {"live_features", "kl_w", "var_f", "var_h"} <= set(records[0].health)
    assert set(records[0].validation) == {"elbo", "elbo_base"}
    assert sum(records[-1].parts.values()) > sum(records[0].parts.values()) + 20


def test_the_best_epoch_is_kept_and_patience_ends_the_run(tmp_path, tiny_dataset):
    _, records = train(tmp_path, tiny_dataset, config(epochs=60, learning_rate=2e-2, patience=3))
    assert len(records) < 60
    best = max(records, key=lambda r: r.validation["elbo"])
    assert records[-1].epoch - best.epoch == 3
    assert load_checkpoint(tmp_path).training["best_epoch"] == best.epoch == records[-1].best_epoch


def test_a_non_finite_objective_stops_with_step_and_part(tmp_path, tiny_dataset):
    model = build(SMALL, seed=0)
    with torch.no_grad():
        model.encoder.weights_mean.log_diagonal[0, 0] = 400.0
    with pytest.raises(InputError, match=r"stopped at step 0 \(epoch 1\): .*neg_kl_weights.* not finite"):
        list(fit(model, SMALL, config(), tiny_dataset, tmp_path))


@pytest.mark.parametrize(
    ("changes", "epoch", "said"),
    [
        ({}, 1, "^train anew with a lower --learning-rate, or a larger --s-x; nothing is saved yet$"),
        ({"initial": "vae"}, 0, "^train anew with.*nothing is saved yet"),
        ({"initial": "vae"}, 1, "^train anew into another --out, with .*; epoch 0 is kept$"),
        (
            {"encoder_noise": 0.5, "psi_lr_scale": 9.0},
            3,
            " or --psi-lr-scale or --encoder-noise, or .*; epoch 2 is kept",
        ),
        ({"decoder": "vae", "dreams": 1.0}, 1, "a lower --learning-rate or --dreams; nothing"),
    ],
)
def test_the_advice_of_a_training_that_broke_is_true(changes, epoch, said):
    assert re.search(said, _anew(TrainingConfig("tiny", **changes), epoch))


@pytest.mark.parametrize("parents", [("o",), ("runs", "o")])
def test_a_training_that_saves_nothing_leaves_nothing(parents, tmp_path, tiny_dataset, monkeypatch):
    out = tmp_path.joinpath(*parents)
    broken = TrainingConfig("tiny", learning_rate=1e30)
    with pytest.raises(InputError, match=r"train anew with a lower --learning-rate.*; nothing is saved yet"):
        list(run(out, tiny_dataset, SMALL, broken))
    with pytest.raises(InputError, match=r"lower --parts or raise --batch-size"):
        run(out, tiny_dataset, SMALL, TrainingConfig("tiny", parts=1_000_000))
    assert not list(tmp_path.iterdir())
    out.mkdir(parents=True)
    with pytest.raises(InputError):
        list(run(out, tiny_dataset, SMALL, broken))
    assert not list(out.iterdir())  # a folder that was there stays


@pytest.mark.parametrize(
    ("option", "bad"),
    [
        *((f"--{name}", "1e20") for name in ("encoder-noise", "base-weight", "base-lr-scale", "psi-lr-scale", "s-x")),
        ("--s-x", "1e-320"),
        ("--augment", "1e20"),
        ("--dreams", "1e38"),
    ],
)
def test_a_setting_beyond_all_sense_is_named_by_its_option(option, bad, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    result = CliRunner().invoke(cli, ["train", "--dataset", "digits", option, bad, "--out", "o"])
    assert result.exit_code == 2 and f"'{option}': " in result.output and "is not in the range" in result.output
    assert not list(tmp_path.iterdir())
    name = option[2:].replace("-", "_")
    with pytest.raises(InputError, match="'std'|" + name):
        ModelConfig(std=float(bad)) if name == "s_x" else TrainingConfig("tiny", **{name: float(bad)})


def test_dynamic_binarisation_trains_a_bernoulli_model(tmp_path, tiny_dataset):
    bernoulli = replace(SMALL, likelihood="bernoulli")
    _, records = train(tmp_path, replace(tiny_dataset, dynamic=True), model_config=bernoulli)
    assert records[-1].parts["log_likelihood"] > -784 * 0.75


def test_learning_rate_rises_then_falls_to_zero():
    rates = [one_cycle(f / 100) for f in range(101)]
    assert max(rates) == rates[25] == 1.0
    assert rates[0] == pytest.approx(0.04)
    assert rates[-1] == pytest.approx(0.0)


def test_frozen_parts_stay_and_the_rest_moves(tmp_path, tiny_dataset):
    fresh = build(SMALL, seed=0)
    model, _ = train(tmp_path, tiny_dataset, config(psi_lr_scale=0.0, base_lr_scale=0.0))
    frozen = (".base_encoder.", ".psi_")
    for name, parameter in model.state_dict().items():
        moved = not torch.equal(parameter, fresh.state_dict()[name])
        assert moved != any(part in name for part in frozen), name


def test_a_gpvae_starts_from_a_vae_and_from_nothing_else(tiny_dataset):
    vae = build(ModelConfig(method="vae", hidden=8, channels=(4, 4, 4)), seed=5)
    model = build(SMALL, seed=0)
    start_from(model, vae, tiny_dataset.train)
    x = torch.rand(2, 1, 28, 28)
    assert torch.equal(model.infer(x).start.mean, vae.infer(x).q.mean)
    with pytest.raises(InputError, match="another architecture or method"):
        start_from(model, build(ModelConfig(method="vae", hidden=16), seed=5), tiny_dataset.train)


# --- files --------------------------------------------------------------------------------------------------


def test_a_checkpoint_round_trips(tmp_path, tiny_dataset):
    model, _ = train(tmp_path, tiny_dataset, config(epochs=1))
    loaded = load_checkpoint(tmp_path)
    assert same(model, loaded.model)
    assert loaded.config == SMALL
    assert not any(p.requires_grad for p in loaded.model.parameters())
    assert len(loaded.digest) == 64


def test_another_architecture_names_the_leaf_and_both_shapes(tmp_path):
    save_checkpoint(tmp_path, build(SMALL, seed=0), SMALL, {})
    record = json.loads((tmp_path / CONFIG).read_text())
    record["model"]["hidden"] = 4
    (tmp_path / CONFIG).write_text(json.dumps(record))
    with pytest.raises(InputError, match=r"config\.json is damaged or changed.*delete its line \"sha256\""):
        load_checkpoint(tmp_path)
    del record["sha256"]
    (tmp_path / CONFIG).write_text(json.dumps(record))
    with pytest.raises(InputError, match=r"encoder\.base_encoder\.head\.weight holds \(4, 8\) .* needs \(4, 4\)"):
        load_checkpoint(tmp_path)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda f: (f / WEIGHTS).write_bytes((f / WEIGHTS).read_bytes()[:1000]), "not a whole safetensors file"),
        (lambda f: (f / WEIGHTS).write_bytes(b""), "not a whole safetensors file"),
        (lambda f: (f / CONFIG).write_text("{"), "is not valid JSON"),
        (lambda f: (f / CONFIG).write_text("{}"), "does not describe a model .'model' is None"),
        (lambda f: (f / CONFIG).write_text("{}", "utf-16"), "does not describe a model .'model' is None"),
        (lambda f: (f / CONFIG).unlink(), "^cannot read"),
        (lambda f: (f / WEIGHTS).unlink(), "there is no checkpoint"),
    ],
)
def test_damaged_checkpoints_get_a_sentence(tmp_path, damage, message):
    save_checkpoint(tmp_path, build(SMALL, seed=0), SMALL, {})
    damage(tmp_path)
    with pytest.raises(InputError, match=message):
        load_checkpoint(tmp_path)


def test_a_full_disk_keeps_what_was_saved(tmp_path):
    """A real failing write: the process may write no file larger than 100 bytes."""
    target = tmp_path / "model.safetensors"
    write_atomically(target, b"the earlier weights")
    code = (
        "import sys; from pathlib import Path; from gpvae_core.files import write_atomically\n"
        "from gpvae_core.errors import InputError\n"
        "try: write_atomically(Path(sys.argv[1]), bytes(1000))\n"
        "except InputError as e: print(e)"
    )
    result = subprocess.run(
        [sys.executable, "-c", code, str(target)],
        capture_output=True,
        text=True,
        check=True,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (100, 100)),
    )
    assert "cannot write" in result.stdout
    assert "what was saved before is intact" in result.stdout
    assert target.read_bytes() == b"the earlier weights"
    assert [p.name for p in tmp_path.iterdir()] == ["model.safetensors"]


def test_the_state_holds_weights_moments_and_counters(tmp_path, tiny_dataset):
    train(tmp_path, tiny_dataset, config(epochs=1))
    tensors = read_tensors(tmp_path / "training-state.safetensors")
    assert tensors["counters"][0] == 1
    assert any(name.startswith("adam.") for name in tensors)


def test_an_encoder_is_trained_on_a_decoder_that_stays_as_it_is(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    config = ModelConfig(method="vae", hidden=8, channels=(4, 4, 4))
    save_checkpoint(tmp_path / "first", build(config, seed=0), config, {"dataset": "digits", "seed": 0})
    own = ["train", "--decoder", "first", "--method", "fullcov", "--epochs", "1", "--device", "cpu"]
    assert CliRunner().invoke(cli, [*own, "--out", "second"], catch_exceptions=False).exit_code == 0
    first, second = load_checkpoint("first"), load_checkpoint("second")
    assert second.decoder_digest == first.decoder_digest and second.digest != first.digest
    assert second.config == replace(first.config, method="fullcov") and second.training["decoder"] == "first"
    fresh = build(second.config, seed=0).encoder.state_dict()
    assert all(not torch.equal(fresh[name], w) for name, w in second.model.encoder.state_dict().items())
    with pytest.raises(InputError, match="--latent-dim belongs to the decoder, and --decoder first has its own"):
        CliRunner().invoke(cli, [*own, "--latent-dim", "3", "--out", "third"], catch_exceptions=False)
    with pytest.raises(InputError, match="this method has no option 'trunks'; leave it out"):
        CliRunner().invoke(cli, [*own, "--trunks", "2", "--out", "third"], catch_exceptions=False)


def test_encoders_on_one_decoder_share_one_grid(tmp_path):
    config = ModelConfig(method="vae", hidden=8, channels=(4, 4, 4))
    first, other = build(config, seed=0), build(replace(config, method="fullcov"), seed=1)
    other.generative.load_state_dict(first.generative.state_dict())
    save_checkpoint(tmp_path / "one", first, config, {})
    save_checkpoint(tmp_path / "two", other, replace(config, method="fullcov"), {})
    for name in ("one", "two"):
        load_checkpoint(tmp_path / name).engine(cache=tmp_path / "grids")
    assert len(list((tmp_path / "grids").iterdir())) == 2  # the box and its surroundings, once


def test_a_step_says_its_objective_its_gradients_norm_and_moves_by_adams_rule():
    model = build(SMALL, seed=0)
    images = torch.rand(32, 28, 28, generator=torch.Generator().manual_seed(0))
    twin = deepcopy(model)
    batch = images[:16].unsqueeze(1)
    generator = torch.Generator().manual_seed(1)
    torch.randn(batch.shape, generator=generator)  # the noise on what the encoder sees, drawn also where it is 0
    objective = twin.encoder.objective(Batch(batch, batch, 32), twin.generative, generator=generator)
    (-objective.value).backward()
    norm = sum(float((p.grad**2).sum()) for p in twin.parameters()) ** 0.5

    generator.manual_seed(1)
    optimizer = adam(model, config(learning_rate=1e-3), captured=False)
    step = Step(model, Weights(), optimizer, images, generator, dynamic=False)
    found = step(torch.arange(16))
    assert found["objective"] == pytest.approx(float(objective.value.detach()), rel=1e-5)
    assert found["gradient norm"] == pytest.approx(norm, rel=1e-4)
    assert {name: found[name] for name in step.names} == pytest.approx(
        {name: float(part.detach()) for name, part in objective.parts.items()}, rel=1e-4
    )
    shrunk = min(1.0, CLIP_NORM / norm)
    for own, other in zip(model.parameters(), twin.parameters(), strict=True):
        gradient = other.grad * shrunk
        moved = other.detach() - 1e-3 * gradient / (gradient.abs() + 1e-8)  # Adam's first step
        assert torch.allclose(own.detach(), moved, atol=2e-5)
