// SPDX-License-Identifier: MIT
"use strict";
(() => {
  const root = document.documentElement;
  const main = document.querySelector("main");
  const theme = document.querySelector(".theme");
  theme.hidden = false;
  theme.addEventListener("click", () => {
    const dark = root.dataset.theme
      ? root.dataset.theme === "dark"
      : matchMedia("(prefers-color-scheme: dark)").matches;
    root.dataset.theme = dark ? "light" : "dark";
  });

  // A header with data-sort sorts its table's rows by the data-value of their cells.
  for (const head of document.querySelectorAll("th[data-sort]")) {
    const button = document.createElement("button");
    button.type = "button";
    button.append(...head.childNodes);
    head.append(button);
    button.addEventListener("click", () => {
      const up = head.getAttribute("aria-sort") !== "ascending";
      const body = head.closest("table").tBodies[0];
      const key = (row) => {
        const value = row.cells[head.cellIndex].dataset.value;
        return value === "" ? Infinity : Number(value);
      };
      const rows = [...body.rows].map((row) => [key(row), row]);
      rows.sort((a, b) => (a[0] === b[0] ? 0 : (a[0] < b[0]) === up ? -1 : 1));
      body.append(...rows.map((pair) => pair[1]));
      for (const other of head.closest("tr").cells) other.removeAttribute("aria-sort");
      head.setAttribute("aria-sort", up ? "ascending" : "descending");
    });
  }

  const starts = main.dataset.bucketStart.split(" ").filter(Boolean).map(Number);
  const batches = Number(main.dataset.numBatches);
  const bucketName = (i) => {
    const last = (i + 1 < starts.length ? starts[i + 1] : batches) - 1;
    return last > starts[i] ? `batches ${starts[i]} to ${last}` : `batch ${starts[i]}`;
  };
  const within = (position, count) =>
    Math.min(count - 1, Math.max(0, Math.floor(position * count)));
  const numbers = (element) => element.dataset.values.split(" ").map(Number);
  const follow = (area, show, hide) => {
    for (const kind of ["pointerdown", "pointermove"]) area.addEventListener(kind, show);
    area.addEventListener("pointerleave", hide);
  };

  for (const figure of document.querySelectorAll(".heat")) {
    const cells = figure.querySelector(".cells");
    const readout = figure.querySelector(".readout");
    const values = numbers(cells);
    const rows = Number(cells.dataset.rows);
    const perRow = Number(cells.dataset.ranksPerRow);
    const hint = "Point at a cell to read it.";
    readout.hidden = false;
    readout.textContent = hint;
    follow(cells, (event) => {
      const box = cells.getBoundingClientRect();
      const row = within((event.clientY - box.top) / box.height, rows);
      const column = within((event.clientX - box.left) / box.width, starts.length);
      const first = row * perRow;
      const rank = perRow > 1 ? `ranks ${first} and following` : `rank ${first}`;
      const value = values[row * starts.length + column];
      const load = Number.isNaN(value) ? "no tokens" : `${value.toFixed(3)} times the mean load`;
      readout.textContent = `${rank}, ${bucketName(column)}: ${load}`;
    }, () => {
      readout.textContent = hint;
    });
  }

  for (const figure of document.querySelectorAll(".time")) {
    const svg = figure.querySelector("svg");
    const readout = figure.querySelector(".readout");
    const lines = [...figure.querySelectorAll("[data-values]")].map((line) => ({
      name: line.dataset.policy,
      colour: line.getAttribute("class"),
      values: numbers(line),
    }));
    const cursor = document.createElementNS("http://www.w3.org/2000/svg", "line");
    cursor.setAttribute("class", "cursor");
    cursor.setAttribute("y2", svg.getAttribute("height"));
    const hint = "Point at a batch to read it.";
    readout.hidden = false;
    readout.textContent = hint;
    follow(figure.querySelector(".plot"), (event) => {
      const box = svg.getBoundingClientRect();
      const batch = within((event.clientX - box.left) / box.width, batches);
      let bucket = starts.length - 1;
      while (starts[bucket] > batch) --bucket;
      const x = `${(100 * (batch + 0.5)) / batches}%`;
      cursor.setAttribute("x1", x);
      cursor.setAttribute("x2", x);
      svg.append(cursor);
      readout.textContent = `${bucketName(bucket)}: `;
      lines.forEach((line, i) => {
        const name = document.createElement("b");
        name.className = line.colour;
        name.textContent = line.name;
        const value = line.values[bucket];
        const shown = Number.isNaN(value) ? "no tokens" : value.toFixed(3);
        readout.append(i > 0 ? ", " : "", name, ` ${shown}`);
      });
    }, () => {
      cursor.remove();
      readout.textContent = hint;
    });
  }
})();
