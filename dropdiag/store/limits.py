"""What a run folder may hold at most: beyond it nobody records, and reading would take time and memory without end."""

from __future__ import annotations

from typing import Final

RUN_JSON_BYTES: Final = 64 << 20
"""Of ``run.json``, and of each ``rank.json``: a network of 10,000 sites takes 5 MB."""
RUN_JSON_BYTES_AT_FIRST: Final = RUN_JSON_BYTES // 5
"""When a run begins: its coverage, its order, its chain and its notes come later."""
VALUES: Final = 3_000_000
"""Values in one ``run.json``, each list and object among them: a network of 10,000 sites has 350,000."""
VALUES_AT_FIRST: Final = VALUES // 4
"""When a run begins, as above."""
VALUES_TO_SEARCH: Final = 500_000
"""Values among which the one that is wrong is searched for, so that its path can be told within a second."""
FREE_VALUES: Final = 200_000
"""Values in the config, and under keys that this version does not know."""
DEPTH: Final = 64
"""Lists and objects inside each other."""
NAME: Final = 4096
"""Characters of a name: of a layer, a quantity, a probe, a condition's key."""
TEXT: Final = 65_536
"""Characters of a sentence that a Recorder writes, such as a warning: longer ones are cut."""
STRING: Final = 1 << 20
"""Characters of any text, such as one in the config."""
FEW_BYTES: Final = 1 << 16
"""So few that the keys of rows need not be counted."""
KEYS: Final = 256
"""Different keys of the rows of one table of ``run.json``."""
LAYERS: Final = 200_000
"""Rows of ``layers``, of ``coverage``, of ``chain``; groups of ``order``."""
CAUSE: Final = 2_000
"""Characters of the cause for which a probe was disabled: a Recorder cuts longer ones."""
NOTES_BYTES: Final = 4 << 20
"""Of all warnings, of all disabled probes, all interventions, all that is missing: a Recorder counts further ones."""
SESSIONS: Final = 100_000
"""Sessions of one run."""
RANKS: Final = 100_000
"""Processes of one session."""
RANKS_OF_SESSIONS: Final = 2_000_000
"""Processes of all sessions of a run, each counted as often as it took part."""
DIMENSIONS: Final = 64
"""Dimensions of a weight."""
STEPS: Final = 10**12
"""Steps of a run."""
COUNT: Final = 2**53
"""Any other count: as many as every reader of JSON tells apart."""
