import assert from "node:assert/strict";
import test from "node:test";

import { load, plain } from "./load.mjs";
import { META } from "./pack.mjs";

test("the slider has the steps of all sections, each once, ascending", () => {
  const report = load();
  report.meta = { ...META, sections: {
    weights: { density: { steps: [[5, 1], [9]] }, measures: { sd: { steps: [1, 5] } } },
    gradient_flow: { measures: { flow: { steps: [2.4, 11.5] } } },
    learning: { curves: [{ steps: [77] }] },
  } };
  assert.deepEqual(plain(report.allSteps()), [1, 2, 5, 9, 12]);
});

test("the last step is followed until another one is chosen", () => {
  const report = load();
  report.steps = [1, 5];
  assert.equal(report.step(), 5);
  report.steps = [1, 5, 9];
  assert.equal(report.step(), 9);
  report.state.at = 1;
  assert.equal(report.step(), 1);
});

test("gradient flow begins on a log scale, nothing else does", () => {
  assert.deepEqual(plain(load().state.log), { gradient_flow: true });
});
