"""What a user should know about the passes of a step or evaluation: one sentence each, with what to do."""

from __future__ import annotations

from collections.abc import Iterator

from dropdiag.recording.passes import Taps


def after_step(taps: Taps, *, nothing_recorded: bool) -> Iterator[str]:
    """Give what is to be said of the passes up to the end of a training step.

    Parameters
    ----------
    taps : Taps
    nothing_recorded : bool
        Whether net values or gradients were waited for in this step and none came.
    """
    if taps.captured:
        yield "forward passes captured into a CUDA graph are not recorded: its replays run no hooks"
    if taps.transformed:
        yield "forward passes inside torch.func transforms (vmap, grad) hold no values: they are not recorded"
    if taps.several_backwards:
        yield (
            "several backward passes went through one forward pass (retain_graph, a gradient penalty): mean |dL/dz| "
            "of each is averaged, which is not that of their sum"
        )
    if taps.direct:
        yield (
            "parts of the model were called without calling the model: their passes of a step are pooled as call 0, "
            "and functional calls in them are not seen"
        )
    if taps.without_training_mode and nothing_recorded:
        yield (
            "forward passes with gradients were in evaluation mode, so no training pass was recorded in this step: "
            "call model.train() before training"
        )


def after_evaluation(taps: Taps, name: str, *, nothing_recorded: bool) -> Iterator[str]:
    """Give what is to be said of the passes inside an evaluation.

    Parameters
    ----------
    taps : Taps
    name : str
        The evaluation's.
    nothing_recorded : bool
        Whether no pass was recorded though a probe waited for one.
    """
    if taps.saw_training:
        yield (
            f"forward passes in training mode inside evaluation {name!r} were not recorded (dropout was active in "
            "them): call model.eval() there"
        )
    elif taps.masks_in_evaluation:
        yield (
            f"a dropout was in training mode inside evaluation {name!r}: its masks are in the numbers; call "
            "model.eval() there, unless that is meant"
        )
    elif nothing_recorded:
        yield f"evaluation {name!r} saw no forward pass through a recorded activation: nothing was recorded"


def of_replaced(layers: list[str]) -> str:
    """Return what is to be said of modules that were taken out of the model."""
    return (
        f"{', '.join(layers)} no longer belong to the model: what is recorded of them is the old modules'; close() "
        "and go on with a new Recorder(..., resume=True)"
    )
