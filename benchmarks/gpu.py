"""What recording does on a CUDA GPU, all of it, on one page; without a GPU it says so.

No hook makes the host wait (torch's check and the profiler's counts); the cost of a step of an MLP, a CNN and a
transformer of 100 million parameters under bfloat16, eager and compiled, beside other tools that are installed; the
device's memory; the histogram by integer scatter and by Triton kernels, counts held against numpy's; CUDA graphs; and
the tests that skip without a GPU. About ten minutes; the page is written anew after each part.

    python benchmarks/gpu.py --page docs/gpu.md
    python benchmarks/gpu.py --parts waits histograms --page out/gpu.md
    python benchmarks/gpu.py --device cpu --tiny            # whether the command itself runs
"""

from __future__ import annotations

import argparse
import shlex
import sys
import time
import traceback
from collections.abc import Callable
from pathlib import Path

import torch
from on_device.costs import memory, overhead
from on_device.graphs import graphs
from on_device.histograms import histograms
from on_device.page import Section, head, write
from on_device.setting import Setting
from on_device.skipped import tests
from on_device.waits import waits

PARTS: dict[str, Callable[[Setting], Section]] = {
    "waits": waits,
    "histograms": histograms,
    "graphs": graphs,
    "tests": tests,
    "memory": memory,
    "overhead": overhead,
}
"""The longest last."""


def guarded(name: str, setting: Setting) -> Section:
    """Return a part's section; where it fails, one that says how: the others go on."""
    start = time.perf_counter()
    try:
        section = PARTS[name](setting)
    except Exception as error:  # noqa: BLE001
        traceback.print_exc()
        section = Section(name, problems=[f"this part failed: {error!r}"])
    section.lines.append(f"({time.perf_counter() - start:.0f} s)")
    return section


def options() -> argparse.Namespace:
    """Parse what was asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--parts", nargs="*", default=list(PARTS), choices=list(PARTS))
    parser.add_argument("--page", type=Path, help="write a page of Markdown as well")
    parser.add_argument("--rounds", type=int, default=20, help="of a table, where --seconds has room for them")
    parser.add_argument("--seconds", type=float, default=45.0, help="what the rounds of a table may take, about")
    parser.add_argument("--device", default="cuda", choices=["cuda", "cpu"])
    parser.add_argument("--tiny", action="store_true", help="small networks: whether it runs")
    return parser.parse_args()


def main() -> int:
    """Measure, print, write; return 1 where something is not as it should be."""
    asked = options()
    if asked.device == "cuda" and not torch.cuda.is_available():
        print("no CUDA GPU here: nothing was measured on one")
        return 0
    setting = Setting(asked.device, asked.tiny, asked.rounds, asked.seconds, block=2 if asked.tiny else 10)
    top = head(setting, shlex.join(["python", *sys.argv]))
    print(top, flush=True)
    sections: list[Section] = []
    for name in asked.parts:
        sections.append(guarded(name, setting))
        print(f"\n{sections[-1]}", flush=True)
        write(asked.page, top, sections)
    return int(any(section.problems for section in sections))


if __name__ == "__main__":
    sys.exit(main())
