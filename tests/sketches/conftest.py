"""What tests of sketches share."""

import pytest

from dropdiag.sketches import native


@pytest.fixture
def without(monkeypatch):
    """Call a function as if the compiled loops were not built."""

    def run(function, *args):
        with monkeypatch.context() as patched:
            patched.setattr(native, "loops", None)
            return function(*args)

    return run
