"""Lets the CUDA build of torchvision be imported beside a CPU build of PyTorch.

PyPI has torchvision for CUDA only. Its Python code runs anywhere, but on import it registers shapes for operators that
its compiled part declares, and that part needs CUDA's libraries. Here the operators are declared, without code, just
before torchvision is imported. Nothing that vLLM or Transformers do with frames calls them.

`install_vllm.sh` puts this module beside a `.pth` file that imports it, since vLLM starts processes of its own.
"""

import sys
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec

DECLARED = [f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor" for name in ("nms", "qnms")]


class DeclareOperators(MetaPathFinder):
    """Finds no module; it only notices that torchvision is about to be imported."""

    library = None

    def find_spec(self, fullname: str, path: object = None, target: object = None) -> ModuleSpec | None:
        if fullname == "torchvision" and DeclareOperators.library is None:
            import torch

            DeclareOperators.library = torch.library.Library("torchvision", "DEF")  # lives as long as the process
            for schema in DECLARED:
                DeclareOperators.library.define(schema)
        return None


sys.meta_path.insert(0, DeclareOperators())
