import assert from "node:assert/strict";
import test from "node:test";

import { load, plain } from "./load.mjs";
import { META } from "./pack.mjs";

const shape = (parts) => plain(parts.map((one) => [one.from, one.to, one.full]));

test("a line is broken off where the number of its runs changes, and whole where all are there", () => {
  const { stretches } = load();
  assert.deepEqual(shape(stretches({ x: [1, 2, 3, 4, 5], n: [2, 3, 3, 2, 1], of: 3 })), [[0, 0, false], [1, 2, true], [3, 3, false], [4, 4, false]]);
  assert.deepEqual(shape(stretches({ x: [1, 2, 3], n: [3, 3, 3], of: 3 })), [[0, 2, true]]);
  assert.deepEqual(shape(stretches({ x: [1, 2], n: [1, 1], of: 2 })), [[0, 1, false]], "runs that never meet are never all there");
  assert.deepEqual(shape(stretches({ x: [1, 2, 3], n: 4 })), [[0, 2, true]], "a density has one n");
});

test("over layers a line is broken where the condition lacks one", () => {
  const { stretches } = load();
  assert.deepEqual(shape(stretches({ x: [1, 2, 5, 6], n: [3, 2, 3, 3] }, 6)), [[0, 1, true], [2, 3, true]]);
  assert.deepEqual(shape(stretches({ x: [1, 2, 5, 6], n: [3, 3, 3, 3], of: 3 })), [[0, 3, true]], "steps may lie far apart");
});

/* What a mark is made of. */
function traced(report, name, size) {
  const points = [];
  let round = 0, closed = 0;
  report.symbolOf(name).draw({ moveTo: (x, y) => points.push([x, y]), lineTo: (x, y) => points.push([x, y]), arc: (x, y, r) => { round = Math.PI * r * r; }, closePath: () => closed++ }, size);
  const area = Math.abs(points.reduce((sum, [x, y], i) => { const [u, v] = points[(i + 1) % points.length]; return sum + x * v - u * y; }, 0)) / 2;
  return { area: round || area, closed: closed || round > 0, key: round ? "round" : points.map((one) => one.map((v) => v.toFixed(3)).join()).join(" ") };
}

test("every mark is a closed area of the same size, so that it is seen when it is filled", () => {
  const report = load(), names = ["circle", ...Object.keys(report.corners)], made = names.map((name) => traced(report, name, 50));
  for (const [i, one] of made.entries()) assert.ok(one.closed && Math.abs(one.area - 50) < 1e-6, `${names[i]}: ${one.area}`);
  assert.equal(new Set(made.map((one) => one.key)).size, names.length);
});

test("the legend has the mark of the chart", () => {
  const report = load();
  report.meta = META;
  assert.match(report.outline(0, 18, 6), /^M22.20,6.00A4.2,4.2,0,1,1,13.80,6.00A/);
  assert.match(report.outline(1, 18, 6), /^M[\d.]+,[\d.]+L.*L.*L[^L]*Z$/);
});

test("bands of more than eight conditions are left out", () => {
  const { crowded } = load();
  assert.deepEqual([crowded(Array(8)), crowded(Array(9))], [false, true]);
});
