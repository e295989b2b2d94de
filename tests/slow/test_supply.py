"""What needs the registries: the vendored files are the published ones, and a wrong hash stops the installation."""

from __future__ import annotations

import importlib
import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator

from tests.test_supply import ROOT, SUPPLY, VENDOR

pytestmark = pytest.mark.slow


@pytest.fixture
def script(monkeypatch):
    monkeypatch.syspath_prepend(str(SUPPLY))
    return importlib.import_module


@pytest.fixture
def npm():
    """Skip where npm or its registry is not to be had."""
    found = shutil.which("npm")
    if found is None:
        pytest.skip("npm is not installed")
    asked = subprocess.run([found, "view", "d3", "name"], capture_output=True, text=True, check=False)
    if asked.returncode:
        pytest.skip(f"npm does not reach its registry: {asked.stderr.strip()}")


def test_what_is_vendored_is_what_is_published(script, npm):
    vendored, files = script("vendored"), 0
    for package in vendored.manifest():
        archive = vendored.published(package["name"], package["version"])
        assert vendored.integrity(archive) == package["integrity"]
        for file in package["files"]:
            if file["from"] != vendored.BUNDLED:
                assert vendored.member(archive, file["from"]) == (VENDOR / file["path"]).read_bytes()
                files += 1
        parts = [{"name": name, "licence": licence} for name, licence, _ in vendored.bundled(package)]
        assert parts == package["bundled"]
    assert files == 4
    sys.stdout.write(f"figures: {json.dumps({'vendored files as published': files})}\n")


def test_the_whole_bill_of_materials_is_valid(script):
    assert JsonStrictValidator(SchemaVersion.V1_6).validate_str(json.dumps(script("sbom").bill())) is None


@pytest.fixture
def checkout(tmp_path):
    """A copy of what `make` installs by."""
    for name in ("Makefile", "pyproject.toml", "constraints.txt"):
        shutil.copy(ROOT / name, tmp_path)
    shutil.copytree(SUPPLY, tmp_path / ".ci" / "supply", ignore=shutil.ignore_patterns("__pycache__"))
    (tmp_path / "dropdiag" / "sketches").mkdir(parents=True)
    (tmp_path / "dropdiag" / "sketches" / "_native.c").touch()
    yield tmp_path
    shutil.rmtree(tmp_path / ".venv", ignore_errors=True)


def make(folder, target):
    done = subprocess.run(["make", target], cwd=folder, capture_output=True, text=True, check=False)
    return done.returncode, done.stdout + done.stderr


def spoil(path: Path, name: str) -> None:
    """Change one digit of every hash of a package."""
    text = path.read_text()
    (entry,) = re.findall(rf"^{name}==.*(?:\n    --hash=.*)+", text, re.MULTILINE)
    other = re.sub(r"(sha256:)(.)", lambda found: found[1] + ("1" if found[2] == "0" else "0"), entry)
    path.write_text(text.replace(entry, other))


def test_a_wrong_hash_stops_the_installation(checkout):
    bootstrap = checkout / ".ci" / "supply" / "bootstrap.txt"
    spoil(bootstrap, "setuptools")
    code, said = make(checkout, ".venv/.bootstrap")
    assert code
    assert "DO NOT MATCH THE HASHES" in said
    assert "setuptools" in said
    assert not (checkout / ".venv" / ".bootstrap").exists()
    shutil.copy(SUPPLY / "bootstrap.txt", bootstrap)
    spoil(checkout / "constraints.txt", "torch")
    code, said = make(checkout, ".venv/.installed")
    assert code
    assert "DO NOT MATCH THE HASHES" in said
    assert "torch" in said
    assert not (checkout / ".venv" / ".installed").exists()
    assert not list((checkout / ".venv").rglob("torch"))


def test_locking_again_keeps_versions_and_mends_hashes(checkout, script):
    lock, locked = checkout / "constraints.txt", script("locked")
    before = {(pin.name, pin.version, pin.marker): set(pin.hashes) for pin in locked.pins(lock)}
    spoil(lock, "iniconfig")
    code, said = make(checkout, "lock")
    assert code == 0, said
    after = {(pin.name, pin.version, pin.marker): set(pin.hashes) for pin in locked.pins(lock)}
    assert after.keys() == before.keys()
    for pin, hashes in before.items():
        assert hashes <= after[pin], pin  # files may be added to a version that is out
    (mended,) = [hashes for (name, _, _), hashes in after.items() if name == "iniconfig"]
    assert mended == before[next(pin for pin in before if pin[0] == "iniconfig")]
