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

report.swatch = function (c) {
  const made = report.element("span", { class: "swatch", "aria-hidden": "true" });
  report.paintSwatch(made, c);
  return made;
};

report.paintSwatch = function (host, c) {
  const make = (name, attributes) => {
    const made = document.createElementNS("http://www.w3.org/2000/svg", name);
    for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
    return made;
  };
  const svg = make("svg", { viewBox: "0 0 36 12" }), { dash } = report.meta.conditions[c];
  const line = make("line", { x1: 0, x2: 36, y1: 6, y2: 6, "stroke-width": 2.5, ...(dash ? { "stroke-dasharray": dash } : {}) });
  const mark = make("path", { d: report.outline(c, 18, 6) });
  line.style.stroke = mark.style.fill = report.colour(c);
  svg.append(line, mark);
  host.replaceChildren(svg);
};

report.save = function (name, blob) {
  const link = report.element("a", { href: URL.createObjectURL(blob), download: report.bare(name).replace(/[^\p{L}\p{N}._-]+/gu, "-").slice(0, 100) });
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10000);
};

/* A cell that a spreadsheet would take for a formula is made a text. */
report.csv = function (rows) {
  const cell = (value) => {
    if (typeof value === "number") return Number.isFinite(value) ? String(value) : "";
    let text = value === null || value === undefined ? "" : String(value);
    if (/^[=+@\t\r\n'＝＋－＠-]/.test(text) && !Number.isFinite(Number(text))) text = "'" + text;
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
    this.spec = this.make(width);
    if (!this.spec.vertical && report.crowded(this.spec.lines) && this.spec.lines.some((line) => line.low?.some(Number.isFinite))) this.spec.sub += "; no bands, for so many conditions";
    this.sub.textContent = this.spec.sub || "";
    this.svg = report.drawn(this.spec, width);
    const label = `${report.bare(this.title)}. ${this.spec.sub || ""} ${this.spec.lines.map((line) => line.summary || line.name).join("; ")}`;
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
      rows.push(element("div", {}, report.swatch(line.c), element("span", {}, `${report.nameOf(line.c)} `), element("span", {}, line.told ? line.told(i) : report.told(line, i))));
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
    report.save(`${this.title}.csv`, report.csv(this.spec.rows ? this.spec.rows() : report.rowsOf(this.spec)));
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
