"""Makes torchvision importable beside a CPU torch."""

from __future__ import annotations

import sys

import torch


def _declare_operators() -> None:
    """Let torchvision be imported beside a CPU torch.

    The binary on PyPI is linked against CUDA, so beside a CPU torch it does not load, and the import of
    torchvision fails at two operators that are missing. timm needs none of them.
    """
    try:
        import torchvision  # noqa: F401
    except RuntimeError:
        for name in [name for name in sys.modules if name.partition(".")[0] == "torchvision"]:
            del sys.modules[name]
        torch.library.define("torchvision::nms", "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
        torch.library.define("torchvision::qnms", "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")


_declare_operators()
