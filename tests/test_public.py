"""The public face: few names, listed, documented, typed; their examples run; it installs as one package."""

import doctest
import os
import re
import shutil
import subprocess
import sys
import zipfile
from inspect import getdoc, signature
from pathlib import Path

import numpy as np
import pytest
import torch

import gpvae_core as gp
from gpvae_core import api
from gpvae_core.extras import BROUGHT_BY, extras
from tests import reference
from tests.cases import CASES
from tests.server import files_served

ROOT = Path(__file__).resolve().parent.parent
FUNCTIONS = [name for name in gp.__all__ if callable(getattr(gp, name)) and not isinstance(getattr(gp, name), type)]


def test_every_name_is_there_and_on_the_page():
    page = (ROOT / "docs/api.md").read_text()
    for name in gp.__all__:
        home = getattr(gp, name).__module__
        assert re.search(rf"^::: gpvae_core\S*\.{name}$", page, re.M), f"{name} of {home} is missing in docs/api.md"
    assert set(gp.__all__) <= set(dir(gp))


def test_the_types_that_a_checker_sees_are_the_names_that_are_there():
    source = (ROOT / "gpvae_core/__init__.py").read_text()
    assert sorted(re.findall(r" import (\w+) as \1", source)) == sorted(gp.__all__)


@pytest.mark.parametrize("name", FUNCTIONS)
def test_a_function_says_what_it_takes_gives_and_raises(name):
    function = getattr(gp, name)
    words = getdoc(function)
    for parameter in signature(function).parameters:
        assert re.search(rf"^    {parameter}: ", words, re.M), parameter
    assert "\nReturns:\n" in words
    assert name == "methods" or "\nRaises:\n" in words


@pytest.mark.parametrize(
    "name",
    [
        "PosteriorEngine",
        "GenerativeModel",
        "GaussianLikelihood",
        "DiagonalGaussian",
        "FullGaussian",
        "Mixture",
        "Estimate",
    ],
)
def test_a_class_that_users_build_says_what_it_takes(name):
    words = getdoc(getattr(gp, name))
    for parameter in signature(getattr(gp, name)).parameters:
        assert re.search(rf"^    {parameter}: ", words, re.M), parameter


@pytest.mark.parametrize("family", ["diagonal", "full"])
def test_the_best_gaussian_needs_no_start_and_is_not_worse_for_one(family):
    checkpoint = gp.load("digits-2d")
    x = checkpoint.simulate(1, seed=3).images
    exact, q = gp.posterior(checkpoint, x), checkpoint.infer(x).q[0]
    alone, helped = gp.best_gaussian(exact, family), gp.best_gaussian(exact, family, start=q)
    assert alone.elbo.value == pytest.approx(helped.elbo.value, abs=1e-4)
    assert exact.elbo(q).value < alone.elbo.value <= exact.log_evidence + alone.elbo.error
    assert helped.path[0].elbo == pytest.approx(exact.elbo(q).value, abs=1e-2)
    with pytest.raises(gp.InputError, match="no family 'round' of Gaussians; use one of diagonal, full"):
        gp.best_gaussian(exact, "round")


def test_examples_in_docstrings_run():
    results = doctest.testmod(api, optionflags=doctest.ELLIPSIS)
    assert results.attempted > 15 and results.failed == 0


def test_a_posterior_of_any_decoder_is_exact_and_a_checkpoint_keeps_its_engine(digits_2d):
    case = CASES[0]
    model = case.build().requires_grad_(False)
    x = case.images(model)[:1]
    exact = gp.posterior(model.generative, x, tolerance=1e-4)
    log_joint = reference.log_joint_for(model.generative, x)
    evidence, change = reference.log_evidence(log_joint, [reference.square(np.zeros(2), 6.0)], 0.2)
    assert exact.log_evidence == pytest.approx(evidence, abs=1e-4 + change)
    assert digits_2d.kept_engine(1e-3) is digits_2d.kept_engine(1e-3)
    with pytest.raises(gp.InputError, match="a Linear has no posterior; give a Checkpoint or a GenerativeModel"):
        gp.posterior(torch.nn.Linear(2, 2), x)


def test_what_a_newcomer_hands_over_works_or_is_one_sentence():
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        layers = [torch.nn.Linear(2, 20), torch.nn.BatchNorm1d(20), torch.nn.Tanh(), torch.nn.Dropout(0.5)]
        last = torch.nn.Linear(20, 9)
    decoder = torch.nn.Sequential(*layers, last, torch.nn.Sigmoid(), torch.nn.Unflatten(1, (1, 3, 3)))
    model = gp.GenerativeModel(decoder, gp.GaussianLikelihood(0.2))
    assert model.training
    x = np.full((1, 3, 3), 0.4)
    exact = gp.posterior(model, x)  # an array; dropout and batch norm in their own mode elsewhere
    assert model.training and exact.log_evidence_error < 1e-3
    assert exact.log_evidence == gp.posterior(model.eval(), torch.tensor(x)[None]).log_evidence
    std = np.sqrt(np.diag(exact.covariance))
    plain = exact.kl_from(gp.DiagonalGaussian(exact.mean, std))
    library = torch.distributions.Normal(torch.tensor(exact.mean), torch.tensor(std))
    independent = exact.kl_from(torch.distributions.Independent(library, 1))
    assert abs(plain.value - independent.value) <= plain.error + independent.error
    with pytest.raises(gp.InputError, match=r"needs torch\.distributions\.Independent"):
        exact.kl_from(library)
    with pytest.raises(gp.InputError, match="not lower triangular; give the Cholesky factor of the covariance"):
        exact.kl_from(gp.FullGaussian([0.0, 0.0], [[0.1, 0.05], [0.05, 0.1]]))
    for wrong in (torch.rand(2, 1, 3, 3), torch.rand(1, 9), torch.rand(3, 3)):
        with pytest.raises(gp.InputError, match=r"this model's are \(1, 3, 3\)|these are 2 images; give one"):
            gp.posterior(model, wrong)
    with pytest.raises(gp.InputError, match=r"the decoder does not take z of shape \(B, 2\)"):
        gp.posterior(gp.GenerativeModel(torch.nn.Linear(3, 9), gp.GaussianLikelihood(0.2)), torch.rand(9))


def test_train_is_the_command_and_opens_what_it_trained(tmp_path, digits):
    epochs = []
    few = type(digits)("digits", *(part.take(np.arange(40)) for part in (digits.train, digits.validation, digits.test)))
    trained = gp.train(few, tmp_path / "run", method="vae", epochs=1, seed=3, on_epoch=epochs.append)
    assert [one.epoch for one in epochs] == [1] and trained.config.method == "vae" and trained.seed == 3
    with pytest.raises(gp.InputError, match="already holds a run"):
        gp.train(few, tmp_path / "run", method="vae", epochs=1, seed=3)
    on_decoder = gp.train(few, tmp_path / "other", method="fullcov", decoder=str(tmp_path / "run"), epochs=1)
    assert on_decoder.decoder_digest == trained.decoder_digest


def test_a_missing_package_names_the_extra_that_brings_it():
    sentence = r"pooch is not installed, and this needs it; pip install 'gpvae-core\[data\]'"
    with pytest.raises(gp.InputError, match=sentence), extras():
        raise ModuleNotFoundError(name="pooch")
    with pytest.raises(ModuleNotFoundError), extras():
        raise ModuleNotFoundError(name="nothing")


def test_draws_go_to_arviz(digits_2d):
    exact = gp.posterior(digits_2d, digits_2d.simulate(1, seed=0).images)
    tree = gp.to_arviz(exact, draws=500, chains=2, seed=1)
    assert dict(tree["posterior"].sizes) == {"chain": 2, "draw": 500, "latent": 2}
    z = tree["posterior"]["z"].values.reshape(-1, 2)
    std = np.sqrt(np.diag(exact.covariance))
    assert np.abs((z.mean(0) - exact.mean) / std).max() < 4 / np.sqrt(len(z))
    np.testing.assert_allclose(tree["sample_stats"]["lp"].values.ravel(), exact.log_prob(z))
    assert tree["posterior"].attrs["log_evidence"] == exact.log_evidence


# --- installed --------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def installed(tmp_path_factory):
    """What the wheel installs, unpacked."""
    folder = tmp_path_factory.mktemp("wheel")
    build = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(folder), str(ROOT)]
    subprocess.run(build, check=True, capture_output=True)
    (wheel,) = folder.glob("*.whl")
    assert wheel.stat().st_size < 8e6
    zipfile.ZipFile(wheel).extractall(folder / "site")
    return folder / "site"


OPTIONAL = {package for packages in BROUGHT_BY.values() for package in packages}


def alone(installed: Path, code: str, *have: str, **environment: str) -> str:
    """What ``code`` prints in the unpacked wheel, with no package of an extra but those in ``have``."""
    block = (
        "import sys\n"
        "class Block:\n"
        "    def find_spec(self, name, *_):\n"
        f"        if name.split('.')[0] in {sorted(OPTIONAL - set(have))}: raise ModuleNotFoundError(name, name=name)\n"
        "sys.meta_path.insert(0, Block())\n"
    )
    result = subprocess.run(
        [sys.executable, "-c", block + code],
        env={"PYTHONPATH": str(installed), "PATH": "", "OMP_NUM_THREADS": os.environ["OMP_NUM_THREADS"], **environment},
        cwd=installed,
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    return result.stdout


def test_the_wheel_is_one_package_with_its_types_and_one_model(installed):
    places = {path.name for path in installed.iterdir()}
    assert places == {"gpvae_core", f"gpvae_core-{gp.__version__}.dist-info"}
    assert (installed / "gpvae_core/py.typed").exists()
    assert [path.name for path in (installed / "gpvae_core/pretrained").glob("*/")] == ["digits-2d"]


def test_five_lines_need_no_extra(installed, digits_2d):
    example = (ROOT / "examples/five_lines.py").read_text()
    code = f"{example}\nassert {str(installed)!r} in gp.__file__\n"
    code += "try: gp.dataset('digits')\nexcept gp.InputError as error: print(error)\n"
    code += "try: gp.load('mnist-2d')\nexcept gp.InputError as error: print(error)\n"
    number, dataset, model = alone(installed, code).splitlines()
    x = digits_2d.simulate(1, seed=0).images
    kl = gp.posterior(digits_2d, x).kl_from(digits_2d.infer(x).q[0])
    assert number == f"KL(q || p(z|x)) = {kl.value:.3f} nats, error about {kl.error:.0e}"
    assert re.search(r"is not installed, and this needs it; pip install 'gpvae-core\[data\]'", dataset)
    assert "mnist-2d does not come with this installation; set GPVAE_PRETRAINED" in model


def test_the_other_models_come_from_a_clone_or_a_server_and_are_checked(installed, tmp_path):
    shelf = tmp_path / "shelf"
    (shelf / "mnist-2d").mkdir(parents=True)
    for file in (ROOT / "pretrained/mnist-2d").iterdir():
        (shelf / "mnist-2d" / file.name).symlink_to(file)
    code = (
        "import os, gpvae_core as gp\n"
        "for place in (os.environ['SHELF'], os.environ['SERVER']):\n"
        "    os.environ['GPVAE_PRETRAINED'] = place\n"
        "    print(gp.load('mnist-2d').digest, gp.load('mnist-2d', method='me-4').digest)\n"
        "open(gp.load('mnist-2d').folder / 'config.json', 'a').write(' ')\n"
        "print(gp.load('mnist-2d').digest)\n"  # fetched again
        "os.environ['GPVAE_PRETRAINED'] = os.environ['OTHER']\n"
        "try: gp.load('mnist-2d')\n"
        "except gp.InputError as error: print(error)\n"
    )
    other = tmp_path / "other"
    shutil.copytree(ROOT / "pretrained/mnist-2d", other / "mnist-2d")
    with (other / "mnist-2d/config.json").open("ab") as file:
        file.write(b" ")
    with files_served(shelf) as address:
        places = {"SHELF": str(shelf), "SERVER": address, "OTHER": str(other)}
        cache = str(tmp_path / "cache")
        lines = alone(installed, code, "requests", "platformdirs", XDG_CACHE_HOME=cache, **places).splitlines()
    digest, another = gp.load("mnist-2d").digest, gp.load("mnist-2d", method="me-4").digest
    assert lines[:3] == [f"{digest} {another}"] * 2 + [digest]
    assert "config.json is damaged or changed: it is not the file that mnist-2d was shipped with" in lines[3]
