// SPDX-License-Identifier: MIT
"use strict";
// What the reader chose, and what all figures share. The other files add functions to `page`.
const page = {};
(() => {
  const root = document.documentElement;
  const main = document.querySelector("main");
  const list = (text) => (text || "").split(" ").filter(Boolean).map(Number);
  const starts = list(main.dataset.bucketStart);
  const numBatches = Number(main.dataset.numBatches);
  const layers = list(main.dataset.layers);
  const chips = [...document.querySelectorAll(".chip")];
  const names = chips.map((chip) => chip.textContent);
  const draws = [];

  // Policies by number, a layer's index or -1, buckets from `first` up to `end`.
  const state = { hidden: new Set(), layer: -1, first: 0, end: starts.length, whole: false };

  const endOf = (bucket) => (bucket + 1 < starts.length ? starts[bucket + 1] : numBatches);
  const bucketOf = (batch) => {
    let bucket = starts.length - 1;
    while (bucket > 0 && starts[bucket] > batch) --bucket;
    return bucket;
  };
  const bucketName = (bucket) => {
    const last = endOf(bucket) - 1;
    return last > starts[bucket]
      ? `batches ${starts[bucket]} to ${last}`
      : `batch ${starts[bucket]}`;
  };
  const domains = (main.dataset.domains || "").split("\n").filter(Boolean).map((line) => ({
    first: parseInt(line, 10),
    name: line.slice(line.indexOf(" ") + 1),
  }));
  const domainOf = (batch) => domains.filter((domain) => domain.first <= batch).pop()?.name || "";
  const isZoomed = () => state.first > 0 || state.end < starts.length;

  // What the figures show is in the address, so that it can be sent to others.
  const remember = () => {
    const parts = [];
    if (state.layer >= 0) parts.push(`layer=${layers[state.layer]}`);
    if (isZoomed()) parts.push(`batches=${starts[state.first]}-${endOf(state.end - 1) - 1}`);
    for (const i of state.hidden) parts.push(`hide=${encodeURIComponent(names[i])}`);
    if (state.whole) parts.push("whole=1");
    try {
      history.replaceState(null, "", parts.length > 0 ? `#${parts.join("&")}` : "#");
    } catch { /* a page without an address */ }
  };
  const recall = () => {
    for (const part of location.hash.slice(1).split("&")) {
      const [key, value] = part.split("=");
      if (key === "layer") state.layer = layers.indexOf(Number(value));
      if (key === "whole") state.whole = true;
      if (key === "hide") {
        const i = names.indexOf(decodeURIComponent(value));
        if (i >= 0 && state.hidden.size + 1 < names.length) state.hidden.add(i);
      }
      if (key === "batches") {
        const [from, to] = value.split("-").map(Number);
        if (from <= to) [state.first, state.end] = [bucketOf(from), bucketOf(to) + 1];
      }
    }
  };

  const hiding = document.head.appendChild(document.createElement("style"));
  const controls = document.querySelector(".controls");
  const choice = (selector) => controls?.querySelector(selector);
  const showState = () => {
    const hidden = [...state.hidden];
    hiding.textContent = hidden.map((i) => `.p${i} { display: none !important; }`).join("\n");
    chips.forEach((chip, i) => chip.setAttribute("aria-pressed", String(!state.hidden.has(i))));
    const set = (selector, value) => choice(selector) && (choice(selector).value = value);
    set(".layer-choice", state.layer);
    set(".from", starts[state.first]);
    set(".to", endOf(state.end - 1) - 1);
    choice(".whole input").checked = state.whole;
    choice(".reset").disabled = hidden.length === 0 && state.layer < 0 && !isZoomed() &&
      !state.whole;
  };
  const change = (patch) => {
    Object.assign(state, patch);
    showState();
    remember();
    for (const draw of draws) draw();
  };
  const toggle = (i) => {
    const hidden = new Set(state.hidden);
    if (!hidden.delete(i)) hidden.add(i);
    if (hidden.size < names.length) change({ hidden }); // one policy stays
  };

  const start = () => {
    const theme = document.querySelector(".theme");
    theme.hidden = false;
    theme.addEventListener("click", () => {
      const dark = root.dataset.theme
        ? root.dataset.theme === "dark"
        : matchMedia("(prefers-color-scheme: dark)").matches;
      root.dataset.theme = dark ? "light" : "dark";
    });
    if (!controls) return;
    controls.hidden = false;
    chips.forEach((chip, i) => chip.addEventListener("click", () => toggle(i)));
    const on = (selector, action) => choice(selector)?.addEventListener("change", action);
    on(".layer-choice", (event) => change({ layer: Number(event.target.value) }));
    on(".whole input", (event) => change({ whole: event.target.checked }));
    const range = () => {
      const [from, to] = [".from", ".to"].map((name) => Number(choice(name).value));
      const last = bucketOf(Math.min(Math.max(from, to), numBatches - 1));
      change({ first: Math.min(bucketOf(Math.max(0, Math.min(from, to))), last), end: last + 1 });
    };
    on(".from", range);
    on(".to", range);
    const all = { layer: -1, first: 0, end: starts.length, whole: false };
    choice(".reset").addEventListener("click", () => change({ ...all, hidden: new Set() }));
    recall();
    showState();
    const chosen = state.hidden.size > 0 || state.layer >= 0 || isZoomed() || state.whole;
    if (chosen) draws.forEach((draw) => draw());
  };

  // In words: which layer and batches a figure shows; empty if it shows all of them.
  const where = (zooms) => {
    const parts = [];
    if (state.layer >= 0) parts.push(`layer ${layers[state.layer]}`);
    if (zooms && isZoomed()) {
      parts.push(`batches ${starts[state.first]} to ${endOf(state.end - 1) - 1}`);
    }
    return parts.join(", ");
  };

  Object.assign(page, {
    state,
    starts,
    numBatches,
    layers,
    names,
    domains,
    rebalanceEvery: Number(main.dataset.rebalanceEvery),
    draws,
    change,
    endOf,
    bucketOf,
    bucketName,
    domainOf,
    isZoomed,
    where,
  });
  addEventListener("DOMContentLoaded", start);
})();
