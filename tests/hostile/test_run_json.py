"""``run.json`` comes from others: each field of it, missing, null or absurd, leads to one error that names it."""

from __future__ import annotations

import copy
import json
import os
import random
import shutil
import time
from pathlib import Path

import jsonschema
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import dropdiag as dd
from dropdiag.errors import DropdiagWarning, RunError
from dropdiag.store import limits
from dropdiag.store.catalog import Catalog
from dropdiag.store.door import reading, schema
from dropdiag.store.folder import read_meta
from tests.cli.conftest import call
from tests.described import write_meta
from tests.frozen.expect import RECORDED
from tests.hostile.run_json import (
    ABSURD,
    MISSING,
    Example,
    changed,
    examples,
    places,
    read_everything,
    read_run,
    told,
    why_refused,
    write,
)

FILE = Path("/somewhere/run.json")
FEW = (MISSING, None, True, -1, 10**30, 1e300, "x" * 5000, [None], {"a": 1}, float("nan"), "\ud800")


@pytest.fixture(scope="module")
def runs(tmp_path_factory) -> list[Example]:
    return examples(tmp_path_factory.mktemp("runs"))


@pytest.fixture(scope="module")
def good(tmp_path_factory) -> Path:
    return Path(shutil.copytree(RECORDED / "mlp" / "no-dropout-s0", tmp_path_factory.mktemp("good") / "run"))


def content_of(one: Example, path: tuple, value: object) -> bytes:
    """Return the content with another value at a path: the rest is not copied, of which there is much."""
    return json.dumps(
        changed({**one.meta, path[0]: copy.deepcopy(one.meta[path[0]])}, path, value, copied=False)
    ).encode()


def refusal(content: bytes) -> str:
    begun = time.process_time()
    with pytest.raises(RunError) as caught:
        reading.read(content, FILE)
    assert time.process_time() - begun < 1.0
    return str(caught.value)


@pytest.mark.parametrize("path", sorted(RECORDED.rglob("run.json")), ids=lambda path: path.parent.name)
def test_what_dropdiag_wrote_is_read_as_it_is_written(path):
    content = path.read_bytes()
    assert reading.read(content, path) == json.loads(content)


def test_each_schema_is_read_as_it_is_written(runs):
    for one in runs:
        content = json.dumps(one.meta).encode()
        assert reading.read(content, FILE) == one.meta
    assert {one.meta["schema"] for one in runs} == {1, 2, 3}


def test_every_field_that_is_missing_or_of_another_type_is_named_or_is_allowed_to_be(runs):
    refused = 0
    for one in runs:
        for path in places(one.meta, rows=1):
            for value in FEW if one.meta["schema"] == 3 else FEW[:2]:
                said = why_refused(content_of(one, path, value), FILE)
                # an entry that a list lacks is not known by its place: the list is named
                field = path[:1] if value is MISSING and isinstance(path[-1], int) else path
                assert not said or told(field) in said or path[0] in ("format", "schema"), (path, value)
                refused += bool(said)
    assert refused > 1000


@pytest.mark.parametrize("kind", ["", "input", "Net", "x" * 300, "\x1b[31m"])
def test_a_tensor_of_the_chain_of_no_known_kind_is_named(runs, kind):
    """Each kind stands for a quantity: of another one the gradient flow cannot be told."""
    for one in runs:
        if one.meta.get("chain"):
            assert "chain[0].kind is" in refusal(content_of(one, ("chain", 0, "kind"), kind))


REQUIRED = ("name", "created", "ended", "state", "error", "config", "steps", "versions", "probes", "disabled_probes",
            "warnings", "layers", "activations", "sessions")  # fmt: skip


@pytest.mark.parametrize("field", REQUIRED)
def test_what_every_version_writes_has_to_be_there(runs, field):
    for one in runs:
        without = json.dumps(changed(one.meta, (field,), MISSING)).encode()
        assert f"{FILE} is damaged: {field} is missing" in refusal(without)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ('"steps": 20', '"steps": NaN', "steps is NaN, which is no number"),
        ('"steps": 20', '"steps": 1e999', "steps is 1e999, which is no number"),
        ('"steps": 20', f'"steps": {"9" * 5000}', "steps is an integer of 5,000 digits"),
        ('"steps": 20', '"steps": 20, "steps": 21', "steps stands twice"),
        ('"rate": 0.4', '"rate": 0.4, "r\\u0061te": 0', "config.rate stands twice"),
        ('"rate": 0.4', f'"rate": {"[" * 100_000}{"]" * 100_000}', "rate holds lists and objects more than 64 deep"),
        ('"rate": 0.4', f'"rate": {"[" * 100_000}', "rate holds lists and objects more than 64 deep"),
        ('"rate": 0.4', f'"rate": {"[" * 63}{"]" * 63}', "rate holds lists and objects more than 64 deep"),
        ('"rate": 0.4', '"rate": "\\ud800"', "config.rate holds half of a character"),
        ('"rate": 0.4', f'"rate": [{"[]," * 900_000}0]', "config is too large"),
        ('"rate": 0.4', f'"rate": [{"0," * 3_100_000}0]', "config is too large"),
        ('"rate": 0.4', f'"rate": "{"x" * (limits.STRING + 1)}"', "config.rate is a text of 1,048,577 characters"),
        ('"rate": 0.4', f'"{"x" * 5000}": 0', "config has a key that is a text of 5,000 characters"),
        ('"layer": "0"', '"layer": "a\\u0000b"', "layers[0].layer is 'a\\x00b', which holds a NUL character"),
        ('"layer": "0"', f'"layer": "{"x" * 2**20}"', "layers[0].layer is a text of 1,048,576 characters"),
        ('"layers": [', f'"layers": [{"{}," * 300_000}', "layers is a list with 300,0"),
        ('"layers": [', f'"layers": [{"{}," * 1_600_000}', "layers is too large"),
        ('"first_segment": 1', '"first_segment": 1, "world_size": 1000000', "sessions[0].world_size is 1000000"),
        ('"first_segment": 1', '"first_segment": 1, "process": {"pid": "/tmp"}', "sessions[0].process.pid is '/tmp'"),
        ('"created": "2026', '"created": "yesterday 2026', "created is 'yesterday"),
        ('"state": "completed"', '"state": "done"', "state is 'done', where running, completed, failed or interrupted"),
        ('{\n "format"', '\ufeff{\n "format"', "byte order mark"),
    ],
)  # fmt: skip
def test_what_is_absurd_is_said_in_a_second(old, new, message):
    text = (RECORDED / "mlp" / "dropout-s0" / "run.json").read_text()
    assert old in text
    assert message in refusal(text.replace(old, new, 1).encode("utf-8", "surrogatepass"))


@pytest.mark.parametrize(
    "content", [b"", b"\0" * 1000, b"{", b"[1]", b'"run"', b'{"format": "dropdiag-run"}', b"\xff\xfe{"]
)
def test_what_is_no_run_json_is_said(content):
    assert str(FILE) in refusal(content)


def test_halves_of_characters_in_sentences_of_an_earlier_version_are_read_as_escapes():
    meta = json.loads((RECORDED / "mlp" / "dropout-s0" / "run.json").read_text())
    odd = meta | {"error": "FileNotFoundError: \udcff.jpg", "warnings": ["at \ud800"]}
    read = reading.read(json.dumps(odd).encode(), FILE)
    assert read == meta | {"error": "FileNotFoundError: \\xff.jpg", "warnings": ["at \\ud800"]}
    for bad in (odd | {"steps": float("nan")}, odd | {"config": {"a": "\ud800"}}, odd | {"layers": None}):
        assert str(FILE) in refusal(json.dumps(bad).encode())


def test_keys_that_are_not_known_are_kept():
    text = (RECORDED / "mlp" / "dropout-s0" / "run.json").read_text()
    content = text.replace('"layer": "0"', '"layer": "0", "colour": [1, {}]', 1).replace(
        '"steps"', '"moon": {"a": 1}, "steps"', 1
    )
    meta = reading.read(content.encode(), FILE)
    assert meta == json.loads(content)
    assert meta["layers"][0]["colour"] == [1, {}]


@settings(max_examples=15, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
@given(draw=st.randoms(use_true_random=False))
def test_what_passes_the_door_can_be_read(runs, draw):
    """Of changes at random, those that pass: whatever is asked raises dropdiag's own errors alone."""
    one = draw.choice(runs)
    made, passing = one.meta, list(places(one.meta))
    while made is one.meta or why_refused(json.dumps(made).encode(), FILE):
        made = changed(one.meta, draw.choice(passing), draw.choice(ABSURD))
    write(one, made)
    try:
        read_run(one)
    finally:
        write(one, one.meta)


def test_nor_does_it_stop_a_command_a_comparison_or_a_report(runs, good, tmp_path):
    one = runs[2]
    odd = {"layer": "\x1b[31m", "kind": "=HYPERLINK(1)", "type": "", "activation": "../../x", "skipped": "</script>"}
    write(one, changed(one.meta, ("layers", 0), {**one.meta["layers"][0], **odd}))
    try:
        read_everything(one, good, page=tmp_path / "page.html")
    finally:
        write(one, one.meta)


@pytest.fixture
def mixed(tmp_path):
    """Two good runs, and a bad one that lacks its layers."""
    for name in ("a", "b", "bad"):
        shutil.copytree(RECORDED / "mlp" / f"dropout-s{'abbad'.index(name) % 3}", tmp_path / name)
    meta = json.loads((tmp_path / "bad" / "run.json").read_text())
    del meta["layers"]
    write_meta(tmp_path / "bad" / "run.json", meta)
    return tmp_path


WHY = "bad/run.json is damaged: layers is missing"


@pytest.mark.parametrize("where", ["", "*", "[ab]*"])
def test_a_bad_run_among_others_is_named_and_they_are_read(mixed, where):
    with pytest.warns(DropdiagWarning, match=WHY):
        found = dd.load(mixed / where if where else mixed)
    assert [run.name for run in found] == ["a", "b"]
    assert len(found.select("loss"))


def test_a_bad_run_that_is_asked_for_itself_is_an_error(mixed):
    for where in (mixed / "bad", [mixed / "a", mixed / "bad"], str(mixed / "bad*")):
        with pytest.raises(RunError, match=WHY):
            dd.load(where)


def test_it_stops_no_command_and_no_catalog(mixed, tmp_path_factory):
    with pytest.warns(DropdiagWarning, match=WHY):
        assert Catalog(mixed).table["path"].tolist() == ["a", "b"]
    with pytest.warns(DropdiagWarning, match=WHY):
        assert len(Catalog(mixed).runs()) == 2
    code, out, err = call("ls", mixed, "--json", columns=300)
    assert [run["name"] for run in json.loads(out)["runs"]] == ["a", "b"]
    assert WHY in out + err
    out = tmp_path_factory.mktemp("out")
    for command in (("compare", f"A={mixed}/a", f"B={mixed}/b*", "--json"), ("sql", mixed, "--out", out / "sql")):
        code, said, err = call(*command, columns=300)
        assert code in (0, 1), err
        assert WHY in (said + err).replace("\n", " ")
    assert call("show", mixed / "bad")[0] == 2


def test_a_link_out_of_the_run_a_pipe_and_a_device_are_not_read(tmp_path):
    run = tmp_path / "run"
    shutil.copytree(RECORDED / "mlp" / "dropout-s0", run)
    elsewhere = tmp_path / "elsewhere.json"
    (run / "run.json").rename(elsewhere)
    (run / "run.json").symlink_to(elsewhere)
    with pytest.raises(RunError, match="leads out of"):
        dd.load(run)
    (run / "run.json").unlink()
    os.mkfifo(run / "run.json")
    with pytest.raises(RunError):
        read_meta(run)
    (run / "run.json").unlink()
    with (run / "run.json").open("wb") as file:
        file.truncate(3 << 30)
    with pytest.raises(RunError, match="3,221,225,472 bytes"):
        dd.load(run)


@pytest.mark.parametrize("seed", [2**128 - 1, 2**127 + 11, -(2**128)])
def test_seeds_of_128_bits_are_shown_and_compared(tmp_path, seed):
    """As `numpy.random.SeedSequence().entropy` gives them."""
    for condition, source in (("Dropout", "dropout-s0"), ("No dropout", "no-dropout-s0")):
        for place, own in enumerate((seed, seed - 1)):
            path = shutil.copytree(
                RECORDED / "mlp" / source.replace("s0", f"s{place}"), tmp_path / f"{condition}-{place}"
            )
            meta = json.loads((path / "run.json").read_text())
            meta["config"] = {"condition": condition, "seed": own}
            write_meta(path / "run.json", meta)
    runs = dd.load(tmp_path)
    assert {int(one) for one in runs.select("loss")["seed"]} == {seed, seed - 1}
    assert dd.compare(runs).table["paired"].all()
    listed = json.loads(call("ls", tmp_path, "--json", "--sort", "seed")[1])["runs"]
    assert {one["seed"] for one in listed} == {seed, seed - 1}
    assert str(seed) in dd.report(runs, tmp_path / "page.html").read_text()


def test_a_folder_whose_name_is_no_utf_8_is_shown_with_escapes(tmp_path):
    name = os.fsencode(tmp_path / "runs") + b"/d-\xff\xfe"
    shutil.copytree(os.fsencode(RECORDED / "mlp" / "dropout-s0"), name)
    shutil.copytree(RECORDED / "mlp" / "dropout-s1", tmp_path / "runs" / "e")
    runs = dd.load(tmp_path / "runs")
    assert [run.name for run in runs] == ["d-\\xff\\xfe", "e"]
    assert "d-\\xff\\xfe" in set(runs.select("loss")["run"])
    for command in (
        ("ls", tmp_path / "runs"),
        ("ls", tmp_path / "runs", "--json"),
        ("show", os.fsdecode(name), "--json"),
    ):
        code, out, _ = call(*command)
        assert code == 0
        assert "d-" in out.encode("utf-8").decode()
    dd.report(runs, tmp_path / "page.html").read_text("utf-8").encode("utf-8")
    (Path(os.fsdecode(name)) / "run.json").write_text("{")
    with pytest.warns(DropdiagWarning) as caught:
        dd.load(tmp_path / "runs")
    str(caught[0].message).encode("utf-8")


def test_the_published_schema_is_that_of_the_model(runs):
    published = Path("docs/run.schema.json")
    assert published.read_text() == schema.text(), (
        "write it anew: python -m dropdiag.store.door.schema > docs/run.schema.json"
    )
    validator = jsonschema.Draft202012Validator(schema.json_schema())
    validator.check_schema(schema.json_schema())
    for path in RECORDED.rglob("run.json"):
        validator.validate(json.loads(path.read_text()))
    for one in runs:
        validator.validate(one.meta)
    draw = random.Random(0)
    assert not validator.is_valid(changed(runs[draw.randrange(3)].meta, ("layers", 0, "kind"), None))
