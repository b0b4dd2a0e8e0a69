"""The one place that imports torchvision, also beside a CPU build of torch.

The index's torchvision is compiled against CUDA. Beside a CPU torch its operator library cannot be loaded, and
``import torchvision`` stops with "operator torchvision::nms does not exist": it registers shapes for operators
that are not there. Declaring the schemas of the two that it asks for lets the import finish; its data sets and
transforms need no operator. Where the library loads, nothing is declared.
"""

from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType

import torch

_SCHEMAS = (
    "nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
    "qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
)
_declared: list[torch.library.Library] = []  # a Library takes its schemas back when it is collected


@lru_cache(maxsize=1)
def torchvision_datasets() -> ModuleType:
    """The module torchvision.datasets."""
    if not _operators_load():
        library = torch.library.Library("torchvision", "FRAGMENT")
        for schema in _SCHEMAS:
            library.define(schema)
        _declared.append(library)
    import torchvision.datasets

    module: ModuleType = torchvision.datasets
    return module


def _operators_load() -> bool:
    spec = find_spec("torchvision")
    assert spec is not None and spec.submodule_search_locations, "torchvision is a dependency of this package"
    try:
        for library in Path(spec.submodule_search_locations[0]).glob("_C*"):
            torch.ops.load_library(str(library))
    except OSError:
        return False
    return hasattr(torch.ops.torchvision, "nms")
