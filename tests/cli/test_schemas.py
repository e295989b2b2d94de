"""What every command prints with --json is what its published schema says, and says all of it."""

from __future__ import annotations

import json
from pathlib import Path

import jsonschema
import pytest
import torch
import typer

import dropdiag as dd
from dropdiag.cli import app, outputs
from tests.networks import mlp, train
from tests.synthetic import content, write

from .conftest import call

DOCS = Path(__file__).parents[2] / "docs" / "schemas"


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """Three conditions, three seeds, a rate each, and a run of a real Recorder."""
    folder = tmp_path_factory.mktemp("schemas")
    for condition in ("No dropout", "Dropout", "GAAF"):
        for seed in range(3):
            write(
                folder / "runs" / f"{condition}-s{seed}", content(condition, seed, steps=40, size=500), condition, seed
            )
    model = mlp()
    with dd.Recorder(model, folder / "real" / "run", every=5, probes="full", config={"seed": 3}) as rec:
        train(model, 10, rec)
        with rec.evaluation():
            model.eval()
            model(torch.randn(30, 12))
            model.train()
    (folder / "broken" / "bad").mkdir(parents=True)
    (folder / "broken" / "bad" / "run.json").write_text("{")
    return folder


def arguments_of(name, root, out):
    """What each command is called with; one that is new has none, and fails until it is added."""
    runs, real = root / "runs", root / "real" / "run"
    return {
        "ls": [[runs], [root]],
        "show": [[real], [runs / "Dropout-s0"], [real, "--layer", "0"]],
        "show-ranks": [[real, "--ranks"]],
        "coverage": [[real]],
        "compare": [[runs], [runs, "--out", out / "page.html"]],
        "advise": [[runs], [runs, "--out", out / "advice.html"]],
        "report": [[real, "--out", out / "report.html"]],
        "plot": [[runs, "--out", out / "figures", "--figure", "weights", "--figure", "ensemble"]],
        "export": [[real, "--to", "csv", "--out", out / "csv"]],
        "sql": [[runs, "--out", out / "sql"]],
        "catalog": [[runs]],
        "doctor": [[]],
    }[name]  # fmt: skip


def closed(schema):
    """The schema without keys that it does not name."""
    if isinstance(schema, dict):
        own = {key: closed(value) for key, value in schema.items()}
        return {**own, "additionalProperties": False} if "properties" in own and own.get("type") == "object" else own
    return [closed(one) for one in schema] if isinstance(schema, list) else schema


@pytest.mark.parametrize("name", outputs.OUTPUTS)
def test_outputs_are_what_the_schema_says(name, root, tmp_path):
    published = json.loads((DOCS / f"{name}.schema.json").read_text(encoding="utf-8"))
    jsonschema.Draft202012Validator.check_schema(published)
    validator = jsonschema.Draft202012Validator(closed(published))
    for arguments in arguments_of(name, root, tmp_path):
        code, out, err = call(name.partition("-")[0], *arguments, "--json")
        assert code in {0, 1}, err
        validator.validate(json.loads(out))


def test_every_command_with_json_has_a_schema():
    commands = typer.main.get_command(app).commands
    with_json = {name for name, one in commands.items() if any("--json" in param.opts for param in one.params)}
    assert with_json == {name.partition("-")[0] for name in outputs.OUTPUTS}


def test_the_published_schemas_are_up_to_date(tmp_path):
    outputs.write(tmp_path)
    again = "write them anew: python -m dropdiag.cli.outputs docs/schemas"
    assert sorted(path.name for path in DOCS.iterdir()) == sorted(path.name for path in tmp_path.iterdir()), again
    for path in tmp_path.iterdir():
        assert (DOCS / path.name).read_text(encoding="utf-8") == path.read_text(encoding="utf-8"), again


def test_a_schema_refuses_what_is_wrong():
    validator = jsonschema.Draft202012Validator(outputs.schema("export"))
    validator.validate({"run": "a", "files": ["b"], "problems": []})
    for wrong in ({"run": "a", "files": "b", "problems": []}, {"run": "a", "files": []}, []):
        with pytest.raises(jsonschema.ValidationError):
            validator.validate(wrong)
