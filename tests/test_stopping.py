"""A training that is asked to end says what is kept, and its shell why it ended; a library call hears nothing."""

import signal
from threading import Thread

import pytest
from click.testing import CliRunner

from gpvae_core.cli import cli
from gpvae_core.commands.stopping import SIGNALS, Stopped, listening
from gpvae_core.training import fit
from gpvae_core.training.runs import LOCK

TRAIN = ["train", "--dataset", "tiny", "--method", "vae", "--hidden", "8", "--epochs", "3", "--device", "cpu"]


@pytest.fixture
def train(tmp_path, monkeypatch, tiny_dataset):
    """A training in a folder of its own, which ``signal`` meets as the first ``when`` is called."""
    monkeypatch.setattr("gpvae_core.training.runs.load_dataset", lambda *_, **__: tiny_dataset)

    def run(*more, number=None, place=fit, when=None):
        with monkeypatch.context() as patched:
            if when:
                whole = getattr(place, when)
                patched.setattr(place, when, lambda *a, **k: signal.raise_signal(number) or whole(*a, **k))
            return CliRunner().invoke(cli, [*TRAIN, "--out", str(tmp_path / "o"), *more])

    return run


@pytest.mark.parametrize("number", SIGNALS)
def test_the_last_whole_epoch_is_kept_and_named_and_the_run_goes_on(number, train, tmp_path):
    before = [signal.getsignal(one) for one in SIGNALS]
    result = train(number=number, when="_health")
    assert result.exit_code == 128 + number
    sentence = f"stopped by {signal.Signals(number).name}: epoch 1 is kept in {tmp_path / 'o'}, and the same command "
    assert sentence + "with --resume goes on from there" == result.stderr.splitlines()[-1]
    assert [signal.getsignal(one) for one in SIGNALS] == before
    assert not (tmp_path / "o" / LOCK).exists()
    again = train("--resume")
    assert again.exit_code == 0 and "epoch 2: " in again.output and "epoch 1: " not in again.output


@pytest.mark.parametrize("when", ["_epoch", "_step"])
def test_before_the_first_epoch_nothing_is_said_to_be_kept(when, train, tmp_path):
    result = train(number=signal.SIGTERM, when=when)
    assert result.exit_code == 143
    assert f"stopped by SIGTERM: nothing was saved in {tmp_path / 'o'} yet" in result.stderr
    assert not (tmp_path / "o").exists()


def test_a_program_that_is_killed_while_it_reads_its_images_says_so(train):
    from gpvae_core.commands import train as command

    result = train(number=signal.SIGINT, place=command, when="images_for")
    assert result.exit_code == 130 and "nothing was saved" in result.stderr


def test_what_is_ignored_stays_so_and_a_second_signal_does_as_before():
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with listening() as asked:
            signal.raise_signal(signal.SIGHUP)
            asked.check()
            with pytest.raises(Stopped):
                signal.raise_signal(signal.SIGINT)
            with pytest.raises(KeyboardInterrupt) as caught:
                signal.raise_signal(signal.SIGINT)
        assert not isinstance(caught.value, Stopped)
    finally:
        signal.signal(signal.SIGHUP, before)


def test_outside_the_main_thread_a_command_runs_as_ever(train):
    codes = []
    thread = Thread(target=lambda: codes.append(train().exit_code))
    thread.start()
    thread.join()
    assert codes == [0]
