"""Whole outputs of larger compiled models, with a Recorder and without."""

from __future__ import annotations

import pytest

from tests.recording import test_compiled_outputs
from tests.recording.test_compiled_outputs import assert_outputs_are_the_same, language_model, token_classifier, vision

pytestmark = [*test_compiled_outputs.pytestmark, pytest.mark.slow]


@pytest.mark.parametrize("build", [token_classifier, language_model, vision])
def test_whole_outputs_are_the_same_with_and_without(tmp_path, build):
    assert_outputs_are_the_same(tmp_path, build)
