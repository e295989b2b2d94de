"use strict";
/* Effects of one measure: a row a layer, a mark a condition, with its interval; and the table beside it. */
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

report.effectSpec = function (measure) {
  const rows = report.effectRows(measure), known = new Set(report.shown().map((c) => report.meta.conditions[c].name));
  const layers = [...new Map(rows.map((row) => [JSON.stringify([row.layer, row.call ?? 0]), [row.layer ?? "network", row.call ?? 0]])).values()];
  const index = new Map(layers.map((site, i) => [JSON.stringify(site), i]));
  const others = [...new Set(rows.map((row) => row.condition))], ratio = rows[0]?.scale === "log ratio";
  const lines = [];
  others.forEach((name, k) => {
    if (!known.has(name)) return;
    const c = report.meta.conditions.findIndex((one) => one.name === name);
    const mine = rows.filter((row) => row.condition === name && row.effect !== null);
    const offset = (k - (others.length - 1) / 2) * 0.24;
    lines.push({
      c, name, x: mine.map((row) => index.get(JSON.stringify([row.layer ?? "network", row.call ?? 0])) + 1 + offset), y: mine.map((row) => row.effect),
      low: mine.map((row) => row.low ?? row.effect), high: mine.map((row) => row.high ?? row.effect), n: mine.map((row) => row.n),
      names: mine.map((row) => row.layer ?? "network"), told: (i) => report.effectTold(mine[i]),
      summary: `${name}: ${mine.map((row) => `${row.layer ?? "network"} ${report.effectTold(row)}`).slice(0, 12).join(", ")}`,
    });
  });
  const ends = lines.flatMap((line) => [...line.low, ...line.high]).concat(0).filter(Number.isFinite);
  const span = Math.max(...ends) - Math.min(...ends) || 1, domain = [Math.min(...ends) - 0.04 * span, Math.max(...ends) + 0.04 * span];
  const names = layers.map(report.siteName), titles = layers.map(report.siteTitle), room = Math.min(Math.max(4, ...titles.map((one) => one.length)), 40);
  const words = { "log ratio": "ratio to the baseline (log scale)", difference: "difference from the baseline", distance: "distance from the baseline" };
  const unit = rows[0]?.unit && rows[0].unit !== "1" ? `, ${rows[0].unit}` : "";
  return {
    vertical: true, lines, zero: true, height: 70 + Math.max(2, layers.length) * (layers.length > 20 ? 19 : 30), marginLeft: 18 + 6.7 * room,
    xLabel: `${words[rows[0]?.scale] || "effect"}${ratio ? "" : unit}`, yLabel: null, xTick: ratio ? (v) => `×${report.format(Math.exp(v))}` : report.format, xDomain: domain,
    xTicks: ratio ? report.logTicks(Math.exp(domain[0]), Math.exp(domain[1])).map(Math.log) : 6,
    yTicks: layers.map((_, i) => i + 1), yTick: (i) => titles[i - 1] ?? "", yDomain: [0.4, layers.length + 0.6],
    xName: (x) => names[Math.round(x) - 1], nameOf: (x) => names[Math.round(x) - 1], xCsv: "layer_position", nameCsv: "layer",
    sub: `against ${report.meta.baseline}; ${[...new Set(rows.map((row) => row.interval).filter((one) => one && one !== "none"))].join(", ") || "no"} interval over seeds`,
  };
};

report.effectTable = function (measure) {
  const { element, format } = report, known = new Set(report.shown().map((c) => report.meta.conditions[c].name));
  const heads = ["Condition", "Layer", "Effect", "Condition’s mean", "Baseline’s mean", "p", "Attainable p", "p, Holm", "Test", "n"];
  const rows = report.effectRows(measure).filter((row) => known.has(row.condition));
  const { notes, marks } = report.notesOf(rows);
  const cells = (row, i) => [row.condition, row.layer === null ? "network" : report.siteName([row.layer, row.call ?? 0]), report.effectTold(row), format(row.value), format(row.baseline_value),
    format(row.p), format(row.p_attainable), format(row.p_holm), row.test === "none" ? "–" : row.test ?? "–", `${row.n ?? "–"} / ${row.n_baseline ?? "–"}${row.paired ? ", paired" : ""}`, ...(notes.length ? [marks[i]] : [])];
  if (notes.length) heads.push("Note");
  const numeric = new Set([2, 3, 4, 5, 6, 7]), caption = `Effects on ${measure} against ${report.meta.baseline}`;
  const table = element("table", {}, element("caption", {}, caption),
    element("thead", {}, element("tr", {}, ...heads.map((head, i) => element("th", { scope: "col", class: numeric.has(i) ? "n" : "" }, head)))),
    element("tbody", {}, ...rows.map((row, k) => element("tr", {}, ...cells(row, k).map((cell, i) => element("td", { class: numeric.has(i) ? "n" : i > 7 && i < 10 ? "s" : "" }, cell))))));
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
  const show = () => {
    host.replaceChildren();
    new report.Chart(host, `Effect on ${state.measure.replaceAll("_", " ")}`, () => report.effectSpec(state.measure));
    report.effectsTable();
  };
  report.effectsTable = () => document.getElementById("effects-table").replaceChildren(...report.effectTable(state.measure));
  const pick = element("select", { id: "effects-measure", onchange: () => { state.measure = pick.value; show(); } }, ...measures.map((name) => element("option", { value: name }, name.replaceAll("_", " "))));
  pick.value = state.measure;
  const all = () => {
    const keys = Object.keys(effects);
    report.save("effects.csv", report.csv([keys, ...effects.measure.map((_, i) => keys.map((key) => effects[key][i]))]));
  };
  const local = document.getElementById("effects-local");
  local.hidden = false;
  local.append(element("label", { for: "effects-measure" }, "Measure:"), pick, element("button", { type: "button", id: "effects-csv", onclick: all }, "All effects as CSV"));
  show();
};
