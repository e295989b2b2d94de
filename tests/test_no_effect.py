"""With and without the Recorder, training is bit for bit the same."""

import pytest
import torch
from torch import nn

import dropdiag as dd
from tests.networks import batches, mlp, train


def state(model):
    tensors = [t for p in model.parameters() for t in (p.detach().clone(), p.grad.clone())]
    return [*tensors, *(b.clone() for b in model.buffers()), torch.get_rng_state()]


def evaluate(model):
    model.eval()
    with torch.no_grad():
        out = model(next(batches(1, n=50, seed=7))[0])
    model.train()
    return out


@pytest.mark.parametrize("probes", ["light", "paper", "full"])
@pytest.mark.parametrize("every", [1, 10])
@pytest.mark.parametrize(
    "activation",
    [nn.Tanh, lambda: nn.ReLU(inplace=True), nn.GELU, lambda: dd.GAAF("tanh")],
    ids=["tanh", "relu_", "gelu", "gaaf"],
)
def test_losses_weights_gradients_and_random_state_are_bit_identical(tmp_path, probes, every, activation):
    bare = mlp(activation=activation)
    losses = [*train(bare, 30), evaluate(bare), *train(bare, 5, seed=3)]
    expected = state(bare)

    model = mlp(activation=activation)
    with dd.Recorder(model, tmp_path / "run", probes=probes, every=every, strict=True) as rec:
        got = train(model, 30, rec)
        with rec.evaluation():
            got.append(evaluate(model))
        got += train(model, 5, rec, seed=3)
    for a, b in zip([*losses, *expected], [*got, *state(model)], strict=True):
        assert torch.equal(a, b)


def test_nothing_is_left_on_the_model(tmp_path):
    model = mlp()
    with dd.Recorder(model, tmp_path / "run") as rec:
        train(model, 2, rec)
        assert any(m._forward_pre_hooks for m in model.modules())
    assert not any(m._forward_pre_hooks or m._forward_hooks or m._forward_hooks_with_kwargs for m in model.modules())
    assert not any(m._forward_pre_hooks_with_kwargs or m._backward_hooks for m in model.modules())
