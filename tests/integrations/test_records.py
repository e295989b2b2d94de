"""Checksums and records against those of TensorBoard's own writer, byte by byte."""

from __future__ import annotations

import io
import warnings

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dropdiag.integrations.records import PART, SHORT, crc32c, record


def test_checksums_that_are_known():
    """RFC 3720, B.4."""
    assert crc32c(bytes(32)) == 0x8A9136AA
    assert crc32c(b"\xff" * 32) == 0x62A8AB43
    assert crc32c(bytes(range(32))) == 0x46DD794E
    assert crc32c(b"123456789") == 0xE3069283


def bit_by_bit(content):
    crc = 0xFFFFFFFF
    for byte in content:
        crc ^= byte
        for _ in range(8):
            crc = crc >> 1 ^ (0x82F63B78 if crc & 1 else 0)
    return crc ^ 0xFFFFFFFF


@given(st.binary(max_size=3 * PART), st.integers(0, 2 * SHORT))
def test_checksums_bit_by_bit(content, zeros):
    for one in (content, content + bytes(zeros), bytes(zeros) + content):
        assert crc32c(one) == bit_by_bit(one)


@pytest.mark.parametrize("size", [0, 1, 3, SHORT - 1, SHORT, 8 * PART, 8 * PART + 1, 16 * PART - 1, 16 * PART, 20_000])
def test_records_are_those_of_tensorboards_writer(size):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # tensorboard's own
        module = pytest.importorskip("tensorboard.summary.writer.record_writer")
    content = np.random.default_rng(size).integers(0, 256, size, np.uint8).tobytes()
    expected = io.BytesIO()
    module.RecordWriter(expected).write(content)
    assert record(content) == expected.getvalue()
