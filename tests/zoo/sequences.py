"""Networks for sequences: recurrent layers, PyTorch's own transformers."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from tests.zoo.network import FUSED, Network


class PackedLSTM(nn.Module):
    """Two layers of LSTM with dropout between them, over sequences of unlike lengths."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(20, 6)
        self.lstm = nn.LSTM(6, 8, num_layers=2, dropout=0.3, batch_first=True)
        self.squash = nn.Tanh()
        self.head = nn.Linear(8, 4)

    def forward(self, tokens: Tensor, lengths: Tensor) -> Tensor:
        packed = pack_padded_sequence(self.embedding(tokens), lengths, batch_first=True, enforce_sorted=False)
        hidden, _ = pad_packed_sequence(self.lstm(packed)[0], batch_first=True)
        return self.head(self.squash(hidden.mean(1)))


def _sentences(generator: torch.Generator) -> tuple[Tensor, Tensor, Tensor]:
    tokens = torch.randint(20, (5, 7), generator=generator)
    return tokens, torch.randint(2, 8, (5,), generator=generator), torch.randint(4, (5,), generator=generator)


def _sentence_loss(model: nn.Module, batch: tuple[Tensor, Tensor, Tensor]) -> Tensor:
    tokens, lengths, labels = batch
    return nn.functional.cross_entropy(model(tokens, lengths), labels)


class Attention(nn.Module):
    """Additive attention; its tanh is a function."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.query, self.key, self.score = nn.Linear(width, width), nn.Linear(2 * width, width), nn.Linear(width, 1)

    def forward(self, query: Tensor, keys: Tensor) -> Tensor:
        weights = self.score(torch.tanh(self.query(query) + self.key(keys))).softmax(1)
        return (weights * keys).sum(1, keepdim=True)


class Seq2Seq(nn.Module):
    """A two-way GRU read by a GRU that is called once a token, with attention."""

    def __init__(self, width: int = 6) -> None:
        super().__init__()
        self.embedding = nn.Embedding(15, width)
        self.encoder = nn.GRU(width, width, bidirectional=True, batch_first=True)
        self.attention = Attention(width)
        self.decoder = nn.GRU(3 * width, width, batch_first=True)
        self.dropout = nn.Dropout(0.2)
        self.head = nn.Linear(width, 15)

    def forward(self, source: Tensor, target: Tensor) -> Tensor:
        keys, state = self.encoder(self.embedding(source))
        state, words = state[:1], []
        for token in target.unbind(1):
            context = self.attention(state.transpose(0, 1), keys)
            word, state = self.decoder(torch.cat([self.embedding(token[:, None]), context], -1), state)
            words.append(self.head(self.dropout(word)))
        return torch.cat(words, 1)


class Plain(nn.Module):
    """The plain recurrent layer, with ReLU inside it, sequence first."""

    def __init__(self) -> None:
        super().__init__()
        self.rnn = nn.RNN(6, 8, nonlinearity="relu")
        self.head = nn.Linear(8, 15)

    def forward(self, source: Tensor, target: Tensor) -> Tensor:
        hidden, _ = self.rnn(nn.functional.one_hot(source % 6, 6).float().transpose(0, 1))
        return self.head(hidden[: target.shape[1]]).transpose(0, 1)


class Translator(nn.Module):
    """`nn.Transformer` with its masks."""

    def __init__(self, **options) -> None:
        super().__init__()
        self.embedding = nn.Embedding(15, 16)
        self.transformer = nn.Transformer(16, 2, 2, 2, 24, dropout=0.1, batch_first=True, **options)
        self.head = nn.Linear(16, 15)

    def forward(self, source: Tensor, target: Tensor) -> Tensor:
        mask = nn.Transformer.generate_square_subsequent_mask(target.shape[1])
        hidden = self.transformer(self.embedding(source), self.embedding(target), tgt_mask=mask, tgt_is_causal=True)
        return self.head(hidden)


class Encoder(nn.Module):
    """`nn.TransformerEncoder`, sequence first, norm before."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(15, 16)
        layer = nn.TransformerEncoderLayer(16, 2, 24, dropout=0.1, activation="gelu", norm_first=True)
        self.encoder = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)
        self.head = nn.Linear(16, 15)

    def forward(self, source: Tensor, target: Tensor) -> Tensor:
        return self.head(self.encoder(self.embedding(source).transpose(0, 1))[: target.shape[1]]).transpose(0, 1)


class PostNormEncoder(Encoder):
    """An encoder of modules: its activation is one too, and evaluation takes PyTorch's fused path."""

    def __init__(self) -> None:
        super().__init__()
        layer = nn.TransformerEncoderLayer(16, 2, 24, dropout=0.1, activation=nn.ReLU(), batch_first=True)
        self.encoder = nn.TransformerEncoder(layer, 2)

    def forward(self, source: Tensor, target: Tensor) -> Tensor:
        return self.head(self.encoder(self.embedding(source)))[:, : target.shape[1]]


def _pairs(generator: torch.Generator) -> tuple[Tensor, Tensor]:
    return torch.randint(15, (4, 8), generator=generator), torch.randint(15, (4, 5), generator=generator)


def _translate(model: nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
    source, target = batch
    return nn.functional.cross_entropy(model(source, target).flatten(0, 1), target.flatten())


NETWORKS = (
    Network("lstm_packed", PackedLSTM, _sentences, _sentence_loss),
    Network("gru_seq2seq", Seq2Seq, _pairs, _translate),
    Network("rnn_relu", Plain, _pairs, _translate),
    Network("nn_transformer", Translator, _pairs, _translate, fused=FUSED),
    Network("encoder_norm_first_gelu", Encoder, _pairs, _translate),
    Network("encoder_activation_module", PostNormEncoder, _pairs, _translate, fused=FUSED),
)
