/* The report's scripts as they are, in a context of their own: no browser, no build step.
 *
 * `load()` returns the page's one global, `report`. The document is a stand-in that keeps what is put into it: enough
 * to see that names become text and never markup. Values come from another realm: `plain` makes them comparable.
 */
import { readFileSync } from "node:fs";
import vm from "node:vm";

const TEMPLATES = new URL("../../../dropdiag/report/templates/", import.meta.url);
export const SCRIPTS = ["data.js", "names.js", "drawing.js", "chart.js", "sections.js", "effects.js", "page.js"];
export const source = (name) => readFileSync(new URL(name, TEMPLATES), "utf8");

class Element {
  constructor(name) {
    Object.assign(this, { name, children: [], attributes: {}, style: {}, dataset: {}, listeners: {}, hidden: false, value: "" });
  }
  setAttribute(key, value) { this.attributes[key] = String(value); }
  addEventListener(key, run) { this.listeners[key] = run; }
  append(...children) { this.children.push(...children); }
  prepend(...children) { this.children.unshift(...children); }
  replaceChildren(...children) { this.children = children; }
  get textContent() { return this.children.map((one) => (typeof one === "string" ? one : one.textContent)).join(""); }
  set textContent(text) { this.children = [String(text)]; }
  all(name) { return this.children.flatMap((one) => (one instanceof Element ? [...(one.name === name ? [one] : []), ...one.all(name)] : [])); }
}

class Observer {
  observe() {}
  disconnect() {}
}

export function load() {
  const document = { createElement: (name) => new Element(name), createElementNS: (_, name) => new Element(name), getElementById: () => null };
  const context = vm.createContext({
    document, IntersectionObserver: Observer, window: { addEventListener() {} }, console, atob, Blob, Response,
    DecompressionStream, URL, setTimeout, clearTimeout, setInterval, clearInterval,
  });
  for (const name of SCRIPTS) vm.runInContext(source(name), context, { filename: name });
  return Object.assign(vm.runInContext("report", context), { document });
}

export const plain = (value) => structuredClone(value);

/* A page's two data elements. */
export const rootOf = (meta, numbers) => ({
  getElementById: (id) => ({ textContent: id === "figures" ? JSON.stringify(meta) : `\n${numbers}\n` }),
});
