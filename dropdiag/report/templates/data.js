"use strict";
/* Numbers of the page: the packed arrays, their means over seeds, and how numbers and names are written. */
const report = { meta: null, bytes: null, state: null };

report.load = async function (root) {
  const meta = JSON.parse(root.getElementById("figures").textContent);
  const text = atob(root.getElementById("numbers").textContent.trim());
  const packed = new Uint8Array(text.length);
  for (let i = 0; i < text.length; i++) packed[i] = text.charCodeAt(i);
  const stream = new Blob([packed]).stream().pipeThrough(new DecompressionStream("deflate"));
  report.bytes = await new Response(stream).arrayBuffer();
  report.meta = meta;
  report.members = meta.conditions.map((_, c) => meta.runs.flatMap((run, i) => (run.condition === c ? [i] : [])));
};

report.array = function (place) {
  const kind = { u1: Uint8Array, u2: Uint16Array, f4: Float32Array }[place.kind];
  return new kind(report.bytes, place.at, place.n);
};

report.format = function (value) {
  if (value === null || value === undefined || !Number.isFinite(value)) return "–";
  const size = Math.abs(value);
  const text = size !== 0 && (size < 1e-3 || size >= 1e6)
    ? value.toExponential(2).replace(/\.?0*e\+?/, "e")
    : Number(value.toPrecision(size >= 1000 ? 6 : 3)).toString();
  const [whole, ...rest] = text.split(".");
  const grouped = size >= 1000 && size < 1e6 ? [whole.replace(/\B(?=(\d{3})+$)/g, "\u202f"), ...rest].join(".") : text;
  return grouped.replaceAll("-", "−");
};

/* Whole numbers, however large, with thin spaces between the thousands: steps. */
report.whole = (value) => String(Math.round(value)).replace(/\B(?=(\d{3})+$)/g, "\u202f");

report.nearest = function (sorted, wanted) {
  let best = -1;
  for (let i = 0; i < sorted.length; i++)
    if (best < 0 || Math.abs(sorted[i] - wanted) < Math.abs(sorted[best] - wanted)) best = i;
  return best;
};

/* Mean and one standard deviation over seeds; on the log scale the sd is a factor. */
report.summary = function (values, log) {
  const known = values.filter((v) => Number.isFinite(v)).map((v) => (log ? Math.log(v) : v));
  const n = known.length;
  if (!n) return { n, mean: NaN, low: NaN, high: NaN };
  const mean = known.reduce((a, b) => a + b, 0) / n;
  const sd = n > 1 ? Math.sqrt(known.reduce((a, b) => a + (b - mean) ** 2, 0) / (n - 1)) : NaN;
  const back = log ? Math.exp : (v) => v;
  return { n, mean: back(mean), low: back(mean - sd), high: back(mean + sd) };
};

/* A series of one site: for each condition its mean over training, and each run's own values. */
report.overTraining = function (series, site, c) {
  const bins = series.steps.length, values = report.array(series.values), runs = report.meta.runs.length;
  const members = report.members[c];
  const at = (run, bin) => values[(site * runs + run) * bins + bin];
  const x = [], y = [], low = [], high = [], n = [];
  for (let bin = 0; bin < bins; bin++) {
    const one = report.summary(members.map((run) => at(run, bin)), series.log);
    if (!one.n) continue;
    x.push(series.steps[bin]); y.push(one.mean); low.push(one.low); high.push(one.high); n.push(one.n);
  }
  const singles = members.map((run) => {
    const own = { run, x: [], y: [] };
    for (let bin = 0; bin < bins; bin++)
      if (Number.isFinite(at(run, bin))) { own.x.push(series.steps[bin]); own.y.push(at(run, bin)); }
    return own;
  });
  return { x, y, low, high, n, of: singles.filter((one) => one.x.length).length, singles }; // `of` runs have it at all
};

/* Which places to draw: at the end of the slider (step null) each run's own last one; else the nearest of those at
   which most of the condition's runs are, so that no mean is over fewer of them than it need be. */
report.fullest = function (counts) {
  const most = Math.max(0, ...counts);
  return most ? counts.flatMap((n, i) => (n === most ? [i] : [])) : [];
};

/* A series of one site and condition at a step, or at the end. */
report.atStep = function (series, site, c, step) {
  const bins = series.steps.length, values = report.array(series.values), runs = report.meta.runs.length;
  const members = report.members[c], at = (run, bin) => values[(site * runs + run) * bins + bin];
  const counts = Array.from(series.steps, (_, bin) => members.filter((run) => Number.isFinite(at(run, bin))).length);
  let own, steps;
  if (step === null) {
    const lasts = members.map((run) => { let bin = bins - 1; while (bin >= 0 && !Number.isFinite(at(run, bin))) bin--; return bin; });
    own = members.map((run, i) => (lasts[i] < 0 ? NaN : at(run, lasts[i])));
    steps = lasts.filter((bin) => bin >= 0).map((bin) => series.steps[bin]);
  } else {
    const held = report.fullest(counts);
    if (!held.length) return null;
    const bin = held[report.nearest(held.map((i) => series.steps[i]), step)];
    own = members.map((run) => at(run, bin));
    steps = [series.steps[bin]];
  }
  const made = report.summary(own, series.log);
  return made.n ? { steps, runs: own, ...made } : null;
};

/* The share of values that are not finite, which a density leaves out: at a step, or of each run's last one. */
report.lost = function (density, site, c, step) {
  if (!density.lost) return 0;
  if (step === null) {
    const last = report.array(density.last_lost), runs = report.meta.runs.length;
    return report.summary(report.members[c].map((run) => last[site * runs + run]), false).mean || 0;
  }
  const total = density.steps.reduce((sum, part) => sum + part.length, 0);
  const first = density.steps.slice(0, c).reduce((sum, part) => sum + part.length, 0);
  return report.array(density.lost)[site * total + first + report.nearest(density.steps[c], step)] || 0;
};

/* The density of one site and condition at a step, or at the end. */
report.density = function (density, site, c, step) {
  const bins = density.bins, steps = density.steps[c], runs = report.meta.runs.length;
  const [low, high] = density.edges[site], width = (high - low) / bins;
  const x = Array.from({ length: bins }, (_, b) => low + (b + 0.5) * width);
  const last = report.array(density.last), height = report.array(density.height);
  const ends = report.members[c].filter((run) => Number.isFinite(height[site * runs + run])).map((run) => {
    const base = (site * runs + run) * bins;
    return { run, x, y: x.map((_, b) => (last[base + b] / 65535) * height[site * runs + run]), step: density.last_steps[run] };
  });
  if (step === null) {
    if (!ends.length) return null;
    const each = x.map((_, b) => report.summary(ends.map((one) => one.y[b]), false));
    return { steps: ends.map((one) => one.step), n: ends.length, x, y: each.map((one) => one.mean), low: each.map((one) => Math.max(0, one.low)), high: each.map((one) => one.high), singles: ends };
  }
  const total = density.steps.reduce((sum, part) => sum + part.length, 0);
  const first = density.steps.slice(0, c).reduce((sum, part) => sum + part.length, 0);
  const n = report.array(density.n);
  const held = report.fullest(steps.map((_, i) => n[site * total + first + i]));
  if (!held.length) return null;
  const i = held[report.nearest(held.map((j) => steps[j]), step)];
  const row = site * total + first + i;
  const mean = report.array(density.mean), sd = report.array(density.sd);
  const peak = report.array(density.peak)[row], most = report.array(density.most)[row];
  const out = { steps: [steps[i]], n: n[row], x, y: [], low: [], high: [], singles: ends.filter((one) => one.step === steps[i]) };
  for (let b = 0; b < bins; b++) {
    const y = (mean[row * bins + b] / 65535) * peak;
    const spread = out.n > 1 ? ((sd[row * bins + b] / 255) * most || 0) : NaN;
    out.y.push(y);
    out.low.push(Math.max(0, y - spread)); out.high.push(y + spread);
  }
  return out;
};
