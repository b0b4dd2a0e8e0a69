"""Many runs, or parts of one: one after another, several at a time on this machine, or on a Ray cluster of any size.

Ray is an extra of its own (pip install '.[ray]'). Its workers need the code, the data and the checkpoints at the same
paths: a shared folder. A run whose worker is lost goes to another one, where it goes on from its last epoch.
"""

import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from multiprocessing import get_context
from typing import Any, TypeVar

import torch

from gpvae_core.errors import InputError

Asked = TypeVar("Asked")
Found = TypeVar("Found")
TRIES = 5  # of a run whose workers are lost


@dataclass(frozen=True)
class Engine:
    """Where runs go. ``ray``: a cluster's address, 'auto' for the one at hand, 'local' for one made of this machine.

    Raises InputError for GPUs without a cluster, for parts of several, and where Ray is not installed.
    """

    jobs: int = 1
    ray: str | None = None
    gpus: float = 0.0

    def __post_init__(self) -> None:
        if self.gpus and self.ray is None:
            raise InputError(
                f"--gpus-a-run {self.gpus:g} shares the GPUs of a Ray cluster; give --ray, too, or leave it out"
            )
        if self.gpus > 1 and not self.gpus.is_integer():
            raise InputError(f"--gpus-a-run {self.gpus:g} is no number of GPUs; above 1 give a whole one")
        if self.ray is not None:
            _ray()


def spread(
    make: Callable[[Asked], Found], asked: Sequence[Asked], on: Engine, failed: Callable[[Asked, str], None]
) -> Iterator[tuple[Asked, Found]]:
    """Each thing asked for with what ``make`` says of it, as they come.

    One may fail alone: ``failed`` hears of it and why, and may raise.
    """
    if on.ray is not None:
        return _on_ray(make, asked, on, failed)
    if on.jobs == 1:
        return _in_turn(make, asked, failed)
    return _in_processes(make, asked, on.jobs, failed)


def _in_turn(
    make: Callable[[Asked], Found], asked: Sequence[Asked], failed: Callable[[Asked, str], None]
) -> Iterator[tuple[Asked, Found]]:
    for one in asked:
        try:
            found = make(one)
        except (RuntimeError, InputError) as error:
            failed(one, str(error))
        else:
            yield one, found


def _in_processes(
    make: Callable[[Asked], Found], asked: Sequence[Asked], jobs: int, failed: Callable[[Asked, str], None]
) -> Iterator[tuple[Asked, Found]]:
    with ProcessPoolExecutor(min(jobs, len(asked)) or 1, get_context("spawn"), initializer=_as_worker) as pool:
        waited = {pool.submit(make, one): one for one in asked}
        try:
            for future in as_completed(waited):
                try:
                    yield waited[future], future.result()
                except (RuntimeError, InputError) as error:
                    failed(waited[future], str(error))
        finally:  # nobody waits for the rest any more
            pool.shutdown(wait=False, cancel_futures=True)


def _as_worker() -> None:
    """One thread, and Ctrl-C ends it without a word: the program that started it has one."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    torch.set_num_threads(1)


def _on_ray(
    make: Callable[[Asked], Found], asked: Sequence[Asked], on: Engine, failed: Callable[[Asked, str], None]
) -> Iterator[tuple[Asked, Found]]:
    """One core a run. What was begun on the cluster is ended when nobody waits for it any more."""
    ray = _ray()
    if not ray.is_initialized():
        # 'local' said as it is: None would join the cluster that RAY_ADDRESS names
        ray.init(address=on.ray, runtime_env={"env_vars": {"PYTHONPATH": ":".join(sys.path)}})
    single = ray.remote(num_cpus=1, num_gpus=on.gpus, max_retries=TRIES)(_single_threaded)
    waited = {single.remote(make, one): one for one in asked}
    try:
        while waited:
            (done,), _ = ray.wait(list(waited))
            one = waited.pop(done)
            try:
                yield one, ray.get(done)
            except ray.exceptions.RayError as error:  # of its own, or a worker, node or result that is lost for good
                failed(one, (str(error).splitlines() or [type(error).__name__])[-1])
    finally:
        for left in waited:
            ray.cancel(left, force=True)


def _single_threaded(make: Callable[[Asked], Found], one: Asked) -> Found:
    """As in ``_in_processes``: sums of several threads are added in another order, and results would differ."""
    torch.set_num_threads(1)
    return make(one)


def _ray() -> Any:
    try:
        import ray
    except ImportError:
        raise InputError("Ray is not installed, and --ray needs it; pip install '.[ray]'") from None
    return ray
