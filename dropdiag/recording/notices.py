"""What a user should know about the passes of a step or evaluation: one sentence each, with what to do."""

from __future__ import annotations

from collections.abc import Iterable, Set
from enum import Enum
from typing import Final


class Notice(str, Enum):  # a str, as that hashes in C: some notices are given at every pass
    """Something that hooks noticed about a pass; its value is the warning."""

    CAPTURED = "forward passes captured into a CUDA graph are not recorded: its replays run no hooks"
    TRANSFORMED = "forward passes inside torch.func transforms (vmap, grad) hold no values: they are not recorded"
    NO_VALUES = "forward passes of tensors without values (fake tensors, the meta device) are not recorded"
    SEVERAL_BACKWARDS = (
        "several losses were propagated through one forward pass, one backward() after the other: mean |dL/dz| of "
        "their sum cannot be had from that and is missing there; add the losses before one backward()"
    )
    ONLY_ASKED_FOR = (
        "gradients came by torch.autograd.grad alone in a step: no backward pass accumulated into a parameter's .grad, "
        "so mean |dL/dz| is missing; call backward() on the loss"
    )
    DIRECT_CALL = (
        "parts of the model were called without calling the model: their passes of a step are pooled as call 0, "
        "functional calls in them are not seen, and the order in which their layers run is not recorded"
    )
    NOT_REPEATED = (
        "functional calls under a reentrant checkpoint of a function that is no module's forward method were not seen "
        "when they ran again: they are missing; use checkpoint(..., use_reentrant=False), or checkpoint a module"
    )
    NOT_TRAINING = (
        "forward passes with gradients were in evaluation mode, so no training pass was recorded in this step: "
        "call model.train() before training"
    )
    TRAINING_IN_EVALUATION = (
        "forward passes in training mode inside evaluation {name!r} were not recorded (dropout was active in "
        "them): call model.eval() there"
    )
    MASKS_IN_EVALUATION = (
        "a dropout was active inside evaluation {name!r}: its masks are in the numbers; call model.eval() there, and "
        "give training=self.training to functions such as F.dropout, unless that is meant"
    )
    DRAWN_IN_EVALUATION = (
        "random numbers were drawn in the forward pass inside evaluation {name!r} ({drawn}), and by no dropout that is "
        "known: masks of your own that do not ask for self.training, or sampling (as in a VAE), are in the numbers, "
        "which another evaluation would not repeat; draw in training mode alone, unless that is meant"
    )
    DRAWS_UNSEEN = (
        "a forward pass inside evaluation {name!r} was captured into a CUDA graph: whether it drew random numbers "
        "cannot be seen"
    )
    UNWATCHED = (
        "a net value came into a compiled graph from outside (a graph break, a compiled part) and was overwritten or "
        "checkpointed in it, or was a parameter: its dL/dz is missing; use inplace=False there, or compile more at once"
    )
    RECOMPUTED = (
        "what is computed again in a backward pass (a checkpoint) inside torch.compile, several forward passes before: "
        "which of them it belongs to is not known, so its dL/dz is missing"
    )
    JOINED_UNEVENLY = (
        "DistributedDataParallel.join(divide_by_initial_world_size=False) divides gradients by a number of ranks that "
        "no rank can ask for: mean |dL/dz| is missing there; join with divide_by_initial_world_size=True"
    )
    SPREAD_IN_PLACE = (
        "an activation works in place on a tensor that is spread over ranks (a DTensor): its dL/dz is missing; use "
        "inplace=False there"
    )
    COMPILED = "functional calls inside torch.compile are not seen: use modules, or record the eager model"


OF_STEPS: Final = (
    Notice.CAPTURED, Notice.TRANSFORMED, Notice.NO_VALUES, Notice.SEVERAL_BACKWARDS, Notice.ONLY_ASKED_FOR,
    Notice.DIRECT_CALL, Notice.NOT_REPEATED, Notice.UNWATCHED, Notice.RECOMPUTED, Notice.JOINED_UNEVENLY,
    Notice.SPREAD_IN_PLACE,
)  # fmt: skip
OF_EVALUATIONS: Final = (
    Notice.TRAINING_IN_EVALUATION, Notice.MASKS_IN_EVALUATION, Notice.DRAWN_IN_EVALUATION, Notice.DRAWS_UNSEEN,
)  # fmt: skip

REPEATED_ITEMS: Final = (
    "in evaluation {name!r} a DistributedSampler gives {repeated} of {items} items to two ranks, so that all have as "
    "many: these are counted twice (repeated_items in the run). Where that matters, give each rank a part of its own"
)
RUN_OF_ITS_OWN: Final = (
    "this rank records a run of its own, as rank 0 records at {path}: give all ranks one path, and they record one run "
    "(a path with the time in it, or the rank, is another one on each)"
)
SHARE_OF_A_RANK: Final = (
    "sinks are sent what rank 0 of {world_size} has seen itself: its share of each batch and of sharded weights, which "
    "is not the training's; where all ranks record, dropdiag.load() merges them"
)
SUPERSEDED: Final = (
    "another process has gone on in this run from an earlier step: what this one records from here on is kept beside "
    "that, and hidden by the reader (run.session(...) has it); end one of the two"
)
DISK_IS_SLOW: Final = (
    "training waited for the disk, which is slower than the rows come: record less often (every=), or write to a "
    "faster disk; 'cost' in run.json says how often and how long"
)
TOO_MUCH_WAITS: Final = (
    "{path} has refused rows for too long ({cause}), and no more may wait in memory; training goes on, and what waits "
    "is tried again when the Recorder is closed"
)
OVER_BUDGET: Final = (
    "recording took more than its budget: steps go without histograms (schedule_thinned) or are not recorded at all "
    "(probes_rested) until the share is back; 'cost' in run.json counts them"
)
CHANGED: Final = (
    "the model's modules have changed, found at step {step}: {changes}. What came is recorded from now on, what is "
    "gone no longer is; between the change and this step the new modules' values are missing"
)
CHANGED_TOO_OFTEN: Final = "; from now on such changes are followed and not told"
STEP_FORGOTTEN: Final = (
    "the weights have changed again and again and rec.step() was not called: nothing is recorded of these steps, their "
    "passes are pooled into one. Call rec.step() once after each optimizer.step()"
)
NO_STEP: Final = (
    "the weights have changed and rec.step() was never called: nothing of the training is recorded. Call it once after "
    "each optimizer.step()"
)
STEP_TOO_OFTEN: Final = (
    "rec.step() was called again and again with new gradients and unchanged weights: the parts of one update are "
    "counted as steps. With gradient accumulation call rec.step() once, after optimizer.step(); where a GradScaler "
    "skips the updates pass scaler= to the Recorder"
)
GRADIENTS_ARE_ZERO: Final = (
    "the gradients of all weights are exactly zero at the end of a step: call rec.step() after backward() and before "
    "zero_grad(), which set them to zero"
)
NO_ACTIVATION: Final = (
    "no activation function is known in this model, so no net values, gradient flow or saturation are recorded, only "
    "weights; seen in its forward pass: {seen}. Make yours known before the Recorder, with "
    "dd.register_activation(YourModule), or of a function"
)
REPEATED_PHASE: Final = (
    "evaluation {name!r} came twice at one step; it is kept as {phase!r}: give each held-out set a name of its own, "
    "rec.evaluation('test')"
)
NO_WEIGHT_GRADIENT: Final = (
    "no weight had a gradient at the end of a step: call rec.step() after backward() and before "
    "zero_grad(); these gradients are missing, not zero"
)
GRADIENT_USED_UP: Final = (
    "weights' gradients were used and freed inside backward() (an optimiser in a post-accumulate hook): at the end of "
    "a step they are missing, not zero; probe 'raw_weight_gradient_means' takes them as they come"
)


def after_step(notices: Set[Notice], *, nothing_recorded: bool) -> list[str]:
    """Return the warnings about the passes up to the end of a training step.

    Parameters
    ----------
    notices : set of Notice
    nothing_recorded : bool
        Whether probes wanted net values or gradients in this step and none came.
    """
    shown = [notice.value for notice in OF_STEPS if notice in notices]
    return [*shown, Notice.NOT_TRAINING.value] if nothing_recorded and Notice.NOT_TRAINING in notices else shown


def after_evaluation(
    notices: Set[Notice], name: str, *, nothing_recorded: bool, drawn: Iterable[str] = ()
) -> list[str]:
    """Return the warning about the passes inside an evaluation, if there is one.

    Parameters
    ----------
    notices : set of Notice
    name : str
        The evaluation's.
    nothing_recorded : bool
        Whether no pass was recorded though a probe wanted one.
    drawn : iterable of str
        Names of the generators that no known dropout explains.
    """
    # Of several reasons the first is the one to act on: it brings the others about.
    shown = [notice.value.format(name=name, drawn=", ".join(drawn)) for notice in OF_EVALUATIONS if notice in notices]
    if nothing_recorded:
        shown.append(f"evaluation {name!r} saw no forward pass through a recorded activation: nothing was recorded")
    return shown[:1]
