// SPDX-License-Identifier: MIT
// What the figures share: axes as axis.cc makes them, and the box that says what is under the
// pointer or the keyboard's cursor.
(() => {
  const kMinSpan = 0.05;

  page.makeAxis = (low, high, minSpan, maxSteps) => {
    const span = Math.max(Number.isFinite(high) ? high - low : 0, minSpan);
    const rough = span / maxSteps;
    const power = 10 ** Math.floor(Math.log10(rough));
    const factor = [1, 2, 5].find((f) => f * power >= rough * (1 - 1e-9)) || 10;
    const step = factor * power;
    const steps = Math.max(1, Math.ceil(span / step - 1e-9));
    const decimals = Math.max(0, -Math.floor(Math.log10(step) + 1e-9));
    const marks = Array.from({ length: steps + 1 }, (_, i) => low + i * step);
    return { low, high: low + steps * step, step, decimals, marks };
  };

  // The axis for the worst imbalance of each policy. Unless the reader wants the whole scale,
  // policies that would squeeze the others are cut off.
  page.imbalanceAxis = (worst, maxSteps) => {
    const sorted = worst.filter(Number.isFinite).sort((a, b) => a - b);
    let end = sorted.length > 0 ? sorted[sorted.length - 1] : 1;
    for (let i = Math.floor((sorted.length + 1) / 2); i < sorted.length; ++i) {
      const others = Math.max(sorted[i - 1] - 1, kMinSpan);
      if (page.state.whole || sorted[i] - 1 <= 3 * others) continue;
      end = sorted[i - 1];
      break;
    }
    return page.makeAxis(1, end, kMinSpan, maxSteps);
  };
  page.markText = (axis, mark) => mark.toFixed(Math.max(1, axis.decimals));
  page.percent = (axis, value) =>
    100 * Math.min(1, Math.max(0, (value - axis.low) / (axis.high - axis.low)));
  page.numbers = (text) => (text ? text.split(" ").map(Number) : []);
  page.escaped = (text) =>
    text.replace(/[&<>"]/g, (c) => ({ "&": "&amp;", "<": "&lt;", ">": "&gt;", '"': "&quot;" })[c]);

  const tip = document.createElement("div");
  tip.className = "tip";
  tip.setAttribute("role", "status");
  tip.hidden = true;
  document.body.append(tip);
  const place = (x, y) => {
    const box = tip.getBoundingClientRect();
    const left = x + 16 + box.width > innerWidth - 4 ? x - 16 - box.width : x + 16;
    tip.style.left = `${Math.max(4, left)}px`;
    tip.style.top = `${Math.max(4, Math.min(y + 14, innerHeight - box.height - 4))}px`;
  };
  page.hideTip = () => {
    tip.hidden = true;
  };
  page.showTip = (html, x, y) => {
    tip.innerHTML = html;
    tip.hidden = false;
    place(x, y);
  };

  // Lets pointer and keyboard read `area`. `locate(event)` is the item under the pointer,
  // `move(item, dx, dy)` the one that an arrow key goes to (item is null at first), `show(item)`
  // draws a cursor and returns {html, x, y} for the box, and `leave()` removes the cursor.
  page.readable = (area, label, { locate, move, show, leave }) => {
    let item = null;
    const steps = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };
    area.tabIndex = 0;
    area.setAttribute("role", "group");
    area.setAttribute("aria-label", label);
    const say = (next) => {
      item = next;
      if (item === null) return;
      const { html, x, y } = show(item);
      page.showTip(html, x, y);
    };
    const end = () => {
      item = null;
      leave();
      page.hideTip();
    };
    for (const kind of ["pointerdown", "pointermove"]) {
      area.addEventListener(kind, (event) => say(locate(event)));
    }
    area.addEventListener("pointerleave", end);
    area.addEventListener("blur", end);
    area.addEventListener("keydown", (event) => {
      if (event.key === "Escape") end();
      const step = steps[event.key];
      if (!step || event.altKey || event.ctrlKey || event.metaKey) return;
      const next = move(item, ...step, event.shiftKey);
      if (next === undefined) return;
      event.preventDefault();
      say(next);
    });
  };

  // Says under the title of the section what its figure shows.
  page.says = (figure, text) => {
    const section = figure.closest("section");
    let line = section.querySelector(".state");
    if (!line) {
      line = document.createElement("p");
      line.className = "state";
      section.querySelector(".note").after(line);
    }
    line.textContent = text ? `Shown: ${text}.` : "";
    line.hidden = !text;
  };
})();
