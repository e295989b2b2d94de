"""A training that is the same each time, with a Recorder."""

from __future__ import annotations

import os
from pathlib import Path

import torch
from torch import nn
from torch.nn import functional as F

import dropdiag as dd
from dropdiag.store.folder import resume_step
from tests.faults.oracle import Log

FLUSH_STEPS = 2


def network(session: int) -> nn.Module:
    torch.manual_seed(session)
    return nn.Sequential(nn.Linear(4, 6), nn.Tanh(), nn.Dropout(0.5), nn.Linear(6, 2))


def train(
    path: Path,
    log: Log,
    session: int,
    *,
    resume: bool | int | str,
    steps: int,
    drained: bool = True,
    dies: bool = False,
) -> None:
    """Train some steps, with an evaluation every third; die after the last instead of closing, where that is asked."""
    model = network(session)
    start = resume_step(path, resume) or 0
    log.note(phase="opening")
    log.note(begin=session, from_step=start)
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    recorder = dd.Recorder(model, path, every=1, resume=resume, config={"condition": "Dropout", "seed": 3})
    log.note(opened=session, id=recorder._session.writer.meta["sessions"][-1].get("id"))
    log.note(phase="recording")
    for step in range(start + 1, start + steps + 1):
        one_step(recorder, model, optimizer, session, step)
        if step % FLUSH_STEPS == 0:
            flush(recorder, drained=drained)
    if dies:
        os._exit(0)
    log.note(phase="closing")
    recorder.close()


def one_step(
    recorder: dd.Recorder, model: nn.Module, optimizer: torch.optim.Optimizer, session: int, step: int
) -> None:
    generator = torch.Generator().manual_seed(1000 * session + step)
    loss = F.cross_entropy(model(torch.randn(5, 4, generator=generator)), torch.arange(5) % 2)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    recorder.step(loss=loss, session=float(session))
    if step % 3 == 0:
        model.eval()
        with recorder.evaluation():
            model(torch.randn(7, 4, generator=generator))
        model.train()


def flush(recorder: dd.Recorder, *, drained: bool = True) -> None:
    """Write what waits, as happens by itself every ten seconds."""
    recorder._session.queue.flush()
    if drained:
        recorder._session.writer.drain()
