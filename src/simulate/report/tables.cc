// SPDX-License-Identifier: MIT
#include "simulate/report/tables.h"

#include <fmt/ranges.h>

#include <cmath>
#include <limits>

#include "core/format.h"
#include "simulate/report/answer.h"
#include "simulate/report/markup.h"
#include "simulate/report/styles.h"

namespace lplb::report {
namespace {

constexpr double kAbsent = std::numeric_limits<double>::quiet_NaN();

using Policy = PolicyReport;

double costing(const Policy& policy, double Distribution::*value) {
  return policy.cost ? policy.cost->max.*value : kAbsent;
}

double solving(const Policy& policy, double value) { return policy.solves > 0 ? value : kAbsent; }

std::string ratio(double value) { return fixed(value, 3); }
std::string share(double value) { return percent(value, 2); }
std::string tenths(double value) { return fixed(value, 1); }
std::string micros(double value) { return fixed(value, 2); }
std::string count(double value) { return grouped(static_cast<std::int64_t>(value)); }

struct Row {
  const char* label;
  const char* metric;  ///< its path in report_json(); only "waiting" is not in it
  double (*value)(const Policy&);
  std::string (*text)(double);
};

struct Group {
  std::string title;
  std::vector<Row> rows;
};

/// What the slowest rank costs, and how far that is above the proven bound.
std::vector<Group> cost_groups(const std::string& unit) {
  return {
      {formatted("Cost of the slowest rank ({})", escape(unit)),
       {{"mean", "cost.mean", [](const Policy& p) { return costing(p, &Distribution::mean); },
         tenths},
        {"p50", "cost.p50", [](const Policy& p) { return costing(p, &Distribution::p50); }, tenths},
        {"p95", "cost.p95", [](const Policy& p) { return costing(p, &Distribution::p95); }, tenths},
        {"p99", "cost.p99", [](const Policy& p) { return costing(p, &Distribution::p99); }, tenths},
        {"worst", "cost.max", [](const Policy& p) { return costing(p, &Distribution::max); },
         tenths}}},
      {"Gap to the proven bound of the cost",
       {{"mean", "cost.gap.mean",
         [](const Policy& p) { return p.cost ? p.cost->gap_mean : kAbsent; }, share},
        {"worst", "cost.gap.max",
         [](const Policy& p) { return p.cost ? p.cost->gap_max : kAbsent; }, share}}},
  };
}

/// Copies of experts for each batch.
Group copy_group(const SimulateOptions& o) {
  Group group = {
      "Copies a batch and layer",
      {{"mean", "copies.mean", [](const Policy& p) { return p.copies ? p.copies->mean : kAbsent; },
        tenths},
       {"most", "copies.max",
        [](const Policy& p) { return p.copies ? double(p.copies->max) : kAbsent; }, count},
       {"of the busiest rank", "copies.busiest",
        [](const Policy& p) { return p.copies ? p.copies->busiest_mean : kAbsent; }, tenths}}};
  if (o.expert_bytes > 0) {
    group.rows.push_back({"bytes", "copies.mean_bytes",
                          [](const Policy& p) { return p.copies ? p.copies->mean_bytes : kAbsent; },
                          bytes_text});
  }
  if (o.copy_gigabytes_per_s > 0) {
    group.rows.push_back(
        {"µs that nothing hides", "copies.exposed_us",
         [](const Policy& p) { return p.copies ? p.copies->exposed_us_mean : kAbsent; }, micros});
  }
  return group;
}

std::vector<Group> summary_groups() {
  return {
      {"Imbalance",
       {{"mean", "imbalance.mean", [](const Policy& p) { return p.imbalance.mean; }, ratio},
        {"p50", "imbalance.p50", [](const Policy& p) { return p.imbalance.p50; }, ratio},
        {"p95", "imbalance.p95", [](const Policy& p) { return p.imbalance.p95; }, ratio},
        {"p99", "imbalance.p99", [](const Policy& p) { return p.imbalance.p99; }, ratio},
        {"worst", "imbalance.max", [](const Policy& p) { return p.imbalance.max; }, ratio},
        {"waiting", "waiting", [](const Policy& p) { return waiting_share(p.imbalance.mean); },
         share}}},
      {"Gap to the proven bound",
       {{"mean", "gap.mean", [](const Policy& p) { return p.gap_mean; }, share},
        {"worst", "gap.max", [](const Policy& p) { return p.gap_max; }, share}}},
      {"Solving",
       {{"solves", "solves", [](const Policy& p) { return double(p.solves); }, count},
        {"proven optimal", "optimal", [](const Policy& p) { return double(p.optimal); }, count}}},
      {"Microseconds a solve",
       {{"mean", "solve_us.mean", [](const Policy& p) { return solving(p, p.solve_us.mean); },
         micros},
        {"p50", "solve_us.p50", [](const Policy& p) { return solving(p, p.solve_us.p50); }, micros},
        {"p95", "solve_us.p95", [](const Policy& p) { return solving(p, p.solve_us.p95); }, micros},
        {"p99", "solve_us.p99", [](const Policy& p) { return solving(p, p.solve_us.p99); }, micros},
        {"worst", "solve_us.max", [](const Policy& p) { return solving(p, p.solve_us.max); },
         micros}}},
      {"Weights and tokens that move",
       {{"rebalances", "rebalances", [](const Policy& p) { return double(p.rebalances); }, count},
        {"experts moved", "moved_experts.total",
         [](const Policy& p) { return double(p.moved_experts); }, count},
        {"moved per rebalance", "moved_experts.mean",
         [](const Policy& p) { return p.moved_experts_mean; }, tenths},
        {"tokens that stay", "local_share",
         [](const Policy& p) { return p.local_share.value_or(kAbsent); }, share}}},
  };
}

std::string region(const char* label, const std::string& table) {
  // A wide table scrolls by itself, also with the keyboard. The page never scrolls sideways.
  return formatted(
      "<div class=\"scroll\" role=\"region\" tabindex=\"0\" aria-label=\"{}\">\n{}</div>\n", label,
      table);
}

/// Lets the name break after each plus, so that columns stay narrow.
std::string breakable(const std::string& name) {
  std::string out;
  for (const char c : escape(name)) {
    out += c;
    if (c == '+') out += "<wbr>";
  }
  return out;
}

std::string policy_heads(const SimulateReport& report, int columns) {
  const std::vector<std::string> classes = policy_classes(report);
  const std::string scope =
      columns == 1 ? R"(scope="col")" : formatted(R"(scope="colgroup" colspan="{}")", columns);
  std::string out;
  for (std::size_t i = 0; i < report.policies.size(); ++i) {
    out += formatted(R"(<th {} class="policy {}">{}<span class="name">{}</span></th>)", scope,
                     classes[i], swatch(), breakable(report.policies[i].name));
  }
  return out;
}

}  // namespace

std::string summary_table(const SimulateReport& report) {
  std::string out = "<table class=\"summary\">\n<thead><tr><td></td>" + policy_heads(report, 1) +
                    "</tr></thead>\n";
  std::vector<Group> groups = summary_groups();
  if (report.settings.cost) {
    const std::vector<Group> cost = cost_groups(report.settings.cost->unit());
    groups.insert(groups.begin(), cost.begin(), cost.end());
  }
  if (report.settings.controller) {
    groups.back().rows.push_back({"mean with moves charged", "charged",
                                  [](const Policy& p) { return p.charged.value_or(kAbsent); },
                                  report.settings.cost ? tenths : ratio});
  }
  if (makes_copies(report)) groups.push_back(copy_group(report.settings));
  for (const Group& group : groups) {
    out += formatted(
        "<tbody><tr><th scope=\"rowgroup\" colspan=\"{}\" class=\"group\"><span>{}</span></th>"
        "</tr>\n",
        report.policies.size() + 1, group.title);
    for (const Row& row : group.rows) {
      out += formatted("<tr><th scope=\"row\">{}</th>", row.label);
      for (std::size_t i = 0; i < report.policies.size(); ++i) {
        const PolicyReport& policy = report.policies[i];
        const double value = row.value(policy);
        out += formatted(R"(<td class="p{}"{}>{}</td>)", i,
                         data_attributes(policy.name, row.metric, value),
                         std::isfinite(value) ? row.text(value) : "–");
      }
      out += "</tr>\n";
    }
    out += "</tbody>\n";
  }
  return region("All figures of all policies", out + "</table>\n");
}

std::string layer_table(const SimulateReport& report) {
  const auto num_layers = static_cast<std::size_t>(report.trace.num_layers);
  const Answer answer = find_answer(report);
  const bool saves = answer.best != nullptr && answer.base != nullptr;
  std::string heads, out;
  for (std::size_t p = 0; p < report.policies.size(); ++p) {
    const PolicyReport& policy = report.policies[p];
    if (policy.layer_mean.size() != num_layers || policy.layer_max.size() != num_layers) {
      return "<p>No layer was replayed.</p>\n";
    }
    for (const char* kind : {"mean", "max"}) {
      heads += formatted(
          R"(<th scope="col" class="p{}" data-sort data-policy="{}" data-metric="layers.{}">{}</th>)",
          p, escape(policy.name), kind, kind[1] == 'e' ? "mean" : "worst");
    }
  }
  for (std::size_t i = 0; i < num_layers; ++i) {
    const std::int64_t layer = report.trace.layer_number(i);
    out += formatted(R"(<tr data-layer="{0}"><th scope="row" data-value="{0}">{0}</th>)", layer);
    for (std::size_t p = 0; p < report.policies.size(); ++p) {
      const PolicyReport& policy = report.policies[p];
      for (const double value : {policy.layer_mean[i], policy.layer_max[i]}) {
        out +=
            formatted(R"(<td class="p{}" data-value="{}">{}</td>)", p, exact(value), ratio(value));
      }
    }
    if (saves) {
      const double cut =
          answer.best->cost && answer.base->cost
              ? 1 - answer.best->cost->layer_mean[i] / answer.base->cost->layer_mean[i]
              : 1 - answer.best->layer_mean[i] / answer.base->layer_mean[i];
      out += formatted(R"(<td data-value="{}">{}</td>)", exact(cut), percent(cut));
    }
    out += "</tr>\n";
  }
  return region(
      "Imbalance of each layer",
      "<table class=\"layers\">\n<thead><tr><td></td>" + policy_heads(report, 2) +
          (!saves                 ? ""
           : report.settings.cost ? R"(<th scope="colgroup" class="policy">LPLB, cost</th>)"
                                  : R"(<th scope="colgroup" class="policy">LPLB</th>)") +
          R"(</tr>
<tr><th scope="col" data-sort aria-sort="ascending">layer</th>)" +
          heads + (saves ? R"(<th scope="col" data-sort>cuts</th>)" : "") +
          "</tr></thead>\n<tbody>\n" + out + "</tbody>\n</table>\n");
}

std::string settings_table(const SimulateReport& report) {
  const SimulateOptions& o = report.settings;
  const TraceInfo& trace = report.trace;
  std::string out = "<table class=\"settings\">\n<tbody>\n";
  const auto text = [&out](const char* label, const char* key, const std::string& value,
                           const std::string& shown) {
    out += formatted(
        "<tr><th scope=\"row\">{}</th><td data-setting=\"{}\" data-value=\"{}\">{}</td></tr>\n",
        label, key, escape(value), escape(shown));
  };
  const auto number = [&text](const char* label, const char* key, auto value,
                              const std::string& note = "") {
    text(label, key, formatted("{}", value), grouped(static_cast<std::int64_t>(value)) + note);
  };
  text("trace", "trace.name", trace.name,
       trace.name + (trace.synthetic ? " (synthetic: made by a formula, not recorded)" : ""));
  text("read from", "settings.trace", o.trace, o.trace);
  text("format", "trace.format", trace.format, trace.format);
  std::string numbered;
  if (!trace.layers.empty()) {
    numbered =
        formatted(" (numbered {} to {}, with gaps)", trace.layers.front(), trace.layers.back());
  } else if (trace.first_layer != 0 || trace.layer_stride != 1) {
    numbered = formatted(" (numbered from {}, {} apart)", trace.first_layer, trace.layer_stride);
  }
  number("layers", "trace.num_layers", trace.num_layers, numbered);
  number("logical experts a layer", "trace.num_logical_experts", trace.num_logical_experts);
  number("experts a token", "trace.num_topk", trace.num_topk);
  number("batches", "trace.num_batches", report.num_batches);
  number("tokens", "trace.num_tokens", report.num_tokens);
  number("pairs in the figures", "trace.num_pairs", report.num_pairs);
  number("pairs without tokens", "trace.num_empty_pairs", report.num_empty_pairs);
  if (report.num_cut_loads > 0) {
    number("steps cut in proportion", "trace.num_cut_loads", report.num_cut_loads);
  }
  number("ranks", "settings.num_ranks", o.num_ranks);
  number("nodes", "settings.num_nodes", o.num_nodes);
  number("router’s expert groups", "settings.num_groups", o.num_groups);
  if (redundants_of(report) >= 0) {
    number("redundants a rank", "settings.redundants", redundants_of(report));
  }
  if (o.num_replicas > 0) number("slots of a layer", "settings.num_replicas", o.num_replicas);
  text("policies", "settings.policies", formatted("{}", fmt::join(o.policies, ",")),
       formatted("{}", fmt::join(o.policies, ", ")));
  number("tokens a batch, at least", "settings.batch_tokens", o.batch_tokens,
         o.batch_tokens == 0 ? " (steps as recorded)" : "");
  number("steps skipped", "settings.skip_steps", o.skip_steps);
  const char* const dropped = o.drop_repeats ? "true" : "false";
  text("repeated tokens dropped", "settings.drop_repeats", dropped, o.drop_repeats ? "yes" : "no");
  number("batches of warm-up", "settings.warm_up", o.warm_up);
  number("past batches a placement is made from", "settings.window", o.window);
  number("batches between two placements", "settings.rebalance_every", o.rebalance_every);
  if (o.cost) {
    text("cost model", "settings.cost_file", o.cost_file,
         formatted("{} ({})", o.cost_file.empty() ? "not from a file" : o.cost_file,
                   o.cost->unit()));
  }
  text("solver", "settings.solver", solver_name(o.solver), solver_name(o.solver));
  number("threads", "settings.num_threads", o.num_threads);
  if (o.expert_bytes > 0) number("bytes of an expert", "settings.expert_bytes", o.expert_bytes);
  if (makes_copies(report)) {
    const auto real = [&text](const char* label, const char* key, double value) {
      text(label, key, exact(value), exact(value));
    };
    real("copies up to a load of, in means", "settings.copy_target", o.copy_target);
    number("tokens of a copy, at least", "settings.copy_min_tokens", o.copy_min_tokens);
    number("domains that copies stay in", "settings.copy_domains", o.copy_domains);
    if (o.copy_gigabytes_per_s > 0) {
      real("gigabytes a second for copies", "settings.copy_gigabytes_per_s",
           o.copy_gigabytes_per_s);
      real("µs that other work hides", "settings.copy_hidden_us", o.copy_hidden_us);
    }
  }
  if (trace.format == "synthetic") {
    const SyntheticOptions& s = o.synthetic;
    number("synthetic: steps", "settings.synthetic.num_steps", s.num_steps);
    number("synthetic: tokens a step", "settings.synthetic.num_tokens", s.num_tokens);
    const std::string seed = formatted("{}", s.seed);
    text("synthetic: seed", "settings.synthetic.seed", seed, seed);
  }
  return out + "</tbody>\n</table>\n";
}

}  // namespace lplb::report
