"""The example of docs/engines.md does what it says."""

from __future__ import annotations

import re
import subprocess
import sys

from .conftest import ROOT


def test_trainings_of_ones_own(tmp_path):
    text = (ROOT / "docs" / "engines.md").read_text(encoding="utf-8")
    program, script = re.findall(r"^```python\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    (tmp_path / "train.py").write_text(program)
    done = subprocess.run([sys.executable, "-c", script], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.stderr == ""
    assert sorted(done.stdout.splitlines()) == ["lr-0.01 is whole", "lr-0.1 is whole"]
    assert (tmp_path / "out" / "launches" / "lr-0.1.jsonl").read_text().endswith('{"ended": "completed"}\n')
