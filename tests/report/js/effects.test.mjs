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
  assert.deepEqual(plain([line.x, line.names, line.n]), [[1], ["fc1"], [5]]);
  assert.deepEqual([spec.xName(1), spec.xName(2)], ["fc1", "fc1, call 2"]);
  assert.ok(spec.xDomain[0] < 0 && spec.xDomain[1] > Math.log(4));
  assert.match(spec.sub, /^against A; t interval/);
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
