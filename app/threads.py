"""How many threads a computation takes: one for posteriors, whose batches are small; torch's all where nobody waits.

On two cores a second thread made a posterior no faster and took as much of the processor again.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache

import threadpoolctl
import torch


@cache
def every() -> int:
    """As many as torch takes by itself; to be asked before the first ``one``."""
    return torch.get_num_threads()


def one() -> None:
    """Of torch from now on in this thread; of NumPy's linear algebra everywhere."""
    every()
    torch.set_num_threads(1)
    _one_for_numpy()


@cache
def _one_for_numpy() -> None:
    threadpoolctl.threadpool_limits(1, user_api="blas")


@contextmanager
def all_of_them() -> Iterator[None]:
    """All inside, one afterwards."""
    torch.set_num_threads(every())
    try:
        yield
    finally:
        torch.set_num_threads(1)
