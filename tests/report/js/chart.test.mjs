import assert from "node:assert/strict";
import test from "node:test";

import { load, plain, SCRIPTS, source } from "./load.mjs";
import { META } from "./pack.mjs";

const csv = async (rows) => (await load().csv(rows).text()).split("\r\n");

test("CSV quotes what must be quoted and doubles quotes", async () => {
  assert.deepEqual(await csv([["a,b", 'say "x"', "two\nlines", null, undefined, NaN, 1.5]]), ['"a,b","say ""x""","two\nlines",,,,1.5', ""]);
});

test("a cell that a spreadsheet would run as a formula is made a text; a number is not", async () => {
  const cells = ["=1+1", "+cmd", "-x", "@sum", "\tx", "-0.5", "+2", -3];
  assert.equal((await csv([cells]))[0], "'=1+1,'+cmd,'-x,'@sum,'\tx,-0.5,+2,-3");
});

test("names come into the page as text alone", () => {
  const report = load(), evil = "<img src=x onerror=alert(1)>";
  const made = report.element("p", { title: evil }, evil);
  assert.deepEqual(made.children, [evil]);
  assert.equal(made.attributes.title, evil);
  for (const name of SCRIPTS) assert.doesNotMatch(source(name), /innerHTML|outerHTML|insertAdjacentHTML|document\.write|eval\(|new Function/);
});

test("a handler is a listener, never an attribute", () => {
  const run = () => {}, made = load().element("button", { onclick: run, hidden: true });
  assert.equal(made.listeners.click, run);
  assert.deepEqual([made.attributes, made.hidden], [{}, true]);
});

test("ticks of a log axis are few, within it, and round", () => {
  const { logTicks } = load();
  assert.deepEqual(plain(logTicks(1, 1000)), [1, 10, 100, 1000]);
  assert.deepEqual(plain(logTicks(1, 20)), [1, 2, 5, 10, 20]);
  assert.deepEqual(plain(logTicks(1, 2)), [1, 1.5, 2]);
  assert.ok(logTicks(1e-12, 1e12).length <= 9);
  assert.ok(logTicks(3, 400).every((tick) => tick >= 3 && tick <= 400));
});

test("the domain of a log axis leaves out what has no logarithm", () => {
  const { logDomain } = load();
  const [low, high] = logDomain([{ y: [0, -1, NaN, 2], low: [1], high: [8, Infinity] }]);
  assert.ok(low < 1 && low > 0.9 && high > 8 && high < 9);
  assert.equal(logDomain([{ y: [0, NaN] }]), undefined);
});

test("the words of a point: value, interval and n", () => {
  const { told } = load();
  assert.equal(told({ y: [2], low: [1], high: [3], n: [5] }, 0), "2 [1, 3], n = 5");
  assert.equal(told({ y: [2], low: [NaN], high: [NaN], n: 1 }, 0), "2, n = 1");
  assert.equal(told({ y: [NaN] }, 0), "–");
});

test("a chart's CSV has every line and every run, with names and seeds", () => {
  const report = load();
  report.meta = META;
  const rows = report.rowsOf({
    xCsv: "step", lines: [{ c: 1, x: [1], y: [2], low: [1], high: [3], n: [4] }], singles: [{ c: 0, run: 2, x: [1], y: [5] }],
  });
  assert.deepEqual(plain(rows), [
    ["condition", "run", "seed", "step", "name", "value", "low", "high", "n"],
    ["B", "", "", 1, "", 2, 1, 3, 4],
    ["A", "a1", 1, 1, "", 5, "", "", 1],
  ]);
});
