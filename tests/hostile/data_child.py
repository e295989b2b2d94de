"""Read hostile data files in this process, which may take little memory and time, and say how it went.

    python -m tests.hostile.data_child fuzz READER,... SECONDS SEED FOLDER
    python -m tests.hostile.data_child named FOLDER

The last line of the output is JSON. A crash or an input that takes too long ends the process: the file is in FOLDER.
"""

from __future__ import annotations

import json
import random
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path

from dropdiag.errors import DataError
from dropdiag.experiments.data.datasets import DATASETS
from tests.hostile.data_folders import READERS, make

MEGABYTES = 500
SECONDS = 20.0
"""Of the clock, after which an input hangs. What one takes is measured in the processor's time: others may use it."""
MB = 1 << 20
COPIES = 20
"""Changed copies of each file of a strategy, which are read as well."""


def resident(which: str = "VmHWM") -> int:
    """Most memory that this process has had, in MB; ``VmRSS``: what it has now."""
    # Not what getrusage says: that begins with the memory of the process that started this one.
    with open("/proc/self/status") as file:  # noqa: PTH123
        return next(int(line.split()[1]) for line in file if line.startswith(which)) // 1024


def limit_memory() -> int:
    """Allow so much memory more than there is now; return what there is, in MB."""
    import resource

    with open("/proc/self/statm") as file:  # noqa: PTH123
        size = int(file.read().split()[0]) * resource.getpagesize()
    hard = resource.getrlimit(resource.RLIMIT_AS)[1]
    resource.setrlimit(resource.RLIMIT_AS, (size + MEGABYTES * MB, hard))
    return resident("VmRSS")


def outcome(read: Callable[[], object], path: Path) -> tuple[str, float]:
    """What came of reading, and how long it took; a signal ends the process if that is too long."""
    signal.setitimer(signal.ITIMER_REAL, SECONDS)
    begin = time.process_time()
    try:
        read()
        said = "read"
    except DataError as error:
        named = str(path) in str(error) or f"in {path.parent}" in str(error)
        said = "refused" if named and str(error).isprintable() else f"says too little: {error}"
    except BaseException as error:  # noqa: BLE001 - that is what is looked for
        said = f"foreign {type(error).__name__}: {error}"
    signal.setitimer(signal.ITIMER_REAL, 0)
    return said, time.process_time() - begin


def changed(content: bytes, chance: random.Random) -> bytes:
    """A copy with some bytes changed, left out or repeated; hypothesis takes its time to draw these."""
    copy = bytearray(content)
    for _ in range(chance.randrange(1, 5)):
        at = chance.randrange(len(copy) + 1)
        how = chance.randrange(4)
        if how == 0 and at < len(copy):
            copy[at] = chance.choice((0, 1, 127, 128, 255, chance.randrange(256)))
        elif how == 1 and at < len(copy):
            copy[at] ^= 1 << chance.randrange(8)
        elif how == 2:
            del copy[at : at + chance.randrange(1, 20)]
        else:
            copy[at:at] = copy[at : at + chance.randrange(1, 20)]
    return bytes(copy)


def fuzz(reader: str, seconds: float, seed: int, folder: Path) -> dict:
    """Read files of a strategy until the time is over."""
    from hypothesis import HealthCheck, Phase, given, settings
    from hypothesis import seed as seeded

    from tests.hostile.data_strategies import STRATEGIES

    key = READERS[reader][0]
    folder = folder / reader
    folder.mkdir()
    path = make(reader, folder)
    DATASETS[key].read(folder)  # what is imported late is
    figures = {"inputs": 0, "read": 0, "refused": 0, "foreign": [], "longest_s": 0.0}

    chance = random.Random(seed)

    def several(content: bytes) -> None:
        one(content)
        for _ in range(COPIES):
            one(changed(content, chance))

    def one(content: bytes) -> None:
        path.write_bytes(content)
        said, took = outcome(lambda: DATASETS[key].read(folder), path)
        figures["inputs"] += 1
        figures["longest_s"] = max(figures["longest_s"], round(took, 3))
        if said in ("read", "refused"):
            figures[said] += 1
        elif len(figures["foreign"]) < 20:
            kept = folder.parent / f"{path.name}-{len(figures['foreign'])}"
            kept.write_bytes(content)
            figures["foreign"].append(f"{said} ({kept})")

    base, end, turn = limit_memory(), time.monotonic() + seconds, 0
    while not turn or time.monotonic() < end:
        run = given(STRATEGIES[reader])(several)
        run = settings(max_examples=100, deadline=None, database=None, phases=[Phase.generate],
                       suppress_health_check=list(HealthCheck))(run)  # fmt: skip
        seeded(seed + turn)(run)()
        turn += 1
    return {**figures, "base_mb": base, "most_mb": resident() - base}


def named(folder: Path) -> dict:
    """Read each file of `tests.hostile.data_bombs`."""
    from tests.hostile.data_bombs import BOMBS

    folders = {reader: make(reader, folder / reader) for reader in READERS}
    for reader, (key, _) in READERS.items():
        DATASETS[key].read(folder / reader)
    base, results = limit_memory(), {}
    for (reader, name), put in BOMBS.items():
        path = folders[reader]
        path.unlink(missing_ok=True)
        put(path)
        said, took = outcome(lambda: DATASETS[READERS[reader][0]].read(folder / reader), path)  # noqa: B023
        results[f"{reader}: {name}"] = {"said": said, "seconds": round(took, 3), "most_mb": resident() - base}
        if path.is_dir() and not path.is_symlink():
            path.rmdir()
    return results


if __name__ == "__main__":
    if sys.argv[1] == "fuzz":
        readers, seconds, seed, place = sys.argv[2:]
        done = {reader: fuzz(reader, float(seconds), int(seed), Path(place)) for reader in readers.split(",")}
    else:
        done = named(Path(sys.argv[2]))
    print(json.dumps(done))  # noqa: T201
