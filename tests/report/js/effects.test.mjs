import assert from "node:assert/strict";
import test from "node:test";

import { load, plain } from "./load.mjs";
import { META } from "./pack.mjs";

const EFFECTS = {
  condition: ["B", "B", "B"], layer: ["fc1", "fc1", null], call: [0, 1, null], measure: ["flow", "flow", "final:loss"], scale: ["log ratio", "log ratio", "difference"],
  unit: ["1", "1", "as logged"], effect: [Math.log(2), null, -0.5], low: [Math.log(1.5), null, null], high: [Math.log(4), null, null], interval: ["t", "none", "none"],
  value: [2, null, 1], baseline_value: [1, 1, 1.5], p: [0.0625, null, null], p_attainable: [0.0625, 0.0625, 1], p_holm: [0.125, null, null],
  test: ["sign flip", "none", "none"], n: [5, 5, 1], n_baseline: [5, 4, 1], paired: [true, false, false], note: ["early; of 3 runs", "early", ""],
};

function loaded() {
  const report = load();
  report.meta = { ...META, effects: EFFECTS };
  return report;
}

test("rows of one measure, column by column", () => {
  const rows = loaded().effectRows("flow");
  assert.deepEqual(plain(rows.map((row) => [row.layer, row.call])), [["fc1", 0], ["fc1", 1]]);
});

test("a log ratio is told as a factor, a difference as it is, nothing as a dash", () => {
  const report = loaded(), [first, second] = report.effectRows("flow"), [loss] = report.effectRows("final:loss");
  assert.equal(report.effectTold(first), "×2 [×1.5, ×4]");
  assert.equal(report.effectTold(second), "–");
  assert.equal(report.effectTold(loss), "−0.5");
});

test("the chart has a mark for each effect that there is, and room for its interval", () => {
  const spec = loaded().effectSpec("flow"), [line] = spec.lines;
  assert.deepEqual(plain([line.x, line.n]), [[1], [5]]);
  assert.deepEqual([spec.xName(1), spec.xName(2)], ["fc1", "fc1, call 2"]);
  assert.ok(spec.xDomain[0] < 0 && spec.xDomain[1] > Math.log(4));
  assert.match(spec.sub, /^against A; t interval/);
});

function many(conditions, layers, row = () => ({})) {
  const report = load(), names = Array.from({ length: conditions }, (_, k) => `C${k}`), rows = [];
  for (let k = 1; k < conditions; k++) for (let i = 0; i < layers; i++)
    rows.push({ condition: names[k], layer: `fc${i}`, call: 0, measure: "flow", scale: "log ratio", unit: "1", effect: 0.5, low: 0.4, high: 0.6, interval: "t", n: 3, note: "", ...row(k, i) });
  const effects = Object.fromEntries(Object.keys(rows[0]).map((key) => [key, rows.map((one) => one[key])]));
  report.meta = { ...META, baseline: "C0", effects, conditions: names.map((name) => ({ name, colour: 0, dash: "", symbol: "circle" })) };
  return report;
}

for (const conditions of [2, 3, 6, 9, 40])
  test(`with ${conditions} conditions every mark has a lane of its own, and rows do not overlap`, () => {
    const spec = many(conditions, 3).effectSpec("flow"), places = spec.lines.flatMap((line) => line.x);
    assert.equal(places.length, (conditions - 1) * 3);
    assert.deepEqual(plain(new Set(places.map((x) => Math.round(x)))), new Set([1, 2, 3]));
    const pixels = places.map((x) => (x * (spec.height - 60)) / (spec.yDomain[1] - spec.yDomain[0])).sort((a, b) => a - b);
    const gaps = pixels.slice(1).map((x, i) => x - pixels[i]);
    assert.ok(Math.min(...gaps) >= 12, `marks are ${Math.min(...gaps)} px apart`);
    const between = places.filter((x) => x < 1.5).map((x) => 1.5 - x);
    assert.ok(Math.min(...between) > 0, "the lowest mark of a layer lies within its row");
  });

test("conditions that are switched off leave no gap", () => {
  const report = many(9, 2);
  for (let k = 2; k < 9; k++) report.state.hidden.add(`C${k}`);
  assert.deepEqual(plain(report.effectSpec("flow").lines.map((line) => line.x)), [[1, 2]]);
});

test("one interval that is many times as wide ends in an arrow and spoils no other", () => {
  const spec = many(2, 9, (_, i) => (i === 4 ? { low: -80, high: 90 } : {})).effectSpec("flow");
  assert.ok(spec.xDomain[0] > -1.5 && spec.xDomain[1] < 2, String(spec.xDomain));
  assert.match(spec.sub, /an arrow: the interval goes on beyond the axis$/);
  const wide = many(2, 9, () => ({ low: -80, high: 90 })).effectSpec("flow");
  assert.ok(wide.xDomain[0] < -80 && wide.xDomain[1] > 90, "where all are wide the axis is");
});

test("names of layers are cut, and stay different", () => {
  const stem = "backbone.encoder.blocks.attention", names = Array.from({ length: 30 }, (_, i) => `${stem}.${i}.projection_with_a_long_ending`);
  for (const several of [names, names.map((_, i) => `${i}${"x".repeat(60)}`), names.map((_, i) => `${"x".repeat(60)}${i}`), names.map((_, i) => `${"x".repeat(60)}${i}${"y".repeat(60)}`)]) {
    const report = load(), made = report.labels(several, 150);
    assert.equal(new Set(made).size, several.length, made.join(" "));
    for (const label of made) assert.ok(report.textWidth(label) <= 150, label);
  }
  assert.deepEqual(plain(load().labels(["fc1", "fc2"], 150)), ["fc1", "fc2"]);
  assert.equal(new Set(load().labels(["network", "network"], 150)).size, 2, "a layer of that name is not the network");
});

test("labels of the chart are those, whatever the width", () => {
  const spec = many(2, 30, (_, i) => ({ layer: `encoder.layers.${i}.${"very_".repeat(12)}long.act` })).effectSpec("flow", 330);
  const labels = Array.from({ length: 30 }, (_, i) => spec.yTick(i + 1));
  assert.equal(new Set(labels).size, 30);
  assert.ok(spec.marginLeft < 0.5 * 330);
});

test("a name from right to left is set apart in labels and never in numbers", () => {
  const report = many(2, 2, (_, i) => ({ layer: `שכבה.${i}` })), spec = report.effectSpec("flow");
  assert.equal(spec.yTick(1), "\u2068שכבה.0\u2069");
  assert.equal(report.effectCsv(report.effectRows("flow"))[1].includes("שכבה.0"), true);
  assert.equal(report.bare(spec.yTick(1)), "שכבה.0");
});

test("the CSV says what is a logarithm, of what scale and unit, and has the factor beside it", () => {
  const report = loaded(), rows = report.effectCsv([...report.effectRows("flow"), ...report.effectRows("final:loss")]), heads = rows[0];
  const cell = (row, name) => rows[row][heads.indexOf(name)];
  assert.deepEqual([cell(1, "scale"), cell(1, "effect_low_high_are")], ["log ratio", "natural logarithm of the ratio to the baseline"]);
  assert.deepEqual([cell(1, "effect"), cell(1, "factor"), cell(1, "factor_low")].map((x) => Number(x.toFixed(9))), [Number(Math.log(2).toFixed(9)), 2, 1.5]);
  assert.deepEqual([cell(2, "effect"), cell(2, "factor")], [null, null]);
  assert.deepEqual([cell(3, "scale"), cell(3, "unit"), cell(3, "effect"), cell(3, "factor"), cell(3, "baseline")], ["difference", "as logged", -0.5, null, "A"]);
  assert.equal(new Set(heads).size, heads.length);
  assert.deepEqual(plain(report.effectSpec("flow").rows()), plain(report.effectCsv(report.effectRows("flow"))));
});

test("along many layers a chart a condition, with the same axis", () => {
  const report = many(4, 400, (k) => ({ effect: k, low: k - 0.1, high: k + 0.1 }));
  const specs = ["C1", "C2", "C3"].map((name) => report.effectProfile("flow", name));
  assert.deepEqual(plain(specs.map((spec) => [spec.lines.length, spec.lines[0].x.length, spec.lines[0].y[0]])), [[1, 400, 1], [1, 400, 2], [1, 400, 3]]);
  assert.equal(new Set(specs.map((spec) => spec.yDomain.join())).size, 1);
  assert.equal(specs[0].rows().length, 401);
});

test("ticks whose labels would run into each other are left out", () => {
  const { spaced } = load(), ticks = [1, 2, 3, 4, 5, 6, 7, 8];
  assert.deepEqual(plain(spaced(ticks, [0, 9], 900)), ticks);
  assert.deepEqual(plain(spaced(ticks, [0, 9], 200)), [1, 3, 5, 7]);
  assert.equal(spaced(6, [0, 9], 150), 2);
});

test("notes are numbered, each once, and marked where all rows have them", () => {
  const report = loaded(), { notes, marks } = report.notesOf(report.effectRows("flow"));
  assert.deepEqual(plain(notes), ["Early (all rows).", "Of 3 runs."]);
  assert.deepEqual(plain(marks), ["1, 2", "1"]);
});

test("the table leaves out conditions that are switched off, and names become text", () => {
  const report = loaded();
  report.meta.conditions = [META.conditions[0], { ...META.conditions[1], name: "<b>B</b>" }];
  report.meta.effects = { ...EFFECTS, condition: ["<b>B</b>", "<b>B</b>", "<b>B</b>"] };
  const [box] = report.effectTable("flow");
  const rows = box.all("tr").slice(1).map((row) => row.all("td").map((cell) => cell.textContent));
  assert.deepEqual(rows[0], ["<b>B</b>", "fc1", "×2 [×1.5, ×4]", "2", "1", "0.0625", "0.0625", "0.125", "sign flip", "5 / 5, paired", "1, 2"]);
  assert.equal(box.all("b").length, 0);
  report.state.hidden.add("<b>B</b>");
  assert.equal(report.effectTable("flow")[0].all("tr").length, 1);
});
