import assert from "node:assert/strict";
import test from "node:test";

import { load, plain, rootOf } from "./load.mjs";
import { META, Pack } from "./pack.mjs";

async function loaded(fill, meta = {}) {
  const report = load(), pack = new Pack(), made = fill(pack);
  await report.load(rootOf({ ...META, ...meta }, pack.text()));
  report.steps = [1, 2, 3];
  return [report, made];
}

const series = (pack) => ({
  sites: [["fc1", 0], ["fc2", 0]], steps: [1, 2, 3], phase: "eval", log: false, unit: "nodes",
  values: pack.add([1, 2, 3, /* b0 */ 5, 6, 7, /* a1 */ 3, 4, 5, /* fc2 */ 10, 20, 30, NaN, NaN, NaN, 30, 40, 50], "f4"),
});

test("conditions that are switched off are not drawn", async () => {
  const [report] = await loaded(() => null);
  assert.deepEqual(plain(report.shown()), [0, 1]);
  report.state.hidden.add("A");
  assert.deepEqual(plain(report.shown()), [1]);
});

test("all layers at the chosen step; a layer that a condition lacks is left out", async () => {
  const [report, made] = await loaded(series);
  report.state.at = 2;
  const spec = report.profile("rank", made, { section: "x" });
  assert.deepEqual(plain(spec.lines.map((line) => [line.name, line.x, line.y])), [["A", [1, 2], [3, 30]], ["B", [1], [6]]]);
  assert.equal(spec.yLabel, "rank, nodes");
  assert.equal(spec.xName(2), "fc2");
  assert.equal(spec.sub, "A: step 2, n = 2; B: step 2, n = 1");
});

test("single seeds are drawn when they are asked for", async () => {
  const [report, made] = await loaded(series);
  assert.deepEqual(plain(report.profile("rank", made, { section: "x" }).singles), []);
  report.state.seeds = true;
  assert.equal(report.profile("rank", made, { section: "x" }).singles.length, 5);
  assert.equal(report.curve("rank", made, 0, { section: "x" }).singles.length, 3);
});

test("a curve names its phase and unit", async () => {
  const [report, made] = await loaded(series);
  const spec = report.curve("rank", made, 0, { section: "x", at: true });
  assert.deepEqual([spec.yLabel, spec.sub, spec.at], ["rank, nodes", "on held-out data; n = A 2, B 1", 3]);
  assert.equal(report.curve("loss", { ...made, phase: "train", unit: "" }, 0, {}).yLabel, "loss");
  assert.equal(report.curve("loss", { ...made, phase: "validation" }, 0, {}).sub, "phase validation; n = A 2, B 1");
});

test("of how many runs lines are is said, and where there are fewer", () => {
  const report = load();
  report.meta = META;
  assert.equal(report.howMany([{ c: 0, of: 3, n: [3, 3] }, { c: 1, of: 3, n: [3] }]), "; n = 3");
  assert.equal(report.howMany([{ c: 0, of: 3, n: [2, 3] }]), "; n = 3, pale and broken off where fewer runs have values");
  assert.equal(report.howMany([0, 1, 0, 1, 0].map((c, i) => ({ c, of: i + 1, n: [i + 1] }))), "; n = 1 to 5");
  assert.equal(report.howMany([]), "");
});

test("what is left out of learning curves is told too", async () => {
  const [report] = await loaded(() => null);
  const remark = report.element("p"), other = report.element("div");
  const host = { dataset: { group: "" }, querySelector: (name) => (name === ".remark" ? remark : other) };
  const { getElementById } = report.document;
  report.document.getElementById = () => host;
  report.Chart = class {};
  report.buildSection("learning", { curves: [{ quantity: "loss", phase: "train", dropped: 3 }, { quantity: "loss", phase: "eval", dropped: 4 }] });
  report.document.getElementById = getElementById;
  assert.equal(remark.textContent, "7 values are left out: missing, infinite.");
});

test("a distribution says what part of its values is not finite", async () => {
  const [report, part] = await loaded((pack) => ({ density: {
    quantity: "net_value", phase: "train", bins: 2, sites: [["fc1", 0]], edges: [[0, 1]], steps: [[1], [1]], last_steps: [1, 1, 1],
    n: pack.add([2, 0], "u2"), mean: pack.add([9, 65535, 0, 0], "u2"), peak: pack.add([1, NaN], "f4"), sd: pack.add([0, 0, 0, 0], "u1"), most: pack.add([0, 0], "f4"),
    last: pack.add([0, 65535, 0, 0, 0, 65535], "u2"), height: pack.add([1, NaN, 1], "f4"), lost: pack.add([0.5, 1], "f4"), last_lost: pack.add([0.25, 1, 0.75], "f4"),
  } }));
  const spec = report.distribution(part, 0, "net_values");
  assert.deepEqual([spec.lines.length, spec.yLabel], [1, "density of the finite values"], "of B no value is finite, so it has no curve");
  assert.equal(spec.sub, "at step 1, n = 2; NaN or infinite: A 50 %, B 100 %");
});

test("where numbers are from is said once if it is the same for all", () => {
  const { whereWords } = load();
  assert.equal(whereWords([{ c: 0, steps: [5, 5], n: [3] }, { c: 1, steps: [5], n: [3, 3] }]), "at step 5, n = 3");
  assert.equal(whereWords([{ c: 0, steps: [5, 9], n: [3] }]), "at each run’s last, steps 5 to 9, n = 3");
  assert.equal(whereWords([{ c: 0, steps: [], n: [] }]), "nothing recorded");
});

test("six of many layers are drawn, evenly, until others are chosen", () => {
  const report = load(), sites = Array.from({ length: 50 }, (_, i) => [`fc${i}`, 0]);
  assert.deepEqual(plain(report.chosen("node", sites)), [0, 10, 20, 29, 39, 49]);
  assert.deepEqual(plain(report.evenly(3, 6)), [0, 1, 2]);
  report.state.layers.node = [JSON.stringify(["fc7", 0]), JSON.stringify(["gone", 0])];
  assert.deepEqual(plain(report.chosen("node", sites)), [7]);
});

test("measures of different layers share a list of all of them", () => {
  const { union } = load();
  assert.deepEqual(plain(union([[["a", 0], ["b", 0]], [["b", 0], ["b", 1]]])), [["a", 0], ["b", 0], ["b", 1]]);
});

test("the layer list is filtered by what is typed, whatever its case", async () => {
  const [report] = await loaded(() => null);
  const box = report.chooser("weights", "weight", [["Encoder.fc1", 0], ["decoder.fc2", 0]]);
  const [search] = box.all("input").filter((one) => one.attributes.type === "search");
  box.refill();
  assert.deepEqual(box.all("li").map((one) => one.hidden), [false, false]);
  search.value = "ENCODER";
  search.listeners.input();
  assert.deepEqual(box.all("li").map((one) => [one.textContent, one.hidden]), [["Encoder.fc1", false], ["decoder.fc2", true]]);
});

test("a user's own distribution is labelled as its probe says", async () => {
  const u2 = (pack, values) => pack.add(values, "u2");
  const [report, part] = await loaded((pack) => ({ density: {
    quantity: "mine", label: "value |v|", phase: "train", bins: 2, sites: [["fc1", 0]], edges: [[0, 1]], steps: [[1], [1]], last_steps: [1, 1, 1],
    n: u2(pack, [2, 1]), mean: u2(pack, [9, 65535, 0, 0]), peak: pack.add([1, 1], "f4"), sd: pack.add([0, 0, 0, 0], "u1"), most: pack.add([0, 0], "f4"),
    last: u2(pack, [0, 65535, 0, 0, 0, 65535]), height: pack.add([1, 1, 1], "f4"),
  } }));
  const spec = report.distribution(part, 0, "distribution-mine");
  assert.deepEqual([spec.xLabel, spec.xCsv, plain(spec.xDomain)], ["value |v|", "mine", [0, 1]]);
  assert.equal(spec.lines[0].summary, "A: highest at 0.75");
});

test("terms are bars from no change, on one axis for all layers", () => {
  const report = load();
  report.meta = { ...META, baseline: "A" };
  report.textWidth = (text) => 7 * text.length;
  const terms = { kinds: ["mask", "total"], sites: [["fc1", 0], ["fc2", 0]], effects: { 1: [[0.5, 0.25, 0.75], [1, 0.5, 1.5], [-0.5, null, null], [null, null, null]] } };
  const [first, second] = [0, 1].map((site) => report.terms(terms, site, 600));
  assert.deepEqual(plain(first.lines.map((line) => [line.name, line.x, line.y, line.low, line.high])), [["B", [1, 2], [0.5, 1], [0.25, 0.5], [0.75, 1.5]]]);
  // what is missing is no bar; one without an interval ends at its value
  assert.deepEqual(plain(second.lines.map((line) => [line.x, line.y, line.low])), [[[1], [-0.5], [-0.5]]]);
  assert.deepEqual(plain(first.xDomain), plain(second.xDomain));
  assert.ok(first.bars && first.vertical && first.zero);
  assert.equal(first.yTick(2), "total");
  const rows = plain(second.rows());
  assert.deepEqual(rows[0].slice(-3), ["factor", "factor_low", "factor_high"]);
  assert.deepEqual(rows[1].slice(0, 6), ["A", "B", "fc2", 0, "mask", Math.exp(-0.5)]);
  assert.equal(rows[2][5], null);
  report.state.hidden.add("B");
  assert.deepEqual(plain(report.terms(terms, 0, 600).lines), []);
});
