"""The supply chain: what is installed, what is vendored, and the bill of both."""

from __future__ import annotations

import hashlib
import importlib
import json
import re
import subprocess
import sys
import zipfile
from importlib.metadata import version
from pathlib import Path

import pytest
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

ROOT = Path(__file__).parents[1]
SUPPLY = ROOT / ".ci" / "supply"
VENDOR = ROOT / "dropdiag" / "report" / "vendor"
PLATFORMS = (
    {"sys_platform": "linux", "platform_machine": "x86_64"},
    {"sys_platform": "darwin"},
    {"sys_platform": "win32"},
)
PYTHONS = ("3.10.13", "3.11.7", "3.12.1", "3.13.0")


@pytest.fixture
def script(monkeypatch):
    """Return a script of .ci/supply, imported."""
    monkeypatch.syspath_prepend(str(SUPPLY))
    return importlib.import_module


def environment(python, platform):
    return {"python_full_version": python, "python_version": python.rsplit(".", 1)[0], "extra": "", **platform}


@pytest.fixture
def pins(script):
    locked = script("locked")
    return [*locked.pins(locked.BOOTSTRAP), *locked.pins()]


def test_every_pin_has_hashes_and_no_version_is_pinned_twice(script, pins):
    assert all(pin.hashes and len(set(pin.hashes)) == len(pin.hashes) for pin in pins)
    for path in (script("locked").LOCK, script("locked").BOOTSTRAP):
        found = [(pin.name, pin.version) for pin in script("locked").pins(path)]
        assert len(found) > 3
        assert len(found) == len(set(found))


def test_a_line_that_no_lock_has_is_an_error(script, tmp_path):
    path = tmp_path / "lock.txt"
    for line in ("rich>=13", "rich @ file:rich.whl", "--index-url somewhere", "    --hash=md5:00"):
        path.write_text(f"# a lock\n{line}\n")
        with pytest.raises(
            ValueError, match=re.escape(f"lock.txt, line 2: no pin, hash or comment of a lock: {line!r}")
        ):
            script("locked").pins(path)


@pytest.mark.parametrize("python", PYTHONS)
@pytest.mark.parametrize("platform", PLATFORMS, ids=lambda one: one["sys_platform"])
def test_what_is_declared_is_locked_once_and_in_a_version_that_is_allowed(script, pins, python, platform):
    direct, here = script("direct"), environment(python, platform)
    project = direct.project()
    declared = direct.requirements(*project["project"]["optional-dependencies"])
    declared += [*project["dependency-groups"]["bootstrap"], *project["build-system"]["requires"]]
    for one in map(Requirement, declared):
        if one.marker is None or one.marker.evaluate(here):
            found = {
                pin.version for pin in pins
                if pin.name == canonicalize_name(one.name)
                and (pin.marker is None or Requirement(f"x ; {pin.marker}").marker.evaluate(here))
            }  # fmt: skip
            assert len(found) == 1, f"{one}: {found}; bring the lock up to date by `make lock`"
            assert one.specifier.contains(Version(found.pop())), str(one)


def test_what_is_shipped_is_told_from_what_is_for_development(script, pins):
    found = json.loads((SUPPLY / "scopes.json").read_text())
    required, optional = set(found["required"]), set(found["optional"])
    own = {canonicalize_name(Requirement(one).name) for one in script("direct").requirements()}
    assert own <= required
    assert {"s3fs", "distributed", "tensorboard"} <= optional
    assert not required & optional
    assert required | optional < {pin.name for pin in pins}
    assert not {"pytest", "moto", "wandb"} & (required | optional)


def tracked():
    yield from (ROOT / name for name in ("constraints.txt", "pyproject.toml", "Makefile", ".pre-commit-config.yaml"))
    yield from (path for path in (ROOT / ".ci").rglob("*") if path.is_file() and path.suffix != ".pyc")
    yield VENDOR / "manifest.json"


def test_no_file_names_a_registry_or_a_folder_of_one_machine():
    for path in tracked():
        text = path.read_text(encoding="utf-8")
        if path.name == "pyproject.toml":  # the project's own addresses
            text = re.sub(r"^\[project\.urls\]\n(?:.+\n)+", "", text, flags=re.MULTILINE)
        found = re.findall(
            r".{,20}://.{,40}|\b(?:index-url|find-links|trusted-host)\b|(?<![\w.$])/(?:root|home|opt|tmp|work)/", text
        )
        assert not found, f"{path.name}: {found}"


def commands():
    """Return the lines of the Makefile that start pip to install something."""
    lines = (ROOT / "Makefile").read_text().splitlines()
    return [line.strip() for line in lines if re.match(r"\t.*\bpip\b.* install\b", line)]


def test_make_installs_by_hash_alone():
    by_hash, own = [], []
    for line in commands():
        (by_hash if "--require-hashes" in line else own).append(line)
    assert len(by_hash) == 2
    assert all("--only-binary :all:" in line for line in by_hash)
    assert own == ["$(call pip,$(1)) install --no-deps --no-build-isolation --editable ."]


def test_ci_installs_as_make_does():
    text = (ROOT / ".ci" / "run").read_text()
    assert re.search(r"^make test$", text, re.MULTILINE)
    for path in (ROOT / ".ci" / "run", ROOT / ".pre-commit-config.yaml"):
        assert not re.search(r"\b(?:pip|uv|npm|conda)3? (?:\S+ )*(?:install|sync|add|run)\b", path.read_text()), path


def wheel(folder, name, content="") -> str:
    """Write a wheel that holds one module; return its hash."""
    path, info = folder / f"{name}-1.0-py3-none-any.whl", f"{name}-1.0.dist-info"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(f"{name}.py", content)
        archive.writestr(f"{info}/METADATA", f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
        archive.writestr(
            f"{info}/WHEEL", "Wheel-Version: 1.0\nGenerator: a test\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        )
        archive.writestr(f"{info}/RECORD", "")
    return hashlib.sha256(path.read_bytes()).hexdigest()


def install(folder):
    """Install with the options of the Makefile what the lock of this folder allows."""
    (line,) = [line for line in commands() if "constraints.txt" in line]
    options = line.split(" install ")[1].replace("$(1)/direct.txt", "direct.txt").split()
    where = [
        "--no-index",
        "--find-links",
        ".",
        "--target",
        "installed",
        "--disable-pip-version-check",
        "--no-cache-dir",
    ]
    command = [sys.executable, "-m", "pip", "--isolated", "install", *options, *where]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)


@pytest.mark.skipif(int(version("pip").split(".")[0]) < 26, reason="`make` installs with a newer pip")
def test_pip_refuses_what_the_lock_does_not_name(tmp_path):
    digest = wheel(tmp_path, "honest")
    lock = tmp_path / "constraints.txt"
    (tmp_path / "direct.txt").write_text("honest>=1\n")
    lock.write_text(f"honest==1.0 --hash=sha256:{digest}\n")
    done = install(tmp_path)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "installed" / "honest.py").exists()
    wheel(tmp_path, "honest", "print('changed')\n")
    assert "DO NOT MATCH THE HASHES" in install(tmp_path).stderr
    assert not (tmp_path / "installed" / "honest.py").read_text()
    lock.write_text("# nothing\n")
    done = install(tmp_path)
    assert done.returncode
    assert "must have their versions pinned" in done.stderr


def test_what_is_vendored_is_what_its_manifest_says(script):
    packages = script("vendored").manifest()
    files = {file["path"]: file["sha256"] for package in packages for file in package["files"]}
    there = {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in VENDOR.iterdir()}
    del there["manifest.json"]
    assert there == files
    for package in packages:
        assert re.fullmatch(r"sha512-[A-Za-z0-9+/]{86}==", package["integrity"])
        scripts = [file["path"] for file in package["files"] if file["path"].endswith(".js")]
        assert scripts
        assert all(package["version"] in (VENDOR / path).read_text(encoding="utf-8")[:200] for path in scripts)


def test_licences_lie_beside_what_is_vendored(script):
    for package in script("vendored").manifest():
        own, bundled = sorted((file["path"] for file in package["files"] if file["path"].endswith(".LICENSE")), key=len)
        assert "Permission to use" in (VENDOR / own).read_text(encoding="utf-8")
        text = (VENDOR / bundled).read_text(encoding="utf-8")
        for part in package["bundled"]:
            assert re.search(rf"^(?:.*, )?{part['name']}(?:,.*)?$", text, re.MULTILINE), part
            assert part["licence"]
    patterns = script("direct").project()["project"]["license-files"]
    assert {path for pattern in patterns for path in ROOT.glob(pattern)} >= {*VENDOR.glob("*.LICENSE")}


@pytest.fixture
def bill(script):
    return script("sbom").bill()


def test_the_bill_of_materials_is_valid(bill):
    check = JsonStrictValidator(SchemaVersion.V1_6)
    for part in bill["components"]:  # of a kind's thousands of hashes two; `make slow-supply` looks at all
        for files in part.get("externalReferences", ()):
            del files["hashes"][2:]
    assert check.validate_str(json.dumps(bill)) is None
    small = {**bill, "components": [], "dependencies": []}
    assert check.validate_str(json.dumps(small)) is None
    for broken in ({**small, "components": [{"name": "x"}]}, {**small, "surplus": 1}, {**small, "serialNumber": "1"}):
        assert check.validate_str(json.dumps(broken)) is not None


def test_the_bill_names_every_pin_with_all_its_hashes(bill, pins):
    parts = {one["purl"]: one for one in bill["components"] if one.get("purl", "").startswith("pkg:pypi/")}
    assert len(parts) == len({(pin.name, pin.version) for pin in pins})
    for pin in pins:
        part = parts[f"pkg:pypi/{pin.name}@{pin.version}"]
        (files,) = part["externalReferences"]
        assert {one["content"] for one in files["hashes"]} == {one.removeprefix("sha256:") for one in pin.hashes}
    assert parts["pkg:pypi/torch@2.13.0"]["scope"] == "required"
    assert {one["scope"] for purl, one in parts.items() if re.search("/(?:s3fs|duckdb)@", purl)} == {"optional"}
    assert {one["scope"] for purl, one in parts.items() if re.search("/(?:pytest|pip|wandb)@", purl)} == {"excluded"}


def inside(part):
    yield part
    for one in part.get("components", ()):
        yield from inside(one)


def test_the_bill_names_every_file_that_is_not_dropdiags_own(bill):
    files = {
        one["name"]: one["hashes"][0]["content"] for part in bill["components"] for one in inside(part)
        if one["type"] == "file"
    }  # fmt: skip
    folders = (VENDOR, ROOT / "dropdiag" / "experiments" / "data" / "mnist_sample")
    there = {path for folder in folders for path in folder.iterdir() if path.name != "manifest.json"}
    assert files == {path.relative_to(ROOT).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest() for path in there}


def test_the_bill_says_who_asks_for_what(bill):
    asked = {one["ref"]: one["dependsOn"] for one in bill["dependencies"]}
    root = bill["metadata"]["component"]["bom-ref"]
    refs = {one["bom-ref"] for part in bill["components"] for one in inside(part)} | {root}
    assert len(refs) == sum(1 for part in bill["components"] for _ in inside(part)) + 1
    assert refs.issuperset({*asked, *(one for found in asked.values() for one in found)})
    reached, waiting = {root}, [root]
    for one in waiting:
        new = sorted(set(asked.get(one, ())) - reached)
        reached.update(new)
        waiting += new
    assert {part["bom-ref"] for part in bill["components"]} <= reached
    assert "pkg:pypi/markdown-it-py@4.3.0" in asked["pkg:pypi/rich@15.0.0"]


def test_the_same_files_give_the_same_bill(bill, script):
    assert script("sbom").bill() == bill


def test_every_silenced_security_rule_has_its_reason():
    silenced = []
    for path in (ROOT / "dropdiag").rglob("*.py"):
        lines = path.read_text(encoding="utf-8").splitlines()
        silenced += [(path.name, line) for line in lines if re.search(r"noqa:[^#]*\bS\d{3}\b", line)]
    assert silenced
    for name, line in silenced:
        assert re.search(r"noqa: [A-Z0-9, ]+ - \S.+", line), f"{name}: {line.strip()}"
