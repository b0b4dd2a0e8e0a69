"""How many threads a computation takes: one for one posterior, whose batches are small; torch's all for larger ones.

On two cores a second thread made a posterior no faster and took as much of the processor again.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache

import threadpoolctl
import torch


@contextmanager
def one() -> Iterator[None]:
    """One of torch inside, in this thread; and from now on one of NumPy's linear algebra everywhere."""
    _one_for_numpy()
    yield from _taking(1)


@contextmanager
def all_of_them() -> Iterator[None]:
    """All of torch's inside, in this thread."""
    yield from _taking(_every())


def _taking(count: int) -> Iterator[None]:
    _every()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(1)


@cache
def _every() -> int:
    """As many as torch takes by itself: asked before the first change."""
    return torch.get_num_threads()


@cache
def _one_for_numpy() -> None:
    threadpoolctl.threadpool_limits(1, user_api="blas")
