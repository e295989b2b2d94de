"""The block of arrays is read again as it was, by our own reader and by zlib alone; no name ends a script."""

import base64
import json
import zlib

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dropdiag.report.binary import Blob, read, safe_json


def test_arrays_come_back_as_they_were():
    rng, blob = np.random.default_rng(0), Blob()
    arrays = {"u1": rng.integers(0, 256, 5), "u2": rng.integers(0, 65_536, (3, 7)), "f4": rng.normal(size=11)}
    places = {kind: blob.add(array, kind) for kind, array in arrays.items()}
    for kind, array in arrays.items():
        assert np.array_equal(
            read(blob.text(), places[kind]), array.astype(read(blob.text(), places[kind]).dtype).ravel()
        )
    assert all(place["at"] % 8 == 0 for place in places.values())


def test_the_block_is_little_endian_whatever_wrote_it():
    blob = Blob()
    place = blob.add(np.array([1.5, -2.0], dtype=">f8"), "f4")
    raw = zlib.decompress(base64.b64decode(blob.text()))
    assert np.array_equal(np.frombuffer(raw, "<f4", 2, place["at"]), [1.5, -2.0])


@given(st.text())
def test_json_survives_and_holds_nothing_that_ends_a_script(text):
    made = safe_json({"name": text})
    assert json.loads(made) == {"name": text}
    assert not set("<>&\u2028\u2029") & set(made)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), np.float32("nan")])
def test_what_json_does_not_know_becomes_null(value):
    assert json.loads(safe_json([value, 1.0, np.int64(3)])) == [None, 1.0, 3]
