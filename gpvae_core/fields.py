"""Whether the fields of a description hold what their types and ranges promise, before anything is built of them."""

from collections.abc import Mapping
from functools import cache
from typing import Annotated, Any, get_type_hints

import numpy as np
from pydantic import Field, TypeAdapter, ValidationError

from gpvae_core.errors import InputError

LEAST_TOLERANCE, MOST_TOLERANCE = 1e-6, 100.0  # nats: below it float64's own rounding is larger
Seed = Annotated[int, Field(ge=0, lt=2**31)]
Count = Annotated[int, Field(ge=1)]
Tolerance = Annotated[float, Field(ge=LEAST_TOLERANCE, le=MOST_TOLERANCE)]
Roughness = Annotated[float, Field(ge=LEAST_TOLERANCE)]  # inf: whatever comes first, with its error
MOST_SHOWN = 40  # characters of a wrong value


def check_fields(record: Any) -> None:
    """Raise InputError for the first field of the dataclass ``record`` that is not of its type or out of its range."""
    kind: Any = type(record)
    for name, hint in _hints(kind).items():
        check(name, getattr(record, name), hint)


def check(name: str, value: Any, hint: Any) -> None:
    """Raise InputError where ``value``, called ``name``, is not what the type ``hint`` says; nothing is converted.

    NumPy's own numbers count as Python's.
    """
    try:
        _adapter(hint).validate_python(value.item() if isinstance(value, np.generic) else value, strict=True)
    except ValidationError as error:
        reason = error.errors(include_url=False, include_input=False)[0]["msg"]
        shown = repr(value)
        shown = shown if len(shown) <= MOST_SHOWN else f"{shown[:MOST_SHOWN]}…"
        raise InputError(f"'{name}' is {shown}: {reason[0].lower()}{reason[1:]}") from None


@cache
def _adapter(hint: Any) -> TypeAdapter[Any]:
    return TypeAdapter(hint)


@cache
def _hints(kind: Any) -> Mapping[str, Any]:
    return get_type_hints(kind, include_extras=True)
