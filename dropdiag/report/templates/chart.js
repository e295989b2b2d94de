"use strict";
/* One chart: lines with bands over seeds, drawn by Observable Plot; hover and keyboard; download of figure and numbers. */
report.element = function (name, attributes = {}, ...children) {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) {
    if (key.startsWith("on")) made.addEventListener(key.slice(2), value);
    else if (key in made && key !== "list" && typeof value === "boolean") made[key] = value;
    else made.setAttribute(key, value);
  }
  made.append(...children);
  return made;
};

report.colour = (c) => `var(--c${c % 7})`;
report.symbols = ["circle", "square", "diamond", "triangle", "triangle2", "plus", "times"];

report.swatch = function (c) {
  const made = report.element("span", { class: "swatch", "aria-hidden": "true" });
  report.paintSwatch(made, c);
  return made;
};

report.paintSwatch = function (host, c) {
  const svg = document.createElementNS("http://www.w3.org/2000/svg", "svg");
  const line = document.createElementNS("http://www.w3.org/2000/svg", "line");
  const dash = report.meta.conditions[c].dash;
  for (const [key, value] of Object.entries({ x1: 0, x2: "100%", y1: "50%", y2: "50%", "stroke-width": 2.5 })) line.setAttribute(key, value);
  line.style.stroke = report.colour(c);
  if (dash) line.setAttribute("stroke-dasharray", dash);
  svg.append(line);
  host.replaceChildren(svg);
};

report.save = function (name, blob) {
  const link = report.element("a", { href: URL.createObjectURL(blob), download: name.replace(/[^\p{L}\p{N}._-]+/gu, "-").slice(0, 100) });
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10000);
};

/* A cell that a spreadsheet would take for a formula is made a text. */
report.csv = function (rows) {
  const cell = (value) => {
    if (typeof value === "number") return Number.isFinite(value) ? String(value) : "";
    let text = value === null || value === undefined ? "" : String(value);
    if (/^[=+@\t\r-]/.test(text) && !Number.isFinite(Number(text))) text = "'" + text;
    return /[",\r\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
  };
  return new Blob([rows.map((row) => row.map(cell).join(",")).join("\r\n") + "\r\n"], { type: "text/csv;charset=utf-8" });
};

report.queue = new Set();
report.later = function (chart) {
  if (!report.queue.size) requestAnimationFrame(() => {
    const due = [...report.queue];
    report.queue.clear();
    const widths = due.map((one) => one.plot.clientWidth); // all before any: a width after a drawing lays the page out anew
    due.forEach((one, i) => one.draw(widths[i]));
  });
  report.queue.add(chart);
};

report.Chart = class {
  constructor(host, title, make, whole = title) {
    this.title = title;
    this.make = make;
    this.visible = false;
    this.dirty = true;
    this.cursor = null;
    const { element } = report;
    this.sub = element("span", { class: "sub" });
    this.plot = element("div", { class: "plot" });
    this.rule = element("div", { class: "line", hidden: true });
    this.tip = element("div", { class: "tip", hidden: true });
    const tool = (name, run) => element("button", { type: "button", onclick: run, "aria-label": `Download ${name}: ${title}` }, name);
    this.figure = element("figure", { class: "chart", tabindex: "0", "aria-label": `${title}. Chart: arrow keys read its values.` },
      element("figcaption", { title: whole }, title, this.sub), this.plot, this.tip,
      element("div", { class: "tools" }, tool("PNG", () => this.png()), tool("SVG", () => this.saveSvg()), tool("CSV", () => this.saveCsv())));
    this.figure.setAttribute("role", "group");
    host.append(this.figure);
    this.figure.chart = this;
    report.observer.observe(this.figure);
    this.plot.addEventListener("pointermove", (event) => this.point(event));
    this.plot.addEventListener("pointerdown", (event) => this.point(event));
    this.plot.addEventListener("pointerleave", (event) => { if (event.pointerType === "mouse") this.leave(); });
    this.figure.addEventListener("blur", () => this.leave());
    this.figure.addEventListener("keydown", (event) => this.key(event));
  }

  update() {
    this.dirty = true;
    if (this.visible) report.later(this);
  }

  draw(room = this.plot.clientWidth) {
    const width = Math.floor(room);
    if (!this.dirty || !this.figure.isConnected || !width) return;
    this.dirty = false;
    this.spec = this.make();
    this.sub.textContent = this.spec.sub || "";
    this.svg = report.drawn(this.spec, width);
    const label = `${this.title}. ${this.spec.sub || ""} ${this.spec.lines.map((line) => line.summary || line.name).join("; ")}`;
    for (const part of this.svg.querySelectorAll("[aria-label], [aria-description]")) { part.removeAttribute("aria-label"); part.removeAttribute("aria-description"); }
    this.svg.setAttribute("role", "img");
    this.svg.setAttribute("aria-label", label);
    this.plot.replaceChildren(this.svg, this.rule);
    if (this.cursor !== null) this.show(this.cursor);
  }

  /* All x of the lines, ascending. */
  places() {
    if (!this.spec.places) this.spec.places = [...new Set(this.spec.lines.flatMap((line) => Array.from(line.x)))].sort((a, b) => a - b);
    return this.spec.places;
  }

  point(event) {
    if (!this.spec || !this.svg) return;
    const box = this.svg.getBoundingClientRect();
    const vertical = this.spec.vertical;
    const scale = this.svg.scale(vertical ? "y" : "x");
    const wanted = scale.invert(vertical ? event.clientY - box.top : event.clientX - box.left);
    const places = this.places();
    if (!places.length) return;
    this.show(report.nearest(places.map((x) => scale.apply(x)), scale.apply(wanted)));
  }

  key(event) {
    if (event.target !== this.figure || !this.spec) return;
    const last = this.places().length - 1, here = this.cursor ?? -1;
    const next = { ArrowRight: here + 1, ArrowLeft: here - 1, ArrowDown: here + 1, ArrowUp: here - 1, Home: 0, End: last }[event.key];
    if (event.key === "Escape") this.leave();
    if (next === undefined || last < 0) return;
    event.preventDefault();
    this.show(Math.max(0, Math.min(last, next)));
    document.getElementById("says").textContent = this.tip.textContent;
  }

  leave() {
    this.cursor = null;
    this.tip.hidden = this.rule.hidden = true;
  }

  show(index) {
    const places = this.places();
    const x = places[Math.min(index, places.length - 1)];
    if (x === undefined) { this.leave(); return; }
    this.cursor = index;
    const { element, format } = report, { vertical } = this.spec;
    const rows = [];
    for (const line of this.spec.lines) {
      const i = line.x.indexOf(x);
      if (i < 0) continue;
      rows.push(element("div", {}, report.swatch(line.c), element("span", {}, `${line.name} `), element("span", {}, line.told ? line.told(i) : report.told(line, i))));
    }
    this.tip.replaceChildren(element("b", {}, this.spec.xName ? this.spec.xName(x) : `${this.spec.xLabel}: ${format(x)} `), ...rows);
    this.tip.hidden = false;
    const at = this.svg.scale(vertical ? "y" : "x").apply(x);
    this.rule.hidden = Boolean(vertical);
    if (!vertical) this.rule.style.left = `${at}px`;
    const width = this.figure.clientWidth, tip = this.tip.offsetWidth;
    const left = vertical ? width - tip - 8 : this.plot.offsetLeft + at + (at > width / 2 ? -tip - 10 : 10);
    this.tip.style.left = `${Math.max(2, Math.min(width - tip - 2, left))}px`;
    this.tip.style.top = `${this.plot.offsetTop + (vertical ? Math.max(0, at + 12) : 4)}px`;
  }

  saveCsv() {
    this.dirty = true; this.draw();
    report.save(`${this.title}.csv`, report.csv(report.rowsOf(this.spec)));
  }

  saveSvg() {
    this.dirty = true; this.draw();
    report.save(`${this.title}.svg`, new Blob([report.standalone(this)], { type: "image/svg+xml" }));
  }

  async png() {
    this.dirty = true; this.draw();
    const source = report.standalone(this), image = new Image();
    image.src = `data:image/svg+xml;charset=utf-8,${encodeURIComponent(source)}`;
    await image.decode();
    const canvas = report.element("canvas", { width: String(2 * image.width), height: String(2 * image.height) });
    canvas.getContext("2d").drawImage(image, 0, 0, canvas.width, canvas.height);
    canvas.toBlob((blob) => report.save(`${this.title}.png`, blob), "image/png");
  }
};

report.told = function (line, i) {
  const { format } = report;
  const spread = Number.isFinite(line.low?.[i]) ? ` [${format(line.low[i])}, ${format(line.high[i])}]` : "";
  const n = Array.isArray(line.n) ? line.n[i] : line.n;
  return `${format(line.y[i])}${spread}${n === undefined ? "" : `, n = ${n}`}`;
};

report.rowsOf = function (spec) {
  const names = report.meta.conditions;
  const rows = [["condition", "run", "seed", spec.xCsv || "x", spec.nameCsv || "name", "value", "low", "high", "n"]];
  const named = (x) => (spec.nameOf ? spec.nameOf(x) : "");
  for (const line of spec.lines)
    line.x.forEach((x, i) => rows.push([names[line.c].name, "", "", x, line.names?.[i] ?? named(x), line.y[i], line.low?.[i] ?? "", line.high?.[i] ?? "", line.n?.[i] ?? line.n ?? ""]));
  for (const single of spec.singles || []) {
    const run = report.meta.runs[single.run];
    single.x.forEach((x, i) => rows.push([names[single.c].name, run.name, run.seed ?? "", x, named(x), single.y[i], "", "", 1]));
  }
  return rows;
};

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

report.drawn = function (spec, width) {
  const marks = [], positive = (values) => (spec.yLog ? values.map((v) => (v > 0 ? v : NaN)) : values);
  const { lines, singles = [], vertical } = spec;
  const [first, last] = spec.xDomain || [undefined, undefined];
  for (const [low, high] of spec.shade || []) {
    const x1 = Math.max(low ?? -Infinity, first), x2 = Math.min(high ?? Infinity, last);
    if (x2 > x1) marks.push(Plot.rect([0], { x1: [x1], x2: [x2], fill: "var(--shade)" }));
  }
  if (spec.at !== undefined) marks.push(Plot.ruleX([spec.at], { stroke: "var(--soft)", strokeDasharray: "2 3" }));
  if (spec.zero) marks.push(vertical ? Plot.ruleX([0], { stroke: "var(--soft)" }) : Plot.ruleY([0], { stroke: "var(--soft)" }));
  for (const line of lines) {
    const colour = report.colour(line.c), data = { length: line.x.length };
    const dash = report.meta.conditions[line.c].dash || undefined;
    if (vertical) {
      marks.push(Plot.ruleY(data, { y: line.x, x1: line.low, x2: line.high, stroke: colour, strokeWidth: 2 }));
      marks.push(Plot.dot(data, { x: line.y, y: line.x, fill: colour, symbol: report.symbols[line.c % 7], r: 4 }));
      continue;
    }
    if (line.low && line.low.some(Number.isFinite))
      marks.push(Plot.areaY(data, { x: line.x, y1: positive(line.low), y2: positive(line.high), fill: colour, fillOpacity: 0.17 }));
    const pale = line.pale ?? line.x.length, drawn = positive(line.y);
    marks.push(Plot.lineY(data, { x: line.x, y: drawn.map((y, i) => (i < pale ? y : NaN)), stroke: colour, strokeWidth: 2, strokeDasharray: dash }));
    if (pale < line.x.length) // from the last point of all runs on
      marks.push(Plot.lineY(data, { x: line.x, y: drawn.map((y, i) => (i >= pale - 1 ? y : NaN)), stroke: colour, strokeWidth: 1.5, strokeOpacity: 0.4, strokeDasharray: dash }));
    if (spec.dots || line.x.length < 3)
      marks.push(Plot.dot(data, { x: line.x, y: positive(line.y), fill: colour, symbol: report.symbols[line.c % 7], r: spec.dots > 20 ? 2.5 : 4 }));
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
    y: { label: spec.yLabel, labelArrow: "none", domain: spec.yDomain, type: spec.yLog ? "log" : "linear", tickFormat: spec.yTick || tickFormat, ticks: spec.yTicks || 5, grid: true, nice: !spec.yDomain && !vertical, reverse: Boolean(vertical) },
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
    const y = 50 + 18 * i, stroke = page.getPropertyValue(`--c${line.c % 7}`).trim();
    outer.append(make("line", { x1: 8, x2: 42, y1: y - 4, y2: y - 4, stroke, "stroke-width": 2.5, "stroke-dasharray": report.meta.conditions[line.c].dash || "none" }));
    outer.append(make("text", { x: 50, y, "font-size": 12, ...font }, report.meta.conditions[line.c].name));
  });
  inner.setAttribute("y", String(top));
  outer.append(inner);
  return new XMLSerializer().serializeToString(outer);
};
