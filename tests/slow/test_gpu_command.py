"""What of the GPU's page takes a compiler, driven on the CPU at a small size."""

import pytest

from tests.benchmarks.test_gpu import only, waits

pytestmark = pytest.mark.slow


def test_waits_of_a_compiled_transformer(fresh_compiler):
    section = waits.waits(only("compiled", "bare"))
    assert section.problems == []
    assert "cudaStreamSynchronize" in str(section)
