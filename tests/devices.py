"""What a test runs on: the CPU, and a CUDA GPU where there is one. ``pytest -m cuda`` runs the latter alone."""

import pytest
import torch

NO_GPU = pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA GPU here")
CUDA = pytest.param("cuda", marks=[pytest.mark.cuda, NO_GPU])
DEVICES = ["cpu", CUDA]
