import assert from "node:assert/strict";
import test from "node:test";

import { load, plain, rootOf } from "./load.mjs";
import { META, Pack } from "./pack.mjs";

const close = (got, expected) => {
  assert.equal(got.length, expected.length);
  got.forEach((value, i) => (Number.isNaN(expected[i]) ? assert.ok(Number.isNaN(value)) : assert.ok(Math.abs(value - expected[i]) < 1e-5 * Math.max(1, Math.abs(expected[i])), `${i}: ${value} is not ${expected[i]}`)));
};

async function loaded(fill) {
  const report = load(), pack = new Pack(), made = fill(pack);
  await report.load(rootOf(META, pack.text()));
  return [report, made];
}

test("arrays of every kind come back from the compressed block", async () => {
  const [report, places] = await loaded((pack) => [pack.add([1, 255, 7], "u1"), pack.add([65535, 3], "u2"), pack.add([1.5, -2, NaN], "f4")]);
  assert.deepEqual(places.map((one) => one.at), [0, 8, 16]);
  const [bytes, shorts, floats] = places.map((one) => [...report.array(one)]);
  assert.deepEqual(plain(bytes), [1, 255, 7]);
  assert.deepEqual(plain(shorts), [65535, 3]);
  close(floats, [1.5, -2, NaN]);
  assert.deepEqual(plain(report.members), [[0, 2], [1]]);
});

test("numbers are written with true minus signs, short exponents and thin spaces", () => {
  const { format, whole } = load();
  assert.equal(format(-0.25), "−0.25");
  assert.equal(format(1.8e-5), "1.8e−5");
  assert.equal(format(2.5e7), "2.5e7");
  assert.equal(format(-12345.678), "−12\u202f345.7");
  assert.equal(format(0), "0");
  assert.deepEqual([null, undefined, NaN, Infinity].map(format), ["–", "–", "–", "–"]);
  assert.equal(whole(1234567.4), "1\u202f234\u202f567");
  assert.equal(whole(12), "12");
});

test("the nearest of some steps; of equally near ones the first", () => {
  const { nearest } = load();
  assert.equal(nearest([1, 5, 9], 6), 1);
  assert.equal(nearest([1, 5, 9], 7), 1);
  assert.equal(nearest([], 7), -1);
});

test("a mean over seeds leaves out what is missing, and says of how many it is", () => {
  const { summary } = load();
  assert.deepEqual(plain(summary([1, NaN, 3], false)), { n: 2, mean: 2, low: 2 - Math.SQRT2, high: 2 + Math.SQRT2 });
  const one = summary([5], false);
  assert.equal(one.mean, 5);
  assert.ok(Number.isNaN(one.low), "one seed has no band");
  assert.ok(Number.isNaN(summary([NaN], false).mean));
  close([summary([1, 4], true).mean], [2]); // on the log scale the mean is the geometric one
});

test("a series over training: means by bin, gaps left out, and of how many of the runs that have it", async () => {
  const values = [1, 2, NaN, /* b0 */ 10, NaN, NaN, /* a1 */ 3, 4, 8];
  const [report, series] = await loaded((pack) => ({ sites: [["fc1", 0]], steps: [1, 2, 3], log: false, values: pack.add(values, "f4") }));
  const made = report.overTraining(series, 0, 0);
  assert.deepEqual(plain(made.x), [1, 2, 3]);
  close(made.y, [2, 3, 8]);
  assert.deepEqual(plain(made.n), [2, 2, 1]);
  assert.equal(made.of, 2, "two runs have it: at the third point one of them is left");
  assert.deepEqual(plain(made.singles.map((one) => one.x)), [[1, 2], [1, 2, 3]]);
  assert.deepEqual(plain(report.overTraining(series, 0, 1).x), [1]);
});

test("a series at a step takes the nearest one that most runs have, at the end each run's own last", async () => {
  const values = [1, 2, NaN, /* b0 */ NaN, NaN, NaN, /* a1 */ 3, 4, 8];
  const [report, series] = await loaded((pack) => ({ sites: [["fc1", 0]], steps: [10, 20, 30], log: false, values: pack.add(values, "f4") }));
  const there = report.atStep(series, 0, 0, 30);
  assert.deepEqual([plain(there.steps), there.n, there.mean], [[20], 2, 3]);
  const end = report.atStep(series, 0, 0, null);
  assert.deepEqual([plain(end.steps), end.mean], [[20, 30], 5]);
  assert.equal(report.atStep(series, 0, 1, null), null);
});

function packed(pack) {
  const u2 = (shares) => pack.add(shares.map((x) => Math.round(65535 * x)), "u2");
  return {
    quantity: "weight", phase: "train", bins: 2, sites: [["fc1", 0]], edges: [[-1, 1]], steps: [[1, 9], [1]], last_steps: [9, 1, 1],
    n: pack.add([2, 1, 1], "u2"), mean: u2([1, 0.5, 0.25, 1, 1, 1]), peak: pack.add([0.8, 4, 0.5], "f4"),
    sd: pack.add([255, 0, 0, 0, 0, 0], "u1"), most: pack.add([0.1, NaN, NaN], "f4"),
    last: u2([0, 1, 1, 1, 1, 0.5]), height: pack.add([2, 0.5, 1], "f4"),
  };
}

test("a density at a step is its share of the curve's peak, with a band where there are two seeds", async () => {
  const [report, density] = await loaded(packed);
  const at = report.density(density, 0, 0, 2);
  assert.deepEqual([plain(at.x), plain(at.steps), at.n], [[-0.5, 0.5], [1], 2]);
  close(at.y, [0.8, 0.4]);
  close(at.low, [0.7, 0.4]);
  close(at.high, [0.9, 0.4]);
  assert.deepEqual(plain(at.singles.map((one) => one.run)), [2], "only the run whose last step is drawn");
  close(report.density(density, 0, 1, 100).y, [0.5, 0.5]);
});

test("the share of values that are not finite, at a step and at the end", async () => {
  const [report, density] = await loaded((pack) => ({ ...packed(pack), lost: pack.add([0.25, 0.5, 0], "f4"), last_lost: pack.add([0.5, 0, NaN], "f4") }));
  assert.deepEqual([report.lost(density, 0, 0, 2), report.lost(density, 0, 0, 9), report.lost(density, 0, 1, 1)], [0.25, 0.5, 0]);
  assert.equal(report.lost(density, 0, 0, null), 0.5, "of the run that has values");
  assert.equal(report.lost({ ...density, lost: undefined }, 0, 0, 2), 0);
});

test("a density at the end is the mean of each run's own last one", async () => {
  const [report, density] = await loaded(packed);
  const end = report.density(density, 0, 0, null);
  assert.deepEqual([plain(end.steps), end.n], [[9, 1], 2]);
  close(end.y, [0.5, 1.25]);
});

test("what Python packed is what the page reads", { skip: process.env.DROPDIAG_PAGE ? false : "run by pytest alone" }, async () => {
  const { readFileSync } = await import("node:fs");
  const { meta, numbers, expected } = JSON.parse(readFileSync(process.env.DROPDIAG_PAGE, "utf8"));
  const report = load();
  await report.load(rootOf(meta, numbers));
  const { density, measures } = meta.sections.weights;
  const peak = Math.max(...expected.mean);
  report.density(density, 1, 1, expected.step).y.forEach((y, b) => assert.ok(Math.abs(y - expected.mean[b]) < 1e-4 * peak));
  close([report.atStep(measures["standard deviation"], 1, 1, expected.step).mean], [expected.sd]);
  close(report.overTraining(meta.sections.gradient_flow.measures["gradient flow"], 0, 0).y, expected.flow);
});
