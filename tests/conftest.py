from __future__ import annotations

import numpy as np
import pytest
from hypothesis import settings

settings.register_profile("dropdiag", deadline=None)  # a busy machine is no error
settings.load_profile("dropdiag")


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(7)
