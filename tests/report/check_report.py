#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Makes a report with the command LPLB and checks it in headless Chromium, at the width of a phone
and of a desktop: the page does not scroll sideways, no label is clipped or tiny, colours are
readable. Everything that a reader can do is done: sorting, the box at the pointer and at the
keyboard's cursor, hiding a policy, a layer, a range of batches, the scale, CSV, the theme. What the
script draws is compared with what the page holds.

usage: check_report.py LPLB

The exit status is 77 (skipped) if there is no Chromium.
"""

import html
import json
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

SKIPPED = 77
BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
COST = Path(__file__).resolve().parents[2] / "data/cost/h200-dsv3-bf16.json"
# All kinds of splits, and more policies than fit on a line.
POLICIES = [
    "none",
    "eplb",
    "eplb+lplb",
    "eplb+stale",
    "cube+even",
    "cube+lplb",
    "hypercube+lplb",
    "torus:4x4+even",
    "torus:4x4+lplb",
    "eplb+time",
]
WIDTHS = (390, 1280)

# This script is put before the page's own script. It keeps the errors of that script and of the
# probe.
WATCH = """<script>
window.problems = [];
const keep = (text) => {
  problems.push(text);
  parent.document.querySelector("pre").textContent = JSON.stringify({ problems });
};
addEventListener("error", (event) => keep(event.message));
addEventListener("securitypolicyviolation", (event) => keep(event.violatedDirective));
</script>"""

# This script is put after it. It inspects and uses the page, and writes what it found into the page
# around the frame.
PROBE = """<script>
addEventListener("load", () => {
  const result = { inner: innerWidth, scroll: document.documentElement.scrollWidth };
  const box = (element) => element.getBoundingClientRect();
  const all = (selector) => [...document.querySelectorAll(selector)];

  const value = (selector) => document.querySelector(selector).value;
  result.opened = { layer: value(".layer-choice"), from: value(".from"), to: value(".to"),
    off: all('.chip[aria-pressed="false"]').map((chip) => chip.textContent) };
  result.texts = all("svg text").map((text) => ({
    text: text.textContent, left: box(text).left, right: box(text).right,
    shown: text.getAttribute("visibility") !== "hidden",
    size: parseFloat(getComputedStyle(text).fontSize) }));
  const tops = (selector) => all(selector).map((text) => box(text).top).sort((a, b) => a - b);
  result.ends = tops("text.end");

  // The contrast, as WCAG defines it, of an element's colour on the nearest background.
  const channels = (colour) => colour.match(/[\\d.]+/g).map(Number);
  const luminance = (rgb) => {
    const [r, g, b] = rgb.map((c) => c / 255)
      .map((c) => (c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4));
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const background = (element) => {
    for (; element; element = element.parentElement) {
      const rgba = channels(getComputedStyle(element).backgroundColor);
      if (rgba.length < 4 || rgba[3] > 0) return rgba.slice(0, 3);
    }
    return [255, 255, 255];
  };
  const shown = "p, td, th, dt, dd, figcaption, button, .row .name, svg text, li, .badge";
  const contrasts = () => all(shown)
    .filter((element) => element.textContent.trim() && box(element).width > 0)
    .map((element) => {
      const style = getComputedStyle(element);
      const text = channels(element.closest("svg") ? style.fill : style.color).slice(0, 3);
      const [low, high] = [luminance(text), luminance(background(element))].sort((a, b) => a - b);
      return { text: element.textContent.trim().slice(0, 40), ratio: (high + 0.05) / (low + 0.05) };
    });
  const worst = () => contrasts().reduce((a, b) => (a.ratio < b.ratio ? a : b));

  const theme = document.querySelector(".theme");
  result.themes = [];
  for (let i = 0; i < 2; ++i) {
    result.themes.push({ page: getComputedStyle(document.body).backgroundColor, worst: worst() });
    theme.click();
  }

  const body = document.querySelector(".layers").tBodies[0];
  const column = (i) => [...body.rows].map((row) => Number(row.cells[i].dataset.value));
  result.sorts = all(".layers th[data-sort]").map((head) => {
    const button = head.querySelector("button");
    button.focus();
    const sort = { focus: document.activeElement === button, before: column(head.cellIndex) };
    const cells = () => [...body.rows].map((row) => row.textContent).sort().join();
    const content = cells();
    // The layer column is already sorted, so its first click reverses it.
    for (let i = 0; i < 2; ++i) {
      button.click();
      sort[head.getAttribute("aria-sort")] = column(head.cellIndex);
    }
    sort.kept = cells() === content;
    sort.marked = all(".layers th[aria-sort]").length;
    return sort;
  });

  // The box at the pointer and at the keyboard's cursor.
  const tip = () => document.querySelector(".tip:not([hidden])")?.innerText ?? "";
  const act = (kind, element, x, y) => {
    const area = box(element);
    element.dispatchEvent(new PointerEvent(kind, { bubbles: true, button: 0,
      clientX: area.left + x * area.width, clientY: area.top + y * area.height }));
  };
  const point = (element, x, y) => { act("pointermove", element, x, y); return tip(); };
  const press = (element, key, shiftKey = false) => {
    element.dispatchEvent(new KeyboardEvent("keydown", { key, shiftKey, bubbles: true }));
    return tip();
  };
  const leave = (element) => { act("pointerleave", element, 0, 0); return tip(); };
  const plot = document.querySelector(".time .plot");
  const svg = document.querySelector(".time svg");
  result.heat = all(".cells").map((cells) => {
    const shown = point(cells, 0.01, 0.99);
    leave(cells);
    press(cells, "ArrowDown");
    const keyed = press(cells, "ArrowDown");
    return { shown, keyed, left: leave(cells),
             values: cells.dataset.values.split(" ").map(Number) };
  });
  act("pointermove", svg, 0.999, 0.5);
  result.time = tip();
  leave(plot);
  result.keyed = press(plot, "ArrowLeft");
  leave(plot);
  point(document.querySelector(".row .range"), 0.5, 0.5);
  result.row = tip();
  leave(document.querySelector(".row .range"));
  result.focusable = [plot, ...all(".cells"), ...all(".row:not(:last-of-type) .range")]
    .every((element) => element.tabIndex === 0);

  // What figures show: the points of lines, and all texts. `drawn` is the page as the program made
  // it, `again` as the script draws it after the way there and back.
  const look = () => ({
    lines: all(".lines polyline").filter((line) => getComputedStyle(line.parentNode).display !==
      "none").map((line) => line.getAttribute("points").match(/[-\\d.]+/g).map(Number)),
    texts: all(".time text, .ranges text, .ranges .mean-text, .experts td, .experts th")
      .filter((text) => box(text).width > 0).map((text) => text.textContent).sort(),
    marks: all(".ranges .drawn > svg, .ranges .drawn > line").map((mark) =>
      parseFloat(mark.getAttribute("x") ?? mark.getAttribute("x1"))),
    cells: all(".cells").map((cells) => [...cells.querySelectorAll("path")]
      .map((path) => path.getAttribute("class") + path.getAttribute("d")).sort()),
    hash: location.hash });
  const set = (selector, value) => {
    const element = document.querySelector(selector);
    element.value = value;
    element.dispatchEvent(new Event("change"));
  };
  const chips = all(".chip");
  const reset = document.querySelector(".reset");
  result.looks = { drawn: look() };
  chips[0].click();
  result.looks.hidden = look();
  result.hiddenCells = all(".summary td.p0, .layers .p0").map((cell) => box(cell).width);
  chips[0].click();
  result.looks.again = look();
  set(".layer-choice", "3");
  result.looks.layer = look();
  reset.click();
  document.querySelector(".whole input").click();
  result.looks.whole = look();
  reset.click();
  set(".from", "8");
  result.looks.typed = look();
  reset.click();
  act("pointerdown", svg, 8.5 / 40, 0.5);
  act("pointermove", svg, 0.9, 0.5);
  act("pointerup", svg, 0.9999, 0.5);
  result.looks.dragged = look();
  press(plot, "Escape");
  result.looks.escaped = look();
  press(plot, "ArrowRight");
  for (let i = 0; i < 8; ++i) press(plot, "ArrowRight");
  for (let i = 0; i < 40; ++i) press(plot, "ArrowRight", true);
  press(plot, "Enter");
  result.looks.keyed = look();
  reset.click();
  for (const chip of chips) chip.click(); // the last one stays
  result.left = chips.filter((chip) => chip.getAttribute("aria-pressed") === "true").length;
  reset.click();
  result.csv = Object.fromEntries(all(".csv").map((button) => [button.title, button.rows()]));
  // In a table that is wider than the page, the background that shows this scrolls with it.
  result.more = all(".scroll").filter((element) => element.scrollWidth > element.clientWidth)
    .map((element) => getComputedStyle(element).backgroundAttachment);
  result.problems = problems;
  parent.document.querySelector("pre").textContent = JSON.stringify(result);
});
</script>"""


# The same for the page of a sweep, which has nothing to choose.
SWEEP_PROBE = """<script>
addEventListener("load", () => {
  const texts = [...document.querySelectorAll("svg text")]
    .map((text) => text.getBoundingClientRect())
    .map((box) => ({ left: box.left, right: box.right }));
  const found = { problems, texts, scroll: document.documentElement.scrollWidth };
  parent.document.querySelector("pre").textContent = JSON.stringify(found);
});
</script>"""


def look(browser, page, width, folder, address="", probe=PROBE):
    """Returns what the probe finds on `page`, opened at `address`, in a frame of `width` pixels."""
    text = page.replace("<style>", WATCH + "<style>", 1).replace("</body>", probe + "</body>", 1)
    inside = folder / f"page-{width}.html"
    inside.write_text(text, encoding="utf-8")
    # NOTE: Chromium's windows are at least 500 px wide, so the page is shown in a frame. Only with
    # the option may a file look into the frame of another.
    frame = f'<iframe width="{width}" height="900" style="border: 0" src="{inside.name}{address}"'
    around = folder / f"{width}.html"
    around.write_text(f"<!DOCTYPE html><pre></pre>{frame}></iframe>", encoding="utf-8")
    options = (
        "--headless --no-sandbox --disable-gpu --hide-scrollbars --window-size=1400,1000 "
        "--allow-file-access-from-files"
    )
    profile = f"--user-data-dir={folder / 'profile'}"
    done = subprocess.run(
        [browser, *options.split(), profile, "--dump-dom", around.as_uri()],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    found = re.search(r"<pre>(.+?)</pre>", done.stdout, re.DOTALL)
    if found is None:
        sys.exit(f"check_report: nothing found at {width} px:\n{done.stderr[-2000:]}")
    return json.loads(html.unescape(found.group(1)))


def check(ok, message):
    if not ok:
        sys.exit(f"check_report: {message}")


def check_layout(found, width):
    check(found["inner"] == width, f"the window is {found['inner']} px wide, not {width}")
    check(found["scroll"] <= width, f"the page is {found['scroll']} px wide at {width} px")
    check(len(found["texts"]) > 20, "labels are missing")
    for label in filter(lambda text: text["shown"], found["texts"]):
        check(label["left"] >= 0 and label["right"] <= width, f"at {width} px clipped: {label}")
        check(label["size"] >= 11, f"tiny: {label}")
    check(found["more"] if width < 640 else True, f"no table scrolls at {width} px")
    for attachment in found["more"]:
        check(attachment == "local, scroll", f"nothing shows that a table goes on: {attachment}")
    ends = found["ends"]
    check(len(ends) == len(POLICIES), f"{len(ends)} lines have names")
    for above, below in zip(ends, ends[1:]):
        check(below - above >= 14, f"names of lines overlap: {ends}")


def check_colours(found):
    light, dark = found["themes"]
    check(light["page"] != dark["page"], "the theme switch changes nothing")
    for theme in (light, dark):
        check(theme["worst"]["ratio"] >= 4.5, f"contrast too low: {theme}")


def check_sorting(found):
    check(len(found["sorts"]) == 2 * len(POLICIES) + 2, f"{len(found['sorts'])} columns sort")
    for sort in found["sorts"]:
        check(sort["focus"], "a header cannot be focused")
        check(sort["ascending"] == sorted(sort["before"]), f"not ascending: {sort}")
        check(sort["descending"] == sorted(sort["before"], reverse=True), f"not descending: {sort}")
        check(sort["kept"], "sorting changed cells")
        check(sort["marked"] == 1, f"{sort['marked']} columns say they are sorted")


def check_readouts(found, report):
    buckets = len(report["trace"]["bucket_start"])
    check(len(found["heat"]) == 2, f"{len(found['heat'])} heat maps")
    for heat in found["heat"]:
        value = heat["values"][-buckets]  # the last rank, the first bucket
        check(heat["shown"].startswith("rank 15, batch 0\n"), f"at the pointer: {heat['shown']}")
        check(f"{value:.3f} times" in heat["shown"], f"not {value}: {heat['shown']}")
        check(heat["keyed"].startswith("rank 1, batch 0\n"), f"at the cursor: {heat['keyed']}")
        check(heat["left"] == "", "the box stays")
    for place in ("time", "keyed"):
        check(found[place].startswith("batch 39"), f"{place}: {found[place]}")
        for policy in report["policies"]:
            shown = f"{policy['name']}\t{policy['over_time'][-1]:.3f}"
            check(shown in found[place], f"{shown!r} is not in the box: {found[place]!r}")
    worst = f"worst\t{report['policies'][0]['imbalance']['max']:.3f}"
    check(worst in found["row"], f"the row's box has no {worst!r}: {found['row']!r}")
    check(found["focusable"], "a figure cannot be focused")


def alike(a, b):
    """Whether two nested lists are equal, numbers up to the rounding of a coordinate."""
    if isinstance(a, list):
        return len(a) == len(b) and all(map(alike, a, b))
    return a == b if isinstance(a, str) else abs(a - b) <= 0.1001


def highest(look):
    return min(y for line in look["lines"] for y in line[1::2])


def check_choices(found, report):
    looks = found["looks"]
    for name in ("again", "escaped"):
        for part in ("lines", "texts", "marks", "cells"):
            drawn, again = looks["drawn"][part], looks[name][part]
            check(alike(drawn, again), f"{name}: the script draws other {part}")
    check(highest(looks["drawn"]) < 0, "none is not cut off")
    check(highest(looks["whole"]) >= 0, "the whole scale cuts something off")
    check(len(looks["hidden"]["lines"]) == len(POLICIES) - 1, "none is not hidden")
    check(highest(looks["hidden"]) >= 0, "the axis is not that of the policies that are shown")
    check(set(found["hiddenCells"]) == {0}, "cells of a hidden policy are shown")
    check(looks["hidden"]["hash"] == "#hide=none", f"address: {looks['hidden']['hash']}")
    check(looks["layer"]["hash"] == "#layer=3", f"address: {looks['layer']['hash']}")
    mean = f"{report['policies'][1]['layers'][3]['mean']:.3f}"
    check(mean in looks["layer"]["texts"], f"the mean of layer 3, {mean}, is not shown")
    for part in ("lines", "texts", "cells"):
        check(looks["layer"][part] != looks["drawn"][part], f"{part} are not those of the layer")
        for name in ("dragged", "keyed"):
            check(looks[name][part] == looks["typed"][part], f"{name}: other {part}")
    check(looks["typed"]["hash"] == "#batches=8-39", f"address: {looks['typed']['hash']}")
    check(len(looks["typed"]["lines"][0]) == 2 * (32 + 2), "the range is not that of the batches")
    check(found["left"] == 1, f"{found['left']} policies stay")


def check_csv(found, report):
    tables = {title.split()[-1]: rows for title, rows in found["csv"].items()}
    names = [policy["name"] for policy in report["policies"]]
    head, *rows = tables["imbalance-over-time.csv"]
    check(head == ["first_batch", "last_batch", "domain", "layer", *names], f"CSV: {head}")
    check(rows[7] == [7, 7, "", "mean", *(p["over_time"][7] for p in report["policies"])], "CSV")
    head, *rows = tables["figures.csv"]
    check([row[0] for row in rows] == names, f"CSV: {rows}")
    at = head.index("imbalance.mean")
    for row, policy in zip(rows, report["policies"]):
        check(float(row[at]) == policy["imbalance"]["mean"], f"CSV: {row}")
    head, *rows = tables["layers.csv"]
    row = next(row for row in rows if row[0] == "5")
    means = dict(zip(head, row))
    check(float(means["eplb max"]) == report["policies"][1]["layers"][5]["max"], f"CSV: {means}")
    head, *rows = tables["experts.csv"]
    check(head[:4] == ["layer", "expert", "load", "eplb replicas"], f"CSV: {head}")
    check(len(rows) == 256 and sum(row[3] for row in rows) == 256 + 2 * 16, "CSV of experts")
    _, *rows = tables["rank-load.csv"]
    check(len(rows) == 2 * 16 * 40, f"{len(rows)} rows of rank loads")


def main():
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    browser = next(filter(None, map(shutil.which, BROWSERS)), None)
    if browser is None:
        print("skipped: no Chromium")
        sys.exit(SKIPPED)
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as name:
        folder = Path(name)
        line = (
            "simulate --trace synthetic:W6_rotating_hotspot --synthetic-num-layers 12 "
            f"--synthetic-num-steps 40 --num-ranks 16 --policies {','.join(POLICIES)} "
            f"--html report.html --json report.json --cost {COST}"
        )
        command = [Path(sys.argv[1]).resolve(), *line.split()]
        subprocess.run(command, cwd=folder, check=True, stdout=subprocess.DEVNULL)
        page = (folder / "report.html").read_text(encoding="utf-8")
        report = json.loads((folder / "report.json").read_text(encoding="utf-8"))
        for width in WIDTHS:
            found = look(browser, page, width, folder)
            check(not found["problems"], f"errors on the page: {found['problems']}")
            check_layout(found, width)
            check_colours(found)
            check_sorting(found)
            check_readouts(found, report)
            check_choices(found, report)
            check_csv(found, report)
            contrast = min(theme["worst"]["ratio"] for theme in found["themes"])
            counts = f"{len(found['texts'])} labels, {len(found['sorts'])} columns sort"
            print(f"{width} px: {counts}, contrast at least {contrast:.1f}")
        address = "#layer=7&batches=4-19&hide=eplb%2Bstale&hide=unknown"
        opened = look(browser, page, WIDTHS[0], folder, address)["opened"]
        expected = {"layer": "7", "from": "4", "to": "19", "off": ["eplb+stale"]}
        check(opened == expected, f"{address} opens {opened}")

        line = "simulate --trace synthetic:W6_rotating_hotspot --sweep redundants=0:4 --html s.html"
        command = [Path(sys.argv[1]).resolve(), *line.split()]
        subprocess.run(command, cwd=folder, check=True, stdout=subprocess.DEVNULL)
        page = (folder / "s.html").read_text(encoding="utf-8")
        for width in WIDTHS:
            found = look(browser, page, width, folder, probe=SWEEP_PROBE)
            check(not found["problems"], f"errors on the page of a sweep: {found['problems']}")
            check(found["scroll"] <= width, f"a sweep is {found['scroll']} px wide at {width} px")
            for text in found["texts"]:
                check(text["left"] >= 0 and text["right"] <= width, f"clipped: {text}")


if __name__ == "__main__":
    main()
