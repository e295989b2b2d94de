"""What ``--json`` prints of each command, as types; ``docs/schemas`` holds their JSON schemas, made from these.

A number that is missing, infinite or NaN is null, so every number of a table may be. Later versions may add keys.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Final, TypeAlias

import msgspec
from msgspec import UNSET, Struct, UnsetType

DIALECT: Final = "https://json-schema.org/draft/2020-12/schema"
Number: TypeAlias = float | None
Words: TypeAlias = str | None


class Unreadable(Struct):
    """What cannot be read, and why."""

    name: str
    reason: str


class ListedRun(Struct):
    """A run, as `dropdiag ls` lists it; `size` in bytes, `when` it was created."""

    name: str
    path: str
    condition: str
    seed: int | None
    steps: int
    state: str
    size: int
    when: str
    config: dict[str, Any]
    ranks: str | UnsetType = UNSET


class Ls(Struct):
    """Runs below a folder."""

    root: str
    runs: list[ListedRun]
    unreadable: list[Unreadable]


class RanksRead(Struct):
    """From which ranks a run is read, and why others lack."""

    world_size: int
    read: list[int]
    lacking: dict[str, str]


class Facts(Struct, kw_only=True):
    """What a run says of itself."""

    run: str
    path: str
    condition: str
    seed: int | None
    bytes: int
    state: str
    steps: int | None
    created: Words
    ended: Words
    error: Words
    probes: list[str] | None
    disabled_probes: list[dict[str, Any]] | None
    warnings: list[str] | None
    cost: dict[str, Any] | None
    every: Words
    ranks: RanksRead | UnsetType = UNSET
    config: dict[str, Any]
    versions: dict[str, Any]
    problems: list[str]


class Distribution(Struct):
    """The last histogram of a site; nothing of it where it was not recorded."""

    step: int | None
    phase: Words
    n: int | UnsetType = UNSET
    not_finite: int | UnsetType = UNSET
    mean: Number | UnsetType = UNSET
    sd: Number | UnsetType = UNSET
    quantiles: dict[str, Number] | UnsetType = UNSET


class Flow(Struct):
    """Gradient flow over training, averaged within ranges of steps."""

    mean: Number
    missing: int
    steps: list[float]
    means: list[Number]


class ShownLayer(Struct, kw_only=True):
    """A site: a weight, or an activation with its net values."""

    layer: str
    call: int
    type: str
    weight: Distribution | UnsetType = UNSET
    net_value: Distribution | UnsetType = UNSET
    gradient_flow: Flow | None
    saturation_share: Number
    mean_abs_r: Number


class ShownDropout(Struct, kw_only=True):
    """A place where masks are drawn; of one run alone the intervals are null, and `seeds` is 1."""

    condition: str
    layer: str
    call: int
    type: Words
    grain: Words
    applied_to: Words
    feeds: Words
    rate_first: Number
    rate_last: Number
    scheduled: bool | None
    dropped_share: Number
    dropped_share_low: Number
    dropped_share_high: Number
    noise_to_signal: Number
    noise_to_signal_low: Number
    noise_to_signal_high: Number
    seeds: int
    missing: int


class LastValue(Struct):
    """The last value of a quantity; of a distribution its mean and standard deviation."""

    quantity: str
    label: str
    unit: str
    phase: str
    layer: str
    call: int
    step: int
    value: Number
    sd: Number


class Show(Facts, kw_only=True):
    """One run, layer by layer."""

    layers: list[ShownLayer]
    dropouts: list[ShownDropout]
    quantities: list[LastValue]


class OneRank(Struct):
    """A process of a run."""

    rank: int
    state: str
    steps: int
    sessions: int
    step_seconds: Number
    recorder_share: Number
    differs: Words


class Spread(Struct):
    """How far the ranks' numbers lie apart."""

    step: int
    phase: str
    layer: Words
    call: int
    quantity: str
    ranks: int
    mean: Number
    sd: Number
    minimum: Number
    maximum: Number


class ShowRanks(Facts, kw_only=True):
    """The processes of a run side by side: ``--ranks``."""

    each_rank: list[OneRank]
    spread: list[Spread]


class Covered(Struct, kw_only=True):
    """A site of the model: recorded or not, how often, and why not."""

    layer: str
    call: int
    kind: str
    type: str
    functional: bool
    expected: bool
    fired: int
    sampled: Words
    skipped: Words
    nodes: Words
    dropout: Words
    chain: str | UnsetType | None = UNSET
    ranks: str | UnsetType | None = UNSET


class Claim(Struct):
    """A claim's verdict in one condition."""

    claim: str
    statement: str
    condition: str
    baseline: str
    verdict: str
    provisional: bool | None
    reason: Words
    caveats: Words
    n: int | None


class Test(Struct, kw_only=True):
    """An effect with its interval, and how it was tested over seeds."""

    claim: str
    condition: str
    baseline: str
    part: str
    measure: Words
    scale: Words
    effect: Number
    low: Number
    high: Number
    interval: Words
    threshold: Number
    p: Number
    p_attainable: Number
    test: Words
    n: int | None
    n_baseline: int | None
    paired: bool | None
    verdict: str


class ClaimPart(Test, kw_only=True):
    """A part of a claim."""

    counts: bool
    provisional: bool | None
    p_family: Number
    reason: Words
    note: Words
    beside: Words


class ClaimLayer(Test, kw_only=True):
    """A layer's share in a part of a claim."""

    statement: str
    layer: Words
    call: int | None
    joint_low: Number
    joint_high: Number
    p_holm: Number


class Effect(Struct, kw_only=True):
    """What a measure differs by between a condition and the baseline."""

    condition: str
    baseline: str
    layer: Words
    call: int | None
    quantity: str
    measure: str
    scale: str
    unit: Words
    effect: Number
    low: Number
    high: Number
    interval: Words
    value: Number
    baseline_value: Number
    null: Number
    baseline_null: Number
    p: Number
    p_attainable: Number
    p_t: Number
    p_holm: Number
    test: Words
    n: int | None
    n_baseline: int | None
    paired: bool | None
    steps: Words
    note: Words


class Unmatched(Struct):
    """A layer that is not compared."""

    condition: str
    layer: str
    reason: str


class Compare(Struct, kw_only=True):
    """Conditions side by side."""

    baseline: Words
    conditions: list[str]
    runs: list[str]
    alpha: float
    headline: str
    claims: list[Claim]
    claims_by_part: list[ClaimPart]
    claims_by_layer: list[ClaimLayer]
    rules: dict[str, str]
    effects: list[Effect]
    unmatched: list[Unmatched]
    problems: list[str]
    report: Words


class AdvisedCondition(Struct, kw_only=True):
    """A rate, or a condition: what was chosen by, what is reported, and how far it lies behind the best."""

    condition: str
    dose: Number
    runs: int
    chosen: Number
    chosen_low: Number
    chosen_high: Number
    reported: Number
    reported_low: Number
    reported_high: Number
    behind: Number
    behind_low: Number
    behind_high: Number
    p: Number
    verdict: str
    improvement: Number
    gap: Number
    steps: Number


class Finding(Struct, kw_only=True):
    """What the runs tell, by one rule."""

    rule: str
    what: str
    value: Number
    low: Number
    high: Number
    unit: str
    p: Number
    found: bool | None
    source: str
    condition: Words
    number: str
    tested: bool


class AdvisedLayer(Struct):
    """A measure of a layer in one condition."""

    measure: str
    layer: Words
    call: int | None
    condition: str
    value: Number
    low: Number
    high: Number
    seeds: int


class NotMeasured(Struct):
    """What the runs do not hold."""

    what: str
    tells: str
    call: str


class Next(Struct):
    """Something to try."""

    what: str
    why: str
    number: str
    source: str


class Advise(Struct, kw_only=True):
    """Which rates cannot be told from the best."""

    sentence: str
    alpha: float
    axis: Words
    chosen_on: Words
    reported_on: Words
    table: list[AdvisedCondition]
    findings: list[Finding]
    layers: list[AdvisedLayer]
    not_measured: list[NotMeasured]
    next: list[Next]
    problems: list[str]
    page: Words


class Report(Struct):
    """The page that was written."""

    report: str
    runs: list[str]
    problems: list[str]


class Plot(Struct):
    """The figures that were drawn, and why others were not."""

    files: list[str]
    absent: dict[str, str]
    runs: list[str]
    problems: list[str]


class Export(Struct):
    """The files that were written of a run."""

    run: str
    files: list[str]
    problems: list[str]


class Sql(Struct):
    """The files that were written of runs."""

    runs: list[str]
    files: list[str]
    problems: list[str]


class Catalog(Struct):
    """What was read; all else is empty, and stays for who asks for it."""

    read: int
    kept: int
    removed: int
    unreadable: dict[str, str]
    problems: list[str]


class Checked(Struct):
    """One thing that was tried."""

    name: str
    ok: bool
    detail: str


class Device(Struct):
    """What the self-test found on a device."""

    device: str
    name: str
    ok: bool
    checks: list[Checked]


class Compiler(Struct):
    """The C compiler of Python, and where it is found."""

    command: str
    found: Words


class Native(Struct):
    """Whether the compiled loops are in use, and if not, why."""

    in_use: bool
    why: Words


class Doctor(Struct):
    """What this machine has, and whether a short training is recorded right on it."""

    system: dict[str, str]
    versions: dict[str, Words]
    optional: dict[str, Words]
    compiler: Compiler
    native: Native
    devices: list[Device]
    ok: bool


OUTPUTS: Final[dict[str, Any]] = {
    "ls": Ls, "show": Show, "show-ranks": ShowRanks, "coverage": list[Covered], "compare": Compare, "advise": Advise,
    "report": Report, "plot": Plot, "export": Export, "sql": Sql, "catalog": Catalog, "doctor": Doctor,
}  # fmt: skip


def schema(name: str) -> dict[str, Any]:
    """Return the JSON schema of what a command prints, in the dialect 2020-12."""
    (made,), components = msgspec.json.schema_components([OUTPUTS[name]], ref_template="#/$defs/{name}")
    title = f"what `dropdiag {name.replace('-', ' --')} --json` prints"
    return {"$schema": DIALECT, "title": title, **made, "$defs": components}


def text(name: str) -> str:
    """Return it as its file has it."""
    return json.dumps(schema(name), indent=1, ensure_ascii=False) + "\n"


def write(folder: Path) -> None:
    """Write all of them: ``NAME.schema.json``."""
    folder.mkdir(parents=True, exist_ok=True)
    for name in OUTPUTS:
        (folder / f"{name}.schema.json").write_text(text(name), encoding="utf-8")


if __name__ == "__main__":
    import sys

    write(Path(sys.argv[1]))
