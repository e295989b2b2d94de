"use strict";
/* Names as people read them, in whatever direction they are written and however long; and the marks of conditions. */
report.turned = /[\u0590-\u08ff\ufb1d-\ufdff\ufe70-\ufefc\u{10800}-\u{10fff}\u{1e800}-\u{1efff}\u200e\u200f\u202a-\u202e\u2066-\u2069]/u;

/* A name set apart (first strong isolate), so that it reorders nothing beside it: in a text of a page or of an SVG. */
report.apart = (text) => (report.turned.test(text) ? `\u2068${text}\u2069` : text);
report.bare = (text) => text.replace(/[\u2068\u2069]/g, "");

report.siteName = (site) => (site[1] ? `${site[0]}, call ${site[1] + 1}` : site[0]);

/* The same to be shown: names in it are set apart. */
report.siteShown = (site) => (site[1] ? `${report.apart(site[0])}, call ${site[1] + 1}` : report.apart(site[0]));

/* A short name, which no other layer of the page has. */
report.siteTitle = (site) => report.siteShown([report.meta.titles?.[site[0]] ?? site[0], site[1]]);

report.nameOf = (c) => report.apart(report.meta.conditions[c].name);

/* Pixels that a text takes at 12 px: as the page's own font has it, else about so many. */
report.textWidth = function (text) {
  if (report.pen === undefined) {
    report.pen = document.createElement("canvas").getContext?.("2d") ?? null;
    if (report.pen) report.pen.font = `12px ${getComputedStyle(document.body).fontFamily}`;
  }
  if (report.pen) return report.pen.measureText(text).width;
  return [...text].reduce((sum, sign) => sum + (sign > "\u1100" ? 12.2 : 7.2), 0);
};

/* The names as labels that take at most so many pixels and are all different: what is too long loses its beginning,
   or its middle or end where that tells it from the others; a number tells what no part of the name would. */
report.labels = function (names, room) {
  const cut = (text, share) => {
    const signs = [...text];
    for (let kept = signs.length - 1; kept > 0; kept--) {
      const head = Math.round(kept * share), made = `${signs.slice(0, head).join("")}…${signs.slice(signs.length - (kept - head)).join("")}`;
      if (report.textWidth(made) <= room) return made;
    }
    return "…";
  };
  const long = names.map((name) => report.textWidth(name) > room);
  const different = (labels) => new Set(labels).size === labels.length;
  for (const share of [0, 0.35, 0.65, 1]) {
    const labels = names.map((name, i) => (long[i] ? cut(name, share) : name));
    if (different(labels)) return labels.map(report.apart);
  }
  const times = new Map();
  const labels = names.map((name, i) => (long[i] ? cut(name, 0.35) : name));
  for (const label of labels) times.set(label, (times.get(label) || 0) + 1);
  return names.map((name, i) => {
    if (times.get(labels[i]) === 1) return report.apart(labels[i]);
    const number = `${i + 1}: `, rest = [...name];
    while (rest.length > 1 && report.textWidth(`${number}…${rest.join("")}`) > room) rest.shift();
    return `${number}${report.apart(rest.length < [...name].length ? `…${rest.join("")}` : name)}`;
  });
};

report.colour = (c) => `var(--c${report.meta.conditions[c].colour})`;

/* Corners of the filled marks. Those of Plot that only have a stroke (plus, times) would vanish when they are filled. */
report.corners = (() => {
  const ring = (n, turn, radius = () => 1) => Array.from({ length: n }, (_, i) => {
    const angle = 2 * Math.PI * (i / n + turn);
    return [radius(i) * Math.sin(angle), -radius(i) * Math.cos(angle)];
  });
  const arm = 0.34, plus = [[-arm, -1], [arm, -1], [arm, -arm], [1, -arm], [1, arm], [arm, arm], [arm, 1], [-arm, 1], [-arm, arm], [-1, arm], [-1, -arm], [-arm, -arm]];
  return {
    square: ring(4, 0.125), diamond: ring(4, 0, (i) => (i % 2 ? 0.8 : 1.15)), triangle: ring(3, 0), "triangle-down": ring(3, 0.5),
    plus, times: plus.map(([x, y]) => [(x - y) * Math.SQRT1_2, (x + y) * Math.SQRT1_2]), star: ring(10, 0, (i) => (i % 2 ? 0.42 : 1.1)),
    pentagon: ring(5, 0), "triangle-left": ring(3, 0.75), "triangle-right": ring(3, 0.25), hexagon: ring(6, 0),
  };
})();

/* A mark as Plot takes it: all have the same area. */
report.symbolOf = (name) => ({
  draw(context, size) {
    const corners = report.corners[name];
    if (!corners) {
      const radius = Math.sqrt(size / Math.PI);
      context.moveTo(radius, 0);
      context.arc(0, 0, radius, 0, 2 * Math.PI);
      return;
    }
    const twice = corners.reduce((sum, [x, y], i) => { const [u, v] = corners[(i + 1) % corners.length]; return sum + x * v - u * y; }, 0);
    const scale = Math.sqrt((2 * size) / Math.abs(twice));
    corners.forEach(([x, y], i) => context[i ? "lineTo" : "moveTo"](x * scale, y * scale));
    context.closePath();
  },
});

report.symbol = (c) => report.symbolOf(report.meta.conditions[c].symbol);

/* The outline of a condition's mark about a place, as the path of an SVG. */
report.outline = function (c, x, y, radius = 4.2) {
  const put = [], at = (dx, dy) => `${(x + dx).toFixed(2)},${(y + dy).toFixed(2)}`;
  report.symbol(c).draw({
    moveTo: (dx, dy) => put.push(`M${at(dx, dy)}`), lineTo: (dx, dy) => put.push(`L${at(dx, dy)}`), closePath: () => put.push("Z"),
    arc: (cx, cy, r) => put.push(`A${r},${r},0,1,1,${at(-r, 0)}A${r},${r},0,1,1,${at(r, 0)}Z`),
  }, Math.PI * radius ** 2);
  return put.join("");
};
