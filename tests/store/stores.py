"""A store in memory that fails on demand."""

from __future__ import annotations

import random
from collections.abc import Callable

import pytest

fsspec = pytest.importorskip("fsspec", reason="needs dropdiag[remote]")

MEMORY = type(fsspec.filesystem("memory"))
CHANGES = ("pipe_file", "rm_file")
"""What changes the store: to put an object, to remove one."""


def objects(root):
    """Return the objects below a URL: path from there -> bytes."""
    system, start = fsspec.filesystem("memory"), root.removeprefix("memory:/").rstrip("/") + "/"
    return {name.removeprefix(start): system.cat_file(name) for name in sorted(system.find(start))}


def watch(patch, before: Callable[[str, str], None], after: Callable[[str, str], None] = lambda *_: None):
    """Call something before and after each change of a store in memory, with what is done and to which object."""
    for name in CHANGES:
        patch.setattr(MEMORY, name, _watched(name, getattr(MEMORY, name), before, after))


def _watched(name, original, before, after):
    def changed(self, path, *args, **kwargs):
        before(name, path)
        found = original(self, path, *args, **kwargs)
        after(name, path)
        return found

    return changed


def refuse_from(patch, number):
    """Let the store refuse every change from one on, as for a process that is gone; return what was changed."""
    done = []

    def before(what, path):
        if len(done) >= number:
            raise OSError("the process is gone")
        done.append((what, path))

    watch(patch, before)
    return done


def fail_at_random(patch, seed, share=0.4):
    """Let some changes fail: before anything is done, or when all is done and only the answer is lost."""
    drawn = random.Random(seed)
    failed = []

    def may_fail(what, path):
        if drawn.random() < share / 2:
            failed.append(path)
            raise OSError("the network is gone")

    watch(patch, may_fail, may_fail)
    return failed
