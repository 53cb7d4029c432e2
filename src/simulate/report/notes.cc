// SPDX-License-Identifier: MIT

#include "core/format.h"
#include "io/text.h"
#include "simulate/report/answer.h"
#include "simulate/report/markup.h"
#include "simulate/report/styles.h"

namespace lplb::report {

std::string repeats_note(const std::optional<RepeatedTokens>& found, bool dropped) {
  if (!found && !dropped) return "";
  if (!found) {
    return "No tokens were dropped: no choice of experts is that of more than a tenth of them.";
  }
  const RepeatedTokens& repeats = *found;
  const std::string who =
      formatted("{} of the tokens ({})", percent(repeats.share), grouped(repeats.num_tokens));
  const std::string what =
      repeats.num_choices == 1
          ? "choose the very same experts in all layers as one another"
          : formatted(
                "make one of {} choices of experts, each that of more than a tenth of all "
                "tokens in all layers",
                repeats.num_choices);
  return dropped ? formatted("{} {}. They were left out.", who, what)
                 : formatted(
                       "{} {}: this may be padding or warm-up. --drop-repeats leaves these "
                       "tokens out, --skip-steps the first steps.",
                       who, what);
}

std::vector<std::string> notes(const SimulateReport& report) {
  const SimulateOptions& o = report.settings;
  std::vector<std::string> notes;
  notes.reserve(report.left_out.size());
  for (const std::string& name : report.left_out) {
    notes.push_back(formatted("The policy {} is left out, because {} are no multiple of {}.", name,
                              counted(report.trace.num_logical_experts, "expert"),
                              counted(o.num_ranks, "rank")));
  }
  if (o.skip_steps > 0) {
    notes.push_back(formatted("{} of the trace {} skipped.", counted(o.skip_steps, "step"),
                              o.skip_steps == 1 ? "was" : "were"));
  }
  if (o.warm_up > 0) {
    const std::string batches =
        o.warm_up == 1 ? "batch is" : formatted("{} are", counted(o.warm_up, "batch"));
    notes.push_back(formatted("The first {} in no figure (warm-up).", batches));
  }
  if (report.num_empty_pairs > 0) {
    notes.push_back(formatted(
        "{} of {} (batch, layer) pairs {} no tokens and {} in no figure.",
        grouped(report.num_empty_pairs), grouped(report.num_pairs + report.num_empty_pairs),
        report.num_empty_pairs == 1 ? "has" : "have", report.num_empty_pairs == 1 ? "is" : "are"));
  }
  if (report.num_cut_loads > 0) {
    notes.push_back(formatted(
        "{} of the trace {} no routing and {} cut in proportion: real batches of this size vary "
        "more and have fewer active experts. A routing (STEM.topk.npy) is cut by tokens.",
        counted(report.num_cut_loads, "step"), report.num_cut_loads == 1 ? "has" : "have",
        report.num_cut_loads == 1 ? "was" : "were"));
  }
  const std::string repeats = repeats_note(report.repeats, o.drop_repeats);
  if (!repeats.empty()) notes.push_back(repeats);
  return notes;
}

std::string slots_text(const SimulateReport& report) {
  if (report.settings.num_replicas == 0) return "";
  const Index redundants = redundants_of(report);
  return redundants >= 0 ? counted(redundants, "redundant") + " a rank"
                         : counted(report.settings.num_replicas, "slot") + " in all";
}

std::string deploy_command(const SimulateReport& report, const std::string& policy) {
  const SimulateOptions& o = report.settings;
  const SimulateOptions standard;
  std::string line = "lplb simulate";
  const auto add = [&line](const char* option, const std::string& value) {
    line += formatted(" {} {}", option, io::shell_word(value));
  };
  const auto add_number = [&](const char* option, auto value, auto normal) {
    if (value != normal) add(option, formatted("{}", value));
  };
  add("--trace", o.trace);
  if (report.trace.format == "synthetic") {
    const SyntheticOptions& s = o.synthetic;
    const SyntheticOptions& n = standard.synthetic;
    add_number("--synthetic-num-logical-experts", s.num_logical_experts, n.num_logical_experts);
    add_number("--synthetic-num-topk", s.num_topk, n.num_topk);
    add_number("--synthetic-num-layers", s.num_layers, n.num_layers);
    add_number("--synthetic-num-steps", s.num_steps, n.num_steps);
    add_number("--synthetic-num-tokens", s.num_tokens, n.num_tokens);
    add_number("--synthetic-seed", s.seed, n.seed);
  }
  add("--num-ranks", formatted("{}", o.num_ranks));
  add_number("--num-nodes", o.num_nodes, standard.num_nodes);
  add_number("--num-groups", o.num_groups, standard.num_groups);
  const Index redundants = redundants_of(report);
  if (redundants >= 0) {
    add("--redundants", formatted("{}", redundants));
  } else {
    add_number("--num-replicas", o.num_replicas, standard.num_replicas);
  }
  add_number("--batch-tokens", o.batch_tokens, standard.batch_tokens);
  add_number("--skip-steps", o.skip_steps, standard.skip_steps);
  if (o.drop_repeats) line += " --drop-repeats";
  add_number("--window", o.window, standard.window);
  add_number("--rebalance-every", o.rebalance_every, standard.rebalance_every);
  if (splits_by_cost(policy)) add("--cost", o.cost_file.empty() ? "cost.json" : o.cost_file);
  std::string listed;
  for (const char c : policy) listed += c == ',' ? std::string("\\,") : std::string(1, c);
  add("--policies", listed);
  add("--write-placement", "placement.json");
  add("--policy", policy);
  return line;
}

}  // namespace lplb::report
