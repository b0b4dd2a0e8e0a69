"""Difficulty scores, the out-of-distribution dial and the stored table, each against closed forms."""

from dataclasses import replace

import numpy as np
import pyarrow as pa
import pyarrow.parquet
import pytest
import torch
from scipy.stats import chi2, spearmanr

from gpvae_core.checkpoints import load_checkpoint
from gpvae_core.data import ImageSet
from gpvae_core.data.corruptions import AMOUNTS, Corruption
from gpvae_core.diagnostics.judgement import posterior_report
from gpvae_core.diagnostics.scores import SCORES, natural_gradient_residual, score_images
from gpvae_core.diagnostics.stored import other_columns, stored_columns, write_stored
from gpvae_core.distributions import DiagonalGaussian
from gpvae_core.errors import InputError
from gpvae_core.exact import PosteriorEngine
from gpvae_core.exact.expectations import hermite
from gpvae_core.generative import GenerativeModel
from gpvae_core.generative.likelihoods import GaussianLikelihood
from gpvae_core.models import ModelConfig, VariationalAutoencoder, build
from gpvae_core.paths import TABLE
from tests.decoders import STD, Linear


@pytest.fixture
def linear_model():
    model = GenerativeModel(Linear().float(), GaussianLikelihood(STD))
    return VariationalAutoencoder(model, torch.nn.Identity())


def test_the_residual_of_a_linear_decoder_is_the_closed_form(linear_model, generator):
    """L is quadratic in m: dL/dm = A'(x - a - A m)/s_x^2 - m, dL/dlog s_j = 1 - s_j^2 (1 + |A_j|^2/s_x^2)."""
    x = torch.rand(5, 1, 8, 8, generator=generator)
    q = DiagonalGaussian(0.3 * torch.randn(5, 2, generator=generator), 0.1 + torch.rand(5, 2, generator=generator))
    nodes, weights = hermite(4)
    value = natural_gradient_residual(linear_model, x, q, torch.tensor(nodes), torch.tensor(weights))
    a, offset = (
        t.detach().double() for t in (linear_model.generative.decoder.matrix, linear_model.generative.decoder.offset)
    )
    mean, std = q.mean.double(), q.std.double()
    by_mean = (x.flatten(1).double() - offset - mean @ a.T) @ a / STD**2 - mean
    by_log_std = 1 - std**2 * (1 + (a**2).sum(0) / STD**2)
    wanted = (std**2 * by_mean**2 / 2 + by_log_std**2 / 4).sum(1)
    torch.testing.assert_close(value, wanted, rtol=2e-4, atol=1e-5)


def test_the_residual_vanishes_at_the_best_gaussian(digits, digits_2d, digits_engine):
    x = digits.test.pixels(slice(2, 3))
    report = posterior_report(digits_engine, digits_2d.model, x)
    best, base = (
        DiagonalGaussian(torch.tensor([report[f"{q}_mean"]]), torch.tensor([report[f"{q}_std"]]))
        for q in ("best", "base")
    )
    rule = [torch.tensor(part) for part in hermite(7)]
    at_best, at_base = (float(natural_gradient_residual(digits_2d.model, x, q, *rule)) for q in (best, base))
    assert at_best < 1e-3 < at_base


def test_scores_are_what_they_say(digits, digits_2d):
    rows = ImageSet(digits.test.images[:7])
    scores = score_images(digits_2d.model, rows)
    assert list(scores) == [name for name, score in SCORES.items() if not score.needs_heads]
    encoder = digits_2d.model.encoder.double()
    correction = encoder.correction(rows.pixels().double())
    encoder.float()
    q = correction.marginal()
    variance = correction.var_f + correction.var_h
    np.testing.assert_allclose(scores["uncertainty"], variance.sum(1).numpy(), rtol=1e-6)
    np.testing.assert_allclose(scores["relative_uncertainty"], (variance / q.std**2).sum(1).numpy(), rtol=1e-6)
    log_det = [np.linalg.slogdet(np.diag(s**2))[1] for s in q.std.numpy()]
    np.testing.assert_allclose(scores["log_width"], log_det, rtol=1e-6)
    decoded = digits_2d.model.generative.decode(q.mean.float()).numpy()
    errors = [((x / 255.0 - g) ** 2).sum() for x, g in zip(rows.images, decoded[:, 0], strict=True)]
    np.testing.assert_allclose(scores["reconstruction_error"], errors, rtol=1e-4)


def test_a_score_is_of_the_methods_own_q(digits, digits_2d, digits_engine):
    """A search's q has correlated axes: its Laplace gap ranks images by its exact KL, that of a stand-in does not."""
    rows = ImageSet(digits.test.images[:24])
    for method in ("gn", "fullcov"):
        opened = digits_2d.with_method(method)
        q = opened.infer(rows.pixels()).q
        scores = score_images(opened.model, rows)
        assert "residual" not in scores and "uncertainty" not in scores
        volume = 2 * torch.log(q.scale_tril.diagonal(dim1=-2, dim2=-1)).sum(-1)
        np.testing.assert_allclose(scores["log_width"], volume.numpy(), atol=1e-4)
    opened = digits_2d.with_method("gn")
    q = opened.infer(rows.pixels()).q
    exact = [one.kl_from(q[k]).value for k, one in enumerate(digits_engine.posteriors(rows.pixels()))]
    assert spearmanr(score_images(opened.model, rows, ["laplace_gap"])["laplace_gap"], exact)[0] > 0.6


@pytest.mark.parametrize(("method", "kind"), [("me", "Mixture"), ("iaf", "Flow")])
def test_a_score_of_another_kind_of_q_is_refused(method, kind, digits):
    model = build(ModelConfig(method=method, hidden=8, channels=(4, 4, 4)), seed=0)
    rows = ImageSet(digits.test.images[:2])
    assert list(score_images(model, rows)) == ["reconstruction_error"]
    for name in ("laplace_gap", "log_width", "residual"):
        with pytest.raises(InputError, match=f"{name} is a score of .* this method's q is a {kind}; choose another"):
            score_images(model, rows, [name])


def test_unknown_and_undefined_scores_say_what_to_choose(digits, digits_2d):
    with pytest.raises(InputError, match="no score 'u'; choose among uncertainty"):
        score_images(digits_2d.model, digits.test, ["u"])
    plain = VariationalAutoencoder(digits_2d.model.generative, digits_2d.model.encoder.base_encoder)
    with pytest.raises(InputError, match="this method has no uncertainty"):
        score_images(plain, digits.test, ["uncertainty"])
    assert "uncertainty" not in score_images(plain, ImageSet(digits.test.images[:2]))


# --- the best Gaussian in the report, and the region of a point -----------------------------------------------


def test_the_report_splits_the_gap_and_agrees_with_the_reverse_kl_by_draws(digits, digits_2d, digits_engine):
    x = digits.test.pixels(slice(4, 5))
    report = posterior_report(digits_engine, digits_2d.model, x)
    for q, suffix in (("base", "_base"), ("marginal", "")):
        parts = report["approximation_gap"] + report[f"amortization_gap{suffix}"]
        assert parts == pytest.approx(report[f"kl_{q}"], abs=1e-9)
    assert report["elbo_best"] > max(report["elbo_base"], report["elbo_marginal"])
    exact = digits_engine.posterior(x)
    z = exact.sample(4_000, generator=np.random.default_rng(0))
    gaussian = digits_2d.model.infer(x).q[0]
    ratio = exact.log_prob(z) - gaussian.log_prob(torch.tensor(z)).numpy()
    assert abs(ratio.mean() - report["kl_to_marginal"]) < 4 * ratio.std() / np.sqrt(len(z))


@pytest.mark.parametrize("distance", [0.3, 1.0, 2.0, 3.0])
def test_the_region_of_a_point_of_a_gaussian_is_chi_squared(distance, generator):
    x = torch.rand(1, 1, 8, 8, generator=generator).double()
    posterior = PosteriorEngine(GenerativeModel(Linear(), GaussianLikelihood(STD).double())).posterior(x)
    mean, covariance, _ = Linear().closed_form(x.numpy(), STD)
    z = mean + distance * np.linalg.cholesky(covariance) @ np.array([0.6, -0.8])
    assert posterior.hdr_mass(z) == pytest.approx(chi2.cdf(distance**2, 2), abs=1e-3)


# --- the dial ---------------------------------------------------------------------------------------------------


@pytest.fixture
def picture():
    return np.random.default_rng(0).random((28, 28), dtype=np.float32)


def test_the_dial_at_zero_changes_no_bit(picture):
    assert Corruption(seed=7)(picture) is picture
    assert not Corruption(seed=7)


def test_turning_moving_and_covering_match_numpy(picture):
    np.testing.assert_allclose(Corruption(rotate=90)(picture), np.rot90(picture), atol=1e-6)
    moved = np.zeros_like(picture)
    moved[2:, 3:] = picture[:-2, :-3]
    np.testing.assert_allclose(Corruption(right=3, down=2)(picture), moved, atol=1e-6)
    covered = picture.copy()
    covered[9:19, 9:19] = 0
    np.testing.assert_array_equal(Corruption(occlude=10)(picture), covered)
    assert not Corruption(occlude=28)(picture).any()


def test_strokes_grow_and_shrink_by_the_radius():
    dot = np.zeros((28, 28), np.float32)
    dot[14, 14] = 1
    y, x = np.mgrid[:28, :28]
    for radius in (1, 2, 3):
        disc = ((x - 14) ** 2 + (y - 14) ** 2 <= radius**2).astype(np.float32)
        np.testing.assert_array_equal(Corruption(thicken=radius)(dot), disc)
    assert Corruption(thicken=0.5)(dot)[14, 15] == pytest.approx(0.5)
    assert not Corruption(thicken=-1)(dot).any()


def test_noise_has_its_width_and_its_seed(picture):
    grey = np.full((28, 28), 0.5, np.float32)
    noise = Corruption(noise=0.1, seed=3)(grey) - grey
    assert noise.std() == pytest.approx(0.1, rel=0.1)
    np.testing.assert_array_equal(Corruption(noise=0.1, seed=3)(grey), Corruption(noise=0.1, seed=3)(grey))
    assert not np.array_equal(Corruption(noise=0.1, seed=4)(grey), Corruption(noise=0.1, seed=3)(grey))
    loud = Corruption(noise=1)(picture)
    assert loud.min() == 0 and loud.max() == 1


@pytest.mark.parametrize("name", AMOUNTS)
def test_amounts_out_of_range_are_refused(name):
    with pytest.raises(InputError, match=f"{name} = 999 is out of range; choose between"):
        Corruption(**{name: 999})
    with pytest.raises(InputError, match="out of range"):
        Corruption(**{name: float("nan")})


# --- what is stored ---------------------------------------------------------------------------------------------


def test_stored_gaps_and_scores_are_the_librarys(digits, digits_2d, digits_engine):
    stored = stored_columns(digits_2d, "digits", len(digits.test))
    for name, values in score_images(digits_2d.model, ImageSet(digits.test.images[:30])).items():
        np.testing.assert_allclose(stored[name][:30], values, rtol=1e-4, atol=1e-6)
    for index in (0, 200, 358):
        report = posterior_report(digits_engine, digits_2d.model, digits.test.pixels(slice(index, index + 1)))
        for name in ("log_evidence", "kl_base", "kl_marginal", "negentropy"):
            assert stored[name][index] == pytest.approx(report[name], abs=2e-3)


def test_a_stored_table_of_other_weights_is_refused_and_of_other_data_is_not_there(tmp_path, digits_2d):
    write_stored(tmp_path, {"a": np.arange(3.0)}, digest="ab" * 32, dataset="digits")
    elsewhere = replace(digits_2d, folder=tmp_path)
    with pytest.raises(InputError, match=r"computed with other weights \(abababab\)"):
        stored_columns(elsewhere, "digits", 3)
    same = replace(elsewhere, digest="ab" * 32)
    assert stored_columns(same, "mnist", 3) == {}
    np.testing.assert_array_equal(stored_columns(same, "digits", 3)["a"], [0, 1, 2])
    (tmp_path / TABLE).write_bytes(b"half a file")
    with pytest.raises(InputError, match="not a whole table"):
        stored_columns(same, "digits", 3)
    assert stored_columns(load_checkpoint("digits-2d"), "folder:x", 359) == {}


WRONG = {
    "one row short": ({"a": [1.0, 2.0]}, "has 2 rows for 3 test images"),
    "far too long": ({"a": pa.nulls(10**6, pa.float32())}, "has 1,000,000 rows for 3 test images"),
    "nulls": ({"a": pa.nulls(3)}, "has a column 'a' of type null, not of numbers"),
    "nulls that could be numbers": ({"a": pa.nulls(3, pa.float32())}, "has no number in its column 'a'"),
    "not a number": ({"a": [1.0, 2.0, 3.0], "b": [np.nan] * 3}, "has no number in its column 'b'"),
    "text": ({"a": ["1", "2", "3"]}, "has a column 'a' of type string, not of numbers"),
    "times": (
        {"a": pa.array([1, 2, 3], pa.timestamp("ms"))},
        r"has a column 'a' of type timestamp\[ms\], not of numbers",
    ),
}


@pytest.mark.parametrize("case", WRONG)
def test_a_stored_table_that_is_none_of_numbers_is_named(case, tmp_path, digits_2d):
    columns, said = WRONG[case]
    write_parquet(pa.table(columns), tmp_path / TABLE, digits_2d.digest)
    before = pa.total_allocated_bytes()
    with pytest.raises(InputError, match=rf"{TABLE} {said}; restore it or delete it$"):
        stored_columns(replace(digits_2d, folder=tmp_path), "digits", 3)
    assert pa.total_allocated_bytes() - before < 1e6


def write_parquet(table, path, digest):
    pyarrow.parquet.write_table(table.replace_schema_metadata({"digest": digest, "dataset": "digits"}), path)


def test_a_stored_table_is_read_only_once_it_fits(tmp_path, digits_2d, monkeypatch):
    write_parquet(pa.table({"a": [1.0, 2.0]}), tmp_path / TABLE, digits_2d.digest)
    monkeypatch.setattr("pyarrow.parquet.ParquetFile.read", lambda *_, **__: pytest.fail("it is read"))
    with pytest.raises(InputError, match="has 2 rows"):
        stored_columns(replace(digits_2d, folder=tmp_path), "digits", 3)


def test_a_stored_table_without_origin_a_column_twice_and_a_folder_are_named(tmp_path, digits_2d):
    here = replace(digits_2d, folder=tmp_path)
    pyarrow.parquet.write_table(pa.table({"a": [1.0]}), tmp_path / TABLE)
    with pytest.raises(InputError, match="does not say which weights it was computed with"):
        stored_columns(here, "digits", 1)
    write_parquet(pa.table([[1.0], [2.0]], names=["a", "a"]), tmp_path / TABLE, digits_2d.digest)
    with pytest.raises(InputError, match="has the column 'a' twice"):
        stored_columns(here, "digits", 1)
    (tmp_path / TABLE).unlink()
    (tmp_path / TABLE).mkdir()
    with pytest.raises(InputError, match=f"{TABLE} is a folder"):
        stored_columns(here, "digits", 1)


def test_stored_gaps_of_the_other_encoders_are_the_librarys(digits, digits_2d, digits_engine):
    stored = other_columns(digits_2d, "digits", len(digits.test))
    assert set(stored) == {f"kl_{name}{error}" for name in digits_2d.encoders for error in ("", "_error")}
    for name in ("fullcov", "me-4", "gn"):
        other = digits_2d.with_method(name)
        for index in (0, 358):
            x = digits.test.pixels(slice(index, index + 1))
            kl = digits_engine.posterior(x).kl_from(other.infer(x).q[0])
            bound = kl.error + stored[f"kl_{name}_error"][index]
            assert bound < 1e-2 and abs(stored[f"kl_{name}"][index] - kl.value) < bound, (name, index)
    assert other_columns(digits_2d, "mnist", 10_000) == {}
