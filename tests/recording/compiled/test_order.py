"""The order of execution of compiled models and parts: that in which a twin's hooks, which are not compiled, see it."""

import pytest
import torch
from torch import nn

import dropdiag as dd
from dropdiag.recording.compiled.order import LayerRuns

pytestmark = [
    pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::UserWarning:torch"),
    pytest.mark.usefixtures("fresh_compiler"),
]


class Block(nn.Module):
    """Declared in another order than it runs."""

    def __init__(self):
        super().__init__()
        self.second, self.gelu, self.first = nn.Linear(8, 8), nn.GELU(), nn.Linear(8, 8)

    def forward(self, x):
        return x + self.second(self.gelu(self.first(x)))


class Network(nn.Module):
    def __init__(self):
        super().__init__()
        self.head, self.blocks = nn.Linear(8, 2), nn.ModuleList(Block() for _ in range(2))
        self.stem, self.tanh, self.breaks = nn.Linear(6, 8), nn.Tanh(), False

    def forward(self, x):
        x = self.tanh(self.stem(x))
        for block in self.blocks:
            if self.breaks:
                torch._dynamo.graph_break()
            x = block(x)
        return self.head(self.tanh(x))


def as_it_runs():
    """Return what an eager twin runs, by hooks of its own."""
    model, seen = Network(), []
    for name, module in model.named_modules():
        if isinstance(module, (nn.Linear, nn.Tanh, nn.GELU)):
            module.register_forward_hook(lambda *_, name=name: seen.append((name, [n for n, _ in seen].count(name))))
    model(torch.randn(3, 6))
    return seen


def whole(model):
    return torch.compile(model, backend="aot_eager", fullgraph=True)


def broken(model):
    model.breaks = True
    return torch.compile(model, backend="aot_eager")


def inside_a_function(model):
    @torch.compile(backend="aot_eager", fullgraph=True)
    def function(x):
        return model(x) * 2

    return function


def forward_alone(model):
    model.forward = torch.compile(model.forward, backend="aot_eager", fullgraph=True)
    return model


def parts(model):
    for block in model.blocks:
        block.compile(backend="aot_eager", fullgraph=True)
    return model


@pytest.mark.parametrize("first", ["compiled", "recorded"])
@pytest.mark.parametrize("how", [whole, broken, inside_a_function, forward_alone, parts])
def test_sites_are_in_the_order_of_their_execution(tmp_path, how, first):
    model = Network()
    forward = how(model) if first == "compiled" else None
    with dd.Recorder(model, tmp_path / "run", every=1) as rec:
        forward = how(model) if forward is None else forward
        for _ in range(2):
            forward(torch.randn(4, 6)).sum().backward()
            rec.step()
        model.eval()
        with rec.evaluation(), torch.no_grad():
            forward(torch.randn(4, 6))
        found = rec._session.router.trace.order.groups()
    # Weights of what runs outside of the graphs are seen by what intercepts functions.
    places = [place for group in found for place in group if how is not parts or place[0] not in ("stem", "head")]
    assert all(len(group) == 1 for group in found)
    assert places == [place for place in as_it_runs() if how is not parts or place[0] not in ("stem", "head")]


def test_many_parts_of_one_code_are_compiled_all(tmp_path):
    def trained(path):
        torch._dynamo.reset()
        torch.manual_seed(0)
        model = Network()
        model.blocks.extend(Block() for _ in range(2))
        rec = None if path is None else dd.Recorder(model, path, every=1)
        for block in model.blocks:
            block.compile(backend="aot_eager", fullgraph=True)  # which refuses to go on beyond the compiler's limit
        model(torch.ones(3, 6)).sum().backward()
        if rec is not None:
            rec.step()
            rec.close()
        return [p.grad for p in model.parameters()]

    with torch._dynamo.config.patch(recompile_limit=2):  # of 8, which four blocks of one code would not reach
        assert all(map(torch.equal, trained(tmp_path / "run"), trained(None)))
        assert torch._dynamo.config.recompile_limit == 2
    flow = dd.load(tmp_path / "run").scalars.query("quantity == 'net_grad_abs_mean'")
    assert {f"blocks.{number}.gelu" for number in range(4)} <= set(flow["layer"])


def test_eager_models_pay_nothing_for_it(tmp_path):
    model = Network()
    with dd.Recorder(model, tmp_path / "run", every=1) as rec:
        model(torch.randn(3, 6)).sum().backward()
        rec.step()
        assert not any(isinstance(h, LayerRuns) for m in model.modules() for h in m._forward_pre_hooks.values())
