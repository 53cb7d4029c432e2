// SPDX-License-Identifier: MIT
// The distribution of the imbalance: ranges.cc for the policies that are shown. Of one layer the
// page knows mean and worst.
(() => {
  const figure = document.querySelector(".ranges");
  if (!figure) return;
  const kMiddle = 18;
  const rows = [...figure.querySelectorAll(".row")];
  const scale = rows.pop().querySelector(".drawn");
  const policies = rows.map((row, policy) => {
    const svg = row.querySelector(".range");
    const [mean, p50, p95, p99, max] = page.numbers(svg.dataset.values);
    const all = { mean, p50, p95, p99, max };
    return { policy, row, svg, all, name: svg.dataset.policy };
  });
  const distribution = ({ policy, all }) => {
    if (page.state.layer < 0) return all;
    const row = document.querySelector(
      `.layers tr[data-layer="${page.layers[page.state.layer]}"]`,
    );
    const cells = [...row.querySelectorAll(`td.p${policy}`)];
    const [mean, max] = cells.map((td) => td.dataset.value === "" ? NaN : Number(td.dataset.value));
    return { mean, max };
  };
  const text = (value) => (Number.isFinite(value) ? value.toFixed(3) : "–");

  const marks = (d, axis) => {
    const at = (value) => `${page.percent(axis, value).toFixed(2)}%`;
    const line = (kind, from, to) =>
      `<line class="${kind}" x1="${at(from)}" x2="${at(to)}" y1="${kMiddle}" y2="${kMiddle}"/>`;
    const mark = (value, shape) =>
      value <= axis.high
        ? `<svg x="${at(value)}" y="${kMiddle}" overflow="visible">${shape}</svg>`
        : "";
    let out = line("tail", d.p50 ?? d.mean, d.max);
    if (d.p50 !== undefined) {
      out += line("most", d.p50, d.p95) + mark(d.p99, `<path class="p99" d="M0-6V6"/>`);
    }
    out += mark(d.max, `<circle class="worst" r="4"/>`) +
      mark(d.mean, `<circle class="mean" r="5"/>`);
    if (d.max <= axis.high) return out;
    const all = d.mean > axis.high;
    return out + `<text class="beyond" x="100%" y="${all ? 22 : 11}" text-anchor="end">` +
      `${all ? `mean ${text(d.mean)}, ` : ""}worst ${text(d.max)} ▸</text>`;
  };

  page.draws.push(() => {
    const shown = policies.filter(({ policy }) => !page.state.hidden.has(policy))
      .map((entry) => ({ ...entry, d: distribution(entry) }));
    const axis = page.imbalanceAxis(shown.map(({ d }) => d.max), 8);
    const at = (mark) => `${page.percent(axis, mark).toFixed(2)}%`;
    const grid = axis.marks.map((mark) =>
      `<line class="grid" x1="${at(mark)}" x2="${at(mark)}" y1="0" y2="36"/>`
    ).join("");
    for (const { row, d } of shown) {
      const finite = Number.isFinite(d.mean) && Number.isFinite(d.max);
      row.querySelector(".drawn").innerHTML = grid + (finite ? marks(d, axis) : "");
      row.querySelector(".mean-text").textContent = text(d.mean);
    }
    scale.innerHTML = axis.marks.map((mark) =>
      `<text x="${at(mark)}" y="14" text-anchor="middle">${page.markText(axis, mark)}</text>`
    ).join("");
    const layer = page.where(false);
    page.says(figure, layer && `mean and worst of ${layer}`);
  });

  for (const entry of policies) {
    const { svg, name } = entry;
    const box = () => svg.getBoundingClientRect();
    page.readable(svg, `Imbalance of ${name}`, {
      locate: (event) => ({ x: event.clientX }),
      move: (item, dx) => (dx === 0 ? undefined : item ?? { x: box().left + box().width / 2 }),
      show: ({ x }) => {
        const values = Object.entries(distribution(entry)).map(([key, value]) =>
          `<tr><th scope="row">${key === "max" ? "worst" : key}</th><td>${text(value)}</td></tr>`
        );
        const html = `<b>${page.escaped(name)}</b><table>${values.join("")}</table>`;
        return { html, x, y: box().top + kMiddle };
      },
      leave: () => {},
    });
  }
})();
