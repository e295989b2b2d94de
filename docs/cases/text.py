"""A small transformer on a little text of a made-up language; a sweep asks which dropout rate it should have.

    dropdiag sweep docs/cases/text.py:train --over rate=0,.1,.2,.3,.5 --seeds 5 --out runs/text

The text is generated, the same on every machine: sentences of a grammar in which verbs agree with their subjects, over
clauses in between, and words come in Zipf's proportions. There is little of it, so that it can be learned by heart.
"""

from __future__ import annotations

from pathlib import Path
from random import Random
from typing import Any, Final

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, TensorDataset

import dropdiag as dd

ALPHABET: Final = " .abcdefghijklmnopqrstuvwxyz"
CONTEXT: Final = 64
WINDOWS: Final = {"train-eval": 128, "validation": 256, "test": 512}
"""Windows of `CONTEXT` characters in each split."""


class Language:
    """Sentences of a grammar; ``random`` draws them."""

    def __init__(self) -> None:
        self.random = Random(0)
        self.nouns, self.verbs, self.adjectives = (self._words(n) for n in (60, 30, 20))

    def _words(self, n: int) -> list[str]:
        syllables = [a + b for a in "bdfgklmnprtv" for b in "aeiou"]
        return ["".join(self.random.choices(syllables, k=self.random.choice((1, 2, 2, 3)))) for _ in range(n)]

    def _one_of(self, words: list[str]) -> str:
        return self.random.choices(words, [1 / rank for rank in range(1, len(words) + 1)])[0]

    def _phrase(self, plural: bool, depth: int) -> str:
        """Return a noun and what belongs to it: "the", adjectives, and a clause whose verb agrees with it."""
        adjectives = [self._one_of(self.adjectives) for _ in range(self.random.choice((0, 0, 1, 2)))]
        noun = self._one_of(self.nouns) + "s" * plural
        clause = ["that", self._predicate(plural, depth + 1)] if self.random.random() < 0.3 / (1 + depth) else []
        return " ".join(["some" if plural else "the", *adjectives, noun, *clause])

    def _predicate(self, plural: bool, depth: int) -> str:
        verb = self._one_of(self.verbs) + "t" * (not plural)
        return f"{verb} {self._phrase(self.random.random() < 0.5, depth)}" if self.random.random() < 0.6 else verb

    def sentence(self) -> str:
        """Return the next sentence."""
        plural = self.random.random() < 0.5
        return f"{self._phrase(plural, 0)} {self._predicate(plural, 0)}. "

    def windows(self, n: int) -> tuple[Tensor, Tensor]:
        """Return `n` windows of new text, and the character that follows each of theirs."""
        text = ""
        while len(text) < n * CONTEXT + 1:
            text += self.sentence()
        codes = torch.tensor([ALPHABET.index(character) for character in text[: n * CONTEXT + 1]])
        return codes[:-1].view(n, CONTEXT), codes[1:].view(n, CONTEXT)


class Block(nn.Module):
    """Causal attention and an MLP, each normalised before and with dropout behind."""

    def __init__(self, width: int, heads: int, rate: float) -> None:
        super().__init__()
        self.heads = heads
        self.norm, self.drop = nn.LayerNorm(width), nn.Dropout(rate)
        self.mix, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        up, down = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)
        self.mlp = nn.Sequential(nn.LayerNorm(width), up, nn.GELU(), down, nn.Dropout(rate))

    def forward(self, x: Tensor) -> Tensor:
        """Return `x` of shape (samples, characters, width) with what attention and MLP add."""
        q, k, v = (part.unflatten(2, (self.heads, -1)).transpose(1, 2) for part in self.mix(self.norm(x)).chunk(3, 2))
        attended = F.scaled_dot_product_attention(q, k, v, is_causal=True).transpose(1, 2).flatten(2)
        x = x + self.drop(self.out(attended))
        return x + self.mlp(x)


class Transformer(nn.Module):
    """Two blocks over characters and their positions."""

    def __init__(self, rate: float, width: int = 64, blocks: int = 2) -> None:
        super().__init__()
        self.characters, self.positions = nn.Embedding(len(ALPHABET), width), nn.Embedding(CONTEXT, width)
        self.drop = nn.Dropout(rate)
        self.blocks = nn.Sequential(*(Block(width, 4, rate) for _ in range(blocks)))
        self.head = nn.Sequential(nn.LayerNorm(width), nn.Linear(width, len(ALPHABET)))

    def forward(self, x: Tensor) -> Tensor:
        """Return logits of the next character, of shape (samples, classes, characters)."""
        embedded = self.characters(x) + self.positions.weight[: x.shape[1]]
        logits: Tensor = self.head(self.blocks(self.drop(embedded))).transpose(1, 2)
        return logits


def data() -> dict[str, tuple[Tensor, Tensor]]:
    """Windows of each split: what is trained on, what the rate is chosen on, what it is reported on."""
    language = Language()
    return {name: language.windows(n) for name, n in WINDOWS.items()}


def train(config: dict[str, Any], path: str | Path) -> None:
    """Train and record one network: ``config`` holds the rate and the seed, and may hold the number of epochs."""
    torch.manual_seed(config["seed"])
    splits, model = data(), Transformer(config["rate"])
    # A generator of its own: what dropout draws then leaves the order of batches as it is, so that seeds are paired.
    order = torch.Generator().manual_seed(config["seed"])
    loader = DataLoader(TensorDataset(*splits["train-eval"]), batch_size=16, shuffle=True, generator=order)
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    epochs = config.get("epochs", 80)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, epochs)
    with dd.Recorder(model, path, every=20, config=config) as rec:
        for epoch in range(1, epochs + 1):
            for x, y in loader:
                loss = F.cross_entropy(model(x), y)
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
                rec.step(loss=loss)
            schedule.step()
            if epoch % 5 == 0:
                evaluate(model, splits, rec, "train-eval", "validation")
        evaluate(model, splits, rec, "test")
        if config["rate"]:
            rec.measure("ensemble", *(part[:16] for part in splits["validation"]), masks=16, loss_fn=F.cross_entropy)


@torch.no_grad()
def evaluate(model: nn.Module, splits: dict[str, tuple[Tensor, Tensor]], rec: dd.Recorder, *names: str) -> None:
    """Record accuracy and loss without masks on these splits."""
    model.eval()
    for name in names:
        x, y = splits[name]
        with rec.evaluation(name):
            logits = model(x)
            rec.log(accuracy=(logits.argmax(1) == y).float().mean(), loss=F.cross_entropy(logits, y))
    model.train()
