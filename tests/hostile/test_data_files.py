"""Data files come from others: whatever is in them, they are read or refused, at once and with little memory."""

from __future__ import annotations

import glob
import io
import json
import os
import pickle
import subprocess
import sys
import tarfile
from pathlib import Path

import numpy as np
import pytest
import scipy.io
from hypothesis import given, settings
from hypothesis import strategies as st

from dropdiag.errors import DataError
from dropdiag.experiments.data.datasets import DATASETS
from dropdiag.experiments.data.files import opened
from dropdiag.experiments.data.mat import NewerVersionError, variables
from dropdiag.experiments.data.restricted_pickle import read_pickle
from tests.experiments.image_files import images, published
from tests.hostile.data_folders import ARCHIVE, READERS, make

ROOT = Path(__file__).parents[2]
linux = pytest.mark.skipif(sys.platform != "linux", reason="limits of memory are measured by /proc")


def child(*arguments: object, seconds: float) -> dict:
    """What `tests.hostile.data_child` says; it may hang no longer than that."""
    command = [sys.executable, "-m", "tests.hostile.data_child", *map(str, arguments)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=seconds, check=False)
    assert done.returncode == 0, f"it ended with {done.returncode}: {done.stderr[-2000:]}"
    return json.loads(done.stdout.splitlines()[-1])


@linux
def test_bombs_are_refused_in_a_second_and_with_little_memory(tmp_path):
    results = child("named", tmp_path, seconds=300)
    assert len(results) > 100
    assert {name: told for name, told in results.items() if told["said"] != "refused"} == {}
    assert max(told["seconds"] for told in results.values()) < 2, "seconds of the processor"
    assert max(told["most_mb"] for told in results.values()) < 500


@linux
def test_nearly_good_files_are_read_or_refused(tmp_path):
    results = child("fuzz", ",".join(READERS), 0, 0, tmp_path, seconds=300)
    assert results.keys() == READERS.keys()
    for told in results.values():
        assert told["foreign"] == []
        assert told["inputs"] >= 2000
        assert min(told["read"], told["refused"]) > 0, "a strategy that makes good files alone, or none, finds nothing"
        assert told["most_mb"] < 500


@pytest.mark.parametrize("reader", READERS)
def test_the_good_files_that_they_replace_are_read(tmp_path, reader):
    make(reader, tmp_path)
    contents = DATASETS[READERS[reader][0]].read(tmp_path)
    assert (len(contents.train.labels), len(contents.test.labels)) == (2, 2)


def test_a_pipe_is_named_and_not_waited_for(tmp_path):
    path = make("idx", tmp_path)
    path.unlink()
    os.mkfifo(path)
    with pytest.raises(DataError, match=rf"{path.name}: cannot be read \(is a pipe \(FIFO\)"):
        DATASETS["mnist"].read(tmp_path)


def test_names_in_a_pickle_cannot_move_the_cursor():
    with pytest.raises(DataError) as caught:
        read_pickle(b"cos\x1b[2J\x1b]0;owned\x07\nsystem\n(tR.", "batch")
    assert "os?[2J?]0;owned?.system" in str(caught.value)


LEAVES = st.one_of(
    st.none(), st.booleans(), st.integers(-(1 << 100), 1 << 100), st.integers(0, 255), st.floats(allow_nan=False),
    st.text(st.characters(codec="utf-8"), max_size=300), st.binary(min_size=1, max_size=300),
)  # fmt: skip
KEYS = st.text(st.characters(codec="utf-8"), max_size=20)


@given(
    value=st.recursive(LEAVES, lambda inner: st.lists(inner) | st.dictionaries(KEYS, inner) | st.tuples(inner, inner)),
    labels=st.lists(st.integers(0, 300), max_size=700),
    protocol=st.integers(0, 5),
)
@settings(max_examples=30, deadline=None, database=None)
def test_plain_containers_are_read_as_pickle_reads_them(value, labels, protocol):
    given = copied({"value": value, "labels": labels})
    assert read_pickle(pickle.dumps(given, protocol), "batch") == given


def copied(value):
    """Without parts that are used twice, which no data set has."""
    if isinstance(value, dict):
        return {key: copied(one) for key, one in value.items()}
    return type(value)(map(copied, value)) if isinstance(value, (list, tuple)) else value


@pytest.mark.parametrize("protocol", [0, 1, 2, 3, 4])
def test_long_strings_stay_as_they_are_written(protocol):
    pixels = np.arange(3072 * 200, dtype=np.uint64).astype(np.uint8).reshape(200, 3072)
    back = read_pickle(pickle.dumps({"data": pixels, "text": "é🦊" * 5000}, protocol), "batch")
    np.testing.assert_array_equal(back["data"], pixels)


@pytest.mark.parametrize("form", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_archives_of_all_forms_are_read(tmp_path, form):
    files = {"cifar-100-python/" + "n" * 200: b"x" * 700, **published("cifar100", 3), "é🦊": b"", "z": b"z" * 1024}
    if form == tarfile.USTAR_FORMAT:
        files = {name: content for name, content in files.items() if name.isascii() and len(name) < 100}
    with tarfile.open(tmp_path / ARCHIVE, "w:gz", format=form) as archive:
        for kind, name in (
            (tarfile.DIRTYPE, "cifar-100-python"),
            (tarfile.SYMTYPE, "link"),
            (tarfile.FIFOTYPE, "pipe"),
        ):
            member = tarfile.TarInfo(name)
            member.type, member.linkname, member.mtime = kind, "l" * 80, 1.5
            archive.addfile(member)
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size, member.mtime = len(content), 0.25
            archive.addfile(member, io.BytesIO(content))
    contents = DATASETS["cifar100"].read(tmp_path)
    np.testing.assert_array_equal(contents.train.images, images(3, 100, 0)[0])
    np.testing.assert_array_equal(contents.test.labels, images(3, 100, 1)[1])


FILES = [Path(name) for name in glob.glob(str(Path(scipy.io.__file__).parent / "matlab/tests/data/*_7.*.mat"))]  # noqa: PTH207


@pytest.mark.skipif(not FILES, reason="scipy is installed without its tests' files")
def test_files_that_matlab_wrote_are_read_as_scipy_reads_them():
    compared = 0
    for path in FILES:
        try:
            with opened(path) as file:
                found = {v.name: v.values().reshape(v.shape, order="F") for v in variables(file) if _numbers(v.kind)}
        except NewerVersionError:
            continue
        expected = scipy.io.loadmat(str(path))
        for name in found.keys() & expected.keys():
            np.testing.assert_array_equal(found[name], expected[name])
            compared += 1
    assert compared >= 10


def _numbers(kind: str) -> bool:
    return kind.startswith(("int", "uint", "float"))


@pytest.mark.parametrize("compress", [True, False])
@pytest.mark.parametrize("kind", ["u1", "i2", "f4", "f8", "u8", "i4"])
@pytest.mark.parametrize("shape", [(1, 1), (3, 1), (2, 5), (4, 3, 2), (32, 32, 3, 7), (0, 4)])
def test_arrays_of_all_kinds_come_back(tmp_path, kind, shape, compress):
    given = np.random.default_rng(0).integers(0, 100, shape).astype(kind)
    path = tmp_path / "a.mat"
    scipy.io.savemat(path, {"before": "text", "given": given, "after": [1.0]}, do_compression=compress)
    with opened(path) as file:
        found = {v.name: v.values().reshape(v.shape, order="F") for v in variables(file) if _numbers(v.kind)}
    assert found.keys() == {"given", "after"}
    np.testing.assert_array_equal(found["given"], given)
    assert found["given"].dtype == given.dtype
