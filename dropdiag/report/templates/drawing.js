"use strict";
/* Lines, bands and marks of one chart, drawn by Observable Plot; and the chart as a file of its own. */
/* Powers of ten of a log axis, with 2 and 5 between them where there are few. */
report.logTicks = function (low, high) {
  const decades = Math.log10(high / low), subs = decades > 2.2 ? [1] : decades > 0.8 ? [1, 2, 5] : [1, 1.5, 2, 3, 4, 5, 7];
  const ticks = [];
  for (let k = Math.floor(Math.log10(low)); k <= Math.ceil(Math.log10(high)); k++)
    for (const sub of subs) { const tick = sub * 10 ** k; if (tick >= low * 0.999 && tick <= high * 1.001) ticks.push(Number(tick.toPrecision(3))); }
  const each = Math.ceil(ticks.length / 9);
  return ticks.filter((_, i) => i % each === 0);
};

report.logDomain = function (lines) {
  const known = lines.flatMap((line) => [...line.y, ...(line.low || []), ...(line.high || [])]).filter((v) => v > 0 && Number.isFinite(v));
  if (!known.length) return undefined;
  const low = Math.min(...known), high = Math.max(...known), room = Math.max((high / low) ** 0.04, 1.02);
  return [low / room, high * room];
};

/* Stretches of a line that are drawn alike. Through training: where as many runs are averaged, for where one ends or
   begins the mean jumps without anything having happened. Over layers: where no layer that the condition lacks lies between. */
report.stretches = function (line, dots) {
  const found = [];
  for (let i = 0; i < line.x.length; i++) {
    const last = found.at(-1), n = Array.isArray(line.n) && line.of !== undefined ? line.n[i] : line.of;
    if (last && last.n === n && !(dots && line.x[i] - line.x[i - 1] > 1)) last.to = i;
    else found.push({ from: i, to: i, n, full: n === line.of });
  }
  return found;
};

/* Bands of so many conditions would hide their lines. */
report.crowded = (lines) => lines.length > 8;

/* A line with its band; pale, and broken off, where fewer runs are averaged than have the quantity. */
report.drawLine = function (marks, line, spec, positive) {
  const stroke = report.colour(line.c), strokeDasharray = report.meta.conditions[line.c].dash || undefined;
  const y = positive(line.y), parts = report.stretches(line, spec.dots);
  for (const { from, to, full } of parts) {
    const data = { length: to - from + 1 }, of = (values) => Array.from(values).slice(from, to + 1), opacity = full ? 1 : 0.4;
    if (!report.crowded(spec.lines) && line.low && of(line.low).some(Number.isFinite))
      marks.push(Plot.areaY(data, { x: of(line.x), y1: of(positive(line.low)), y2: of(positive(line.high)), fill: stroke, fillOpacity: 0.17 * (full ? 1 : 0.6) }));
    marks.push(Plot.lineY(data, { x: of(line.x), y: of(y), stroke, strokeWidth: full ? 2 : 1.5, strokeOpacity: opacity, strokeDasharray }));
    if (from === to && !spec.dots && line.x.length >= 3) marks.push(Plot.dot(data, { x: of(line.x), y: of(y), fill: stroke, r: 1.6, fillOpacity: opacity }));
  }
  if (spec.dots) // over layers that the condition lacks: the eye is led on, but nothing is claimed
    for (let k = 1; k < parts.length; k++) {
      const [a, b] = [parts[k - 1].to, parts[k].from];
      marks.push(Plot.lineY({ length: 2 }, { x: [line.x[a], line.x[b]], y: [y[a], y[b]], stroke, strokeWidth: 1, strokeOpacity: 0.45, strokeDasharray: "1 4" }));
    }
  if (spec.dots || line.x.length < 3)
    marks.push(Plot.dot({ length: line.x.length }, { x: line.x, y, fill: stroke, symbol: report.symbol(line.c), r: spec.dots > 100 ? 1.6 : spec.dots > 20 ? 2.5 : 4 }));
};

/* Marks with their intervals, one under the other; an arrow where an interval goes on beyond the axis. */
report.drawRow = function (marks, line, spec) {
  const fill = report.colour(line.c), [first, last] = spec.xDomain;
  const within = (values) => Array.from(values, (v) => Math.min(last, Math.max(first, v)));
  if (spec.bars) marks.push(Plot.ruleY({ length: line.x.length }, { y: line.x, x1: line.x.map(() => 0), x2: within(line.y), stroke: fill, strokeWidth: 9, strokeOpacity: 0.35 }));
  marks.push(Plot.ruleY({ length: line.x.length }, { y: line.x, x1: within(line.low), x2: within(line.high), stroke: fill, strokeWidth: 2 }));
  for (const [ends, edge, name] of [[line.low.map((v) => v < first), first, "triangle-left"], [line.high.map((v) => v > last), last, "triangle-right"]]) {
    const y = line.x.filter((_, i) => ends[i]);
    if (y.length) marks.push(Plot.dot({ length: y.length }, { x: y.map(() => edge), y, fill, symbol: report.symbolOf(name), r: 3.5 }));
  }
  marks.push(Plot.dot({ length: line.x.length }, { x: line.y, y: line.x, fill, symbol: report.symbol(line.c), r: 4 }));
};

report.drawn = function (spec, width) {
  const marks = [], positive = (values) => (spec.yLog ? values.map((v) => (v > 0 ? v : NaN)) : values);
  const { lines, singles = [], vertical } = spec;
  const [first, last] = spec.xDomain || [undefined, undefined];
  for (const [low, high] of spec.shade || []) {
    const x1 = Math.max(low ?? -Infinity, first), x2 = Math.min(high ?? Infinity, last);
    if (x2 > x1) marks.push(Plot.rect([0], { x1: [x1], x2: [x2], fill: "var(--shade)" }));
  }
  for (const [low, high] of spec.bands || []) marks.push(Plot.rect([0], { x1: [first], x2: [last], y1: [low], y2: [high], fill: "var(--panel)" }));
  if (spec.at !== undefined) marks.push(Plot.ruleX([spec.at], { stroke: "var(--soft)", strokeDasharray: "2 3" }));
  if (spec.zero) marks.push(vertical ? Plot.ruleX([0], { stroke: "var(--soft)" }) : Plot.ruleY([0], { stroke: "var(--soft)" }));
  for (const line of lines) {
    if (vertical) report.drawRow(marks, line, spec);
    else report.drawLine(marks, line, spec, positive);
  }
  for (const single of singles) {
    const colour = report.colour(single.c), data = { length: single.x.length };
    if (spec.dots) marks.push(Plot.dot(data, { x: single.x, y: positive(single.y), stroke: colour, r: 2.2, strokeWidth: 1 }));
    else marks.push(Plot.lineY(data, { x: single.x, y: positive(single.y), stroke: colour, strokeWidth: 0.9, strokeOpacity: 0.65 }));
  }
  if (spec.reference) marks.push(Plot.lineY({ length: spec.reference.x.length }, { x: spec.reference.x, y: spec.reference.y, stroke: "var(--ink)", strokeDasharray: "1 4", strokeLinecap: "round", strokeWidth: 2 }));
  const tickFormat = report.format;
  if (spec.yLog) {
    spec.yDomain = spec.yDomain || report.logDomain([...lines, ...singles]);
    if (spec.yDomain) spec.yTicks = report.logTicks(...spec.yDomain);
  }
  return Plot.plot({
    width, height: spec.height || 215, marginLeft: spec.marginLeft || 58, marginBottom: 38, marginTop: 22, marginRight: 14, marks,
    x: { label: spec.xLabel, labelArrow: "none", domain: spec.xDomain, type: spec.xLog ? "log" : "linear", tickFormat: spec.xTick || tickFormat, ticks: spec.xTicks || Math.max(3, Math.floor(width / 75)), grid: Boolean(vertical), labelAnchor: "center", nice: false },
    clip: Boolean(spec.clip), y: { label: spec.yLabel, labelArrow: "none", domain: spec.yDomain, type: spec.yLog ? "log" : "linear", tickFormat: spec.yTick || tickFormat, ticks: spec.yTicks || 5, grid: true, nice: !spec.yDomain && !vertical, reverse: Boolean(vertical) },
    style: { background: "none", color: "var(--ink)", fontFamily: "inherit", fontSize: "12px", overflow: "visible" },
  });
};

/* The figure with its title and legend, its colours written out, as a file of its own. */
report.standalone = function (chart) {
  const space = "http://www.w3.org/2000/svg", page = getComputedStyle(document.body);
  const width = chart.svg.width.baseVal.value, height = chart.svg.height.baseVal.value;
  const inner = chart.svg.cloneNode(true), mine = chart.svg.querySelectorAll("*"), copies = inner.querySelectorAll("*");
  [chart.svg, ...mine].forEach((one, i) => {
    const copy = i ? copies[i - 1] : inner, style = getComputedStyle(one);
    for (const key of ["fill", "stroke"]) if (/var\(|currentColor/i.test(one.getAttribute(key) || "")) copy.setAttribute(key, style[key]);
  });
  inner.style.color = page.color;
  const make = (name, attributes, text = "") => {
    const made = document.createElementNS(space, name);
    for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
    made.textContent = text;
    return made;
  };
  const shown = [...new Map(chart.spec.lines.map((line) => [line.c, line])).values()];
  const top = 42 + 18 * shown.length;
  const font = { "font-family": page.fontFamily.replaceAll('"', "'"), fill: page.color };
  const outer = make("svg", { xmlns: space, width, height: height + top, viewBox: `0 0 ${width} ${height + top}` });
  outer.append(make("rect", { width: "100%", height: "100%", fill: page.backgroundColor }));
  outer.append(make("text", { x: 8, y: 18, "font-size": 13, "font-weight": 600, ...font }, chart.title));
  outer.append(make("text", { x: 8, y: 34, "font-size": 11, ...font }, chart.spec.sub || ""));
  shown.forEach((line, i) => {
    const y = 50 + 18 * i, one = report.meta.conditions[line.c], stroke = page.getPropertyValue(`--c${one.colour}`).trim();
    outer.append(make("line", { x1: 8, x2: 42, y1: y - 4, y2: y - 4, stroke, "stroke-width": 2.5, "stroke-dasharray": one.dash || "none" }));
    outer.append(make("path", { d: report.outline(line.c, 25, y - 4), fill: stroke }));
    outer.append(make("text", { x: 50, y, "font-size": 12, ...font }, report.nameOf(line.c)));
  });
  inner.setAttribute("y", String(top));
  outer.append(inner);
  return new XMLSerializer().serializeToString(outer);
};
