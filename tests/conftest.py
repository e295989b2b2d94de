from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
import torch
from hypothesis import settings

from tests.browser import chromium, visit  # noqa: F401 - fixtures of all tests

settings.register_profile("dropdiag", deadline=None)  # a busy machine is no error
settings.load_profile("dropdiag")


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(7)


@pytest.fixture
def fresh_compiler() -> Iterator[None]:
    """No graph of another test counts, and none of this one stays."""
    torch._dynamo.reset()
    yield
    torch._dynamo.reset()


@pytest.fixture
def mesh() -> Iterator[object]:
    """One process of torch.distributed, on the CPU."""
    from torch.distributed.device_mesh import init_device_mesh

    torch.distributed.init_process_group("gloo", store=torch.distributed.HashStore(), rank=0, world_size=1)
    try:
        yield init_device_mesh("cpu", (1,))
    finally:
        torch.distributed.destroy_process_group()
