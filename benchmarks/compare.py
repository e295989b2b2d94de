"""What reading costs: loading, comparing and reporting many runs, figures of few and of hundreds of layers, imports.

Each measurement has a process of its own, repeated; a row shows the median and the range of its seconds, the
greatest peak of memory, and the budget. Runs are made in a temporary folder (see `synthetic_runs.py`).

    python benchmarks/compare.py [--runs 1000] [--compared-runs 2000] [--layers 400] [--repetitions 3] [--quick]
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

from synthetic_runs import make_runs

HEAD = """
import json, resource, sys, time
import dropdiag as dd
"""
TAIL = """
seconds = time.perf_counter() - start
print(json.dumps([seconds, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024]))
"""
ASK = """
dd.analysis.gradient_flow.table(runs)
dd.analysis.gradient_flow.curves(runs)
dd.analysis.saturation.table(runs)
dd.analysis.learning.curves(runs, "loss")
dd.analysis.learning.best(runs, "accuracy")
"""
START = "start = time.perf_counter()\n"
MEASURED = {
    "compare runs of folders": "dd.analysis\n" + START
    + "runs = dd.load({'Base': sys.argv[1] + '/base-*', 'Dropout': sys.argv[1] + '/dropout-*'})" + ASK,
    "effects and verdicts": "dd.analysis\n" + START
    + "dd.compare({'Base': sys.argv[1] + '/base-*', 'Dropout': sys.argv[1] + '/dropout-*'}).claims()",
    "report": "dd.report\n" + START
    + "runs = dd.load({'Base': sys.argv[1] + '/base-*', 'Dropout': sys.argv[1] + '/dropout-*'})\n"
    + "dd.report(runs, sys.argv[1] + '/report.html')",
    "six figures": "dd.plots\n" + START + """
runs = dd.load({name: f'{sys.argv[1]}/{name.lower()}-*' for name in ('Base', 'Dropout', 'GAAF')})
for draw in (dd.plots.weights, dd.plots.correlation, dd.plots.gradient_flow, dd.plots.saturation, dd.plots.learning):
    draw(runs)
dd.plots.gaaf()
""",
    **{f"layers: {name}": "dd.plots\n" + START + f"""
runs = dd.load({{name: f'{{sys.argv[1]}}/{{name.lower()}}-*' for name in ('Base', 'Dropout')}})
dd.plots.save(dd.plots.{name}(runs), sys.argv[1] + '/{name}', ['png'])
""" for name in ("weights", "correlation", "gradient_flow", "saturation")},
    "KDE of a layer": """
import numpy as np
layer = dd.Histogram.from_values(0.04 * np.random.default_rng(0).normal(size=401_408))
layer.kde()
""" + START + "layer.kde()",
}  # fmt: skip
IMPORT = "import json, time, torch; start = time.perf_counter(); import dropdiag; print(json.dumps([time.perf_counter() - start, 0]))"  # noqa: E501


def measure(name: str, code: str, budget: float | None, repetitions: int, folder: Path | None = None) -> None:
    """Run code in processes of its own and print a row."""
    command = [sys.executable, "-c", code, *([] if folder is None else [str(folder)])]
    found = []
    for _ in range(repetitions):
        done = subprocess.run(command, check=True, capture_output=True, text=True)
        found.append(json.loads(done.stdout.splitlines()[-1]))
    seconds, memory = zip(*found, strict=True)
    limit = "" if budget is None else f"<= {budget:g}"
    span = f"{min(seconds):.4f} - {max(seconds):.4f}"
    print(f"{name:44}{statistics.median(seconds):>10.4f}{span:>22}{max(memory):>9.0f}{limit:>10}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=1000)
    parser.add_argument("--compared-runs", type=int, default=2000)
    parser.add_argument("--layers", type=int, default=400)
    parser.add_argument("--repetitions", type=int, default=3)
    parser.add_argument("--quick", action="store_true", help="40 and 100 runs, once each")
    options = parser.parse_args()
    runs, compared, layers = options.runs, options.compared_runs, options.layers
    times = options.repetitions
    if options.quick:
        runs, compared, layers, times = 40, 40, 40, 1
    print(f"{'seconds':44}{'median':>10}{'range':>22}{'MiB':>9}{'budget':>10}")
    code = {name: HEAD + body + TAIL for name, body in MEASURED.items()}
    measure("import dropdiag beyond torch", IMPORT, 0.15, times)
    measure("KDE of a layer", code["KDE of a layer"], 0.01, times)
    with tempfile.TemporaryDirectory() as temporary:
        few, some, deep, small = (Path(temporary) / name for name in ("few", "some", "deep", "small"))
        make_runs(few, ["Base", "Dropout", "GAAF"], 5, originals=5)
        make_runs(some, ["Base", "Dropout"], runs // 2)
        make_runs(small, ["Base", "Dropout"], compared // 2, layers=3)
        make_runs(deep, ["Base", "Dropout"], 1, layers=layers)
        measure("six figures, 3 conditions x 5 seeds", code["six figures"], 15, times, few)
        measure(f"load and compare {runs:,} folders", code["compare runs of folders"], 5, times, some)
        measure(f"compare() and claims, {compared:,} runs of 3 layers", code["effects and verdicts"], 15, times, small)
        measure(f"report of {compared:,} runs of 3 layers", code["report"], 30, 1, small)
        for name in ("weights", "correlation", "gradient_flow", "saturation"):
            measure(f"{name}, {layers} layers, drawn and saved", code[f"layers: {name}"], 20, 1, deep)


if __name__ == "__main__":
    main()
