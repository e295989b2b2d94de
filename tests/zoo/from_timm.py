"""Networks of timm: its own classes in small sizes, with random weights."""

from __future__ import annotations

import sys

import torch

from tests.zoo.network import Network, classify, images


def _declare_operators_of_torchvision() -> None:
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


_declare_operators_of_torchvision()

from timm.layers import DropBlock2d, DropPath, PatchDropout  # noqa: E402, F401 - used by other networks
from timm.models.convnext import ConvNeXt  # noqa: E402
from timm.models.efficientnet import test_efficientnet as small_efficientnet  # noqa: E402
from timm.models.mlp_mixer import MlpMixer  # noqa: E402
from timm.models.mobilenetv3 import mobilenetv3_small_050  # noqa: E402
from timm.models.resnet import BasicBlock, ResNet  # noqa: E402
from timm.models.vision_transformer import VisionTransformer  # noqa: E402


def resnet() -> torch.nn.Module:
    return ResNet(BasicBlock, [1, 1, 1, 1], num_classes=5, channels=(8, 12, 16, 24), drop_rate=0.2, drop_path_rate=0.1)


def vit(**options) -> torch.nn.Module:
    return VisionTransformer(
        img_size=32,
        patch_size=8,
        embed_dim=24,
        depth=3,
        num_heads=3,
        num_classes=5,
        proj_drop_rate=0.1,
        attn_drop_rate=0.1,
        drop_path_rate=0.1,
        **options,
    )


def vit_checkpointed() -> torch.nn.Module:
    model = vit()
    model.set_grad_checkpointing(True)
    return model


def convnext() -> torch.nn.Module:
    return ConvNeXt(num_classes=5, depths=(1, 1, 2, 1), dims=(8, 12, 16, 24), drop_path_rate=0.1)


def efficientnet() -> torch.nn.Module:
    return small_efficientnet(num_classes=5, drop_rate=0.2, drop_path_rate=0.1)


def mobilenet() -> torch.nn.Module:
    return mobilenetv3_small_050(num_classes=5, drop_rate=0.2)


def mixer() -> torch.nn.Module:
    return MlpMixer(num_classes=5, img_size=32, patch_size=8, num_blocks=2, embed_dim=24, proj_drop_rate=0.1)


NETWORKS = tuple(
    Network(f"timm_{build.__name__}", build, images, classify)
    for build in (resnet, vit, vit_checkpointed, convnext, efficientnet, mobilenet, mixer)
)
