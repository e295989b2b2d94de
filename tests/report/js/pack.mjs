/* Numbers packed as the page has them: each array at a multiple of 8 bytes, zlib, base64. */
import { deflateSync } from "node:zlib";

const KINDS = { u1: Uint8Array, u2: Uint16Array, f4: Float32Array };

export class Pack {
  constructor() { this.parts = []; this.size = 0; }
  add(values, kind) {
    const bytes = Buffer.from(KINDS[kind].from(values).buffer), padded = Buffer.alloc(Math.ceil(bytes.length / 8) * 8);
    bytes.copy(padded);
    const place = { at: this.size, n: values.length, kind };
    this.parts.push(padded);
    this.size += padded.length;
    return place;
  }
  text() { return deflateSync(Buffer.concat(this.parts)).toString("base64"); }
}

/* Two conditions: A has runs 0 and 2, B has run 1. */
export const META = {
  baseline: "A", effects: null, sections: {},
  conditions: [{ name: "A", colour: 0, dash: "", symbol: "circle", runs: 2 }, { name: "B", colour: 1, dash: "4 2", symbol: "square", runs: 1 }],
  runs: [{ name: "a0", condition: 0, seed: 0 }, { name: "b0", condition: 1, seed: 0 }, { name: "a1", condition: 0, seed: 1 }],
};
