// SPDX-License-Identifier: MIT
#include "simulate/report/assets.h"

namespace lplb::report {
namespace {

// c0 to c8 are policies; text in them keeps a contrast of 4.5 to 1 against --card. h0 to h10 run
// from idle to busy through the mean, in hues that colour-blind readers tell apart.
constexpr const char* kLight = R"css(
  color-scheme: light;
  --page: #f6f7f9; --card: #ffffff; --ink: #1a1f29; --soft: #566072; --line: #dde1e8;
  --more: #d0d6df;
  --accent: #0b5cad; --warn: #8a4b00; --warn-page: #fff3dc;
  --c0: #5b6472; --c1: #b84a00; --c2: #0b5cad; --c3: #16794a; --c4: #8a3a9a; --c5: #806000;
  --c6: #0a7280; --c7: #b3264a; --c8: #4a4fc4;
  --h0: #134b86; --h1: #2f72b4; --h2: #5f9fd0; --h3: #9cc6e4; --h4: #d3e5f2; --h5: #f1f1ef;
  --h6: #fbe0c2; --h7: #f7c288; --h8: #ec9645; --h9: #cf6716; --h10: #963f06;
)css";

constexpr const char* kDark = R"css(
  color-scheme: dark;
  --page: #12151b; --card: #1a1f27; --ink: #e8ebf0; --soft: #a4adbb; --line: #333b47;
  --more: #3f4957;
  --accent: #6fb5ff; --warn: #ffc876; --warn-page: #3a2c12;
  --c0: #a7b0be; --c1: #ff9d57; --c2: #6fb5ff; --c3: #5fd093; --c4: #d79be8; --c5: #dcbd55;
  --c6: #56c8d8; --c7: #ff8fa8; --c8: #a9adff;
  --h0: #a9d4fa; --h1: #6aabe2; --h2: #3c7fb9; --h3: #265a88; --h4: #1f3f5b; --h5: #2a2f37;
  --h6: #4d3520; --h7: #7a4a18; --h8: #ad6517; --h9: #de8c37; --h10: #fcc284;
)css";

constexpr const char* kRules = R"css(
* { box-sizing: border-box; }
body { margin: 0; background: var(--page); color: var(--ink);
  font: 1rem/1.55 system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", Arial, sans-serif; }
main, header, footer { max-width: 1120px; margin: 0 auto; padding: 0 20px; }
header { padding-top: 28px; }
section { background: var(--card); border: 1px solid var(--line); border-radius: 10px;
  padding: 20px 24px; margin: 20px 0; }
h1 { font-size: clamp(1.6rem, 1.1rem + 2vw, 2.25rem); line-height: 1.2; margin: 4px 0 14px;
  letter-spacing: -0.015em; text-wrap: balance; }
h1 strong { color: var(--accent); white-space: nowrap; }
h2 { font-size: 1.2rem; line-height: 1.3; margin: 0 0 4px; }
h3 { font-size: 1rem; margin: 0 0 6px; }
p { margin: 0 0 12px; }
a { color: var(--accent); }
.top { display: flex; justify-content: space-between; align-items: center; gap: 12px;
  color: var(--soft); margin-bottom: 18px; }
.top p { margin: 0; overflow-wrap: anywhere; }
.question { color: var(--soft); font-size: 1.1rem; margin: 0; }
.lead { max-width: 62em; }
.note, figcaption { color: var(--soft); font-size: 0.9rem; margin: 0; }
.note { margin-bottom: 14px; max-width: 62em; }
figcaption { margin-top: 8px; }
figure { margin: 0; }
.name { overflow-wrap: anywhere; }
.badge { display: inline-block; font-size: 0.75rem; font-weight: 600; line-height: 1.5;
  color: var(--warn); background: var(--warn-page); border: 1px solid var(--warn);
  border-radius: 5px; padding: 0 6px; vertical-align: middle; }
.notice { border-left: 4px solid var(--warn); padding: 4px 0 4px 12px; }
.tiles { display: grid; gap: 14px; margin: 20px 0 0;
  grid-template-columns: repeat(auto-fit, minmax(230px, 1fr)); }
.tile { background: var(--card); border: 1px solid var(--line); border-radius: 10px;
  padding: 14px 18px; }
.tile h2 { font-size: 1rem; color: var(--soft); font-weight: 500; margin: 0; }
.tile h2 .name { color: var(--ink); font-weight: 600; }
.tile p.number { line-height: 1.25; font-weight: 650;
  font-variant-numeric: tabular-nums; letter-spacing: -0.01em; }
.tile p { color: var(--soft); font-size: 0.9rem; margin: 0; }
.tile p.number { color: var(--ink); font-size: 2rem; }
.theme { flex: none; white-space: nowrap; }
button { font: inherit; color: inherit; background: none; border: 1px solid var(--line);
  border-radius: 7px; padding: 4px 12px; cursor: pointer; }
button:hover { border-color: var(--accent); }
:focus-visible { outline: 2px solid var(--accent); outline-offset: 2px; }

.c0 { --c: var(--c0); } .c1 { --c: var(--c1); } .c2 { --c: var(--c2); } .c3 { --c: var(--c3); }
.c4 { --c: var(--c4); } .c5 { --c: var(--c5); } .c6 { --c: var(--c6); } .c7 { --c: var(--c7); }
.c8 { --c: var(--c8); }
svg { display: block; overflow: visible; }
svg text { font-size: 0.75rem; fill: var(--soft); font-variant-numeric: tabular-nums; }
.grid { stroke: var(--line); } .mark { stroke: var(--soft); }
.line { fill: none; stroke: var(--c); stroke-width: 2; stroke-linejoin: round;
  vector-effect: non-scaling-stroke; }
.even .line { stroke-dasharray: 7 4; }
.unsplit .line { stroke-dasharray: 2 3; }
svg text.end { fill: var(--c); font-weight: 600; }
.plot { padding: 12px 46px 44px; }
.time .plot { padding-left: 40px; }
.heat .plot { padding: 26px 44px 26px 44px; }
.cursor { stroke: var(--ink); }
.readout { font-size: 0.9rem; margin: 4px 0 0; min-height: 1.55em;
  font-variant-numeric: tabular-nums; }
.readout b { color: var(--c); font-weight: 600; }

.key { display: flex; flex-wrap: wrap; gap: 4px 18px; list-style: none; padding: 0; margin: 0 0 10px;
  font-size: 0.875rem; color: var(--soft); }
.key li { display: flex; align-items: center; gap: 6px; }
.key li { --c: var(--ink); }
.most { stroke: var(--c); stroke-width: 8; stroke-opacity: 0.4; }
.tail { stroke: var(--c); stroke-width: 1.5; }
.mean { fill: var(--c); stroke: var(--card); stroke-width: 1.5; }
.p99 { fill: none; stroke: var(--c); stroke-width: 2.5; }
.worst { fill: var(--card); stroke: var(--c); stroke-width: 2; }
.row { display: grid; grid-template-columns: 10.5rem 3.2rem 1fr; align-items: center;
  column-gap: 1.1rem; padding-right: 20px; }
.row .name { color: var(--c); font-weight: 600; line-height: 1.25; }
.mean-text { font-variant-numeric: tabular-nums; text-align: right; }
.row .range { grid-column: 3; }

.scale { flex-wrap: nowrap; gap: 0; max-width: 560px; align-items: end; }
.scale li { flex: 1; min-width: 0; flex-direction: column; gap: 2px; font-size: 0.75rem;
  font-variant-numeric: tabular-nums; }
.scale li:first-child, .scale li:last-child { flex: none; padding: 0 8px; font-size: 0.875rem; }
.maps { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(420px, 100%), 1fr));
  gap: 22px 32px; }
.cells path { fill: none; stroke-width: 1.02; shape-rendering: crispEdges; }
.h0 { fill: var(--h0); stroke: var(--h0); } .h1 { fill: var(--h1); stroke: var(--h1); }
.h2 { fill: var(--h2); stroke: var(--h2); } .h3 { fill: var(--h3); stroke: var(--h3); }
.h4 { fill: var(--h4); stroke: var(--h4); } .h5 { fill: var(--h5); stroke: var(--h5); }
.h6 { fill: var(--h6); stroke: var(--h6); } .h7 { fill: var(--h7); stroke: var(--h7); }
.h8 { fill: var(--h8); stroke: var(--h8); } .h9 { fill: var(--h9); stroke: var(--h9); }
.h10 { fill: var(--h10); stroke: var(--h10); }

/* A shade at the right edge while there is more to scroll to: its cover moves with the table. */
.scroll { overflow-x: auto; background:
  linear-gradient(to left, var(--card) 40%, transparent) right / 48px 100% no-repeat local,
  linear-gradient(to left, var(--more), transparent) right / 18px 100% no-repeat scroll; }
table { border-collapse: separate; border-spacing: 0; font-size: 0.9rem; font-variant-numeric: tabular-nums; }
.summary, .layers { width: 100%; }
th, td { padding: 4px 10px; text-align: right; font-weight: 400; vertical-align: top;
  border-bottom: 1px solid var(--line); }
th[scope=row] { text-align: left; background: var(--card); }
.summary th[scope=row], .layers th[scope=row], .layers thead tr + tr th:first-child {
  position: sticky; left: 0; }
.layers thead tr + tr th:first-child { text-align: left; background: var(--card); }
.group { text-align: left; font-weight: 600; padding-top: 16px; }
.group span { position: sticky; left: 10px; }
.policy { color: var(--c, inherit); font-weight: 600; vertical-align: bottom; min-width: 4em; }
.layers .policy { text-align: center; border-bottom: 2px solid var(--c, var(--line)); }
.layers thead tr + tr th { font-weight: 600; white-space: nowrap; }
.layers th button { border: 0; padding: 0; border-radius: 3px; font-weight: 600; }
.layers th button::after { content: "\2195"; display: inline-block; width: 1.1em;
  text-align: right; color: var(--soft); opacity: 0.6; }
.layers th[aria-sort=ascending] button::after { content: "\2191"; color: inherit; opacity: 1; }
.layers th[aria-sort=descending] button::after { content: "\2193"; color: inherit; opacity: 1; }
.layers tbody tr:hover > * { background: var(--page); }
.settings { width: 100%; }
.settings th, .settings td { text-align: left; white-space: normal; }
.settings td { overflow-wrap: anywhere; }
.settings th { color: var(--soft); width: 45%; }
.columns { display: grid; gap: 24px 40px;
  grid-template-columns: repeat(auto-fit, minmax(min(400px, 100%), 1fr)); }
pre { background: var(--page); border: 1px solid var(--line); border-radius: 8px;
  padding: 10px 14px; margin: 0 0 16px; white-space: pre-wrap; overflow-wrap: anywhere;
  font: 0.875rem/1.5 ui-monospace, SFMono-Regular, Menlo, Consolas, monospace; }
pre span { display: inline-block; max-width: 100%; }
dl { margin: 0; } dt { font-weight: 600; } dd { margin: 0 0 10px; color: var(--soft); }
footer { color: var(--soft); font-size: 0.9rem; padding-bottom: 40px; }

@media (max-width: 640px) {
  main, header, footer { padding-left: 14px; padding-right: 14px; }
  header { padding-top: 16px; }
  section { padding: 16px 14px; margin: 14px 0; }
  .tiles { grid-template-columns: 1fr; gap: 10px; }
  .row { grid-template-columns: 1fr auto; padding: 0 14px 0 8px; margin-top: 4px; }
  .row .range { grid-column: 1 / -1; }
  table { font-size: 0.8125rem; }
  th, td { padding: 4px 5px; }
  .minor span { visibility: hidden; }
  .scale li { font-size: 0.6875rem; }
  .scale li:first-child, .scale li:last-child { padding: 0 4px; font-size: 0.75rem; }
  .heat .plot { padding-left: 32px; padding-right: 38px; }
}
@media print {
  @page { margin: 14mm; }
  :root { font-size: 72%; }
  body { background: none; }
  main, header, footer { max-width: none; padding: 0 1px; }  /* a border at the edge is cut */
  section { border: 0; padding: 0; margin: 22px 0; }
  .tiles { grid-template-columns: repeat(3, 1fr); }
  .scroll { overflow: visible; background: none; }
  th, td { padding: 2px 5px; }
  .summary th[scope=row], .layers th[scope=row], .layers thead tr + tr th:first-child,
  .group span { position: static; }
  .theme, .readout { display: none; }
  .layers th button { display: contents; }
  .layers th button::after { content: none; }
  h2, h3, .note, .key { break-after: avoid; }
  figure, tr, .summary tbody, .tile, .row, dt, dd { break-inside: avoid; }
  dt { break-after: avoid; }
  .maps { grid-template-columns: 1fr 1fr; gap: 18px; }
  .badge, svg, .most, pre { print-color-adjust: exact; -webkit-print-color-adjust: exact; }
}
)css";

}  // namespace

std::string style() {
  // Paper is light whatever the screen is.
  return std::string(":root {") + kLight +
         "}\n@media screen and (prefers-color-scheme: dark) { :root:not([data-theme=light]) {" +
         kDark + "} }\n@media screen { :root[data-theme=dark] {" + kDark + "} }\n" + kRules;
}

}  // namespace lplb::report
