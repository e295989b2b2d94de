"""What is published: built, checked, and used as somebody does who has nothing but the package."""

from __future__ import annotations

import os
import re
import shutil
import site
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow
ROOT = Path(__file__).parents[2]
BIN = Path(sys.executable).parent
LOOP = """
import torch
from torch import nn
from torch.nn import functional as F
import dropdiag as dd

torch.manual_seed(0)
model = nn.Sequential(nn.Linear(6, 8), nn.Tanh(), nn.Dropout(0.5), nn.Linear(8, 3))
opt = torch.optim.SGD(model.parameters(), 0.1)
x, y = torch.randn(32, 6), torch.randint(3, (32,))
with dd.Recorder(model, "run", every=1) as rec:
    for _ in range(5):
        loss = F.cross_entropy(model(x), y)
        opt.zero_grad(); loss.backward(); opt.step()
        rec.step(loss=loss)
print(dd.__file__, len(dd.load("run").scalars), sep="|")
"""


def run(*command, cwd, **environment):
    # nothing of the checkout, and nothing of a test that runs around this one
    env = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHONPATH", "PYTEST"))}
    done = subprocess.run(
        [str(part) for part in command], cwd=cwd, env=env | environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, f"{command}\n{done.stdout[-3000:]}\n{done.stderr[-3000:]}"
    return done.stdout


def build(source, out, *options, **environment):
    run(BIN / "python", "-m", "build", "--no-isolation", "--outdir", out, *options, source, cwd=out, **environment)
    return sorted(out.glob("dropdiag-*"))


@pytest.fixture(scope="module")
def tracked():
    done = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.skip("this is no checkout")
    return [name for name in done.stdout.strip("\0").split("\0") if (ROOT / name).is_file()]


@pytest.fixture(scope="module")
def copy(tracked, tmp_path_factory):
    """Return a folder with what is tracked and nothing else, so that a build leaves nothing in the checkout."""
    folder = tmp_path_factory.mktemp("copy") / "dropdiag"
    for name in tracked:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, folder / name)
    return folder


@pytest.fixture(scope="module")
def sdist(copy, tmp_path_factory):
    [archive] = build(copy, tmp_path_factory.mktemp("sdist"), "--sdist")
    return archive


@pytest.fixture(scope="module")
def unpacked(sdist, tmp_path_factory):
    folder = tmp_path_factory.mktemp("unpacked")
    with tarfile.open(sdist) as archive:
        archive.extractall(folder, filter="data")
    [inside] = folder.iterdir()
    return inside


@pytest.fixture(scope="module", params=["compiled", "no compiler", "asked for"])
def wheel(request, unpacked, tmp_path_factory):
    """Return a wheel built from the source distribution, and whether it holds compiled loops."""
    how = {"compiled": {}, "no compiler": {"CC": "/bin/false"}, "asked for": {"DROPDIAG_PURE": "1"}}[request.param]
    [found] = build(unpacked, tmp_path_factory.mktemp("wheel"), "--wheel", **how)
    shutil.rmtree(unpacked / "build")  # a later build would take what was compiled before
    return found, request.param == "compiled"


def test_the_source_distribution_holds_all_that_is_tracked(tracked, unpacked):
    held = {str(path.relative_to(unpacked)) for path in unpacked.rglob("*") if path.is_file()}
    assert set(tracked) - held - {".github"} <= {name for name in tracked if name.startswith(".github/")}
    made = {name for name in held - set(tracked) if not name.startswith("dropdiag.egg-info/")}
    assert made == {"PKG-INFO", "setup.cfg"}


def test_its_tests_run(unpacked):
    some = ("tests/test_package.py", "tests/test_readme.py", "tests/histograms", "tests/test_recorder.py")
    run(BIN / "python", "-m", "pytest", "-q", "-p", "no:cacheprovider", *some, cwd=unpacked, PYTHONPATH=str(unpacked))


def test_the_index_takes_it(sdist, wheel):
    run(BIN / "twine", "check", "--strict", sdist, wheel[0], cwd=sdist.parent)


def test_a_wheel_says_what_it_holds(wheel):
    path, compiled = wheel
    names = zipfile.ZipFile(path).namelist()
    assert any("_native.abi3" in name for name in names) == compiled
    if compiled:
        assert re.search(r"-cp310-abi3-(linux|macosx|win)", path.name)
    else:
        assert path.name.endswith("-py3-none-any.whl")
    assert "dropdiag/py.typed" in names
    assert not [name for name in names if name.startswith(("tests/", "docs/", "benchmarks/")) or name.endswith(".c")]


def test_it_records_where_nothing_else_of_the_project_is(wheel, tmp_path):
    path, compiled = wheel
    run(sys.executable, "-m", "venv", "--without-pip", "v", cwd=tmp_path)
    python = tmp_path / "v" / "bin" / "python"
    packages = next((tmp_path / "v" / "lib").glob("python*/site-packages"))
    run(BIN / "pip", "--python", python, "install", "--no-deps", "--no-index", path, cwd=tmp_path)
    # What dropdiag needs is here already. The paths come after its own, and a .pth file in them, as that of an
    # editable dropdiag, is not followed.
    (packages / "needed.pth").write_text("\n".join(site.getsitepackages()) + "\n", encoding="utf-8")
    where, rows = run(python, "-c", LOOP, cwd=tmp_path).strip().split("|")
    assert Path(where).is_relative_to(packages)
    assert int(rows) > 20
    assert (packages / "dropdiag" / "sketches" / "_native.abi3.so").exists() == compiled
    assert "0.1" in run(tmp_path / "v" / "bin" / "dropdiag", "--version", cwd=tmp_path)


@pytest.mark.skipif(sys.platform != "linux", reason="auditwheel is for Linux")
def test_the_compiled_wheel_needs_the_c_library_alone(unpacked, tmp_path):
    [found] = build(unpacked, tmp_path, "--wheel")
    shutil.rmtree(unpacked / "build")
    told = " ".join(run(BIN / "auditwheel", "show", found, cwd=tmp_path).split())
    assert re.search(r'consistent with the following platform tag: "manylinux', told)
    assert re.search(r"manylinux_2_(5|12|17|28)_", told), told


@pytest.mark.parametrize(
    ("platform", "tags"),
    [("linux", {"manylinux_x86_64", "musllinux_x86_64"}), ("macos", {"macosx_arm64"}), ("windows", {"win_amd64"})],
)
def test_wheels_are_asked_for_on_every_system(platform, tags, copy):
    pytest.importorskip("cibuildwheel")
    arch = {"linux": "x86_64", "macos": "arm64", "windows": "AMD64"}[platform]
    asked = ("--print-build-identifiers", "--platform", platform, "--archs", arch)
    found = run(BIN / "cibuildwheel", *asked, copy, cwd=copy).split()
    assert {name.removeprefix("cp310-") for name in found} == tags
