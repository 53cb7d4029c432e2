#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Makes a report with the command LPLB and checks it in headless Chromium, at the width of a phone
and of a desktop: the page does not scroll sideways, no label is clipped or tiny, colours are
readable; sorting, readouts and the theme switch work.

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
# As many policies as the report has colours.
POLICIES = [
    "none",
    "eplb",
    "eplb+lplb",
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
(() => {
  const result = { inner: innerWidth, scroll: document.documentElement.scrollWidth };
  const box = (element) => element.getBoundingClientRect();
  const all = (selector) => [...document.querySelectorAll(selector)];

  result.texts = all("svg text").map((text) => ({
    text: text.textContent, left: box(text).left, right: box(text).right,
    size: parseFloat(getComputedStyle(text).fontSize) }));
  result.ends = all("text.end").map((text) => box(text).top).sort((a, b) => a - b);

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

  const point = (element, x, y) => {
    const area = box(element);
    element.dispatchEvent(new PointerEvent("pointermove", {
      bubbles: true, clientX: area.left + x * area.width, clientY: area.top + y * area.height }));
  };
  const readout = (element) => element.closest("figure").querySelector(".readout").textContent;
  result.heat = all(".cells").map((cells) => {
    point(cells, 0.01, 0.99);
    return { shown: readout(cells), values: cells.dataset.values.split(" ").map(Number) };
  });
  point(document.querySelector(".time svg"), 0.999, 0.5);
  result.time = readout(document.querySelector(".time svg"));
  // In a table that is wider than the page, the background that shows this scrolls with it.
  result.more = all(".scroll").filter((element) => element.scrollWidth > element.clientWidth)
    .map((element) => getComputedStyle(element).backgroundAttachment);
  result.problems = problems;
  parent.document.querySelector("pre").textContent = JSON.stringify(result);
})();
</script>"""


def look(browser, page, width, folder):
    """Returns what the probe finds on `page` in a frame of `width` pixels."""
    text = page.replace("<style>", WATCH + "<style>", 1).replace("</body>", PROBE + "</body>", 1)
    # NOTE: Chromium's windows are at least 500 px wide, so the page is shown in a frame.
    frame = f'<iframe width="{width}" height="900" style="border: 0"'
    around = folder / f"{width}.html"
    around.write_text(
        f'<!DOCTYPE html><pre></pre>{frame} srcdoc="{html.escape(text)}"></iframe>',
        encoding="utf-8",
    )
    options = "--headless --no-sandbox --disable-gpu --hide-scrollbars --window-size=1400,1000"
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
    for label in found["texts"]:
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
        start = f"rank 15, batch 0: {value:.3f} "
        check(heat["shown"].startswith(start), f"readout: {heat['shown']}")
    for policy in report["policies"]:
        shown = f"{policy['name']} {policy['over_time'][-1]:.3f}"
        check(shown in found["time"], f"{shown} is not in the readout: {found['time']}")


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
            contrast = min(theme["worst"]["ratio"] for theme in found["themes"])
            counts = f"{len(found['texts'])} labels, {len(found['sorts'])} columns sort"
            print(f"{width} px: {counts}, contrast at least {contrast:.1f}")


if __name__ == "__main__":
    main()
