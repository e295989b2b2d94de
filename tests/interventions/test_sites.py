"""What is found of the dropouts of a model, and that a rate which is said to be settable takes effect once it is set."""

import copy
from dataclasses import dataclass
from importlib import import_module

import numpy as np
import pytest
import torch
import transformers
from torch import nn
from torch.distributed.algorithms._checkpoint.checkpoint_wrapper import checkpoint_wrapper
from torch.nn import functional as F

import dropdiag as dd
from dropdiag.errors import ArgumentError
from tests.zoo import from_timm  # noqa: F401 - lets torchvision be imported

DropPath = import_module("timm.layers").DropPath
StochasticDepth = import_module("torchvision.ops").StochasticDepth


class Held(nn.Module):
    """Its rates are attributes, reached in the ways that forward methods are written."""

    def __init__(self, p):
        super().__init__()
        self.first, self.second, self.third, self.fourth = p, np.float32(p), p, p

    def forward(self, x):
        p = self.second if self.training else 0.0
        return self.attend(F.dropout(F.dropout(x, self.first, self.training), p))

    def attend(self, x):
        x = torch.dropout(x, p=float(self.third), train=self.training)
        return F.scaled_dot_product_attention(x, x, x, dropout_p=self.fourth if self.training else 0)


class LayerDrop(nn.Module):
    def __init__(self, p):
        super().__init__()
        self.layerdrop = p

    def forward(self, x):
        for _ in range(40):
            x = x if torch.rand(()) < self.layerdrop else x + 1
        return x


class Own(nn.Dropout):
    """A subclass with a forward method of its own that uses the rate."""

    def forward(self, x):
        return super().forward(x) + 1


def tiny(config, **rates):
    sizes = {"vocab_size": 20, "hidden_size": 8, "num_hidden_layers": 2, "num_attention_heads": 2}
    return config(**{**sizes, "intermediate_size": 8, "pad_token_id": 0, **rates})


def llama(p):
    return transformers.LlamaModel(tiny(transformers.LlamaConfig, attention_dropout=p, num_key_value_heads=2))


def bart(p):
    size = {f"{side}_{what}": 2 for side in ("encoder", "decoder") for what in ("layers", "attention_heads")}
    rates = dict.fromkeys(("dropout", "attention_dropout", "activation_dropout", "encoder_layerdrop"), p)
    size |= {"encoder_ffn_dim": 8, "decoder_ffn_dim": 8, "d_model": 8, "max_position_embeddings": 20}
    return transformers.BartModel(transformers.BartConfig(vocab_size=20, decoder_layerdrop=p, **size, **rates))


def bert(p):
    rates = {"hidden_dropout_prob": p, "attention_probs_dropout_prob": p}
    return transformers.BertModel(tiny(transformers.BertConfig, **rates))


X, TOKENS = torch.randn(6, 5, 8, generator=torch.Generator().manual_seed(1)), torch.arange(1, 11).reshape(2, 5)
KINDS = {
    "Dropout": (nn.Dropout, X),
    "Dropout2d": (nn.Dropout2d, X[None]),
    "AlphaDropout": (nn.AlphaDropout, X),
    "FeatureAlphaDropout": (nn.FeatureAlphaDropout, X[None]),
    "subclass": (Own, X),
    "DropPath": (DropPath, X),
    "StochasticDepth": (lambda p: StochasticDepth(p, "row"), X),
    "attributes": (Held, X),
    "LayerDrop": (LayerDrop, X),
    "LSTM": (lambda p: nn.LSTM(8, 8, 3, dropout=p), X),
    "attention": (lambda p: nn.TransformerEncoderLayer(8, 2, 8, dropout=p), X),
    "llama": (llama, TOKENS),
    "bart": (bart, TOKENS),
    "bert": (bert, TOKENS),
}


def outputs(model, x):
    torch.manual_seed(3)
    out = model(x)
    tensors = out if isinstance(out, (torch.Tensor, tuple)) else tuple(out.values())
    first = tensors[0] if isinstance(tensors, tuple) else tensors
    return first.detach()


@pytest.mark.parametrize("kind", KINDS)
def test_a_rate_that_is_set_is_that_of_a_model_built_with_it(kind):
    build, x = KINDS[kind]
    torch.manual_seed(0)
    model = build(0.4).train()
    torch.manual_seed(0)
    wanted = build(0.2).train()
    before = outputs(model, x)
    listed = dd.interventions.list(model)
    assert len(listed)
    assert [site.rate for site in listed] == [0.4] * len(listed)
    assert all(site.settable for site in listed)
    with dd.interventions.set(model, {"*": 0.2}) as handle:
        assert len(handle.sites) == len(listed)
        torch.testing.assert_close(outputs(model, x), outputs(wanted, x), rtol=0, atol=0)
        assert not torch.equal(outputs(model, x), before)
    assert torch.equal(outputs(model, x), before)


@pytest.mark.parametrize("build", [nn.Dropout, nn.Dropout2d, DropPath, Held, lambda p: StochasticDepth(p, "row")])
def test_the_share_that_is_dropped_is_the_rate_that_was_set(build):
    model = build(0.5).train()
    dd.interventions.set(model, {"*": 0.1})
    x = torch.ones(40_000, 1, 1, 1)
    if build is Held:  # one after the other; the attention weights last
        dd.interventions.off(model, "fourth")
    share = float((model(x) == 0).double().mean())
    rate = 1 - 0.9**3 if build is Held else 0.1
    assert abs(share - rate) < 5 * np.sqrt(rate * (1 - rate) / 40_000)


class Literal(nn.Module):
    def __init__(self):
        super().__init__()
        self.keep, self.p = 0.8, 0.3

    def forward(self, x):
        p = self.p
        p *= 2
        x = F.dropout(x, 1 - self.keep, self.training)
        return F.dropout(F.dropout(F.dropout(x, 0.3), training=self.training), p)


class IgnoresItsRateDropout(nn.Module):
    """Keeps 1 - p at the start, so that p says nothing later."""

    def __init__(self):
        super().__init__()
        self.p, self.keep = 0.3, 0.7

    def forward(self, x):
        return x * torch.bernoulli(torch.full_like(x, self.keep))


class ConcreteDropout(nn.Module):
    def __init__(self):
        super().__init__()
        self.p = nn.Parameter(torch.tensor(0.3))

    def forward(self, x):
        return x * torch.bernoulli(1 - self.p.expand_as(x))


class DropoutBlock(nn.Module):
    """No dropout, in spite of its name: it has one inside, and calls one."""

    def __init__(self):
        super().__init__()
        self.inner, self.rate = nn.Dropout(0.2), 0.1

    def forward(self, x):
        return F.dropout(self.inner(x), self.rate, self.training)


class Scheduled(nn.Module):
    """As dropblock's LinearScheduler: a module around a dropout that sets its rate."""

    def __init__(self):
        super().__init__()
        self.inner, self.rates = nn.Dropout(0.1), [0.1, 0.2]

    def forward(self, x):
        return self.inner(x)

    def step(self):
        self.inner.p = self.rates.pop(0)


class Annealed(nn.Dropout):
    def forward(self, x):
        self.p = self.p * 0.99
        return super().forward(x)


class KeepsItsProbabilities(nn.Module):
    """Its p has nothing to do with that of the dropout inside."""

    def __init__(self):
        super().__init__()
        self.inner = nn.Dropout(0.1)

    def forward(self, x):
        self.p = x.softmax(-1)
        return self.inner(self.p)


@dataclass
class Config:
    dropout: float = 0.1


class Shared(nn.Module):
    def __init__(self):
        super().__init__()
        self.config = Config()

    def forward(self, x):
        return F.dropout(x, self.config.dropout, self.training)


@pytest.mark.parametrize(
    ("module", "name", "reason"),
    [
        (Literal(), "0:dropout", r"1 - self\.keep in the code of Literal"),
        (Literal(), "0:dropout#2", r"its rate is p in the code"),
        (Literal(), "0:dropout#3", r"its rate is 0\.5 in the code"),
        (Literal(), "0:dropout#4", r"its rate is 0\.3 in the code"),
        (IgnoresItsRateDropout(), "0", "forward does not look p up"),
        (ConcreteDropout(), "0", "its rate p is a tensor"),
        (Scheduled(), "0.inner", "Scheduled sets p itself"),
        (Annealed(), "0", "Annealed sets p itself"),
        (Shared(), "0:dropout", r"self\.config\.dropout in the code of Shared"),
        (nn.GRU(3, 3), "0:dropout", "between its layers, and has one"),
    ],
)
def test_what_cannot_be_set_is_listed_with_the_reason_and_refused(module, name, reason):
    model = nn.Sequential(module)
    before = copy.deepcopy(vars(module))
    site = next(site for site in dd.interventions.list(model) if site.name == name)
    assert not site.settable
    assert site.rate == {"ConcreteDropout": 0.3}.get(site.type, site.rate)
    for change in (
        lambda p: dd.interventions.set(model, {p: 0.2}),
        lambda p: dd.interventions.schedule(model, p, early=(0.1, 0, 3)),
    ):
        for pattern in (name, name[:-1] + "?"):
            with pytest.raises(ArgumentError, match=reason):
                change(pattern)
    assert str(vars(module)) == str(before)


def test_names_are_those_of_modules_and_sites_come_once():
    shared = nn.Dropout(0.1)
    model = nn.ModuleDict({"a": shared, "b": shared, "lstm": nn.LSTM(3, 3, 2, dropout=0.2), "held": Held(0.3)})
    listed = dd.interventions.list(model)
    held = ["held.first", "held.second", "held.third", "held.fourth"]
    assert sorted(site.name for site in listed) == sorted(["a", "lstm:dropout", *held])
    assert dd.interventions.set(model, {"b": 0.4}).sites == ("a",)
    assert shared.p == 0.4
    for name in ("lstm", "lstm.dropout", "lstm:dropout"):
        assert dd.interventions.off(model, name).sites == ("lstm:dropout",)
    assert [site.name for site in dd.interventions.list(DropoutBlock())] == ["rate", "inner"]
    lines = str(dd.interventions.list(model)).splitlines()
    assert lines[0].split() == ["name", "type", "rate", "grain", "can", "be", "set"]
    assert lines[2].split() == ["a", "Dropout", "0.4", "element", "yes"]


def test_an_attribute_of_the_same_name_elsewhere_does_not_matter():
    assert dd.interventions.off(KeepsItsProbabilities()).sites == ("inner",)


def test_wrappers_do_not_change_the_names():
    model = nn.Sequential(nn.Linear(2, 2), nn.Dropout(0.1))
    for wrapped in (
        torch.compile(model, backend="eager"),
        nn.DataParallel(model),
        nn.Sequential(torch.compile(model, backend="eager")),
    ):
        names = [site.name for site in dd.interventions.list(wrapped)]
        assert names in (["1"], ["0.1"])
    checkpointed = nn.Sequential(checkpoint_wrapper(nn.Dropout(0.1)))
    assert [site.name for site in dd.interventions.list(checkpointed)] == ["0"]


def test_a_class_that_belongs_to_no_module_is_no_error():
    scope = {"nn": nn, "F": F}
    source = "class Own(nn.Module):\n    def forward(self, x):\n        return F.dropout(x, 0.5, self.training)\n"
    exec(source, scope)  # noqa: S102 - as notebooks' cells are, where no name says which module they are of
    assert scope["Own"].forward.__module__ in (None, "builtins")
    assert len(dd.interventions.list(nn.Sequential(scope["Own"](), nn.Dropout(0.5)))) == 1
