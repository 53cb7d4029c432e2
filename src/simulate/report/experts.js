// SPDX-License-Identifier: MIT
// The hottest experts of a layer: experts.cc for the layer that is shown.
(() => {
  const table = document.querySelector(".experts");
  if (!table) return;
  const section = table.closest("section");
  const body = table.tBodies[0];
  const part = (name) => section.querySelector(`.summary-line .${name}`);
  const standard = Number(part("layer").dataset.index);
  const numShown = body.rows.length;
  const experts = Number(table.dataset.experts);
  const loads = page.numbers(table.dataset.load);
  const counts = page.numbers(table.dataset.replicas);
  const names = [...table.querySelectorAll("thead .name")].map((name) => name.textContent);
  const layerIndex = () => (page.state.layer < 0 ? standard : page.state.layer);

  // [{expert, load, replicas}] of a layer, by falling load.
  const ranking = () => {
    const layer = layerIndex();
    const tokens = loads.slice(layer * experts, (layer + 1) * experts);
    const mean = tokens.reduce((sum, count) => sum + count, 0) / experts || 1;
    const entries = Array.from({ length: experts }, (_, expert) => ({
      expert,
      load: tokens[expert] / mean,
      replicas: names.map((_, i) => counts[(i * page.layers.length + layer) * experts + expert]),
    }));
    return entries.sort((a, b) => b.load - a.load || a.expert - b.expert);
  };

  page.draws.push(() => {
    const entries = ranking();
    const shown = entries.slice(0, numShown);
    const sum = (list) => list.reduce((total, entry) => total + entry.load, 0);
    const cell = (value) => `<td>${value}</td>`;
    body.innerHTML = shown.map(({ expert, load, replicas }) => {
      const width = shown[0].load > 0 ? ((100 * load) / shown[0].load).toFixed(1) : 0;
      return `<tr><th scope="row">${expert}</th>` +
        `<td class="bar"><span style="width:${width}%"></span></td>${cell(load.toFixed(2))}` +
        replicas.map((count) => cell(count) + cell((load / count).toFixed(2))).join("") + "</tr>";
    }).join("");
    part("layer").textContent = page.layers[layerIndex()];
    part("share").textContent = `${((100 * sum(shown)) / (sum(entries) || 1)).toFixed(0)}\u00a0%`;
  });

  page.exports(table, "experts", () => [
    ["layer", "expert", "load", ...names.map((name) => `${name} replicas`)],
    ...ranking().map(({ expert, load, replicas }) => [
      page.layers[layerIndex()],
      expert,
      load,
      ...replicas,
    ]),
  ]);
})();
