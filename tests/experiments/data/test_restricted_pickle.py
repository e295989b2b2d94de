from __future__ import annotations

import builtins
import os
import pickle
import pickletools

import numpy as np
import pytest

from dropdiag.errors import DataError
from dropdiag.experiments.data.restricted_pickle import read_pickle

ARRAY = np.arange(24, dtype=np.uint8).reshape(2, 12)


@pytest.mark.parametrize("protocol", [0, 1, 2, 3, 4])
def test_arrays_and_containers_come_back(protocol):
    given = {b"data": ARRAY, "labels": [3, 1], b"names": [b"cat"], "nested": {"n": (1, 2.5, None)}}
    back = read_pickle(pickle.dumps(given, protocol=protocol), "batch")
    np.testing.assert_array_equal(back["data"], ARRAY)
    assert back["data"].dtype == np.uint8
    assert (back["labels"], back["nested"]) == ([3, 1], {"n": (1, 2.5, None)})


def test_a_pickle_as_python_2_and_an_old_numpy_wrote_it():
    old = (
        b"\x80\x02}q\x01(U\x04dataq\x02cnumpy.core.multiarray\n_reconstruct\nq\x03cnumpy\nndarray\nq\x04K\x00\x85"
        b"U\x01b\x87Rq\x05(K\x01K\x01K\x03\x86cnumpy\ndtype\nq\x06U\x02u1K\x00K\x01\x87Rq\x07(K\x03U\x01|NNNJ\xff\xff"
        b"\xff\xffJ\xff\xff\xff\xffK\x00tb\x89U\x03\x01\x80\xfftbU\x06labelsq\x08]q\tK\x07au."
    )
    back = read_pickle(old, "batch")
    np.testing.assert_array_equal(back["data"], np.array([[1, 128, 255]], dtype=np.uint8))
    assert back["labels"] == [7]


def test_the_order_of_columns_is_kept():
    back = read_pickle(pickle.dumps({"data": np.asfortranarray(ARRAY)}, protocol=2), "batch")
    np.testing.assert_array_equal(back["data"], ARRAY)


class Calls:
    def __init__(self, function, *arguments):
        self.call = (function, arguments)

    def __reduce__(self):
        return self.call


@pytest.mark.parametrize(
    ("function", "arguments", "name"),
    [
        (os.mkdir, ("made",), "posix.mkdir"),
        (eval, ("__import__('os').mkdir('made')",), "builtins.eval"),
        (builtins.getattr, (os, "mkdir"), "builtins.getattr"),
        (np.load, ("made",), "numpy.load"),
        (np.frombuffer, (b"12",), "frombuffer"),
    ],
)
@pytest.mark.parametrize("protocol", [2, 4])
def test_anything_else_is_refused_and_not_run(tmp_path, monkeypatch, function, arguments, name, protocol):
    if arguments[0] is os:
        arguments = ("os", "mkdir")
    monkeypatch.chdir(tmp_path)
    content = pickle.dumps({"data": Calls(function, *arguments)}, protocol=protocol)
    with pytest.raises(DataError, match=r"a place/batch: names .*it was refused and not run") as caught:
        read_pickle(content, "a place/batch")
    assert name.split(".")[-1] in str(caught.value)
    assert list(tmp_path.iterdir()) == []


def test_the_same_pickle_would_run_in_an_open_unpickler(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    pickle.loads(pickle.dumps(Calls(os.mkdir, "made"), protocol=2))  # noqa: S301 - to see that the test above can fail
    assert (tmp_path / "made").is_dir()


@pytest.mark.parametrize(
    ("given", "words"),
    [
        (np.arange(3.0), "an array of f8, where one of unsigned bytes was expected"),
        (np.array([1, "a"], dtype=object), "an array of O8"),
        (np.zeros(2, dtype=np.int8), "an array of i1"),
    ],
)
def test_other_arrays_are_refused(given, words):
    with pytest.raises(DataError, match=words):
        read_pickle(pickle.dumps({"data": given}, protocol=2), "batch")


def test_arrays_that_contradict_themselves_are_refused():
    content = pickle.dumps(ARRAY, protocol=2)
    tuple_of_two = b"K\x02K\x0c\x86"
    assert content.count(tuple_of_two) == 1
    for wrong in (b"K\x02K\x0d\x86", b"K\x09K\x0c\x86"):
        with pytest.raises(DataError, match="holds 24 bytes"):
            read_pickle(content.replace(tuple_of_two, wrong), "batch")
    with pytest.raises(DataError, match="impossible shape"):
        read_pickle(content.replace(tuple_of_two, b"K\x02N\x86"), "batch")


def test_bytes_in_another_encoding_are_refused():
    content = pickle.dumps({"data": b"\xff"}, protocol=2)
    assert b"latin1" in content
    with pytest.raises(DataError, match="text in the encoding 'rot_13'"):
        read_pickle(content.replace(b"\x06\x00\x00\x00latin1", b"\x06\x00\x00\x00rot_13"), "batch")


@pytest.mark.parametrize("content", [b"", b"not a pickle", b"\x80\x02", b"\x80\x63.", b"\x1f\x8b\x08\x00"])
def test_what_is_no_pickle_is_an_error_that_names_the_file(content):
    with pytest.raises(DataError, match="a place/batch: is damaged, or no pickle"):
        read_pickle(content, "a place/batch")


def test_a_pickle_cut_anywhere_is_an_error():
    content = pickle.dumps({"data": ARRAY, "labels": [1, 2]}, protocol=2)
    ends = sorted({position for _, _, position in pickletools.genops(content) if position})
    for end in ends:
        with pytest.raises(DataError, match="fetch it again"):
            read_pickle(content[:end], "batch")


def test_state_for_a_function_is_refused_and_leaves_nothing_behind():
    content = b"c_codecs\nencode\n(N}X\x0c\x00\x00\x00__defaults__X\x06\x00\x00\x00latin1\x85stb."
    with pytest.raises(DataError):
        read_pickle(content, "a file")
    array = np.arange(6, dtype=np.uint8)
    assert np.array_equal(read_pickle(pickle.dumps(array, protocol=2), "a file"), array)
    with pytest.raises(DataError):  # the encoding has no default now either
        read_pickle(b"c_codecs\nencode\n(X\x01\x00\x00\x00atR.", "a file")
