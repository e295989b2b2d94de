"use strict";
/* Effects of one measure: a row a layer, a mark a condition, with its interval; of many layers a chart a condition; and
   the table beside them. */
report.effectRows = function (measure) {
  const { effects } = report.meta, rows = [];
  for (let i = 0; i < effects.measure.length; i++)
    if (effects.measure[i] === measure) rows.push(Object.fromEntries(Object.keys(effects).map((key) => [key, effects[key][i]])));
  return rows;
};

report.effectTold = function (row) {
  const ratio = row.scale === "log ratio", show = (v) => (v === null ? "–" : ratio ? `×${report.format(Math.exp(v))}` : report.format(v));
  const bounds = row.low !== null && row.high !== null ? ` [${show(row.low)}, ${show(row.high)}]` : "";
  return `${show(row.effect)}${bounds}`;
};

/* What the numbers of a scale are: a reader of the CSV file must not take a logarithm for a difference. */
report.scales = {
  "log ratio": { is: "natural logarithm of the ratio to the baseline", axis: "ratio to the baseline (log scale)" },
  difference: { is: "difference from the baseline", axis: "difference from the baseline" },
  distance: { is: "distance from the baseline, never below 0", axis: "distance from the baseline" },
};

report.effectCsv = function (rows) {
  const keys = Object.keys(report.meta.effects).filter((key) => !["effect", "low", "high", "scale", "unit"].includes(key));
  const factor = (row, key) => (row.scale === "log ratio" && row[key] !== null ? Math.exp(row[key]) : null);
  return [
    ["baseline", ...keys, "scale", "effect_low_high_are", "unit", "effect", "low", "high", "factor", "factor_low", "factor_high"],
    ...rows.map((row) => [report.meta.baseline, ...keys.map((key) => row[key]), row.scale, report.scales[row.scale]?.is ?? row.scale, row.unit,
      row.effect, row.low, row.high, factor(row, "effect"), factor(row, "low"), factor(row, "high")]),
  ];
};

report.effectSites = function (rows) {
  const found = new Map(rows.map((row) => [JSON.stringify([row.layer, row.call ?? 0]), [row.layer, row.call ?? 0]]));
  return { keys: [...found.keys()], sites: [...found.values()] };
};
report.effectName = (site, named = report.siteShown) => (site[0] === null ? "network" : named(site));

/* The ends of the axis: all effects, and their intervals as far as they are of an ordinary width. One layer whose
   interval is many times as wide would else press all others to a line; it ends in an arrow. */
report.effectDomain = function (lines) {
  const effects = lines.flatMap((line) => line.y).concat(0).filter(Number.isFinite), low = Math.min(...effects), high = Math.max(...effects);
  const halves = lines.flatMap((line) => line.y.map((_, i) => (line.high[i] - line.low[i]) / 2)).filter((half) => half > 0).sort((a, b) => a - b);
  const usual = halves.length ? halves[Math.floor((halves.length - 1) / 2)] : 0, room = Math.max(4 * usual, 0.5 * (high - low));
  const first = Math.max(low - room, Math.min(low, ...lines.flatMap((line) => line.low).filter(Number.isFinite)));
  const last = Math.min(high + room, Math.max(high, ...lines.flatMap((line) => line.high).filter(Number.isFinite)));
  const edge = 0.04 * (last - first || 1);
  return [first - edge, last + edge];
};

report.effectLines = function (rows, conditions, keys, place) {
  return conditions.flatMap((name, k) => {
    const mine = rows.filter((row) => row.condition === name && Number.isFinite(row.effect));
    const c = report.meta.conditions.findIndex((one) => one.name === name), index = new Map(keys.map((key, i) => [key, i]));
    const known = (value, row) => (Number.isFinite(value) ? value : row.effect);
    return c < 0 ? [] : [{
      c, name, x: mine.map((row) => place(index.get(JSON.stringify([row.layer, row.call ?? 0])), k)), y: mine.map((row) => row.effect),
      low: mine.map((row) => known(row.low, row)), high: mine.map((row) => known(row.high, row)), n: mine.map((row) => row.n), told: (i) => report.effectTold(mine[i]),
      summary: `${name}: ${mine.slice(0, 12).map((row) => `${report.effectName([row.layer, row.call ?? 0])} ${report.effectTold(row)}`).join(", ")}`,
    }];
  });
};

/* What the charts of a measure have in common. */
report.effectCommon = function (rows, lines) {
  const ratio = rows[0]?.scale === "log ratio", domain = report.effectDomain(lines);
  const unit = rows[0]?.unit && rows[0].unit !== "1" ? `, ${rows[0].unit}` : "";
  const beyond = lines.some((line) => line.low.some((v) => v < domain[0]) || line.high.some((v) => v > domain[1]));
  const intervals = [...new Set(rows.map((row) => row.interval).filter((one) => one && one !== "none"))].join(", ") || "no";
  return {
    ratio, domain, label: `${report.scales[rows[0]?.scale]?.axis || "effect"}${ratio ? "" : unit}`,
    tick: ratio ? (v) => `×${report.format(Math.exp(v))}` : report.format,
    ticks: ratio ? report.logTicks(Math.exp(domain[0]), Math.exp(domain[1])).map(Math.log) : 6,
    sub: `against ${report.apart(report.meta.baseline)}; ${intervals} interval over seeds${beyond ? "; an arrow: the interval goes on beyond the axis" : ""}`,
  };
};

/* A row a layer, in it a mark a condition, one under the other. */
report.effectSpec = function (measure, width = 700) {
  const rows = report.effectRows(measure), { keys, sites } = report.effectSites(rows), names = report.effectShown(rows), lane = 13;
  // each condition has a lane of its own, and layers stand further apart than conditions
  const lanes = Math.max(1, names.length), tall = Math.max(28, lane * lanes + 14), step = lane / tall;
  const lines = report.effectLines(rows, names, keys, (i, k) => i + 1 + (k - (lanes - 1) / 2) * step), common = report.effectCommon(rows, lines);
  const titles = report.labels(sites.map((site) => report.bare(report.effectName(site, report.siteTitle))), Math.max(60, 0.42 * width));
  const room = Math.max(20, ...titles.map((one) => report.textWidth(one)));
  const whole = (x) => report.effectName(sites[Math.round(x) - 1]);
  return {
    vertical: true, lines, zero: true, height: 70 + sites.length * tall, marginLeft: 22 + room,
    bands: lanes > 1 ? sites.flatMap((_, i) => (i % 2 ? [] : [[i + 0.5, i + 1.5]])) : [],
    xLabel: common.label, yLabel: null, xTick: common.tick, xDomain: common.domain, xTicks: report.spaced(common.ticks, common.domain, width - room - 40),
    yTicks: sites.map((_, i) => i + 1), yTick: (i) => titles[i - 1] ?? "", yDomain: [0.5, sites.length + 0.5],
    xName: whole, sub: common.sub, rows: () => report.effectCsv(rows.filter((row) => names.includes(row.condition))),
  };
};

/* Of many layers: one condition along them, its intervals as a band. */
report.effectProfile = function (measure, name) {
  const rows = report.effectRows(measure), { keys, sites } = report.effectSites(rows);
  const every = report.effectLines(rows, report.effectShown(rows), keys, (i) => i + 1), common = report.effectCommon(rows, every);
  const [least, most] = common.domain;
  return {
    lines: every.filter((line) => line.name === name), zero: true, dots: sites.length, xLabel: "layer, in order of execution", yLabel: common.label,
    yDomain: [least, most], clip: true, yTick: common.tick, yTicks: common.ratio ? common.ticks : 5, xDomain: [0.5, sites.length + 0.5],
    xTick: (i) => (Number.isInteger(i) && sites[i - 1] !== undefined ? String(i) : ""), xName: (i) => `${i}: ${report.effectName(sites[i - 1])}`,
    sub: common.sub.replace("an arrow: the interval goes on beyond the axis", "some intervals go on beyond the axis"), rows: () => report.effectCsv(rows.filter((row) => row.condition === name)),
  };
};

/* Those of some ticks whose labels have room beside each other; of a number of ticks as many as have. */
report.spaced = function (ticks, [first, last], pixels) {
  if (!Array.isArray(ticks)) return Math.max(2, Math.min(ticks, Math.floor(pixels / 70)));
  const apart = ticks.slice(1).map((tick, i) => ((tick - ticks[i]) / (last - first)) * pixels), each = Math.ceil(44 / Math.max(1, Math.min(...apart, 44)));
  return ticks.filter((_, i) => i % each === 0);
};

/* The conditions of some rows that are switched on, in the page's order. */
report.effectShown = function (rows) {
  const held = new Set(rows.map((row) => row.condition));
  return report.shown().map((c) => report.meta.conditions[c].name).filter((name) => held.has(name));
};
report.MANY = 260; // marks in one chart; and a row for each of more layers than this would be pages of them
report.LAYERS = 60;

report.effectTable = function (measure) {
  const { element, format } = report, known = new Set(report.shown().map((c) => report.meta.conditions[c].name));
  const heads = ["Condition", "Layer", "Effect", "Condition’s mean", "Baseline’s mean", "p", "Attainable p", "p, Holm", "Test", "n"];
  const rows = report.effectRows(measure).filter((row) => known.has(row.condition));
  const { notes, marks } = report.notesOf(rows);
  const cells = (row, i) => [report.apart(row.condition), report.effectName([row.layer, row.call ?? 0]), report.effectTold(row), format(row.value), format(row.baseline_value),
    format(row.p), format(row.p_attainable), format(row.p_holm), row.test === "none" ? "–" : row.test ?? "–", `${row.n ?? "–"} / ${row.n_baseline ?? "–"}${row.paired ? ", paired" : ""}`, ...(notes.length ? [marks[i]] : [])];
  if (notes.length) heads.push("Note");
  const numeric = new Set([2, 3, 4, 5, 6, 7]), caption = `Effects on ${measure} against ${report.meta.baseline}`;
  const table = element("table", {}, element("caption", {}, caption),
    element("thead", {}, element("tr", {}, ...heads.map((head, i) => element("th", { scope: "col", class: numeric.has(i) ? "n" : "" }, head)))),
    element("tbody", {}, ...rows.map((row, k) => element("tr", {}, ...cells(row, k).map((cell, i) => element("td", { class: numeric.has(i) ? "n" : i > 7 && i < 10 ? "s" : "long" }, cell))))));
  const box = element("div", { class: `table${rows.length > 25 ? " tall" : ""}`, tabindex: "0", role: "group", "aria-label": caption }, table);
  return [box, ...(notes.length ? [element("ol", { class: "notes" }, ...notes.map((one) => element("li", {}, one)))] : [])];
};

/* Each remark of some rows once, numbered, and for each row the numbers of its own. */
report.notesOf = function (rows) {
  const parts = rows.map((row) => (row.note ? row.note.split("; ") : [])), notes = [...new Set(parts.flat())];
  const everywhere = (one) => rows.length > 1 && parts.every((own) => own.includes(one));
  return {
    notes: notes.map((one) => `${one[0].toUpperCase()}${one.slice(1).replace(/\.$/, "")}${everywhere(one) ? " (all rows)" : ""}.`),
    marks: parts.map((own) => own.map((one) => notes.indexOf(one) + 1).join(", ")),
  };
};

report.buildEffects = function () {
  const { effects } = report.meta, host = document.getElementById("effects-charts");
  if (!effects || !host) return;
  const { element, state } = report, measures = [...new Set(effects.measure)];
  if (!measures.length) { document.getElementById("effects-table").append("Nothing could be compared."); return; }
  if (!measures.includes(state.measure)) state.measure = measures.includes("gradient_flow") ? "gradient_flow" : measures[0];
  const charts = () => {
    const title = `Effect on ${report.apart(state.measure.replaceAll("_", " "))}`, rows = report.effectRows(state.measure), names = report.effectShown(rows);
    const layers = report.effectSites(rows).sites.length;
    host.replaceChildren();
    if (layers <= report.LAYERS && (layers <= 3 || layers * names.length <= report.MANY))
      new report.Chart(host, title, (width) => report.effectSpec(state.measure, width));
    else for (const name of names) new report.Chart(host, `${title}: ${report.apart(name)}`, () => report.effectProfile(state.measure, name));
  };
  const table = () => document.getElementById("effects-table").replaceChildren(...report.effectTable(state.measure));
  const show = () => { charts(); table(); };
  report.effectsChanged = show;
  const pick = element("select", { id: "effects-measure", onchange: () => { state.measure = pick.value; show(); } }, ...measures.map((name) => element("option", { value: name }, name.replaceAll("_", " "))));
  pick.value = state.measure;
  const all = () => report.save("effects.csv", report.csv(report.effectCsv(measures.flatMap((name) => report.effectRows(name)))));
  const local = document.getElementById("effects-local");
  local.hidden = false;
  local.append(element("label", { for: "effects-measure" }, "Measure:"), pick, element("button", { type: "button", id: "effects-csv", onclick: all }, "All effects as CSV"));
  show();
};
