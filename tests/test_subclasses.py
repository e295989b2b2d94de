"""Tensor subclasses: their memory is never written, and they are refused by name until they can be read."""

import warnings
from contextlib import nullcontext
from typing import ClassVar

import pytest
import torch
from torch import nn
from torch.utils._pytree import tree_map

import dropdiag as dd
from dropdiag.errors import DropdiagWarning
from dropdiag.probes import Probe, Signal
from dropdiag.sketches import AbsMean, HistogramSketch


class Lazy(torch.Tensor):
    """Gives itself where a shift is asked for, as DTensor does."""

    @classmethod
    def __torch_function__(cls, function, types, args=(), kwargs=None):
        if getattr(function, "__name__", "") in ("__rshift__", "bitwise_right_shift"):
            return args[0]
        return super().__torch_function__(function, types, args, kwargs)


class Greedy(Probe):
    """A user's probe that works in place on what it gets."""

    name = "greedy"
    signal = Signal.WEIGHT

    def sketch(self, place):
        class Sketch(AbsMean):
            def update(self, values):
                values.detach().zero_()

        return Sketch()

    def values(self, sketch):
        return []


def recorded(model, path, x, **options):
    """Train two steps under a Recorder; return the state, and what was warned of."""
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", DropdiagWarning)
        with dd.Recorder(model, path, every=1, **options) as rec:
            for _ in range(2):
                model(x).square().mean().backward()
                optimizer.step()
                rec.step()
                optimizer.zero_grad()
    return [str(one.message) for one in caught if one.category is DropdiagWarning]


def subclassed(kind):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 2))
    for layer in (model[0], model[2]):
        layer.weight = nn.Parameter(layer.weight.detach().clone().as_subclass(kind))
    return model


def trained_alone(model, x):
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    for _ in range(2):
        model(x).square().mean().backward()
        optimizer.step()
        optimizer.zero_grad()


def test_a_histogram_writes_nothing_into_a_tensor_whose_shift_is_the_tensor_itself():
    x = torch.randn(5)
    values = x.clone().as_subclass(Lazy)
    HistogramSketch().update(values)
    assert torch.equal(values.as_subclass(torch.Tensor), x)


@pytest.mark.parametrize("probes", ["paper", "full", [Greedy()]])
def test_weights_of_a_subclass_stay_bit_for_bit_and_their_probes_are_disabled(tmp_path, probes):
    x = torch.randn(8, 3)
    alone, model = subclassed(Lazy), subclassed(Lazy)
    trained_alone(alone, x)
    told = recorded(model, tmp_path / "run", x, probes=probes)
    for one, other in zip(alone.parameters(), model.parameters(), strict=True):
        assert torch.equal(one.detach().as_subclass(torch.Tensor), other.detach().as_subclass(torch.Tensor))
    assert any("Lazy" in sentence and "tensor subclasses" in sentence for sentence in told)
    disabled = dd.load(tmp_path / "run").meta["disabled_probes"]
    assert {"0", "2"} <= {entry["layer"] for entry in disabled}
    assert all("tests.test_subclasses.Lazy" in entry["cause"] for entry in disabled)


def test_a_parameter_and_a_buffer_of_torchs_own_are_read(tmp_path):
    model = nn.Sequential(nn.Linear(3, 4), nn.Tanh())
    model[0].scale = nn.Buffer(torch.ones(4))
    assert recorded(model, tmp_path / "run", torch.randn(8, 3)) == []
    assert dd.load(tmp_path / "run").meta["disabled_probes"] == []


@pytest.mark.skipif(not torch.distributed.is_available(), reason="this torch is built without torch.distributed")
@pytest.mark.parametrize("scaler", [None, torch.amp.GradScaler("cpu")])
def test_a_model_of_dtensors_trains_bit_for_bit_as_without_a_recorder(tmp_path, mesh, scaler):
    from torch.distributed.tensor import Shard, distribute_tensor

    torch.manual_seed(0)
    given = distribute_tensor(torch.randn(8, 3), mesh, [Shard(0)])
    alone, model = (
        nn.Sequential(nn.Linear(3, 4, bias=False), nn.Tanh()),
        nn.Sequential(nn.Linear(3, 4, bias=False), nn.Tanh()),
    )
    for one in (alone, model):
        one[0].weight = nn.Parameter(distribute_tensor(torch.linspace(-1, 1, 12).view(4, 3), mesh, [Shard(0)]))
    trained_alone(alone, given)
    told = recorded(model, tmp_path / "run", given, scaler=scaler, probes="full")
    assert torch.equal(model[0].weight.to_local(), alone[0].weight.to_local())
    assert told == []
    run = dd.load(tmp_path / "run")
    assert run.meta["disabled_probes"] == []
    assert run.histogram("weight", "0").n == 12
    assert run.histogram("net_value", "1").n == 32
    flow = run.select("net_grad_abs_mean", layer="1")["value"]
    assert (flow > 0).all()


# Subclasses that must not be touched ---------------------------------------------------------------------------


class Untouchable(torch.Tensor):
    """Raises at everything that is not done by the network itself, even where an attribute is asked for."""

    allowed = False

    @classmethod
    def __torch_function__(cls, function, types, args=(), kwargs=None):
        if not cls.allowed:
            raise AssertionError(f"{function} was called on the user's tensor")
        return super().__torch_function__(function, types, args, kwargs)


class Wrapper(torch.Tensor):
    """A wrapper by __torch_dispatch__, like DTensor: it has no memory of its own, and notes what is done with it."""

    log: ClassVar[list] = []

    @staticmethod
    def __new__(cls, inner):
        options = {"dtype": inner.dtype, "device": inner.device, "requires_grad": inner.requires_grad}
        return torch.Tensor._make_wrapper_subclass(cls, inner.shape, **options)

    def __init__(self, inner):
        self.inner = inner

    @classmethod
    def __torch_dispatch__(cls, function, types, args=(), kwargs=None):
        cls.log.append(str(function))

        def unwrapped(value):
            return value.inner if isinstance(value, Wrapper) else value

        out = function(*tree_map(unwrapped, args), **tree_map(unwrapped, kwargs or {}))
        return tree_map(lambda value: cls(value) if isinstance(value, torch.Tensor) else value, out)


class Acts(nn.Module):
    """An activation module, a gated one, one in place, a function and an output, all given one class of tensor."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.a, self.act, self.gate = nn.Linear(3, 4), nn.Tanh(), nn.GLU()
        self.inplace, self.rnn, self.out = nn.ReLU(inplace=True), nn.RNN(2, 2), nn.Linear(2, 1)

    def forward(self, x, wrap=lambda z: z, unwrap=lambda z: z):
        z = unwrap(self.gate(self.act(wrap(self.a(x)))))
        z = unwrap(torch.sigmoid(self.inplace(wrap(z * 2))))
        return self.out(self.rnn(z)[0])


def functions_of(subclass):
    """Return what puts a tensor into a class, and takes it out again, with gradients."""

    def wrap(z):
        return z.as_subclass(subclass)

    def unwrap(z):
        with torch._C.DisableTorchFunctionSubclass():
            return z.as_subclass(torch.Tensor)

    return wrap, unwrap


@pytest.mark.parametrize("scaler", [None, torch.amp.GradScaler("cpu")])
@pytest.mark.parametrize("padding", [False, True])
def test_activations_of_a_subclass_are_refused_before_anything_is_done_with_them(tmp_path, scaler, padding):
    """The network itself runs on the class with what it does not know switched off; ours would be seen."""

    class Hidden(torch.Tensor):
        seen: ClassVar[list] = []

        @classmethod
        def __torch_function__(cls, function, types, args=(), kwargs=None):
            cls.seen.append(getattr(function, "__name__", str(function)))
            return super().__torch_function__(function, types, args, kwargs)

    wrap, unwrap = functions_of(Hidden)
    x, mask = torch.randn(2, 5, 3), torch.ones(2, 5, dtype=torch.bool)

    def steps(rec, model):
        Hidden.seen.clear()
        for _ in range(2):
            with rec.padding(mask) if rec is not None and padding else nullcontext():
                model(x, wrap, unwrap).square().mean().backward()
            if rec is not None:
                rec.step()
        return list(Hidden.seen)

    bare, model = Acts(), Acts()
    expected = steps(None, bare)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", DropdiagWarning)
        with dd.Recorder(model, tmp_path / "run", probes="full", every=1, scaler=scaler) as rec:
            got = steps(rec, model)
            coverage = {row.layer: row for row in rec.coverage() if row.kind in ("activation", "output")}
    assert got == expected
    for one, other in zip(bare.parameters(), model.parameters(), strict=True):
        assert torch.equal(one.grad, other.grad)
    assert any("Hidden" in str(w.message) for w in caught)
    for layer in ("act", "gate", "inplace"):
        assert coverage[layer].fired == 0
        assert "Hidden" in coverage[layer].skipped
    assert (coverage["rnn"].fired, coverage["rnn"].skipped) == (2, None)
    assert not set(dd.load(tmp_path / "run").scalars.query("layer in ['act', 'gate', 'inplace']")["quantity"])


@pytest.mark.parametrize("probes", ["paper", "full"])
def test_weights_that_raise_at_any_touch_are_refused_and_train(tmp_path, probes):
    def build():
        torch.manual_seed(0)
        model = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 2))
        Untouchable.allowed = True
        model[0].weight = nn.Parameter(model[0].weight.detach().clone().as_subclass(Untouchable))
        Untouchable.allowed = False
        return model

    def steps(model, rec=None):
        x = torch.ones(5, 3)
        for _ in range(2):
            Untouchable.allowed = True
            model(x).as_subclass(torch.Tensor).square().mean().backward()
            Untouchable.allowed = False
            if rec is not None:
                rec.step()
        Untouchable.allowed = True
        return model[0].weight.grad.as_subclass(torch.Tensor).clone()

    expected, model = steps(build()), build()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", DropdiagWarning)
        with dd.Recorder(model, tmp_path / "run", probes=probes, every=1) as rec:
            assert torch.equal(steps(model, rec), expected)
            Untouchable.allowed = False
            rows = {row.layer: row for row in rec.coverage() if row.kind == "weight"}
    Untouchable.allowed = True
    assert any("Untouchable" in str(w.message) for w in caught)
    assert rows["0"].fired == 0
    assert "Untouchable" in rows["0"].skipped
    assert rows["2"].fired > 0


def test_wrappers_are_refused_and_nothing_is_dispatched_to_them(tmp_path):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 2))
    model[0].weight = nn.Parameter(Wrapper(model[0].weight.detach()), requires_grad=False)

    def log(rec=None):
        model.zero_grad()
        Wrapper.log.clear()
        model(torch.ones(5, 3)).sum().backward()
        if rec is not None:
            rec.step()
        return list(Wrapper.log)

    expected = log()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", DropdiagWarning)
        with dd.Recorder(model, tmp_path / "run", probes="full", every=1) as rec:
            assert log(rec) == expected
    assert any("Wrapper" in str(w.message) for w in caught)


# Tensors without values, and other plain ones --------------------------------------------------------------------


def test_passes_of_fake_tensors_are_told_and_leave_the_others_recorded(tmp_path):
    from torch._subclasses.fake_tensor import FakeTensorMode

    model = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 2))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DropdiagWarning)
        with dd.Recorder(model, tmp_path / "run", probes="full", every=1, strict=True) as rec:
            with FakeTensorMode(allow_non_fake_inputs=True):
                model(torch.ones(5, 3))
            model(torch.ones(6, 3)).sum().backward()
            rec.step()
    run = dd.load(tmp_path / "run")
    assert run.histogram("net_value", "1", 1, "train").n == 24
    assert run.meta["disabled_probes"] == []


class Complex(nn.Module):
    def __init__(self):
        super().__init__()
        self.a, self.act = nn.Linear(3, 4, dtype=torch.complex64), nn.Tanh()

    def forward(self, x):
        return self.act(self.a(x)).abs()


class Sparse(nn.Module):
    def __init__(self):
        super().__init__()
        self.w = nn.Parameter(torch.eye(4, 3).to_sparse())
        self.act = nn.ReLU()

    def forward(self, x):
        return self.act(torch.sparse.mm(self.w, x.T))


class Nested(nn.Module):
    def __init__(self, layout):
        super().__init__()
        self.a, self.act, self.layout = nn.Linear(3, 4), nn.ReLU(), layout

    def forward(self, x):
        parts = torch.nested.nested_tensor([x[:2], x[2:]], layout=self.layout)
        out = self.act(self.a(parts))
        return sum(part.sum() for part in out.unbind())


def coverage_of(model, path):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with dd.Recorder(model, path, probes="full", every=1) as rec:
            for _ in range(2):
                model(torch.ones(5, 3).to(next(model.parameters()).dtype)).sum().backward()
                rec.step()
    return {(row.kind, row.layer): row for row in rec.coverage()}, dd.load(path)


@pytest.mark.parametrize(
    ("build", "refused", "read"),
    [
        (Complex, {("weight", "a"): "complex64", ("activation", "act"): "complex64"}, {}),
        (Sparse, {}, {("weight", "w"): 3, ("activation", "act"): 2}),
        (lambda: Nested(torch.jagged), {("activation", "act"): "NestedTensor"}, {("weight", "a"): 3}),
        (lambda: Nested(torch.strided), {("activation", "act"): "nested"}, {("weight", "a"): 3}),
    ],
    ids=["complex", "sparse", "jagged", "nested"],
)
def test_coverage_says_what_happened_to_other_kinds_of_tensors(tmp_path, build, refused, read):
    rows, run = coverage_of(build(), tmp_path / "run")
    for key, word in refused.items():
        assert rows[key].fired == 0
        assert word in rows[key].skipped
        quantities = set(run.scalars.query("layer == @key[1] and value == value")["quantity"])
        assert not quantities, quantities
    for key, fired in read.items():
        assert (rows[key].fired, rows[key].skipped) == (fired, None)


def test_a_sparse_weight_is_read_with_its_zeros(tmp_path):
    _, run = coverage_of(Sparse(), tmp_path / "run")
    assert run.histogram("weight", "w", 1).zeros == 9
    assert run.histogram("weight", "w", 1).n == 12


@pytest.mark.filterwarnings("ignore:torch.ao.quantization is deprecated", "ignore:torch.quantize_per_tensor")
def test_packed_weights_are_listed(tmp_path):
    model = nn.Sequential(nn.Linear(3, 4), nn.ReLU())
    quantised = torch.ao.quantization.quantize_dynamic(nn.Sequential(nn.Linear(3, 4), nn.Linear(4, 2)), {nn.Linear})
    with dd.Recorder(nn.Sequential(model, quantised), tmp_path / "run") as rec:
        words = {row.layer: row.skipped for row in rec.coverage() if row.kind == "weight"}
    assert "packed" in words["1.0"]
    assert "packed" in words["1.1"]
