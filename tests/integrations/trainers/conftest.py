from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch


@pytest.fixture
def fresh_graphs() -> Iterator[None]:
    """No graph of another test counts, and none of this one stays."""
    torch._dynamo.reset()
    yield
    torch._dynamo.reset()
