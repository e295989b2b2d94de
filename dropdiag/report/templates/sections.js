"use strict";
/* The charts of each diagnostic: all layers at the chosen step, then each chosen layer. */
report.shown = () => report.meta.conditions.map((_, c) => c).filter((c) => !report.state.hidden.has(report.meta.conditions[c].name));

/* Where each condition's numbers are from, said once where that is the same for all. */
report.whereWords = function (parts) {
  const range = (values, show) => {
    const [least, most] = [Math.min(...values), Math.max(...values)].map(show);
    return least === most ? least : `${least} to ${most}`;
  };
  const words = ({ steps, n }) => {
    const told = range(steps, report.whole);
    return `${told.includes(" to ") ? "each run’s last, steps" : "step"} ${told}, n = ${range(n, String)}`;
  };
  const known = parts.filter((one) => one.n.length), told = known.map(words);
  if (!known.length) return "nothing recorded";
  if (new Set(told).size === 1) return `at ${told[0]}`;
  return known.map((one, i) => `${report.nameOf(one.c)}: ${told[i]}`).join("; ");
};

/* All layers at the chosen step. */
report.profile = function (name, series, options) {
  const { state } = report, lines = [], singles = [], parts = [];
  for (const c of report.shown()) {
    const line = { c, name: report.meta.conditions[c].name, x: [], y: [], low: [], high: [], n: [] }, steps = [];
    series.sites.forEach((_, site) => {
      const at = report.atStep(series, site, c, state.at);
      if (!at) return;
      steps.push(...at.steps);
      line.x.push(site + 1); line.y.push(at.mean); line.low.push(at.low); line.high.push(at.high); line.n.push(at.n);
      if (state.seeds) report.members[c].forEach((run, i) => {
        if (Number.isFinite(at.runs[i])) singles.push({ c, run, x: [site + 1], y: [at.runs[i]] });
      });
    });
    line.summary = `${line.name}: ${line.x.length ? `${report.format(line.y[0])} in the first layer, ${report.format(line.y.at(-1))} in the last` : "nothing recorded"}`;
    if (line.x.length) lines.push(line);
    parts.push({ c, steps, n: line.n });
  }
  const names = series.sites.map(report.siteName), few = names.length <= 6 && names.every((one) => one.length <= 18);
  const plain = names.map((one) => one.replace(/\.(activation|linear)$/, "")), ticks = (new Set(plain).size === names.length ? plain : names).map(report.apart);
  const known = options.chance?.map((y, i) => [i + 1, y]).filter(([, y]) => Number.isFinite(y)) || [];
  return {
    lines, singles, dots: names.length, xLabel: report.meta.ordered === false ? "layer, as listed (no order of execution)" : "layer, in order of execution", yLabel: report.labelled(name, series.unit), yLog: state.log[options.section] === true,
    xDomain: [0.7, names.length + 0.3], xTicks: few ? names.map((_, i) => i + 1) : Math.min(names.length, 10),
    xTick: (i) => (Number.isInteger(i) && names[i - 1] !== undefined ? (few && names.length <= 4 ? ticks[i - 1] : String(i)) : ""),
    xName: (i) => report.siteShown(series.sites[i - 1]), nameOf: (i) => names[i - 1], xCsv: "layer_number", nameCsv: "layer",
    sub: `${report.whereWords(parts)}${series.log ? "; geometric mean over seeds" : ""}`,
    reference: known.length ? { x: known.map(([x]) => x), y: known.map(([, y]) => y) } : undefined,
  };
};

report.curve = function (name, series, site, options) {
  const lines = [], singles = [];
  for (const c of report.shown()) {
    const line = { c, name: report.meta.conditions[c].name, ...report.overTraining(series, site, c) };
    if (!line.x.length) continue;
    line.summary = `${line.name}: ${report.format(line.y[0])} first, ${report.format(line.y.at(-1))} last`;
    lines.push(line);
    if (report.state.seeds) singles.push(...line.singles.map((one) => ({ c, ...one })));
  }
  return {
    lines, singles, at: options.at ? report.step() : undefined, xLabel: "training step", yLabel: report.labelled(name, series.unit), xCsv: "step",
    yLog: report.state.log[options.section] === true, xName: (x) => `step ${report.whole(x)}`,
    sub: `${series.phase === "train" ? "in training" : series.phase === "eval" ? "on held-out data" : `phase ${series.phase}`}${report.howMany(lines)}`,
  };
};

/* Of how many runs the lines are: said once where that is the same for all; and where there are fewer. */
report.howMany = function (lines) {
  if (!lines.length) return "";
  const most = lines.map((line) => line.of), same = new Set(most).size === 1;
  const words = same ? most[0] : lines.length > 4 ? `${Math.min(...most)} to ${Math.max(...most)}` : lines.map((line) => `${report.nameOf(line.c)} ${line.of}`).join(", ");
  const fewer = lines.some((line) => line.n.some((n) => n < line.of));
  return `; n = ${words}${fewer ? ", pale and broken off where fewer runs have values" : ""}`;
};

report.distribution = function (part, site, section) {
  const { density } = part, lines = [], singles = [], parts = [];
  const missing = [];
  for (const c of report.shown()) {
    const lost = report.lost(density, site, c, report.state.at);
    if (lost > 0) missing.push(`${report.nameOf(c)} ${report.format(100 * lost)} %`);
    const line = report.density(density, site, c, report.state.at);
    if (!line) continue;
    const top = line.x[line.y.indexOf(Math.max(...line.y))];
    line.summary = `${report.meta.conditions[c].name}: highest at ${report.format(top)}`;
    parts.push({ c, steps: line.steps, n: [line.n] });
    lines.push({ c, name: report.meta.conditions[c].name, ...line });
    if (report.state.seeds) singles.push(...line.singles.map((one) => ({ c, ...one })));
  }
  const log = report.state.log[section] === true;
  const heights = lines.flatMap((line) => [...line.y, ...line.high.filter(Number.isFinite)]);
  const most = Math.max(...heights, Number.MIN_VALUE);
  return {
    lines, singles, xLabel: report.words[density.quantity] || density.label || density.quantity, yLabel: missing.length ? "density of the finite values" : "density", yLog: log,
    xDomain: density.edges[site], yDomain: log ? [most * 1e-5, most * 1.5] : [0, most * 1.05],
    shade: part.areas?.[site], sub: `${report.whereWords(parts)}${missing.length ? `; NaN or infinite: ${missing.join(", ")}` : ""}`, xCsv: density.quantity,
  };
};

report.labelled = (name, unit) => (unit ? `${name}, ${unit}` : name);

/* Sites of several lists, each once, in the order in which they first come. */
report.union = (lists) => [...new Map(lists.flat().map((site) => [JSON.stringify(site), site])).values()];

report.words = { weight: "weight w", net_value: "net value z", node_correlation: "node correlation r" };

/* Which sites are drawn: the reader's choice, or six of them, evenly. */
report.chosen = function (group, sites) {
  const keys = sites.map((site) => JSON.stringify(site)), wanted = report.state.layers[group];
  if (wanted) return keys.flatMap((key, i) => (wanted.includes(key) ? [i] : []));
  return report.evenly(keys.length, 6);
};

report.evenly = (n, most) => (n <= most ? [...Array(n).keys()] : [...new Set([...Array(most).keys()].map((i) => Math.round((i * (n - 1)) / (most - 1))))]);

report.chooser = function (section, group, sites) {
  const { element } = report;
  const list = element("ul"), search = element("input", { type: "search", placeholder: "Find a layer", "aria-label": "Find a layer" });
  const label = element("summary"), told = () => { label.textContent = `Layers: ${report.chosen(group, sites).length} of ${sites.length}`; };
  const fill = () => {
    const on = new Set(report.chosen(group, sites));
    list.replaceChildren(...sites.map((site, i) => {
      const box = element("input", { type: "checkbox", checked: on.has(i), onchange: () => {
        const now = new Set(report.chosen(group, sites).map((j) => JSON.stringify(sites[j])));
        if (box.checked) now.add(JSON.stringify(site)); else now.delete(JSON.stringify(site));
        set([...now]);
      } });
      return element("li", { hidden: !report.siteName(site).toLowerCase().includes(search.value.toLowerCase()) }, element("label", {}, box, element("span", {}, report.siteShown(site))));
    }));
    told();
  };
  const set = (keys) => { report.state.layers[group] = keys; report.regroup(group); };
  const button = (name, pick) => element("button", { type: "button", onclick: () => set(pick().map((i) => JSON.stringify(sites[i]))) }, name);
  search.addEventListener("input", fill);
  const box = element("details", { class: "chooser", id: `${section}-chooser` }, label, element("div", { class: "menu" }, search,
    element("div", {}, button("All", () => [...sites.keys()]), button("Six, evenly", () => report.evenly(sites.length, 6)), button("None", () => [])), list));
  box.addEventListener("keydown", (event) => { if (event.key === "Escape") { box.open = false; label.focus(); } });
  box.refill = fill;
  fill();
  return box;
};

report.checkbox = function (id, words, on, change) {
  const box = report.element("input", { type: "checkbox", id, checked: on, onchange: () => change(box.checked) });
  return report.element("label", { for: id }, box, report.element("span", {}, words));
};

report.buildSection = function (name, part) {
  const host = document.getElementById(name);
  if (!host) return;
  const { element, Chart, state } = report, group = host.dataset.group;
  const local = host.querySelector(".local"), profiles = host.querySelector(".profiles"), sitesHost = host.querySelector(".sites");
  local.hidden = false;
  if (part.terms) { report.buildTerms(name, part.terms, group, local, sitesHost); return; }
  local.append(report.checkbox(`${name}-log`, "log scale", state.log[name] === true, (on) => { state.log[name] = on; report.redraw(host); }));
  const left = (several) => {
    const dropped = several.reduce((sum, series) => sum + series.dropped, 0), logs = several.some((series) => series.log && series.dropped);
    return dropped ? `${report.format(dropped)} values are left out: missing, infinite${logs ? ", or not above 0 where the mean is geometric" : ""}.` : "";
  };
  if (part.curves) {
    host.querySelector(".remark").textContent = left(part.curves);
    for (const one of part.curves) new Chart(sitesHost, one.title || `${one.quantity}, ${{ train: "training", eval: "held out" }[one.phase] || one.phase}`, () => report.curve(one.quantity, one, 0, { section: name }));
    return;
  }
  const measures = Object.entries(part.measures || {}), { density } = part;
  const sites = density ? density.sites : report.union(measures.map(([, series]) => series.sites));
  for (const [title, series] of measures)
    new Chart(profiles, `${title}, all layers`, () => report.profile(title, series, { section: name, chance: title === "mean |r|" ? part.chance : null }));
  const views = [...(density ? [["distribution", "distribution at the step"]] : []), ...measures.map(([title]) => [title, `${title} through training`])];
  if (!views.some(([key]) => key === state.view[name])) state.view[name] = views[0][0];
  const draw = () => {
    sitesHost.replaceChildren();
    for (const i of report.chosen(group, sites)) {
      const title = report.siteTitle(sites[i]), whole = report.siteShown(sites[i]), view = state.view[name];
      if (view === "distribution") { new Chart(sitesHost, title, () => report.distribution(part, i, name), whole); continue; }
      const series = part.measures[view], at = series.sites.findIndex((site) => site[0] === sites[i][0] && site[1] === sites[i][1]);
      if (at >= 0) new Chart(sitesHost, `${title}: ${view}`, () => report.curve(view, series, at, { section: name, at: true }), whole);
    }
  };
  const chooser = report.chooser(name, group, sites);
  local.prepend(chooser);
  if (views.length > 1) {
    const pick = element("select", { id: `${name}-view`, onchange: () => { state.view[name] = pick.value; draw(); } }, ...views.map(([key, words]) => element("option", { value: key }, words)));
    pick.value = state.view[name];
    local.append(element("label", { for: `${name}-view` }, "Each layer:"), pick);
  }
  const remarks = [];
  if (density?.left_out) remarks.push(`${report.format(density.left_out)} recorded steps are left out of the slider, evenly, to keep the page small.`);
  if (density && density.outside > 0.0005) remarks.push(`Up to ${report.format(100 * density.outside)} % of the values of a layer and step lie beyond the ends of its axis.`);
  remarks.push(left(measures.map(([, series]) => series)));
  host.querySelector(".remark").textContent = remarks.filter(Boolean).join(" ");
  report.groups.push({ group, refresh: () => { chooser.refill(); draw(); } });
  draw();
};

/* A row for each term of a layer, and the bars of each condition, one under the other. */
report.termRows = function ({ kinds, sites, effects }, site, held) {
  return held.flatMap((c) => kinds.map((term, k) => {
    const [effect, low, high] = effects[c][site * kinds.length + k];
    return { c, k, condition: report.meta.conditions[c].name, layer: sites[site][0], call: sites[site][1], term, effect, low, high, scale: "log ratio", interval: low === null ? "none" : "t" };
  }));
};

report.termLines = function (rows, held, place) {
  return held.map((c, i) => {
    const mine = rows.filter((row) => row.c === c && Number.isFinite(row.effect)), known = (value, row) => (Number.isFinite(value) ? value : row.effect);
    return {
      c, name: report.meta.conditions[c].name, x: mine.map((row) => place(row.k, i)), y: mine.map((row) => row.effect), n: [],
      low: mine.map((row) => known(row.low, row)), high: mine.map((row) => known(row.high, row)), told: (j) => report.effectTold(mine[j]),
      summary: `${report.meta.conditions[c].name}: ${mine.map((row) => `${row.term} ${report.effectTold(row)}`).join(", ")}`,
    };
  });
};

/* The terms of one layer's gradient flow as bars with intervals; all layers have one axis. */
report.terms = function (terms, site, width = 700) {
  const { kinds, sites, effects } = terms, held = report.shown().filter((c) => effects[c]), lane = 13, lanes = Math.max(1, held.length), tall = Math.max(22, lane * lanes + 8);
  const place = (k, i) => k + 1 + (i - (lanes - 1) / 2) * (lane / tall), every = sites.flatMap((_, one) => report.termRows(terms, one, held));
  const common = report.effectCommon(every, report.termLines(every, held, place)), rows = report.termRows(terms, site, held), room = Math.max(...kinds.map((one) => report.textWidth(one)));
  const keys = ["condition", "layer", "call", "term"], factor = (v) => (Number.isFinite(v) ? Math.exp(v) : null);
  return {
    vertical: true, bars: true, lines: report.termLines(rows, held, place), zero: true, height: 70 + kinds.length * tall, marginLeft: 22 + room, bands: [[kinds.length - 0.5, kinds.length + 0.5]],
    xLabel: common.label, yLabel: null, xTick: common.tick, xDomain: common.domain, xTicks: report.spaced(common.ticks, common.domain, width - room - 40),
    yTicks: kinds.map((_, i) => i + 1), yTick: (i) => kinds[i - 1] ?? "", yDomain: [0.5, kinds.length + 0.5], xName: (x) => kinds[Math.round(x) - 1], sub: common.sub,
    rows: () => [["baseline", ...keys, "factor", "factor_low", "factor_high"], ...rows.map((row) => [report.meta.baseline, ...keys.map((key) => row[key]), factor(row.effect), factor(row.low), factor(row.high)])],
  };
};

report.buildTerms = function (name, terms, group, local, host) {
  const chooser = report.chooser(name, group, terms.sites);
  const draw = () => {
    host.replaceChildren();
    for (const i of report.chosen(group, terms.sites)) new report.Chart(host, report.siteTitle(terms.sites[i]), (width) => report.terms(terms, i, width), report.siteShown(terms.sites[i]));
  };
  local.prepend(chooser);
  report.groups.push({ group, refresh: () => { chooser.refill(); draw(); } });
  draw();
};

report.regroup = function (group) {
  for (const one of report.groups) if (one.group === group) one.refresh();
};

report.redraw = function (host = document) {
  for (const figure of host.querySelectorAll(".chart")) figure.chart.update();
};
