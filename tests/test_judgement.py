"""What is said of one image: encoders that have gone astray are named, and log p(x) does not hang on them."""

from copy import deepcopy

import numpy as np
import pytest
import torch

from gpvae_core.diagnostics.judgement import judge, posterior_report
from gpvae_core.exact import PosteriorEngine
from gpvae_core.paths import grid_cache
from tests.cases import built


@pytest.mark.parametrize(("first", "value"), [(2, 90.0), (0, torch.nan), (2, torch.nan)])
def test_an_encoder_gone_astray_is_named_and_the_evidence_stays(digits, digits_2d, digits_engine, first, value):
    """Its log std is 90, so its std 1e39; or one of both is no number."""
    x = digits.test.pixels(slice(0, 1))
    model = deepcopy(digits_2d.model)
    sound = posterior_report(digits_engine, digits_2d.model, x)
    with torch.no_grad():
        model.encoder.base_encoder.head.bias[first] = value
    report = posterior_report(digits_engine, model, x)
    assert abs(report["log_evidence"] - sound["log_evidence"]) <= 2 * sound["log_evidence_error"]
    assert report["kl_best"] == pytest.approx(sound["kl_best"], abs=2e-3)
    assert not np.isfinite(report["kl_base"]) and not np.isfinite(report["kl_base_error"])
    assert "the base encoder puts q(z|x) where the decoder's arithmetic ends" in report["without_elbo"][0]
    assert "without_elbo" not in sound


def test_methods_judged_together_share_one_evidence():
    """Two encoders on one decoder, each judged with the other's places."""
    (one, x), (other, _) = built(0), built(1)
    other = deepcopy(other)
    other.generative.load_state_dict(one.generative.state_dict())
    engine = PosteriorEngine(one.generative, nodes=41)
    said = [model.infer(x) for model in (one, other)]
    first = judge(engine, x, said[0], others={"other": said[1]})
    second = judge(engine, x, said[1], others={"one": said[0]})
    for a, b in zip(first, second, strict=True):
        assert abs(a.exact.log_evidence - b.exact.log_evidence) < 1e-9


@pytest.mark.parametrize("places", ["an encoder's means", "on the modes' slopes", "anywhere"])
def test_log_p_does_not_hang_on_the_encoder_that_was_asked(digits, digits_2d, digits_engine, places):
    """Places that show no new hill change no bit of it."""
    x = digits.test.pixels(slice(0, 12))
    alone = digits_engine.posteriors(x)
    spread = torch.randn(12, 3, 2, generator=torch.Generator().manual_seed(3))
    told = {
        "an encoder's means": digits_2d.model.infer(x).start.mean[:, None],
        "on the modes' slopes": torch.tensor(np.stack([p.modes[0].location for p in alone]))[:, None] + 0.1 * spread,
        "anywhere": 2 * spread,
    }[places]
    helped = digits_engine.posteriors(x, near=told)
    assert [p.log_evidence for p in helped] == [p.log_evidence for p in alone]
    assert [len(p.modes) for p in helped] == [len(p.modes) for p in alone]


def test_every_number_of_a_row_comes_with_its_error(digits, digits_2d, digits_engine):
    x = digits.test.pixels(slice(0, 2))
    (row, _) = (one.row() for one in judge(digits_engine, x, digits_2d.model.infer(x), families=["diagonal", "full"]))
    counts = {"modes", "evaluations", "uncertainty", "elbo_best_diagonal", "elbo_best_full"}
    alone = [name for name in row if not name.endswith("_error") and name not in counts and f"{name}_error" not in row]
    assert alone == []
    assert all(np.isfinite(value) and value >= 0 for name, value in row.items() if name.endswith("_error"))


@pytest.mark.usefixtures("offline")
def test_a_reverse_kl_at_a_rough_tolerance_is_within_its_error(digits, digits_2d):
    """What lies beyond the nodes counts as often as log q falls there, not as one share of the mass."""
    images = digits.test.pixels(np.array([13, 67, 104, 119]))
    engines = (digits_2d.engine(tolerance=tolerance, cache=grid_cache()) for tolerance in (0.5, 1e-3))
    rough, fine = (engine.posteriors(images) for engine in engines)
    start = digits_2d.infer(images).start
    for k in range(len(images)):
        found, truth = rough[k].kl_to(start[k]), fine[k].kl_to(start[k])
        assert abs(found.value - truth.value) <= found.error + truth.error
        assert found.error < 0.1 * found.value
