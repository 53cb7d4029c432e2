// SPDX-License-Identifier: MIT
// Sorting, and figures and tables as CSV.
(() => {
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

  const cell = (value) => {
    const text = Number.isNaN(value) ? "" : String(value);
    return /[",\r\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
  };
  const csv = (rows) => rows.map((row) => row.map(cell).join(",") + "\r\n").join("");

  // Adds a button to the section of `element` that saves the rows of `rows()`.
  page.exports = (element, name, rows) => {
    const section = element.closest("section");
    const button = document.createElement("button");
    button.type = "button";
    button.className = "csv";
    button.textContent = "CSV";
    button.title = `Save as ${name}.csv`;
    button.addEventListener("click", () => {
      const link = document.createElement("a");
      link.href = URL.createObjectURL(new Blob([csv(rows())], { type: "text/csv" }));
      link.download = `${name}.csv`;
      link.click();
      setTimeout(() => URL.revokeObjectURL(link.href), 1000);
    });
    section.querySelector("h2").after(button);
    button.rows = rows;
  };

  const summary = document.querySelector(".summary");
  if (summary) {
    const metrics = () => [...new Set([...summary.querySelectorAll("td")].map(metricOf))];
    const metricOf = (td) => td.dataset.metric;
    page.exports(summary, "figures", () => {
      const names = metrics().filter(Boolean);
      return [
        ["policy", ...names],
        ...page.names.map((name) => [
          name,
          ...names.map((metric) =>
            [...summary.querySelectorAll(`td[data-metric="${metric}"]`)]
              .find((td) => td.dataset.policy === name).dataset.value
          ),
        ]),
      ];
    });
  }
  const layers = document.querySelector(".layers");
  if (layers) {
    page.exports(layers, "layers", () => {
      const heads = [...layers.querySelectorAll("th[data-sort]")];
      const title = (head) =>
        head.dataset.policy
          ? `${head.dataset.policy} ${head.dataset.metric.replace("layers.", "")}`
          : head.textContent;
      const values = (row) => [...row.cells].map((td) => td.dataset.value);
      return [heads.map(title), ...[...layers.tBodies[0].rows].map(values)];
    });
  }
})();
