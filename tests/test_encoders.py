"""Encoders on one decoder: kept beside its checkpoint, taken by name, judged together."""

import shutil
from dataclasses import replace

import pytest
import torch

from gpvae_core.checkpoints import load_checkpoint, save_checkpoint
from gpvae_core.encoders import offers, store_encoder, store_list
from gpvae_core.errors import InputError
from gpvae_core.generative.draws import PriorDraws
from gpvae_core.inference import METHODS
from gpvae_core.models import ModelConfig, build
from gpvae_core.paths import CONFIG, PRETRAINED, WEIGHTS


@pytest.fixture
def kept(tmp_path):
    """A copy of digits-2d with a mixture encoder of fresh weights beside it: its folder, and that encoder."""
    folder = tmp_path / "own"
    folder.mkdir()
    for name in (WEIGHTS, CONFIG):
        shutil.copyfile(PRETRAINED / "digits-2d" / name, folder / name)
    checkpoint = load_checkpoint(folder)
    encoder = build(ModelConfig(method="me", options={"components": 3}), seed=5).encoder
    store_encoder(folder, "me-3", encoder.state_dict(), checkpoint.decoder_digest)
    entry = {"method": "me", "options": {"components": 3}, "note": "fresh", "measured": {"mean": 40.2, "images": 359}}
    store_list(folder, {"me-3": entry, "gn": {"method": "gn", "measured": {"mean": 0.5}}})
    return folder, encoder


def test_a_kept_encoder_opens_by_name_to_half_precision(kept, digits):
    folder, encoder = kept
    checkpoint = load_checkpoint(folder)
    opened = checkpoint.with_method("me-3")
    x = digits.test.pixels(slice(0, 4))
    assert opened.config.method == "me" and opened.decoder_digest == checkpoint.decoder_digest
    for said, wanted in zip(
        opened.model.infer_as_it_is(x).q.mean_and_std(),
        encoder.eval().infer(x, checkpoint.model.generative).q.detach().mean_and_std(),
        strict=True,
    ):
        torch.testing.assert_close(said, wanted, atol=5e-3, rtol=5e-3)
    assert (folder / "encoders" / "me-3.safetensors").stat().st_size < 0.55 * 4 * sum(
        t.numel() for t in encoder.state_dict().values()
    )


def test_the_offers_are_what_is_kept_then_what_needs_no_training(kept):
    found = offers(kept[0])
    ready = [name for name, one in METHODS.items() if not one.encoder.trained]
    assert list(found) == ["me-3", "gn", *(name for name in ready if name != "gn")]
    assert found["me-3"].label == "mixture encoder, components 3, fresh" and found["me-3"].measured["mean"] == 40.2
    assert found["gn"].weights is None and found["gn"].measured["mean"] == 0.5 and found["svi"].measured == {}


def test_what_does_not_fit_is_one_sentence(kept):
    folder, encoder = kept
    checkpoint = load_checkpoint(folder)
    with pytest.raises(InputError, match="'me-3' is a trained encoder, its options are fixed; leave out components"):
        checkpoint.with_method("me-3", {"components": 2})
    with pytest.raises(InputError, match="own has no encoder 'me-4'; choose one of vae, gpvae-unit, me-3, gn, "):
        checkpoint.with_method("me-4")
    store_encoder(folder, "me-3", encoder.state_dict(), "of another decoder")
    with pytest.raises(InputError, match=r"me-3\.safetensors was trained on another decoder"):
        checkpoint.with_method("me-3")
    store_list(folder, {"me-3": {"method": "me", "options": {"components": 2}}})
    store_encoder(folder, "me-3", encoder.state_dict(), checkpoint.decoder_digest)
    with pytest.raises(InputError, match="is of another architecture than its config"):
        checkpoint.with_method("me-3")


def test_what_a_checkpoint_is_made_of_opens_by_its_method(digits, digits_2d):
    x = digits.test.pixels(slice(0, 4))
    plain = digits_2d.with_method("vae")
    assert plain.config.method == "vae" and plain.digest != digits_2d.digest
    assert list(plain.infer(x).stages) == ["q"]
    torch.testing.assert_close(plain.infer(x).q.mean, digits_2d.infer(x).start.mean)
    assert digits_2d.with_method(digits_2d.config.method) is digits_2d
    assert plain.with_method("gn").config.method == "gn"
    with pytest.raises(InputError, match="'vae' is a trained encoder, its options are fixed; leave out trunks"):
        digits_2d.with_method("vae", {"trunks": 2})


@pytest.mark.parametrize("method", ["me", "vae-3", "fullcov", "iaf"])
def test_what_needs_no_training_stands_on_any_encoder(method, digits, tmp_path):
    """It starts from the means and widths that the first stage has; nothing of it is trained anew."""
    config = replace(load_checkpoint("digits-2d").config, method=method, hidden=8, channels=(4, 4, 4), options={})
    save_checkpoint(tmp_path, build(config, seed=3), config, {"dataset": "digits"})
    own, x = load_checkpoint(tmp_path), digits.test.pixels(slice(0, 3))
    mean, std = own.infer(x).start.mean_and_std()
    for name in ("svi", "gn", "vlae", "savae"):
        start = own.with_method(name).infer(x).start
        torch.testing.assert_close(start.mean, mean)
        torch.testing.assert_close(start.std, std)
    alone = own.with_method("gn", {"encoder": False}).infer(x).q
    torch.testing.assert_close(alone.mean, own.with_method("gn").infer(x).q.mean, atol=0.5, rtol=0)


def test_a_trained_search_opens_under_its_name_with_the_options_it_was_trained_with(digits_2d, tmp_path):
    config = replace(digits_2d.config, method="gn", options={"steps": 1, "starts": 1, "draws": 16})
    save_checkpoint(tmp_path, build(config, seed=3), config, {"dataset": "digits"})
    own = load_checkpoint(tmp_path)
    assert own.with_method("gn") is own
    assert own.with_method("gn", {"steps": 2}).config.options == {"steps": 2, "starts": 1, "draws": 16}


def test_a_plain_vae_is_offered_only_where_one_is_within(kept):
    mixture = load_checkpoint(kept[0]).with_method("me-3")
    with pytest.raises(InputError, match="own has no encoder 'vae'; choose one of me, me-3"):
        mixture.with_method("vae")


def test_the_best_draws_are_the_best_by_the_decoder_itself(digits, digits_2d):
    model, x = digits_2d.model.generative, digits.test.pixels(slice(0, 6))
    draws = PriorDraws.of(model, 256, x)
    with torch.no_grad():
        heights = model.log_joint(x, draws.z[:, None].expand(256, 6, 2))
    found = draws.tops(x, 5)
    for k in range(6):
        height = heights[:, k].tolist()
        top = [all(height[i] >= height[j] for j in draws.near[i].tolist()) for i in range(256)]
        wanted = sorted(range(256), key=lambda i: (not top[i], -height[i]))[:5]
        assert found[:, k].tolist() == wanted
    assert draws.tops(x, 1)[0].tolist() == heights.argmax(0).tolist()


def test_the_draws_remember_what_a_look_would_see(digits, digits_2d, monkeypatch):
    model, x = digits_2d.model.generative, digits.test.pixels(slice(0, 6))
    kept = PriorDraws.of(model, 256, x)
    monkeypatch.setattr("gpvae_core.generative.draws.KEPT", 0)
    anew = PriorDraws.of(model, 256, x)
    assert kept.jacobian is not None and anew.jacobian is None
    one, other = (draws.looks(model, x, 3) for draws in (kept, anew))
    torch.testing.assert_close(one.place, other.place)
    torch.testing.assert_close(one.height, other.height, rtol=1e-5, atol=1e-2)
    torch.testing.assert_close(one.precision, other.precision, rtol=1e-4, atol=1e-2)
    torch.testing.assert_close(one.slope, other.slope, rtol=1e-4, atol=1e-1)


def test_the_draws_are_decoded_anew_where_the_decoder_has_changed(digits, digits_2d):
    checkpoint, x = digits_2d.with_method("gn", {"starts": 1, "steps": 1}), digits.test.pixels(slice(0, 2))
    model = checkpoint.model
    model.infer_as_it_is(x)
    first = model.encoder._kept[1]
    model.infer_as_it_is(x)
    assert model.encoder._kept[1] is first
    with torch.no_grad():
        next(model.generative.parameters()).mul_(0.9)
    model.infer_as_it_is(x)
    assert not torch.equal(model.encoder._kept[1].eta, first.eta)
