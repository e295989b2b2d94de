"""Compiled models give what they give without a Recorder, field by field; gradients are right or missing with a word."""

import copy
import dataclasses
import shutil
from collections import OrderedDict

import numpy as np
import pytest
import torch
import transformers
from torch import nn
from torch.utils.checkpoint import checkpoint

import dropdiag as dd
from dropdiag.errors import DropdiagWarning
from tests.zoo.from_timm import VisionTransformer  # the module makes torchvision importable, as transformers tries

pytestmark = [
    pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning", "ignore::UserWarning:torch"),
    pytest.mark.usefixtures("fresh_compiler"),
]


@dataclasses.dataclass
class Answer:
    loss: torch.Tensor
    parts: tuple


class Notes:
    def __init__(self):
        self.kind, self.calls, self.seen = None, 0, []


class Thoughtful(nn.Module):
    """Changes Python objects on its way, before and after its activations, and answers by what they are then."""

    def __init__(self):
        super().__init__()
        self.a, self.b, self.norm = nn.Linear(6, 8), nn.Linear(8, 4), nn.BatchNorm1d(8)
        self.relu, self.silu, self.drop = nn.ReLU(inplace=True), nn.SiLU(), nn.Dropout(0.3)
        self.notes = Notes()

    def forward(self, x):
        vars(self.notes)["begun"] = True
        z = self.relu(self.a(x))
        self.notes.kind, self.notes.calls = "answer", self.notes.calls + 1
        z = self.drop(self.silu(self.norm(z)))
        self.notes.seen.append(len(self.notes.seen))
        vars(self.notes)["ended"] = self.notes.calls
        logits = self.b(z)
        if self.notes.kind != "answer" or "ended" not in vars(self.notes):
            return {"lost": logits}
        return OrderedDict(answer=Answer(logits.square().mean(), (logits, [z, {"x": x}])), calls=self.notes.calls)


def thoughtful():
    return Thoughtful(), {"x": torch.randn(5, 6)}


def classifier():
    config = transformers.DistilBertConfig(vocab_size=50, dim=16, hidden_dim=32, n_layers=1, n_heads=2)
    inputs = {"input_ids": torch.randint(50, (3, 7)), "labels": torch.tensor([0, 1, 0])}
    return transformers.DistilBertForSequenceClassification(config), inputs


def token_classifier():
    config = transformers.BertConfig(
        vocab_size=50, hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=32, num_labels=3,
    )  # fmt: skip
    ids = torch.randint(50, (3, 7))
    return transformers.BertForTokenClassification(config), {"input_ids": ids, "labels": ids % 3}


def language_model():
    config = transformers.GPT2Config(
        vocab_size=50, n_positions=32, n_embd=16, n_layer=1, n_head=2, use_cache=False
    )  # its embedding is its last layer's weight
    ids = torch.randint(50, (3, 7))
    return transformers.GPT2LMHeadModel(config), {"input_ids": ids, "labels": ids}


def vision():
    model = VisionTransformer(16, 8, num_classes=3, embed_dim=16, depth=1, num_heads=2, proj_drop_rate=0.2)
    return model, {"x": torch.randn(3, 3, 16, 16)}


def leaves(value):
    """Return what a nested output holds, with the classes and keys on the way."""
    if dataclasses.is_dataclass(value) and not isinstance(value, dict):
        value = vars(value)
    if isinstance(value, dict):
        return [type(value), *(leaf for key, inner in value.items() for leaf in (key, *leaves(inner)))]
    if isinstance(value, (tuple, list)):
        return [type(value), *(leaf for inner in value for leaf in leaves(inner))]
    return [value.detach().clone() if isinstance(value, torch.Tensor) else value]


def loss_of(output):
    return sum(leaf.float().square().mean() for leaf in tensors(output) if leaf.requires_grad)


def tensors(value):
    if isinstance(value, torch.Tensor):
        return [value]
    if dataclasses.is_dataclass(value) and not isinstance(value, dict):
        value = vars(value)
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, (tuple, list)) else ()
    return [tensor for part in inner for tensor in tensors(part)]


def trained(build, path, steps=2, **compiled):
    """Return everything that two training steps and an evaluation leave behind."""
    torch._dynamo.reset()
    torch.manual_seed(0)
    model, inputs = build()
    forward = torch.compile(model, **compiled)
    recorder = None if path is None else dd.Recorder(forward, path, every=1, strict=True)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    found = []
    for _ in range(steps):
        output = forward(**inputs)
        optimizer.zero_grad()
        loss_of(output).backward()
        found += leaves(output) + leaves([p.grad for p in model.parameters()])
        optimizer.step()
        if recorder is not None:
            recorder.step()
    model.eval()
    with torch.no_grad():
        found += leaves(forward(**inputs))
    if recorder is not None:
        recorder.close()
    notes = copy.deepcopy([vars(getattr(model, name)) for name in ("notes", "config") if hasattr(model, name)])
    return found + leaves(dict(model.state_dict())) + [torch.get_rng_state()], notes


def assert_the_same(first, second):
    assert len(first) == len(second)
    for mine, its in zip(first, second, strict=True):
        assert torch.equal(mine, its) if isinstance(mine, torch.Tensor) else mine == its


@pytest.mark.parametrize("build", [thoughtful, classifier])  # tests/slow has larger ones
def test_whole_outputs_are_the_same_with_and_without(tmp_path, build):
    assert_outputs_are_the_same(tmp_path, build)


def assert_outputs_are_the_same(tmp_path, build):
    """Assert that a model trains to the same, and gives the same, compiled with a Recorder and without one."""
    options = {"backend": "aot_eager", "fullgraph": build in (thoughtful, classifier, vision)}
    bare, notes = trained(build, None, **options)
    recorded, recorded_notes = trained(build, tmp_path / "run", **options)
    assert_the_same(bare, recorded)
    assert notes == recorded_notes
    flow = dd.load(tmp_path / "run").scalars.query("quantity == 'net_grad_abs_mean'")["value"]
    assert len(flow) >= 2
    assert (flow > 0).all()


def test_whole_outputs_are_the_same_by_the_compiler_itself(tmp_path):
    if not any(map(shutil.which, ("c++", "g++", "clang++"))):
        pytest.skip("inductor needs a C++ compiler on the path")
    options = {"mode": "reduce-overhead", "dynamic": True, "fullgraph": True}
    bare, notes = trained(thoughtful, None, steps=1, **options)
    recorded, recorded_notes = trained(thoughtful, tmp_path / "run", steps=1, **options)
    assert_the_same(bare, recorded)
    assert notes == recorded_notes


class Situation(nn.Module):
    """One way in which a net value comes to its activation."""

    def __init__(self, case, inplace):
        super().__init__()
        self.a, self.b, self.out = nn.Linear(6, 8), nn.Linear(8, 8), nn.Linear(8, 3)
        self.relu, self.silu, self.drop, self.case = nn.ReLU(inplace), nn.SiLU(inplace), nn.Dropout(0.3), case

    def inner(self, z):
        return self.drop(self.silu(self.b(self.relu(z))))

    def forward(self, x):
        z = self.a(x)
        if self.case == "a view":
            return self.out(self.inner(z.view(2, -1, 8).transpose(0, 1)))
        if self.case == "a checkpoint":
            return self.out(checkpoint(self.inner, z, use_reentrant=False))
        if self.case != "a net value":
            torch._dynamo.graph_break()
        if self.case == "a checkpoint after a break":
            return self.out(checkpoint(self.inner, z, use_reentrant=False))
        if self.case == "overwritten after a break":
            h = self.relu(z)
            return self.out(self.silu(self.b(h)) + z.add_(1))
        if self.case == "used twice after a break":
            return self.out(self.inner(z) + z)
        return self.out(self.inner(z))


def flows(path, case, inplace, compiled):
    torch.manual_seed(0)
    model = Situation(case, inplace)
    forward = torch.compile(model, backend="aot_eager") if compiled else model
    with dd.Recorder(model, path, every=1, probes=["gradient_flow"]) as rec:
        for _ in range(2):
            forward(torch.randn(4, 6)).square().sum().backward()
            rec.step()
    flow = dd.load(path).scalars.query("quantity == 'net_grad_abs_mean'")
    return {(row.step, row.layer, row.call): row.value for row in flow.itertuples()}


SEEN = [
    ("a net value", True), ("a view", False), ("a view", True), ("a checkpoint", False), ("a break", False),
    ("used twice after a break", False),
]  # fmt: skip


@pytest.mark.parametrize(("case", "inplace"), SEEN)
def test_gradients_are_those_of_the_eager_model(tmp_path, case, inplace):
    compiled, eager = (flows(tmp_path / str(c), case, inplace, c) for c in (True, False))
    assert compiled.keys() == eager.keys()
    np.testing.assert_allclose(list(compiled.values()), list(eager.values()), rtol=1e-6)
    assert all(value > 0 for value in eager.values())


@pytest.mark.parametrize(
    ("case", "inplace"),
    [("a break", True), ("overwritten after a break", False), ("a checkpoint after a break", False)],
)
def test_a_gradient_that_no_graph_can_tell_is_missing_with_a_word(tmp_path, case, inplace):
    eager = flows(tmp_path / "eager", case, inplace, False)
    with pytest.warns(DropdiagWarning, match="came into a compiled graph from outside"):
        compiled = flows(tmp_path / "run", case, inplace, True)
    assert np.isnan([value for key, value in compiled.items() if key[1] == "relu"]).all()
    assert all(np.isclose(value, eager[key]) for key, value in compiled.items() if key[1] != "relu")


def test_checkpoints_that_two_forward_passes_share_are_told(tmp_path):
    torch.manual_seed(0)
    model = Situation("a checkpoint", False)
    forward = torch.compile(model, backend="aot_eager", fullgraph=True)
    with dd.Recorder(model, tmp_path / "run", every=1) as rec:
        (forward(torch.randn(4, 6)) - forward(torch.randn(4, 6))).square().sum().backward()
        with pytest.warns(DropdiagWarning, match="several forward passes before"):
            rec.step()
    assert dd.load(tmp_path / "run").scalars.query("quantity == 'net_grad_abs_mean'")["value"].isna().all()
