// SPDX-License-Identifier: MIT
// The load of each rank over time: heat.cc for the layer and the batches that are shown.
(() => {
  const maps = document.querySelector(".maps");
  if (!maps) return;
  const { state, starts } = page;
  const kLevels = 5;
  const section = maps.closest("section");
  const digits = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
  const unpack = (text) => {
    const values = [];
    for (let i = 0; i < text.length; i += 2) {
      const units = 64 * digits.indexOf(text[i]) + digits.indexOf(text[i + 1]);
      values.push(text[i] === "." ? NaN : units / 512);
    }
    return values;
  };
  const all = [...maps.querySelectorAll(".heat")].map((figure) => {
    const cells = figure.querySelector(".cells");
    const { policy, rows, ranksPerRow, step, values, layers } = cells.dataset;
    return {
      figure,
      cells,
      policy,
      rows: Number(rows),
      perRow: Number(ranksPerRow),
      step: Number(step),
      mean: page.numbers(values),
      layers: layers ? layers.split(" ") : [],
    };
  });
  const layered = () => state.layer >= 0 && all[0].layers.length > 0;
  const valuesOf = (map) => (layered() ? unpack(map.layers[state.layer]) : map.mean);
  const stepOf = (map) => (layered() ? Number(maps.dataset.layerStep) : map.step);
  const rowName = (map, row) => {
    const first = row * map.perRow;
    return map.perRow > 1 ? `ranks ${first} and following` : `rank ${first}`;
  };
  const loadText = (value) =>
    Number.isNaN(value) ? "no tokens" : `${value.toFixed(3)} times the mean load`;

  const paths = (map, values) => {
    const level = (value) =>
      Math.round(Math.min(kLevels, Math.max(-kLevels, (value - 1) / stepOf(map)))) + kLevels;
    const found = Array.from({ length: 2 * kLevels + 1 }, () => "");
    for (let row = 0; row < map.rows; ++row) {
      const at = (column) => level(values[row * starts.length + column]);
      for (let first = state.first, end = first; first < state.end; first = end) {
        const here = at(first);
        do ++end; while (end < state.end && at(end) === here);
        if (Number.isNaN(here)) continue;
        found[here] += `M${first - state.first} ${row}h${end - first}`;
      }
    }
    return found.map((d, i) => (d ? `<path class="h${i}" d="${d}"/>` : "")).join("");
  };

  page.draws.push(() => {
    for (const map of all) {
      const { figure, cells } = map;
      const values = valuesOf(map);
      cells.setAttribute("viewBox", `0 -0.5 ${state.end - state.first} ${map.rows}`);
      cells.innerHTML = paths(map, values);
      const most = (row) => {
        const first = row * starts.length;
        const here = values.slice(first + state.first, first + state.end);
        return Math.max(...here.filter(Number.isFinite));
      };
      figure.querySelectorAll(".side").forEach((side, row) => {
        side.textContent = most(row).toFixed(2);
      });
      const name = (selector, text) => {
        figure.querySelector(selector).textContent = text.toLocaleString("en-US");
      };
      name(".first", starts[state.first]);
      name(".last", page.endOf(state.end - 1) - 1);
      const rows = Array.from({ length: map.rows }, (_, row) => most(row));
      const busiest = rows.indexOf(Math.max(...rows));
      figure.querySelector("figcaption").textContent = `Busiest: ${rowName(map, busiest)}, with ${
        rows[busiest].toFixed(3)
      } times the mean load.`;
    }
    section.querySelector(".scale").hidden = layered();
    const layerScale = section.querySelector(".one-layer");
    if (layerScale) layerScale.hidden = !layered();
    const mean = state.layer >= 0 && !layered() ? "mean over the layers" : "";
    page.says(maps, mean || page.where(true));
  });

  for (const map of all) {
    const { cells, rows } = map;
    const frame = document.createElementNS("http://www.w3.org/2000/svg", "rect");
    frame.setAttribute("class", "frame");
    frame.setAttribute("width", 1);
    frame.setAttribute("height", 1);
    const within = (position, count) =>
      Math.min(count - 1, Math.max(0, Math.floor(position * count)));
    const box = () => cells.getBoundingClientRect();
    const shown = () => state.end - state.first;
    page.readable(cells, `Load of each rank over time, ${map.policy}. Arrow keys read cells.`, {
      locate: (event) => ({
        row: within((event.clientY - box().top) / box().height, rows),
        column: within((event.clientX - box().left) / box().width, shown()),
      }),
      move: (cell, dx, dy) => ({
        row: cell ? within((cell.row + dy + 0.5) / rows, rows) : 0,
        column: cell ? within((cell.column + dx + 0.5) / shown(), shown()) : 0,
      }),
      show: ({ row, column }) => {
        frame.setAttribute("x", column);
        frame.setAttribute("y", row - 0.5);
        cells.append(frame);
        const bucket = state.first + column;
        const domain = page.domainOf(starts[bucket]);
        const value = valuesOf(map)[row * starts.length + bucket];
        return {
          html: `<b>${rowName(map, row)}, ${page.bucketName(bucket)}` +
            `${domain ? ` · ${page.escaped(domain)}` : ""}</b><br>${loadText(value)}`,
          x: box().left + ((column + 0.5) / shown()) * box().width,
          y: box().top + ((row + 0.5) / rows) * box().height,
        };
      },
      leave: () => frame.remove(),
    });
  }

  page.exports(maps, "rank-load", () => {
    const rows = [["policy", "layer", "rank", "first_batch", "last_batch", "load"]];
    const layer = layered() ? page.layers[state.layer] : "mean";
    for (const map of all) {
      const values = valuesOf(map);
      for (let row = 0; row < map.rows; ++row) {
        for (let i = state.first; i < state.end; ++i) {
          const value = values[row * starts.length + i];
          const last = page.endOf(i) - 1;
          rows.push([map.policy, layer, row * map.perRow, starts[i], last, value]);
        }
      }
    }
    return rows;
  });
})();
