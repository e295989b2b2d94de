import assert from "node:assert/strict";
import test from "node:test";

import { load } from "./load.mjs";
import { META } from "./pack.mjs";

test("a site is named by its layer, and by its call where that is not the first", () => {
  const { siteName } = load();
  assert.equal(siteName(["fc1", 0]), "fc1");
  assert.equal(siteName(["rnn", 2]), "rnn, call 3");
});

test("names from right to left are set apart where they are shown, and only those", () => {
  const report = load();
  for (const name of ["השמטה", "تسرب 0.5", "x\u202ey"]) {
    assert.equal(report.apart(name), `\u2068${name}\u2069`);
    assert.equal(report.bare(report.apart(name)), name);
  }
  for (const name of ["Dropout", "随机失活", "エンコーダ", "Größe ≥ ½", "😀"]) assert.equal(report.apart(name), name);
  assert.equal(report.siteShown(["שכבה", 1]), "\u2068שכבה\u2069, call 2");
  assert.equal(report.siteName(["שכבה", 1]), "שכבה, call 2", "as it goes into files and keys");
});

test("short titles are set apart too", () => {
  const report = load();
  report.meta = { ...META, titles: { "encoder.שכבה": "…שכבה" } };
  assert.equal(report.siteTitle(["encoder.שכבה", 0]), "\u2068…שכבה\u2069");
  assert.equal(report.siteTitle(["fc1", 0]), "fc1");
});
