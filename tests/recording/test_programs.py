"""Where a forward pass makes a program (export, jit, fx, make_fx) or follows shapes alone, there is nothing of ours."""

import io
import subprocess
import sys
import textwrap
from importlib.util import find_spec

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch._subclasses import FakeTensorMode
from torch.fx.experimental.proxy_tensor import make_fx
from torch.utils.flop_counter import FlopCounterMode

import dropdiag as dd

pytestmark = pytest.mark.filterwarnings(
    "ignore::DeprecationWarning",
    "ignore::FutureWarning",
    "ignore::UserWarning:torch",
    "ignore::torch.jit.TracerWarning",
)


class Own(nn.Module):
    """An activation that fx traces through: only torch's own modules are left whole."""

    def forward(self, x):
        return F.silu(x) * 1.5


class Network(nn.Module):
    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.a, self.relu, self.b = nn.Linear(6, 8), nn.ReLU(inplace=True), nn.Linear(8, 8)
        self.own, self.drop, self.out = Own(), nn.Dropout(0.3), nn.Linear(8, 3)
        self.attention = nn.MultiheadAttention(8, 2, batch_first=True)

    def forward(self, x):
        x = F.gelu(self.relu(self.a(x)))
        x = self.drop(self.own(self.b(x)))
        return self.out(self.attention(x, x, x)[0])


X = torch.randn(2, 5, 6)


def functional_call(model):
    class Outer(nn.Module):
        def __init__(self):
            super().__init__()
            self.inner = model

        def forward(self, parameters, x):
            return torch.func.functional_call(self.inner, parameters, (x,))

    return torch.export.export(Outer(), ({n: p.detach() for n, p in model.named_parameters()}, X)).graph


def fake(model):
    with FakeTensorMode(allow_non_fake_inputs=True) as mode:
        model(mode.from_tensor(X)).sum().backward()
    model.zero_grad()


def gradient(model):
    return make_fx(lambda x: torch.autograd.grad(model(x).sum(), model.a.weight))(X).graph


WAYS = {
    "export": lambda model: torch.export.export(model, (X,)).graph,
    "strict export": lambda model: torch.export.export(model, (X,), strict=True).graph,
    "dynamic export": lambda model: (
        torch.export.export(model, (X,), dynamic_shapes=({0: torch.export.Dim("n")},)).graph
    ),
    "decompositions": lambda model: torch.export.export(model, (X,)).run_decompositions().graph,
    "functional_call": functional_call,
    "jit.trace": lambda model: torch.jit.trace(model, (X,), check_trace=False).inlined_graph,
    "symbolic_trace": lambda model: torch.fx.symbolic_trace(model).graph,
    "make_fx": lambda model: make_fx(model)(X).graph,
    "make_fx of a gradient": gradient,
    "fake tensors": fake,
}


def state(rec):
    """Return what the router, the interception and the hooks keep, and the names of all hooks."""
    session = rec._session
    router, modules = session.router, list(session._recorded.functional.model.modules())
    hooks = [hook for m in modules for table in (m._forward_pre_hooks, m._forward_hooks) for hook in table.values()]
    return (
        dict(router.passes), dict(router._next), router.depth, router.intercepting, set(router.notices),
        session._recorded.functional.entered, sorted(session._recorded.functional.sites), session._train.empty,
        list(map(id, hooks)), [len(hook.pending) for hook in hooks if hasattr(hook, "pending")],
    )  # fmt: skip


def nodes(program):
    """Return what a program does, whatever its values are called."""
    if isinstance(program, torch.fx.Graph):
        return [(node.op, str(node.target)) for node in program.nodes if node.op != "placeholder"]
    return [node.kind() for node in program.nodes()] if program is not None else []


def train(model, rec=None):
    torch.manual_seed(1)
    model.train()
    model(X).square().sum().backward()
    if rec is not None:
        rec.step()
    return [p.grad for p in model.parameters()]


@pytest.mark.parametrize("way", WAYS)
def test_a_program_is_that_of_the_bare_model_and_leaves_no_trace(tmp_path, way):
    torch._dynamo.reset()
    bare, model = Network(), Network()
    with dd.Recorder(model, tmp_path / "run", every=1, probes="full", strict=True) as rec:
        train(model, rec)
        train(bare)
        before, random = state(rec), torch.get_rng_state()
        program = WAYS[way](model)
        assert state(rec) == before
        left = torch.get_rng_state()
        torch.set_rng_state(random)
        assert nodes(program) == nodes(WAYS[way](bare))
        assert torch.equal(left, torch.get_rng_state())
        bare.zero_grad()
        model.zero_grad()
        assert all(map(torch.equal, train(model, rec), train(bare)))
    scalars = dd.load(tmp_path / "run").scalars.query("quantity == 'net_grad_abs_mean'")
    first, second = (scalars.query("step == @step")["value"].tolist() for step in (1, 2))
    assert first == second
    assert len(first) >= 3


def test_a_saved_program_loads_where_there_is_no_dropdiag(tmp_path):
    model = Network().eval()
    with dd.Recorder(model, tmp_path / "run", every=1):
        torch.export.save(torch.export.export(model, (X,)), tmp_path / "program.pt2")
        torch.jit.trace(model, (X,), check_trace=False).save(str(tmp_path / "program.pt"))
        torch.save(X, tmp_path / "x.pt")
        expected = model(X)
    code = f"""
        import sys
        sys.modules["dropdiag"] = None
        import torch
        x = torch.load(r"{tmp_path}/x.pt")
        exported = torch.export.load(r"{tmp_path}/program.pt2").module()(x)
        torch.save([exported, torch.jit.load(r"{tmp_path}/program.pt")(x)], r"{tmp_path}/y.pt")
    """
    subprocess.run([sys.executable, "-W", "ignore", "-c", textwrap.dedent(code)], check=True, cwd=tmp_path)
    for found in torch.load(tmp_path / "y.pt"):
        torch.testing.assert_close(found, expected)


@pytest.mark.skipif(find_spec("onnx") is None, reason="onnx is not installed")
def test_onnx_is_that_of_the_bare_model(tmp_path):
    model, files = Network().eval(), [io.BytesIO(), io.BytesIO()]
    torch.onnx.export(model, (X,), files[0], dynamo=False)
    with dd.Recorder(model, tmp_path / "run", every=1, strict=True):
        torch.onnx.export(model, (X,), files[1], dynamo=False)
    assert files[0].getvalue() == files[1].getvalue()


def test_a_users_mode_sees_no_operation_of_ours(tmp_path):
    def counted(model):
        with FlopCounterMode(display=False) as counter:
            train(model)
        return counter.get_total_flops()

    expected = counted(Network())
    model = Network()
    with dd.Recorder(model, tmp_path / "run", every=1, probes="full", strict=True) as rec:
        assert counted(model) == expected > 0
        rec.step()
    assert len(dd.load(tmp_path / "run").scalars.query("quantity == 'net_grad_abs_mean'")) >= 3


def test_scripting_says_what_to_do(tmp_path):
    model = nn.Sequential(nn.Linear(6, 3), nn.ReLU())
    with (
        dd.Recorder(model, tmp_path / "run", every=1),
        pytest.raises(AttributeError, match=r"close\(\) the Recorder first"),
    ):
        torch.jit.script(model)
    assert torch.jit.script(model)(X).shape == (2, 5, 3)
