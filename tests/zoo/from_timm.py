"""Networks of timm: its own classes in small sizes, with random weights."""

from __future__ import annotations

import torch

from tests.zoo import importable_torchvision  # noqa: F401 - before timm, which imports torchvision
from tests.zoo.network import Network, classify, images

from timm.layers import DropBlock2d, DropPath, PatchDropout  # isort: skip  # noqa: F401 - used by other networks
from timm.models.convnext import ConvNeXt  # isort: skip
from timm.models.efficientnet import test_efficientnet as small_efficientnet  # isort: skip
from timm.models.mlp_mixer import MlpMixer  # isort: skip
from timm.models.mobilenetv3 import mobilenetv3_small_050  # isort: skip
from timm.models.resnet import BasicBlock, ResNet  # isort: skip
from timm.models.vision_transformer import VisionTransformer  # isort: skip


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
