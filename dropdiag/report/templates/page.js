"use strict";
/* What the reader has chosen, the controls of all charts, and the refreshing of a served page. */
report.state = { hidden: new Set(), layers: {}, log: { gradient_flow: true }, view: {}, seeds: false, at: null, measure: null };
report.groups = [];
report.observer = new IntersectionObserver((entries) => {
  for (const entry of entries) {
    const { chart } = entry.target;
    chart.visible = entry.isIntersecting;
    if (chart.visible && chart.dirty) report.later(chart);
  }
}, { rootMargin: "300px" });

/* The chosen step; null is the last one, also when more come. */
report.step = () => report.state.at ?? report.steps.at(-1) ?? 0;

report.allSteps = function () {
  const found = new Set();
  for (const part of Object.values(report.meta.sections)) {
    for (const steps of part.density?.steps || []) for (const step of steps) found.add(step);
    for (const series of Object.values(part.measures || {})) for (const step of series.steps) found.add(Math.round(step));
  }
  return [...found].sort((a, b) => a - b);
};

report.controls = function () {
  const { element, state, meta } = report, host = document.getElementById("controls");
  const changed = () => { report.redraw(); report.effectsChanged?.(); };
  const boxes = meta.conditions.map((one, c) => {
    const label = report.checkbox(`condition-${c}`, report.nameOf(c), !state.hidden.has(one.name), (on) => { if (on) state.hidden.delete(one.name); else state.hidden.add(one.name); changed(); });
    label.insertBefore(report.swatch(c), label.lastChild);
    return label;
  });
  const parts = [element("fieldset", { id: "conditions" }, element("legend", {}, "Conditions"), ...boxes)];
  if (report.steps.length > 1) {
    const last = report.steps.length - 1, told = element("output", { for: "step" });
    const slider = element("input", { type: "range", id: "step", min: "0", max: String(last), value: String(state.at === null ? last : report.nearest(report.steps, state.at)) });
    const tell = () => {
      const words = report.whole(report.step());
      told.textContent = words;
      slider.setAttribute("aria-valuetext", `step ${words}`);
    };
    const move = (i) => { state.at = i >= last ? null : report.steps[i]; slider.value = String(i); tell(); report.redraw(); };
    slider.addEventListener("input", () => move(Number(slider.value)));
    const play = element("button", { type: "button", id: "play", "aria-label": "Play through training" }, "▶");
    const stop = () => { clearInterval(report.playing); report.playing = null; play.textContent = "▶"; play.setAttribute("aria-label", "Play through training"); };
    play.addEventListener("click", () => {
      if (report.playing) { stop(); return; }
      let i = Number(slider.value) >= last ? 0 : Number(slider.value);
      play.textContent = "⏸";
      play.setAttribute("aria-label", "Stop");
      report.playing = setInterval(() => { move(i); i += Math.max(1, Math.round(last / 60)); if (i > last) { move(last); stop(); } }, 140);
    });
    tell();
    parts.push(element("div", { class: "step" }, element("label", { for: "step" }, "Step"), slider, told, play));
  }
  parts.push(report.checkbox("seeds", "single seeds", state.seeds, (on) => { state.seeds = on; report.redraw(); }));
  host.replaceChildren(...parts);
  host.hidden = false;
  report.measureBar();
};

/* Links must not end below the controls that stick to the top: how high they are depends on names and width. */
report.measureBar = function () {
  const host = document.getElementById("controls"), sticks = getComputedStyle(host).position === "sticky";
  document.documentElement.style.setProperty("--bar", `${sticks ? host.offsetHeight : 0}px`);
};

report.tables = function () {
  for (const button of document.querySelectorAll("button[data-csv]")) button.addEventListener("click", () => {
    const rows = [...document.getElementById(button.dataset.csv).rows];
    report.save(`${button.dataset.csv}.csv`, report.csv(rows.map((row) => [...row.cells].map((cell) => cell.dataset.value ?? cell.textContent))));
  });
};

report.build = async function (root = document) {
  await report.load(root);
  clearInterval(report.playing);
  report.playing = null;
  report.groups = [];
  report.effectsChanged = null;
  report.steps = report.allSteps();
  for (const host of document.querySelectorAll("header .swatch")) report.paintSwatch(host, Number(host.dataset.condition));
  report.controls();
  report.buildEffects();
  for (const [name, part] of Object.entries(report.meta.sections)) report.buildSection(name, part);
  report.tables();
  document.getElementById("plain").hidden = true;
  document.body.dataset.ready = String(Number(document.body.dataset.ready || 0) + 1);
};

/* Take a newer page's contents in; what the reader has chosen, opened and scrolled to stays. */
report.refresh = async function (text) {
  const fresh = new DOMParser().parseFromString(text, "text/html");
  const open = [...document.querySelectorAll("details[id][open]")].map((one) => one.id);
  const [focus, scroll] = [document.activeElement?.id, window.scrollY];
  report.observer.disconnect();
  for (const id of ["top", "main"]) document.getElementById(id).replaceWith(document.importNode(fresh.getElementById(id), true));
  await report.build(fresh);
  for (const id of open) { const one = document.getElementById(id); if (one) one.open = true; }
  for (const figure of document.querySelectorAll(".chart")) if (figure.getBoundingClientRect().top < window.innerHeight + 300) figure.chart.draw();
  window.scrollTo({ top: scroll, behavior: "instant" });
  if (focus) document.getElementById(focus)?.focus({ preventScroll: true });
  document.body.dataset.version = fresh.body.dataset.version;
};

report.follow = function (pause) {
  const say = (text, lost) => { const at = document.getElementById("live"); if (at && at.textContent !== text) { at.textContent = text; at.classList.toggle("lost", lost); } };
  const look = async () => {
    try {
      const now = await (await fetch("version", { cache: "no-store" })).json();
      if (now.version !== document.body.dataset.version) {
        const got = await fetch("./", { cache: "no-store" });
        if (got.ok) await report.refresh(await got.text());
      }
      say(now.problem || "Live: the page follows the runs as they train.", Boolean(now.problem));
    } catch (error) {
      say("The server does not answer; this is the last state that was seen.", true);
    }
    setTimeout(look, pause);
  };
  setTimeout(look, pause);
};

if (typeof DecompressionStream !== "undefined" && typeof Plot !== "undefined") report.build().then(() => { if (document.body.dataset.live) report.follow(Number(document.body.dataset.live)); });

let resized = null;
window.addEventListener("resize", () => { clearTimeout(resized); resized = setTimeout(() => { report.measureBar(); report.redraw(); }, 120); });
window.addEventListener("beforeprint", () => {
  // on paper the names of the lines must stand by the charts: there is nothing to hover
  for (const host of document.querySelectorAll(".legend"))
    host.replaceChildren(...report.shown().map((c) => report.element("span", { class: "condition" }, report.swatch(c), report.nameOf(c))));
  for (const one of document.querySelectorAll("main details:not(.chooser):not(.untested)")) one.open = true;
  for (const figure of document.querySelectorAll(".chart")) figure.chart.draw();
});
