// SPDX-License-Identifier: MIT
// The imbalance over time: over_time.cc for the policies, the layer and the batches that are shown.
(() => {
  // Names of domains that would run into the next one are left out, also in a page of two reports.
  const thinOut = () => {
    for (const svg of document.querySelectorAll(".time svg")) {
      let until = -Infinity;
      for (const text of svg.querySelectorAll(".domain text")) {
        text.removeAttribute("visibility");
        const box = text.getBoundingClientRect();
        if (box.left < until || box.right > svg.getBoundingClientRect().right + 40) {
          text.setAttribute("visibility", "hidden");
        } else {
          until = box.right + 4;
        }
      }
    }
  };
  addEventListener("resize", thinOut);
  thinOut();

  const figure = document.querySelector(".time");
  if (!figure || page.starts.length === 0) return;
  const { state, starts, endOf } = page;
  const kTextGap = 16;
  const kMostMarks = 64;
  const svg = figure.querySelector("svg");
  const height = Number(svg.getAttribute("height"));
  const part = (name) => figure.querySelector(`.${name}`);
  const plot = part("plot");
  const lines = [...part("lines").querySelectorAll("g")].map((g, policy) => ({
    policy,
    name: g.dataset.policy,
    classes: g.getAttribute("class"),
    polyline: g.querySelector("polyline"),
    mean: page.numbers(g.dataset.values),
    layers: page.numbers(g.dataset.layers),
  }));
  const endTexts = new Map([...part("ends").querySelectorAll("g")].map((g) => [
    g.getAttribute("class"),
    g.querySelector("text").textContent.replace(/ ▴$/, ""),
  ]));
  const marked = {
    domains: svg.querySelector(".domain") !== null,
    rebalances: svg.querySelector(".rebalance") !== null,
  };

  const valuesOf = (line) => {
    const first = state.layer * starts.length;
    return state.layer < 0 ? line.mean : line.layers.slice(first, first + starts.length);
  };
  const range = () => ({ first: starts[state.first], end: endOf(state.end - 1) });
  const timeAt = (batch) => (1000 * (batch - range().first)) / (range().end - range().first);
  const heightAt = (axis, value) => height * (1 - (value - axis.low) / (axis.high - axis.low));

  const pointsOf = (values, axis) => {
    const points = [];
    const add = (x, value) => points.push(`${x.toFixed(1)},${heightAt(axis, value).toFixed(1)} `);
    for (let i = state.first; i < state.end; ++i) {
      if (!Number.isFinite(values[i])) continue;
      if (points.length === 0) add(timeAt(starts[i]), values[i]);
      add(timeAt((starts[i] + endOf(i)) / 2), values[i]);
      if (i + 1 === state.end) add(1000, values[i]);
    }
    return points.join("");
  };

  const valueMarks = (axis) =>
    axis.marks.map((mark) => {
      const y = heightAt(axis, mark);
      return `<line class="grid" x1="0" x2="100%" y1="${y.toFixed(1)}" y2="${y.toFixed(1)}"/>` +
        `<text x="-8" y="${(y + 4).toFixed(1)}" text-anchor="end">` +
        `${page.markText(axis, mark)}</text>`;
    }).join("");

  const batchMarks = () => {
    const { first, end } = range();
    const step = Math.max(1, Math.round(page.makeAxis(0, end - first, 1, 5).step));
    let out = "";
    for (let batch = Math.ceil(first / step) * step; batch < end; batch += step) {
      const x = `${(timeAt(batch + 0.5) / 10).toFixed(2)}%`;
      out += `<line class="mark" x1="${x}" x2="${x}" y1="${height}" y2="${height + 5}"/>` +
        `<text x="${x}" y="${height + 19}" text-anchor="middle">` +
        `${batch.toLocaleString("en-US")}</text>`;
    }
    return out;
  };
  const domainMarks = () => {
    const { first, end } = range();
    return page.domains.map((domain, i) => {
      const last = i + 1 < page.domains.length ? page.domains[i + 1].first : page.numBatches;
      if (!marked.domains || last <= first || domain.first >= end) return "";
      const x = `${(timeAt(Math.max(domain.first, first)) / 10).toFixed(2)}%`;
      return `<g class="domain"><line x1="${x}" x2="${x}" y1="-16" y2="${height}"/>` +
        `<text x="${x}" dx="4" y="-6">${page.escaped(domain.name)}</text></g>`;
    }).join("");
  };
  const rebalanceMarks = () => {
    const every = page.rebalanceEvery;
    const { first, end } = range();
    if (!marked.rebalances || (end - first) / every > kMostMarks) return "";
    let out = "";
    for (let batch = Math.max(1, Math.ceil(first / every)) * every; batch < end; batch += every) {
      out += `<svg class="rebalance" x="${(timeAt(batch) / 10).toFixed(2)}%" y="${height}" ` +
        `overflow="visible"><path d="M0-8l4 8h-8z"/></svg>`;
    }
    return out;
  };

  // As spread() of over_time.cc.
  const spread = (labels) => {
    labels.sort((a, b) => a.line - b.line);
    let least = 0;
    for (const label of labels) {
      label.y = Math.max(label.line, least);
      least = label.y + kTextGap;
    }
    let most = height;
    for (const label of [...labels].reverse()) {
      label.y = Math.min(label.y, most);
      most = label.y - kTextGap;
    }
  };
  const ends = (shown, axis) => {
    const labels = shown.map(({ classes, values }) => {
      const last = values.slice(state.first, state.end).findLast(Number.isFinite) ?? 1;
      return { classes, line: heightAt(axis, last), y: 0 };
    });
    spread(labels);
    return labels.map((label) =>
      `<g class="${label.classes}"><polyline class="line" points="2,${
        Math.max(0, label.line).toFixed(1)
      } ` +
      `18,${label.y.toFixed(1)}"/><text class="end" x="22" y="${(label.y + 4).toFixed(1)}">` +
      `${page.escaped(endTexts.get(label.classes))}${label.line < 0 ? " ▴" : ""}</text></g>`
    ).join("");
  };

  const shownLines = () =>
    lines.filter((line) => !state.hidden.has(line.policy))
      .map((line) => ({ ...line, values: valuesOf(line) }));
  const draw = () => {
    const shown = shownLines();
    const worst = shown.map(({ values }) =>
      Math.max(...values.slice(state.first, state.end).filter(Number.isFinite))
    );
    const axis = page.imbalanceAxis(worst, 5);
    const cut = worst.some((value) => value > axis.high);
    part("lines").classList.toggle("cut", cut);
    for (const { polyline, values } of shown) {
      polyline.setAttribute("points", pointsOf(values, axis));
    }
    part("values").innerHTML = valueMarks(axis);
    part("times").innerHTML = batchMarks() + domainMarks() + rebalanceMarks();
    part("ends").innerHTML = ends(shown, axis);
    page.says(figure, page.where(true));
    thinOut();
  };
  page.draws.push(draw);
  // The cursor, and the stretch that the reader marks to look at closer.
  const make = (name, attributes) => {
    const element = document.createElementNS("http://www.w3.org/2000/svg", name);
    for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
    return element;
  };
  const cursor = make("line", { class: "cursor", y1: 0, y2: height });
  const brush = make("rect", { class: "brush", y: 0, height });
  let current = null; // the bucket that is read
  let from = null; // the bucket at which marking began
  const box = () => svg.getBoundingClientRect();
  const bucketAt = (event) => {
    const { first, end } = range();
    const position = (event.clientX - box().left) / box().width;
    const batch = first + Math.floor(position * (end - first));
    return Math.min(state.end - 1, Math.max(state.first, page.bucketOf(batch)));
  };
  const stretch = (bucket) => [Math.min(from, bucket), Math.max(from, bucket) + 1];
  const zoom = (bucket) => {
    const [first, end] = stretch(bucket);
    from = null;
    brush.remove();
    if (end - first > 1) page.change({ first, end });
  };
  const show = (bucket) => {
    current = bucket;
    const x = timeAt((starts[bucket] + endOf(bucket)) / 2) / 10;
    cursor.setAttribute("x1", `${x}%`);
    cursor.setAttribute("x2", `${x}%`);
    svg.append(cursor);
    if (from !== null && from !== bucket) {
      const [first, end] = stretch(bucket);
      const left = timeAt(starts[first]) / 10;
      brush.setAttribute("x", `${left}%`);
      brush.setAttribute("width", `${timeAt(endOf(end - 1)) / 10 - left}%`);
      svg.append(brush);
    } else {
      brush.remove();
    }
    const rows = shownLines().sort((a, b) => b.values[bucket] - a.values[bucket]).map((line) => {
      const value = line.values[bucket];
      return `<tr class="${line.classes}"><td><svg class="swatch" width="30" height="12">` +
        `<line class="line" x1="1" x2="29" y1="6" y2="6"/></svg></td>` +
        `<th scope="row">${page.escaped(line.name)}</th>` +
        `<td>${Number.isNaN(value) ? "no tokens" : value.toFixed(3)}</td></tr>`;
    });
    const domain = page.domainOf(starts[bucket]);
    const title = page.bucketName(bucket) + (domain ? ` · ${page.escaped(domain)}` : "");
    return {
      html: `<b>${title}</b><table>${rows.join("")}</table>`,
      x: box().left + (x / 100) * box().width,
      y: box().top + 10,
    };
  };
  page.readable(
    plot,
    "Imbalance over time. Arrow keys read batches; with Shift they mark some, and Enter shows " +
      "these alone.",
    {
      locate: bucketAt,
      move: (bucket, dx, _dy, extends_) => {
        if (dx === 0) return undefined;
        if (extends_ && from === null) from = bucket ?? state.first;
        if (!extends_) from = null;
        const next = bucket === null ? (dx > 0 ? state.first : state.end - 1) : bucket + dx;
        return Math.min(state.end - 1, Math.max(state.first, next));
      },
      show,
      leave: () => {
        current = from = null;
        cursor.remove();
        brush.remove();
      },
    },
  );
  plot.addEventListener("pointerdown", (event) => {
    if (event.button !== 0) return;
    from = bucketAt(event);
    if (event.isTrusted) plot.setPointerCapture(event.pointerId);
  });
  plot.addEventListener("pointerup", (event) => {
    if (from !== null) zoom(bucketAt(event));
  });
  plot.addEventListener("pointercancel", () => {
    from = null;
  });
  plot.addEventListener("dblclick", () => page.change({ first: 0, end: starts.length }));
  plot.addEventListener("keydown", (event) => {
    if (event.key === "Enter" && from !== null && current !== null) zoom(current);
    if (event.key === "Escape" && page.isZoomed()) page.change({ first: 0, end: starts.length });
  });

  page.exports(figure, "imbalance-over-time", () => {
    const shown = shownLines();
    const layer = state.layer < 0 ? "mean" : page.layers[state.layer];
    const rows = [[
      "first_batch",
      "last_batch",
      "domain",
      "layer",
      ...shown.map((line) => line.name),
    ]];
    for (let i = state.first; i < state.end; ++i) {
      const values = shown.map((line) => line.values[i]);
      rows.push([starts[i], endOf(i) - 1, page.domainOf(starts[i]), layer, ...values]);
    }
    return rows;
  });
})();
