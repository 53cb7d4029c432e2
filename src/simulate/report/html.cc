// SPDX-License-Identifier: MIT
#include <fmt/ranges.h>

#include "core/format.h"
#include "lplb/simulate.h"
#include "simulate/report/answer.h"
#include "simulate/report/charts.h"
#include "simulate/report/markup.h"
#include "simulate/report/page.h"
#include "simulate/report/tables.h"

namespace lplb {
namespace {

using namespace report;

std::string top(const SimulateReport& report) {
  const std::string text =
      formatted("LPLB replay of <b>{}</b>{} · {}, {}, {}, top {}", escape(report.trace.name),
                synthetic_badge(report), counted(report.num_batches, "batch"),
                counted(report.trace.num_layers, "layer"),
                counted(report.trace.num_logical_experts, "expert"), report.trace.num_topk);
  return "<header>\n" + page_top(text) + answer_html(report) + "</header>\n";
}

/// `note` is the page's own text and is not escaped.
std::string section(const SimulateReport& report, const char* id, const char* title,
                    const std::string& note, const std::string& body) {
  return page_section(id, title + synthetic_badge(report), note, body);
}

std::string cost_definition(const SimulateReport& report) {
  if (!report.settings.cost) return "";
  return "<dt>Cost</dt>\n"
         "<dd>What a rank’s experts take by the cost model. Figures are of the slowest rank of a "
         "batch and layer, and its gap is to the least that any split over the same placement "
         "is proven to cost. Policies with +time split by it.</dd>\n";
}

std::string definitions(const SimulateReport& report) {
  return "<dl>\n" + cost_definition(report) +
         "<dt>Imbalance</dt>\n"
         "<dd>Largest rank load / mean rank load of one batch and layer. 1.0 is perfect. Figures "
         "are over all (batch, layer) pairs with tokens, which all have the same weight.</dd>\n"
         "<dt>Waiting</dt>\n"
         "<dd>1 - 1 / mean imbalance: the share of the expert time that the average rank waits for "
         "the slowest, if time is in proportion to tokens.</dd>\n"
         "<dt>Gap to the proven bound</dt>\n"
         "<dd>How far the largest rank load is above the least that any split over the same "
         "placement can reach. 0 is optimal; an even split's gap is what the exact split would "
         "save.</dd>\n"
         "<dt>p50, p95, p99</dt>\n"
         "<dd>The value that 50, 95 or 99 % of all pairs stay at or below.</dd>\n"
         "<dt>Policies</dt>\n"
         "<dd>none: experts in order, no replicas. eplb: placed by EPLB from past loads, tokens "
         "split evenly over an expert's replicas. eplb+lplb: the same placement, split exactly. "
         "TOPOLOGY+even and TOPOLOGY+lplb: replicas along a topology's edges, split evenly or "
         "exactly. file:PATH: a placement that was given, which never changes. With +stale: split "
         "in proportion to the exact split of the previous batch. With +dynamic:S: experts are "
         "copied for each batch to S dynamic slots of a rank, and split exactly over these too. A "
         "placement is made from past batches only, every other split, and copies, from the batch "
         "itself.</dd>\n"
         "<dt>Experts moved</dt>\n"
         "<dd>Experts whose weights a rank must fetch from another when a layer is placed again; "
         "the mean is a rebalance of one layer.</dd>\n"
         "<dt>Tokens that stay</dt>\n"
         "<dd>The share of tokens whose expert is on the rank that holds them, if the trace "
         "tells.</dd>\n"
         "</dl>\n";
}

std::string origin(const SimulateReport& report, const std::string& command) {
  std::string made_by;
  if (!command.empty()) {
    made_by =
        formatted("<h3>Command</h3>\n<pre><code data-command>{}</code></pre>\n", words(command));
  }
  return "<div class=\"columns\">\n<div>\n" + made_by + "<h3>Settings</h3>\n" +
         settings_table(report) + "</div>\n<div>\n<h3>Terms</h3>\n" + definitions(report) +
         "</div>\n</div>\n";
}

/// The element with all figures, and what the script must know of all of them.
std::string open_main(const SimulateReport& report) {
  std::string layers, domains;
  for (Index i = 0; i < report.trace.num_layers; ++i) {
    layers +=
        formatted("{}{}", i > 0 ? " " : "", report.trace.layer_number(static_cast<std::size_t>(i)));
  }
  for (const DomainStart& domain : report.domains) {
    domains +=
        formatted("{}{} {}", domains.empty() ? "" : "\n", domain.first_batch, escape(domain.name));
  }
  return formatted(R"(<main data-bucket-start="{}" data-num-batches="{}" data-layers="{}" )"
                   R"(data-rebalance-every="{}" data-domains="{}">
)",
                   fmt::join(report.bucket_start, " "), report.num_batches, layers,
                   report.settings.rebalance_every, domains);
}

}  // namespace

std::string report_html(const SimulateReport& report, const std::string& command) {
  std::string out = page_head(formatted("LPLB replay of {}{}", report.trace.name,
                                        report.trace.synthetic ? " (synthetic)" : "")) +
                    top(report);
  out += open_main(report) + controls_html(report);
  out += section(report, "distribution", "Imbalance of each policy",
                 report.settings.cost
                     ? "Every batch and layer is one value, in tokens. Policies that split by cost "
                       "may be further right and cost less."
                     : "Every batch and layer is one value. The further right, the longer the "
                       "slowest rank keeps the others waiting.",
                 ranges_html(report));
  out += section(
      report, "time", "Imbalance over time",
      report.trace.num_layers > 1 ? "Mean over the layers, batch by batch." : "Batch by batch.",
      over_time_html(report));
  out += section(report, "ranks", "Load of each rank over time",
                 report.trace.num_layers > 1
                     ? "Rank load / mean rank load, as the mean over the layers: different ranks "
                       "are slowest in different layers, so it is milder than the imbalance."
                     : "Rank load / mean rank load.",
                 heat_html(report));
  out +=
      section(report, "experts", "The hottest experts",
              "Their tokens in all batches, and how many replicas each placement would give them "
              "after the last batch. An expert that is hot and has one replica keeps its rank "
              "busy, however tokens are split.",
              experts_html(report));
  out += section(report, "figures", "All figures",
                 "Each policy has a column. The terms are explained below.", summary_table(report));
  out += section(report, "layers", "Layer by layer",
                 report.settings.cost
                     ? "Mean and worst imbalance of each layer, and how much of its mean cost LPLB "
                       "cuts. A click on a header sorts."
                     : "Mean and worst imbalance of each layer. A click on a header sorts.",
                 layer_table(report));
  out += section(report, "origin", "How this was made",
                 "The same command makes the same figures, "
                 "except for the times.",
                 origin(report, command));
  return out + "</main>\n" + page_end();
}

}  // namespace lplb
