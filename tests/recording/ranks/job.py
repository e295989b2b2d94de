"""What each rank of a job runs: trainings, each once bare and once recorded, from the same start.

``torchrun job.py FOLDER NAME ...`` writes, for each training: ``FOLDER/NAME`` the run, ``FOLDER/NAME-bare-R.pt`` and
``FOLDER/NAME-recorded-R.pt`` what rank R had of losses, weights and gradients, and of the bare one also what went through
its activations.
"""

from __future__ import annotations

import contextlib
import sys
import warnings
from pathlib import Path

import torch
import torch.distributed as dist
from torch.nn import functional as F

import dropdiag as dd
from tests.recording.ranks.networks import ACTIVATIONS
from tests.recording.ranks.trainings import TRAININGS


def held(tensor):
    """Return what this rank holds of a tensor, as torch's public interface says."""
    return (tensor.to_local() if hasattr(tensor, "to_local") else tensor).detach().clone()


def whole(tensor):
    """Return all of a tensor: a collective, so that only the job itself may ask."""
    return (tensor.full_tensor() if hasattr(tensor, "full_tensor") else tensor).detach().clone()


def weights(model):
    """Return all parameters of a model, whole."""
    return {name: whole(parameter) for name, parameter in model.named_parameters()}


class Watch:
    """Keeps what goes through activations, and the gradients of what enters them."""

    def __init__(self, model, keep):
        self.seen, self._keep = [], keep
        for name, module in model.named_modules():
            if isinstance(module, ACTIVATIONS):
                module.register_forward_pre_hook(self._hook(name.replace("_fsdp_wrapped_", "").replace("module.", "")))

    def _hook(self, name):
        def hook(module, args):
            z = args[0]
            if not self._keep() or z.is_meta:
                return
            row = {"layer": name, "training": module.training, "z": held(z), "gradient": None}
            self.seen.append(row)
            if z.requires_grad:
                z.register_hook(lambda g: row.update(gradient=held(g)))

        return hook


def train(training, path, watched):
    """Train once; return what this rank had."""
    rank, world = dist.get_rank(), dist.get_world_size()
    made = training.build(rank, world)
    on = True
    watch = Watch(made.model, lambda: on) if watched else None
    told = {"losses": [], "gradients": [], "raw": [], "steps": [], "sizes": []}
    recorder = contextlib.nullcontext()
    if path is not None and training.only in (None, rank):
        recorder = dd.Recorder(made.recorded, path, config={"condition": training.name, "seed": 0}, **training.options)
    torch.manual_seed(50 + rank)
    with recorder as rec:
        with training.inside(made):
            optimizer = torch.optim.SGD([p for p in made.model.parameters() if p.requires_grad], lr=0.1)
            told["trained"] = [weights(made.model)]
            for step in training.steps(rank, world):
                optimizer.zero_grad()
                loss = training.forward_backward(made, step, rank, world, F.cross_entropy)
                told["losses"].append(None if loss is None else loss.detach().clone())
                named = list(made.model.named_parameters())
                told["raw"].append({n: None if p.grad is None else whole(p.grad) for n, p in named})
                if training.clip:
                    torch.nn.utils.clip_grad_norm_(made.model.parameters(), training.clip)
                told["gradients"].append({n: None if p.grad is None else whole(p.grad) for n, p in named})
                optimizer.step()
                told["trained"].append(weights(made.model))
                if watch is not None:
                    told["steps"].append(watch.seen)
                    watch.seen = []
                if rec is not None:
                    rec.step(**({} if loss is None else {"loss": loss}))
        told["weights"] = weights(made.model)
        if training.evaluates:
            made.model.eval()
            with rec.evaluation() if rec is not None else contextlib.nullcontext(), torch.no_grad():
                training.evaluate(made, rank, world)
            if watch is not None:
                told["evaluation"] = watch.seen
        on = False
    told["random"] = torch.get_rng_state()
    return told


def main(folder, names):
    """Run trainings, one after the other."""
    warnings.filterwarnings("ignore", category=FutureWarning)
    dist.init_process_group("gloo")
    torch.set_num_threads(1)
    rank = dist.get_rank()
    for name in names:
        training = TRAININGS[name]
        for kind in ("bare", "recorded"):
            path = folder / name if kind == "recorded" else None
            with warnings.catch_warnings(record=True) as caught:
                warnings.simplefilter("always")
                told = train(training, path, watched=kind == "bare")
            told["warnings"] = [str(w.message) for w in caught if issubclass(w.category, dd.DropdiagWarning)]
            torch.save(told, folder / f"{name}-{kind}-{rank}.pt")
            dist.barrier()
    dist.destroy_process_group()


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2:])
