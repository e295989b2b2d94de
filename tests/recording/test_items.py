"""How many items of the batches the samples of a node correlation are of."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F
from torch.nn.utils.rnn import pack_padded_sequence, pack_sequence

import dropdiag as dd
from dropdiag.recording.batch import Batch
from dropdiag.sketches.covariance import Covariance

N, T, D = 6, 10, 8
SIZES = ((6, 10), (10, 6), (5, 10), (10, 5), (4, 4), (1, 7), (7, 1))  # items and tokens, of one evaluation
SAMPLES, ITEMS = sum(n * t for n, t in SIZES), sum(n for n, _ in SIZES)


def items(tmp_path, model, *inputs, **options):
    """Samples and items of each site, after an evaluation of these batches."""
    model.eval()
    with dd.Recorder(model, tmp_path / "run", strict=True, **options) as rec, rec.evaluation(), torch.no_grad():
        for batch in inputs:
            model(*batch) if type(batch) is tuple else model(**batch) if isinstance(batch, dict) else model(batch)
    frame = dd.load(tmp_path / "run").select(["node_correlation_samples", "node_correlation_items"])
    table = frame.pivot(index=["layer", "call"], columns="quantity", values="value")
    numbers = table[["node_correlation_samples", "node_correlation_items"]]
    return {key if key[1] else key[0]: tuple(row) for key, row in zip(numbers.index, numbers.to_numpy(), strict=True)}


class Of(nn.Module):
    """A model of a function that is given its parts."""

    def __init__(self, function, **parts):
        super().__init__()
        for name, part in parts.items():
            setattr(self, name, part)
        self.function = function

    def forward(self, *args, **kwargs):
        return self.function(self, *args, **kwargs)


def test_rows_of_a_batch_over_several_batches_the_last_one_smaller(tmp_path):
    net = nn.Sequential(nn.Linear(D, 5), nn.Tanh(), nn.Linear(5, 4), nn.ReLU())
    found = items(tmp_path, net, torch.randn(N, D), torch.randn(N, D), torch.randn(2, D))
    assert found == {"1": (14, 14), "3": (14, 14)}


def test_positions_of_an_image_are_of_one_item(tmp_path):
    net = nn.Sequential(
        nn.Conv2d(3, 4, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(4, 5, 2), nn.Tanh(),
        nn.Flatten(), nn.Linear(20, 6), nn.ReLU(),
    )  # fmt: skip
    # the first batch has as many images as an image has rows
    found = items(tmp_path, net, *(torch.randn(n, 3, 6, 6) for n in (6, 7, 1, 2)))
    assert found == {"1": (36 * 16, 16), "4": (4 * 16, 16), "7": (16, 16)}


@pytest.mark.parametrize("kind", [nn.LSTM, nn.GRU, nn.RNN])
@pytest.mark.parametrize("batch_first", [True, False])
def test_recurrent_layers_of_both_orders(tmp_path, kind, batch_first):
    net = Of(
        lambda s, x: F.relu(s.out(torch.tanh(s.inner(s.rnn(x)[0])))),
        rnn=kind(D, 5, batch_first=batch_first), inner=nn.Linear(5, 4), out=nn.Linear(4, 3),
    )  # fmt: skip
    batches = [torch.randn((n, t, D) if batch_first else (t, n, D)) for n, t in SIZES]
    found = items(tmp_path, net, *batches)
    assert found == dict.fromkeys(("rnn", "inner:tanh", "out:relu"), (SAMPLES, ITEMS))


@pytest.mark.parametrize("batch_first", [True, False])
def test_transformers_of_both_orders_from_tokens(tmp_path, batch_first):
    layer = nn.TransformerEncoderLayer(D, 2, 16, batch_first=batch_first)
    net = Of(
        lambda s, x: s.head(torch.tanh(s.pool(s.encoder(s.embed(x)).mean(1 if batch_first else 0)))),
        embed=nn.Embedding(20, D), encoder=nn.TransformerEncoder(layer, 2, enable_nested_tensor=False),
        pool=nn.Linear(D, 6), head=nn.Linear(6, 3),
    )  # fmt: skip
    found = items(tmp_path, net, *(torch.randint(20, (n, t) if batch_first else (t, n)) for n, t in SIZES))
    assert found.pop("pool:tanh") == (ITEMS, ITEMS)
    assert set(found.values()) == {(SAMPLES, ITEMS)}
    assert len(found) == 4


def test_a_batch_first_model_with_attention_that_is_sequence_first_inside(tmp_path):
    # as CLIP: images come items first, and are turned round for the attention
    def forward(s, x):
        h = s.patches(x).flatten(2).permute(2, 0, 1)
        h = h + s.attention(h, h, h, need_weights=False)[0]
        return s.out(F.gelu(s.inner(h)).mean(0))

    net = Of(
        forward, patches=nn.Conv2d(3, D, 4, stride=4), attention=nn.MultiheadAttention(D, 2),
        inner=nn.Linear(D, 12), out=nn.Linear(12, 3),
    )  # fmt: skip
    for n in (5, 16):  # of 16 patches
        found = items(tmp_path / str(n), net, torch.randn(n, 3, 16, 16))
        assert found == {"attention": (16 * n, n), "inner:gelu": (16 * n, n)}


@pytest.mark.parametrize("turned", [False, True])
def test_tokens_that_were_flattened_before_a_layer(tmp_path, turned):
    def forward(s, x):
        h = s.rnn(x)[0] if turned else x
        return F.relu(s.out(h.reshape(-1, h.shape[-1])))

    net = Of(forward, out=nn.Linear(D, 5), **({"rnn": nn.GRU(D, D)} if turned else {}))
    found = items(tmp_path, net, torch.randn((T, N, D) if turned else (N, T, D)))
    assert found["out:relu"] == (N * T, N)


def test_functions_that_are_called_several_times_and_on_channels(tmp_path):
    def forward(s, x):
        h = F.relu(s.conv(x.transpose(1, 2)))
        h = F.relu(s.conv(h.flip(2)))
        return torch.sigmoid(s.out(h.mean(2)))

    net = Of(forward, conv=nn.Conv1d(D, D, 3), out=nn.Linear(D, 2))
    found = items(tmp_path, net, torch.randn(N, T, D))
    assert found == {"conv:relu": (N * (T - 2), N), ("conv:relu", 1): (N * (T - 4), N), "out:sigmoid": (N, N)}


def test_steps_of_a_recurrent_cell(tmp_path):
    def forward(s, x):
        h = x.new_zeros(x.shape[1], 5)
        for step in x:
            h = s.cell(step, h)
        return torch.tanh(s.out(h))

    net = Of(forward, cell=nn.GRUCell(D, 5), out=nn.Linear(5, 4))
    assert items(tmp_path / "a", net, torch.randn(T, 7, D)) == {"out:tanh": (7, 7)}
    # 20 items in the second dimension, or 10 times two in the first? Nobody can tell.
    ((samples, number),) = items(tmp_path / "b", net, torch.randn(T, 20, D)).values()
    assert samples == 20
    assert np.isnan(number)


def test_inputs_by_name_and_none(tmp_path):
    net = Of(lambda s, **x: torch.tanh(s.a(x["x"])), a=nn.Linear(D, 4))
    x = torch.randn(N, T, D)
    by_name = {"positions": torch.arange(T)[None], "x": x}
    assert items(tmp_path / "a", net, by_name) == {"a:tanh": (N * T, N)}
    ((_, number),) = items(tmp_path / "b", net, {"mask": torch.ones(T, T), "x": x}).values()  # which has the items?
    assert np.isnan(number)
    net = Of(lambda s, xs: torch.tanh(s.a(torch.stack(xs))), a=nn.Linear(D, 4))
    ((_, number),) = items(tmp_path / "c", net, ([torch.randn(T, D)] * N,)).values()
    assert np.isnan(number)
    net = Of(lambda s: torch.tanh(s.a(torch.ones(5, D))), a=nn.Linear(D, 4))
    ((_, number),) = items(tmp_path / "d", net, ()).values()
    assert np.isnan(number)


def test_what_has_no_dimension_of_items_is_not_known_rather_than_wrong(tmp_path):
    def forward(s, x):
        chosen = x.reshape(-1, D)[:13]  # of some items more, of others none
        return s.a(x).mean() + torch.tanh(s.b(chosen)).mean() + F.relu(s.a(x)).mean()

    found = items(tmp_path, Of(forward, a=nn.Linear(D, 4), b=nn.Linear(D, 4)), torch.randn(N, T, D))
    assert found["a:relu"] == (N * T, N)
    assert found["b:tanh"][0] == 13
    assert np.isnan(found["b:tanh"][1])


def test_one_text_and_one_image_without_a_batch(tmp_path):
    net = Of(lambda s, x: torch.tanh(s.out(s.rnn(x)[0])), rnn=nn.LSTM(D, 5), out=nn.Linear(5, 4))
    assert items(tmp_path / "a", net, torch.randn(T, D)) == dict.fromkeys(("rnn", "out:tanh"), (T, 1))
    net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU())
    assert items(tmp_path / "b", net, torch.randn(3, 6, 6), torch.randn(3, 6, 6)) == {"1": (32, 2)}


@pytest.mark.parametrize("inside", [True, False])
def test_packed_sequences_know_their_items(tmp_path, inside):
    lengths = [7, 5, 5, 2]
    texts = [torch.randn(n, D) for n in lengths]

    def forward(s, x):
        x = pack_padded_sequence(x, lengths, batch_first=True) if inside else x
        h, _ = s.rnn(x)
        return torch.tanh(s.out(h.data))

    net = Of(forward, rnn=nn.LSTM(D, 5, batch_first=True), out=nn.Linear(5, 4))
    x = nn.utils.rnn.pad_sequence(texts, batch_first=True) if inside else pack_sequence(texts)
    assert items(tmp_path, net, x, x) == dict.fromkeys(("rnn", "out:tanh"), (2 * sum(lengths), 2 * 4))


@pytest.mark.parametrize("batch_first", [True, False])
def test_padding_is_left_out_of_the_items_as_well(tmp_path, batch_first):
    lengths = torch.tensor([7, 0, 5, 1])
    mask = torch.arange(7)[None] < lengths[:, None]
    net = Of(
        lambda s, x: torch.tanh(s.out(s.rnn(x)[0])), rnn=nn.GRU(D, 5, batch_first=batch_first), out=nn.Linear(5, 3)
    ).eval()
    x = torch.randn(4, 7, D)
    with dd.Recorder(net, tmp_path / "run") as rec, rec.evaluation(), torch.no_grad():
        for _ in range(2):
            with rec.padding(mask if batch_first else mask.T):
                net(x if batch_first else x.transpose(0, 1))
    frame = dd.load(tmp_path / "run").select("node_correlation_items")
    assert frame["value"].tolist() == [6, 6]  # the second one has no token


def test_parts_that_are_called_alone_have_no_known_items(tmp_path):
    net = nn.Sequential(nn.Linear(D, 4), nn.Tanh()).eval()
    with dd.Recorder(net, tmp_path / "run") as rec, rec.evaluation(), torch.no_grad():
        net(torch.randn(4, D))
        net[1](net[0](torch.randn(4, D)))
    assert dd.load(tmp_path / "run").select("node_correlation_items")["value"].isna().all()


def test_compiled_models_count_theirs(tmp_path):
    net = nn.Sequential(nn.Linear(D, 5), nn.Tanh()).eval()
    compiled = torch.compile(net, backend="eager")
    with dd.Recorder(net, tmp_path / "run", strict=True) as rec, rec.evaluation(), torch.no_grad():
        for n in (6, 6, 3):  # of another size: another graph
            compiled(torch.randn(n, T, D))
    frame = dd.load(tmp_path / "run").select(["node_correlation_samples", "node_correlation_items"])
    assert frame["value"].tolist() == [15 * T, 15]


def test_training_steps_count_theirs(tmp_path):
    net = nn.Sequential(nn.Conv1d(3, 4, 3), nn.Tanh(), nn.Flatten(), nn.Linear(32, 2))
    with dd.Recorder(net, tmp_path / "run", probes=["training_node_correlation"], every=1) as rec:
        for n in (5, 9):
            net(torch.randn(n, 3, T)).sum().backward()
            rec.step()
    frame = dd.load(tmp_path / "run").select(["node_correlation_samples", "node_correlation_items"])
    assert frame["value"].tolist() == [5 * 8, 5, 9 * 8, 9]


def test_of_what_is_kept_the_items_are_counted(tmp_path):
    # 3,000 samples of 300 items, of which 2,048 are kept: found again in the values themselves
    net = Of(lambda s, x: torch.tanh(s.a(x)), a=nn.Linear(2, 2))
    with torch.no_grad():
        net.a.weight.copy_(torch.eye(2))
        net.a.bias.zero_()
    number = torch.arange(300.0)[:, None, None].expand(300, 10, 2) / 300
    sketch = Covariance()
    sketch.update(torch.tanh(number))
    expected = sketch.samples()[:, 0].unique().numel()
    found = items(tmp_path, net, *number.split(37))
    assert found == {"a:tanh": (2048, expected)}
    # of one sample an item, all of those that are kept
    assert items(tmp_path / "b", net, torch.randn(3000, 2)) == {"a:tanh": (2048, 2048)}


def test_few_of_many_positions_are_of_fewer_items_and_merged_logs_add_up():
    def fed(first: int) -> Covariance:
        sketch = Covariance(max_samples=50)
        for n in range(first, first + 4):
            batch = Batch((20, 30), bool)
            rows = torch.full((20, 30, 3), 1.0) * (torch.arange(20.0)[:, None, None] + 100 * n)
            sketch.update(rows, batch)
        return sketch

    a, b = fed(0), fed(10)
    for sketch in (a, b):
        assert sketch.items == sketch.samples()[:, 0].unique().numel() < 50
    a.merge(b)
    assert a.items == a.samples()[:, 0].unique().numel()
    b.update(torch.randn(500, 3))  # of no batch that is known: some are kept
    assert b.items is None


def test_what_is_thinned_in_the_middle_of_a_pass_waits_for_its_end():
    # two updates of one pass and more samples than are kept, before a layer says that the second dimension counts items
    sketch = Covariance(max_samples=40)
    for first in (0, 1000):
        batch = Batch((25, 10), lambda: True)
        number = first + torch.arange(10.0)[None, :, None].expand(25, 10, 3)
        sketch.update(number, batch)
        sketch.update(number, batch)
        batch.ran(10, 25)
    assert sketch.n == 40
    assert sketch.items == sketch.samples()[:, 0].unique().numel()
    assert sketch.items > 10


@pytest.mark.parametrize(
    ("shape", "layers", "size"),
    [
        ((10, 20, 8), {(20, 10)}, 20),  # sequence first
        ((20, 10, 8), {(20, 10)}, 20),
        ((20, 10, 8), {(200, 4)}, 20),  # characters of words: 20 texts of 10 words
        ((1, 20, 8), {(20, 4)}, None),  # of one text, or of 20 items that come second? Each is likely
        ((10, 20, 8), {(20, 10), (10, 20)}, None),  # over positions and over items
        ((8, 3, 32, 32), {(8 * 49, 16)}, 8),  # windows of images
        ((8, 3, 32, 32), {(5, 16)}, None),
        ((100, 30, 8), {(30, 50)}, 30),  # the sequence is shortened before
        ((100, 200, 8), {(200, 50)}, None),
        ((9, 8), {(1, 9)}, 1),  # one sequence
    ],
)
def test_what_layers_say_of_a_batch(shape, layers, size):
    batch = Batch(shape, lambda: True)
    for one in layers:
        batch.ran(*one)
    assert batch.decided()[0] == size


def test_without_a_layer_that_knows_it_the_first_dimension_decides_unless_some_could_have_told():
    assert Batch((10, 20, 8), lambda: False).decided() == (10, False)
    assert Batch((10, 20, 8), lambda: True).decided() == (None, False)
    assert Batch(None, lambda: False).decided() == (None, False)
