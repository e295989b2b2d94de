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
  return text.replaceAll("-", "−");
};

report.siteName = (site) => (site[1] ? `${site[0]}, call ${site[1] + 1}` : site[0]);

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
  return { x, y, low, high, n, singles };
};

/* A series of one site and condition at the recorded step that is nearest to the wanted one. */
report.atStep = function (series, site, c, step) {
  const bins = series.steps.length, values = report.array(series.values), runs = report.meta.runs.length;
  const members = report.members[c];
  const own = (bin) => members.map((run) => values[(site * runs + run) * bins + bin]);
  let right = series.steps.findIndex((one) => one >= step), best = -1;
  if (right < 0) right = bins;
  for (let left = right - 1; best < 0 && (left >= 0 || right < bins);) {
    const nearer = right >= bins || (left >= 0 && step - series.steps[left] <= series.steps[right] - step) ? left-- : right++;
    if (own(nearer).some(Number.isFinite)) best = nearer;
  }
  if (best < 0) return null;
  return { step: series.steps[best], runs: own(best), ...report.summary(own(best), series.log) };
};

/* The density of one site and condition at the shown step that is nearest to the wanted one. */
report.density = function (density, site, c, step) {
  const bins = density.bins, steps = density.steps[c];
  const total = density.steps.reduce((sum, part) => sum + part.length, 0);
  const first = density.steps.slice(0, c).reduce((sum, part) => sum + part.length, 0);
  const n = report.array(density.n);
  const held = steps.map((_, i) => i).filter((i) => n[site * total + first + i]);
  if (!held.length) return null;
  const i = held[report.nearest(held.map((j) => steps[j]), step)];
  const row = site * total + first + i;
  const mean = report.array(density.mean), sd = report.array(density.sd);
  const peak = report.array(density.peak)[row], most = report.array(density.most)[row];
  const [low, high] = density.edges[site], width = (high - low) / bins;
  const out = { step: steps[i], n: n[row], x: [], y: [], low: [], high: [], singles: [] };
  for (let b = 0; b < bins; b++) {
    const y = (mean[row * bins + b] / 65535) * peak;
    const spread = out.n > 1 ? ((sd[row * bins + b] / 255) * most || 0) : NaN;
    out.x.push(low + (b + 0.5) * width); out.y.push(y);
    out.low.push(Math.max(0, y - spread)); out.high.push(y + spread);
  }
  const last = report.array(density.last), height = report.array(density.height), runs = report.meta.runs.length;
  for (const run of report.members[c]) {
    if (density.last_steps[run] !== out.step || !Number.isFinite(height[site * runs + run])) continue;
    const base = (site * runs + run) * bins;
    out.singles.push({ run, x: out.x, y: out.x.map((_, b) => (last[base + b] / 65535) * height[site * runs + run]) });
  }
  return out;
};
