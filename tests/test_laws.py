"""What holds for every method: the laws over METHODS, each against something independent of the method."""

import json
from dataclasses import asdict

import numpy as np
import pytest
import torch
from click.testing import CliRunner

from gpvae_core.checkpoints import load_checkpoint, save_checkpoint
from gpvae_core.cli import cli
from gpvae_core.exact import PosteriorEngine
from gpvae_core.inference import METHODS
from gpvae_core.inference.base import Batch
from gpvae_core.inference.bounds import importance_weighted_bound
from gpvae_core.tables import read_table
from tests import reference
from tests.cases import CASES, Case, built

EVERY = pytest.mark.parametrize("number", range(len(CASES)), ids=[case.method for case in CASES])


def test_every_method_has_a_case():
    assert {case.method for case in CASES} == set(METHODS)
    for name, method in METHODS.items():
        assert method.label and method.source, name


@pytest.fixture(scope="module")
def engines():
    """One exact engine for each case's decoder, opened when asked for."""
    opened = {}

    def engine_of(number):
        if number not in opened:
            opened[number] = PosteriorEngine(built(number)[0].generative, nodes=61)
        return opened[number]

    return engine_of


def stages(number):
    """Every stage's q of every image, one at a time, with its name."""
    model, x = built(number)
    inference = model.infer(x)
    return [(key, k, q[k]) for key, q in inference.stages.items() for k in range(len(x))]


@EVERY
def test_a_draw_comes_with_its_density(number):
    for key, k, q in stages(number):
        z, log_q = q.rsample_with_log_prob(200, generator=torch.Generator().manual_seed(3))
        assert z.shape == (200, 2) and log_q.shape == (200,)
        torch.testing.assert_close(log_q, q.log_prob(z), atol=1e-9, rtol=0, msg=f"{key} {k}")


def lattice_of(q, nodes=400):
    """Places all over the mass of one q, (n, 2), and the area of each."""
    z = q.rsample(2000, generator=torch.Generator().manual_seed(4)).numpy()
    low, high = z.min(0), z.max(0)
    box = low - (high - low), high + (high - low)
    points = reference.lattice(box, (nodes, nodes))
    return points, float(np.prod(box[1] - box[0])) / nodes**2


@EVERY
def test_the_density_integrates_to_one(number):
    for key, _, q in stages(number)[::3]:
        z, area = lattice_of(q)
        total = float(torch.exp(q.log_prob(torch.as_tensor(z))).sum()) * area
        assert total == pytest.approx(1, abs=1e-5), key


@EVERY
def test_draws_have_the_moments_of_the_density(number):
    for key, _, q in stages(number)[::3]:
        z, area = lattice_of(q)
        mass = torch.exp(q.log_prob(torch.as_tensor(z))).numpy() * area
        mean = mass @ z
        draws = q.rsample(20_000, generator=torch.Generator().manual_seed(5)).numpy()
        spread = np.sqrt(mass @ (z - mean) ** 2)
        np.testing.assert_allclose(draws.mean(0), mean, atol=5 * spread.max() / 20_000**0.5, err_msg=key)
        np.testing.assert_allclose(draws.std(0), spread, rtol=0.05, err_msg=key)


@EVERY
def test_kl_is_what_brute_force_says(number, engines):
    """E_q[log q - log p] by sums over a lattice, p by brute force: nothing of the engine in it."""
    model, x = built(number)
    log_joint = reference.log_joint_for(model.generative, x[:1])
    evidence, change = reference.log_evidence(log_joint, [reference.square(np.zeros(2), 6.0)], 0.2)
    assert change < 1e-4
    exact = engines(number).posterior(x[0])
    for key, q in model.infer(x[:1]).stages.items():
        z, area = lattice_of(q[0], nodes=160)
        log_q = q[0].log_prob(torch.as_tensor(z)).numpy()
        held = log_q > log_q.max() - 30
        terms = np.exp(log_q[held]) * (log_q[held] - log_joint(z[held]) + evidence)
        estimate = exact.kl_from(q[0])
        assert estimate.value > 0.01  # an encoder that says nothing would obey every law
        assert abs(estimate.value - terms.sum() * area) <= estimate.error + 1e-4, key


@EVERY
def test_iwae_rises_to_the_exact_evidence(number, engines):
    model, x = built(number)
    q = model.infer(x).q
    exact = torch.tensor([posterior.log_evidence for posterior in engines(number).posteriors(x)])
    generator = torch.Generator().manual_seed(6)
    few, many = (
        torch.stack([importance_weighted_bound(model.generative, x, q, k, generator=generator) for _ in range(30)])
        for k in (1, 512)
    )
    assert bool((many.mean(0) > few.mean(0) - 4 * few.std(0) / 30**0.5).all())
    assert bool((many.mean(0) < exact + 4 * many.std(0) / 30**0.5 + 1e-3).all())
    lacking = exact - few.mean(0)
    assert bool((exact - many.mean(0) < torch.clamp(0.1 * lacking, min=0.1)).all())


@EVERY
def test_gradients_reach_every_parameter(number):
    model = CASES[number].build()
    x = CASES[number].images(model)
    generator = torch.Generator().manual_seed(7)
    objective = model.encoder.objective(Batch(x, x, 100), model.generative, generator=generator)
    objective.value.backward()
    silent = [n for n, p in model.named_parameters() if p.grad is None or not bool((p.grad != 0).any())]
    assert silent == []
    assert all(bool(torch.isfinite(p.grad).all()) for p in model.parameters())


@EVERY
def test_every_parameter_belongs_to_one_part(number):
    encoder = built(number)[0].encoder
    grouped = [id(p) for group in encoder.parameter_groups().values() for p in group]
    assert sorted(grouped) == sorted(id(p) for p in encoder.parameters())


@EVERY
def test_a_batch_is_what_its_images_are_alone(number):
    model, x = built(number)
    together = model.infer(x)
    z = torch.randn(50, 1, 2, generator=torch.Generator().manual_seed(8)).double()
    for k in range(len(x)):
        alone = model.infer(x[k : k + 1])
        for key, q in together.stages.items():
            torch.testing.assert_close(q.log_prob(z)[:, k], alone.stages[key].log_prob(z)[:, 0])
        for key, extra in together.extras.items():
            torch.testing.assert_close(extra[k], alone.extras[key][0])


@EVERY
def test_saved_and_opened_it_says_the_same(number, tmp_path):
    case = CASES[number]
    model = case.build().float()
    x = case.images(model)
    save_checkpoint(tmp_path / "it", model, case.config(), {"dataset": "digits", "seed": 0})
    opened = load_checkpoint(tmp_path / "it")
    assert opened.config == case.config()
    assert json.loads(json.dumps(asdict(opened.config)))["options"] == case.options
    z = torch.zeros(1, 1, 2).double()
    for (key, q), other in zip(model.infer(x).stages.items(), opened.model.infer(x).stages.values(), strict=True):
        assert torch.equal(q.log_prob(z), other.log_prob(z)), key


@pytest.mark.parametrize("method", ["vae", "me", "gpvae-unit"])  # one stage, several components, two stages
def test_the_command_line_tabulates_its_gaps(method, tmp_path):
    case, own = Case(method), tmp_path / "own"
    save_checkpoint(own, case.build().float(), case.config(), {"dataset": f"simulated:{own}", "seed": 0})
    command = ["gaps", "--checkpoint", own, "--limit", 2, "--out", tmp_path / "gaps.csv"]
    result = CliRunner().invoke(cli, [str(word) for word in command], catch_exceptions=False)
    assert result.exit_code == 0
    for stage, label in case.build().encoder.labels.items():
        mean = np.mean([row[f"kl_{stage}"] for row in read_table(tmp_path / "gaps.csv")])
        assert f"{mean:.3f} ({label})" in result.output


@EVERY
def test_precision_is_that_of_the_images(number):
    model = CASES[number].build()
    x = CASES[number].images(model)
    inference = model.encoder.infer(x, model.generative)
    single = model.float().encoder.infer(x.float(), model.generative)
    z = torch.zeros(1, 1, 2)
    for key, q in inference.stages.items():
        assert q.log_prob(z.double()).dtype == torch.float64
        assert single.stages[key].log_prob(z).dtype == torch.float32
        low, high = single.stages[key].log_prob(z), q.log_prob(z.double())
        torch.testing.assert_close(low.double(), high, rtol=1e-3, atol=1e-3)


@EVERY
def test_the_global_random_stream_is_left_alone(number):
    model = CASES[number].build()
    x = CASES[number].images(model)
    before = torch.get_rng_state()
    generator = torch.Generator().manual_seed(9)
    model.encoder.objective(Batch(x, x, 100), model.generative, generator=generator)
    model.infer(x).q.rsample(5, generator=generator)
    assert torch.equal(torch.get_rng_state(), before)


@EVERY
def test_a_path_leads_from_the_start_to_q(number):
    model, x = built(number)
    inference = model.infer(x)
    for q, wanted in zip((*inference.path[:1], *inference.path[-1:]), (inference.start, inference.q), strict=False):
        for mine, theirs in zip(q.mean_and_std(), wanted.mean_and_std(), strict=True):
            torch.testing.assert_close(mine, theirs)
    assert bool(inference.path) == (CASES[number].method in {"savae", "svi", "vlae", "gn"})


@EVERY
def test_every_stage_has_words(number):
    model, x = built(number)
    assert set(model.encoder.labels) == set(model.infer(x).stages)
