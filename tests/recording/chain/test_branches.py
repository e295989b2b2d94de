"""The chain where networks branch: what came by it is told apart, against copies that autograd keeps apart."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from tests.recording.chain.reading import after, flow, read, recorded, row, size

X = torch.randn(8, 5, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(1))


def made(cls):
    torch.manual_seed(0)
    return cls().double()


def step(model):
    model(X).square().sum().backward()


class Parts:
    """Copies of tensors, one for each use, so that each has the part of the gradient that comes by it."""

    def __init__(self):
        self.kept = {}

    def __call__(self, name, tensor):
        copy = tensor.clone()
        copy.retain_grad()
        self.kept[name] = copy
        return copy

    def __getitem__(self, name):
        return size(self.kept[name].grad)


def plain(_name, tensor):
    return tensor


class Residual(nn.Module):
    """``relu(x + f(x))``, with activations inside of f."""

    def __init__(self):
        super().__init__()
        self.stem, self.a, self.b, self.head = (nn.Linear(6, 6) for _ in range(4))
        self.phi0, self.phi1, self.phi2 = nn.Tanh(), nn.ReLU(), nn.ReLU()

    def forward(self, x, parts=plain):
        h0 = parts("whole", self.phi0(self.stem(x)))
        inner = parts("inner", self.phi1(self.a(parts("path", h0))))
        z = parts("z", self.b(inner) + h0)
        return self.head(self.phi2(z))


def parts_of(model, forward=None):
    parts = Parts()
    model.zero_grad()
    (forward or model)(X, parts).square().sum().backward()
    model.zero_grad()
    return parts


def test_what_a_residual_connection_adds_is_a_term_of_its_own(tmp_path):
    model = made(Residual)
    parts = parts_of(model)
    run = recorded(tmp_path / "run", model, step)
    values = read(run)
    assert values["node", "phi0", 0] == pytest.approx(parts["whole"], rel=1e-12)
    assert values["path", "phi0", 0] == pytest.approx(parts["path"], rel=1e-12)
    assert values["path", "phi0", 0] != pytest.approx(values["node", "phi0", 0], rel=0.01)
    assert values["net", "phi2", 0] == pytest.approx(parts["z"], rel=1e-12)
    assert [key for key in values if "path" in key[0]] == [("path", "phi0", 0)]
    assert row(run, "node", "phi1")["between"] == "b, addition"
    assert after(run, "node", "phi0") == ("net", "phi1", 0)
    assert flow(run, "phi0") == pytest.approx(values["net", "phi0", 0], rel=1e-12)


class PreNorm(nn.Module):
    """Two blocks ``x + drop(f(norm(x)))`` of a perceptron each."""

    def __init__(self):
        super().__init__()
        self.stem, self.head = nn.Linear(6, 6), nn.Linear(6, 3)
        self.norms = nn.ModuleList(nn.LayerNorm(6) for _ in range(3))
        self.up, self.down = (nn.ModuleList(nn.Linear(6, 6) for _ in range(2)) for _ in range(2))
        self.phi, self.drops = (nn.ModuleList(cls() for _ in range(2)) for cls in (nn.GELU, nn.Dropout))

    def forward(self, x, parts=plain):
        x = self.stem(x)
        for n in range(2):
            entering = self.norms[n](parts(f"path{n}", x))
            f = self.drops[n](self.down[n](self.phi[n](self.up[n](entering))))
            x = parts(f"whole{n}", x + f)
        return self.head(self.norms[2](x))


def test_pre_norm_residual_blocks(tmp_path):
    model = made(PreNorm)
    torch.manual_seed(0)
    parts = parts_of(model)
    run = recorded(tmp_path / "run", model, step)
    values = read(run)
    # what the dropout gives is added to x, and the sum has the same gradient
    assert values["mask_output", "drops.0", 0] == pytest.approx(parts["whole0"], rel=1e-12)
    assert values["path", "drops.0", 0] == pytest.approx(parts["path1"], rel=1e-12)
    assert [key for key in values if "path" in key[0]] == [("path", "drops.0", 0)]
    assert row(run, "mask_output", "drops.0")["between"] == "addition, layer norm, up.1"
    assert row(run, "mask_output", "drops.1")["between"] == "addition, layer norm, head"
    assert flow(run, "phi.0") == pytest.approx(values["net", "phi.0", 0], rel=1e-12)


class Transformer(nn.Module):
    """One block without dropout, its attention with or without matrices of its own for queries, keys and values."""

    apart = True

    def __init__(self):
        super().__init__()
        self.inside, self.out, self.up, self.head = (nn.Linear(6, 6) for _ in range(4))
        self.q, self.k, self.v, self.qkv = (*(nn.Linear(6, 6) for _ in range(3)), nn.Linear(6, 18))
        self.norm1, self.norm2, self.phi0, self.phi1 = nn.LayerNorm(6), nn.LayerNorm(6), nn.Tanh(), nn.GELU()

    def attend(self, x):
        q, k, v = (self.q(x), self.k(x), self.v(x)) if self.apart else self.qkv(x).chunk(3, -1)
        return self.out(F.scaled_dot_product_attention(q, k, v))

    def forward(self, x, parts=plain):
        h = parts("h", self.phi0(self.inside(x)))
        s1 = self.attend(parts("normed", self.norm1(parts("path1", h)))) + h
        s2 = parts("whole2", s1)
        return self.head(self.phi1(self.up(self.norm2(parts("path2", s2))))) + s2


@pytest.mark.parametrize("apart", [True, False])
def test_attention_is_transport_and_what_goes_past_it_other_paths(tmp_path, apart):
    model = made(Transformer)
    model.apart = apart
    parts = parts_of(model)
    run = recorded(tmp_path / "run", model, step)
    values = read(run)
    assert after(run, "node", "phi0") == ("net", "phi1", 0)
    # at two places: h is added to what attention gives, and that sum goes past the activation to the output
    expected = parts["path1"] * parts["path2"] / parts["whole2"]
    assert values["node", "phi0", 0] == pytest.approx(parts["h"], rel=1e-12)
    assert values["path", "phi0", 0] == pytest.approx(expected, rel=1e-12)
    between = "layer norm, q, k, v, attention, out, addition, layer norm, up"
    assert row(run, "node", "phi0")["between"] == (between if apart else between.replace("q, k, v", "qkv"))
    assert flow(run, "phi0") == pytest.approx(values["net", "phi0", 0], rel=1e-12)


class PostNorm(nn.Module):
    def __init__(self):
        super().__init__()
        self.stem, self.up, self.down, self.head = (nn.Linear(6, 6) for _ in range(4))
        self.norm0, self.norm1, self.drop0, self.drop1 = nn.LayerNorm(6), nn.LayerNorm(6), nn.Dropout(), nn.Dropout()
        self.phi = nn.ReLU()

    def forward(self, x, parts=plain):
        x = parts("whole", self.norm0(x + self.drop0(self.stem(x))))
        f = self.phi(self.up(parts("path", x)))
        return self.head(self.norm1(x + self.drop1(self.down(f))))


def test_a_branch_between_two_tensors_counts_by_its_ratio(tmp_path):
    model = made(PostNorm)
    torch.manual_seed(0)
    parts = parts_of(model)
    run = recorded(tmp_path / "run", model, step)
    values = read(run)
    expected = values["mask_output", "drop0", 0] * parts["path"] / parts["whole"]
    assert values["path", "drop0", 0] == pytest.approx(expected, rel=1e-12)
    assert after(run, "mask_output", "drop0") == ("net", "phi", 0)


def test_a_net_value_with_users_beside_its_activation(tmp_path):
    class Swish(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.b, self.gate = nn.Linear(6, 6), nn.Linear(6, 3), nn.Sigmoid()

        def forward(self, x, parts=plain):
            z = self.a(x)
            return self.b(z * self.gate(parts("gate", z)))

    model = made(Swish)
    parts = parts_of(model)
    values = read(recorded(tmp_path / "run", model, step))
    assert values["input_path", "gate", 0] == pytest.approx(parts["gate"], rel=1e-12)
    assert values["net", "gate", 0] != pytest.approx(parts["gate"], rel=0.01)


def test_what_enters_a_dropout_and_goes_past_it(tmp_path):
    class Past(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.b, self.c, self.phi = nn.Linear(6, 6), nn.Linear(6, 3), nn.Linear(6, 3), nn.Tanh()
            self.drop = nn.Dropout()

        def forward(self, x, parts=plain):
            h = parts("whole", self.phi(self.a(x)))
            return self.b(self.drop(parts("path", h))) + self.c(h)

    model = made(Past)
    torch.manual_seed(0)
    parts = parts_of(model)
    run = recorded(tmp_path / "run", model, step)
    values = read(run)
    assert values["node", "phi", 0] == values["mask_input", "drop", 0] == pytest.approx(parts["whole"], rel=1e-12)
    assert values["input_path", "drop", 0] == pytest.approx(parts["path"], rel=1e-12)
    assert row(run, "node", "phi")["same"]
    assert flow(run, "phi") == pytest.approx(values["net", "phi", 0], rel=1e-12)


def test_parallel_branches_lead_to_the_next_tensor_after_them(tmp_path):
    class Inception(nn.Module):
        def __init__(self):
            super().__init__()
            self.stem, self.a, self.b = (nn.Linear(6, 6) for _ in range(3))
            self.join, self.head = nn.Linear(12, 6), nn.Linear(6, 3)
            self.phi0, self.phi_a, self.phi_b, self.phi1 = (nn.Tanh() for _ in range(4))

        def forward(self, x, parts=plain):
            h = self.phi0(self.stem(x))
            a = self.phi_a(self.a(parts("to a", h)))
            b = self.phi_b(self.b(h))
            return self.head(self.phi1(self.join(torch.cat([a, b], -1))))

    model = made(Inception)
    parts = parts_of(model)
    run = recorded(tmp_path / "run", model, step)
    values = read(run)
    assert after(run, "node", "phi0") == ("net", "phi_a", 0)
    assert after(run, "node", "phi_a") == after(run, "node", "phi_b") == ("net", "phi1", 0)
    assert row(run, "node", "phi_b")["between"] == "concatenation, join"
    assert values["path", "phi0", 0] == pytest.approx(parts["to a"], rel=1e-12)
    for layer in ("phi0", "phi_a", "phi_b", "phi1"):
        assert flow(run, layer) == pytest.approx(values["net", layer, 0], rel=1e-12)


def test_a_user_that_no_forward_pass_shows_counts_among_other_paths(tmp_path):
    model = made(Residual)
    hidden = []
    model.phi1.register_forward_hook(lambda *a: hidden.append(a[-1]))
    penalty = lambda: sum(h.square().sum() for h in hidden[-1:])  # noqa: E731

    parts = Parts()
    model.zero_grad()
    (model(X, parts).square().sum() + parts.kept["inner"].square().sum()).backward()
    expected = parts.kept["inner"]

    def train(model):
        (model(X).square().sum() + penalty()).backward()

    model.zero_grad()
    values = read(recorded(tmp_path / "run", model, train))
    whole = size(expected.grad)
    by_path = size(expected.grad - 2 * expected.detach())
    assert values["node", "phi1", 0] == pytest.approx(whole, rel=1e-12)
    assert values["path", "phi1", 0] == pytest.approx(by_path, rel=1e-12)
