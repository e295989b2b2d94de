"""What ``run.json`` and ``rank.json`` hold, of every schema version: types, what may be left out, and ranges.

Keys that are not described here are kept, and ignored. `Run` is of both files: the ranks of a run say of themselves
what the run says of itself.
"""

from __future__ import annotations

from typing import Annotated, Any, Final, Literal, TypeAlias

from msgspec import UNSET, Meta, Struct, UnsetType

from dropdiag.store import limits

Name: TypeAlias = Annotated[str, Meta(max_length=limits.NAME)]
Text: TypeAlias = Annotated[str, Meta(max_length=limits.TEXT)]
Words: TypeAlias = Annotated[str, Meta(min_length=1, max_length=limits.NAME)]
Step: TypeAlias = Annotated[int, Meta(ge=0, le=limits.STEPS)]
Count: TypeAlias = Annotated[int, Meta(ge=0, le=limits.COUNT)]
Call: TypeAlias = Annotated[int, Meta(ge=0, le=2**31 - 1)]
Names: TypeAlias = Annotated[list[Name], Meta(max_length=limits.LAYERS)]
Site: TypeAlias = tuple[Name, Call]
End: TypeAlias = float | None
"""Of an interval; null where it is open."""


class Layer(Struct, gc=False):
    """A site of the network.

    `kind` is "weight", "activation", "output" or "dropout". `formerly` has a null where a call was not recorded.
    """

    layer: Name
    call: Call
    kind: Name
    type: Name | UnsetType = UNSET
    activation: Name | UnsetType | None = UNSET
    shape: Annotated[list[Count], Meta(max_length=limits.DIMENSIONS)] | UnsetType | None = UNSET
    functional: bool | UnsetType = UNSET
    aliases: Names | UnsetType = UNSET
    skipped: Text | UnsetType | None = UNSET
    rate: float | UnsetType | None = UNSET
    grain: Name | UnsetType | None = UNSET
    applied_to: Name | UnsetType | None = UNSET
    feeds: Name | UnsetType | None = UNSET
    sharded: bool | UnsetType = UNSET
    formerly: Annotated[list[Site | None], Meta(max_length=limits.LAYERS)] | UnsetType = UNSET


class Covered(Struct, gc=False):
    """A row of the coverage table: what was seen of a site, and why not more."""

    layer: Name
    call: Call
    kind: Name
    type: Name
    functional: bool
    expected: bool
    fired: Count
    sampled: Text | None
    skipped: Text | None
    nodes: Text | UnsetType | None = UNSET
    dropout: Text | UnsetType | None = UNSET
    chain: Text | UnsetType | None = UNSET
    ranks: Text | UnsetType | None = UNSET


class Link(Struct, gc=False):
    """A tensor of the chain from each net value to the output; `next` is its follower's place in the list."""

    kind: Name
    layer: Name
    call: Call
    next: Count | None
    between: Text
    same: bool
    why: Text | None


class Area(Struct, gc=False):
    """The saturation area of an activation."""

    sup: float
    eps: float
    left: Annotated[list[tuple[End, End]], Meta(max_length=limits.NAME)]
    right: Annotated[list[tuple[End, End]], Meta(max_length=limits.NAME)]
    known: tuple[End, End] | UnsetType = UNSET


class Scalar(Struct, tag_field="kind", tag="scalar", gc=False):
    """A quantity of which each step has a number."""

    unit: Words
    label: Words
    scale: Literal["difference", "log ratio", "none", ""] | UnsetType = UNSET
    merge: Literal["mean", "sum", "minimum", "maximum"] | UnsetType = UNSET


class Distribution(Struct, tag_field="kind", tag="histogram", gc=False):
    """A quantity of which a histogram is recorded."""

    unit: Words
    label: Words
    scale: Literal["distance", "none", ""] | UnsetType = UNSET
    merge: Literal["mean"] | UnsetType = UNSET


class Disabled(Struct, gc=False):
    """A probe that failed; `on` says on which ranks, where it did not on all."""

    probe: Name
    layer: Name | UnsetType | None = UNSET
    cause: Text | UnsetType = UNSET
    on: Text | UnsetType = UNSET


class Intervention(Struct, gc=False):
    """What was done to the dropouts of the model: after `step` steps, until `until` (null: to the end)."""

    what: Name
    step: Step
    until: Step | None
    sites: Names
    patterns: Names | UnsetType = UNSET
    left: Names | UnsetType = UNSET
    rates: Annotated[list[float], Meta(max_length=limits.LAYERS)] | UnsetType = UNSET
    schedule: dict[Name, list[float] | dict[Name, float]] | UnsetType = UNSET


class Lost(Struct, gc=False):
    """Numbers that a measurement has not: pairs of quantity and layer, null for the network."""

    phase: Name
    why: Text
    of: Annotated[list[tuple[Name, Name | None]], Meta(max_length=limits.VALUES)]


class Ranks(Struct, gc=False):
    """The place of the process in its process group."""

    rank: Annotated[int, Meta(ge=0, lt=limits.RANKS)] | UnsetType = UNSET
    world_size: Annotated[int, Meta(ge=1, le=limits.RANKS)] | UnsetType = UNSET
    training: Name | UnsetType | None = UNSET
    recorded: Name | UnsetType = UNSET
    parallel: dict[Name, Text | float | bool | None] | UnsetType = UNSET
    batch: Text | int | UnsetType | None = UNSET
    shard: Count | UnsetType | None = UNSET
    stage: Count | UnsetType | None = UNSET


class Process(Struct, gc=False):
    """Which process it was, on its host."""

    pid: Annotated[int, Meta(ge=0, le=2**31 - 1)]
    began: Count | UnsetType | None = UNSET
    boot: Name | UnsetType | None = UNSET
    namespace: Count | UnsetType | None = UNSET


class Session(Struct, gc=False):
    """A process that wrote the run: after `from_step` steps, segments from `first_segment` on."""

    started: Name
    from_step: Step
    first_segment: Count
    id: Name | UnsetType | None = UNSET
    number: Count | UnsetType = UNSET
    last_segment: Count | UnsetType = UNSET
    host: Name | UnsetType | None = UNSET
    process: Process | UnsetType | None = UNSET
    expires_after: Annotated[float, Meta(ge=0, le=limits.STEPS)] | UnsetType = UNSET
    world_size: Annotated[int, Meta(ge=1, le=limits.RANKS)] | UnsetType | None = UNSET
    recorded: Name | UnsetType = UNSET


class Origin(Struct, gc=False):
    """Digests of the weights at the start and at the end, and of batches by step; null where they are not known."""

    weights: Name | None
    batches: Annotated[dict[Name, Name], Meta(max_length=limits.LAYERS)]
    end: Name | None


class Cost(Struct, gc=False):
    """What recording took."""

    budget: float | UnsetType | None = UNSET
    steps: Count | UnsetType = UNSET
    step_seconds: float | UnsetType = UNSET
    recorder_seconds: float | UnsetType = UNSET
    share: float | UnsetType | None = UNSET
    thinned_steps: Count | UnsetType = UNSET
    rested_steps: Count | UnsetType = UNSET
    waits: Count | UnsetType = UNSET
    seconds_waited: float | UnsetType = UNSET
    writer_seconds: float | UnsetType = UNSET


class Run(Struct, gc=False):
    """A run, or a rank of it: what every version writes, then what some do."""

    format: Literal["dropdiag-run"]
    schema: Count
    name: Name
    created: Name
    ended: Name | None
    state: Literal["running", "completed", "failed", "interrupted"]
    error: Text | None
    config: dict[str, Any]
    steps: Step
    versions: dict[Name, Text]
    probes: Names
    disabled_probes: Annotated[list[Disabled | Name], Meta(max_length=limits.LAYERS)]
    warnings: Annotated[list[Text], Meta(max_length=limits.LAYERS)]
    layers: Annotated[list[Layer], Meta(max_length=limits.LAYERS)]
    activations: dict[Name, Area]
    sessions: Annotated[list[Session], Meta(min_length=1, max_length=limits.SESSIONS)]
    id: Name | UnsetType | None = UNSET
    native: bool | UnsetType = UNSET
    every: Text | UnsetType = UNSET
    finite_shares: bool | UnsetType = UNSET
    quantities: dict[Words, Scalar | Distribution] | UnsetType = UNSET
    interventions: Annotated[list[Intervention], Meta(max_length=limits.LAYERS)] | UnsetType = UNSET
    missing: Annotated[list[Lost], Meta(max_length=limits.LAYERS)] | UnsetType = UNSET
    ranks: Ranks | UnsetType | None = UNSET
    order: Annotated[list[list[Site]], Meta(max_length=limits.LAYERS)] | UnsetType = UNSET
    chain: Annotated[list[Link], Meta(max_length=limits.LAYERS)] | UnsetType = UNSET
    coverage: Annotated[list[Covered], Meta(max_length=limits.LAYERS)] | UnsetType = UNSET
    cost: Cost | UnsetType | None = UNSET
    origin: Origin | UnsetType = UNSET
    sha256: Name | UnsetType = UNSET


ENTRIES: Final[dict[str, Any]] = {
    "versions": Text,
    "batches": Name,
    "activations": Area,
    "quantities": Scalar | Distribution,
    "schedule": list[float] | dict[Name, float],
    "parallel": Text | float | bool | None,
}
"""Types of the entries of objects whose keys are free, by the field that holds them."""
CHOICES: Final[dict[str, str]] = {
    "state": "running, completed, failed or interrupted",
    "kind": "scalar or histogram",
    "scale": "difference, log ratio or none (of a histogram: distance or none)",
    "merge": "mean, sum, minimum or maximum (of a histogram: mean)",
}
"""What may stand in a field of few words."""
