// SPDX-License-Identifier: MIT
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "lplb/simulate.h"

// What a report says in sentences. The page and the command share them: the page escapes them, the
// command prints them as plain().
namespace lplb::report {

/// One change from a policy to another: only the split, or only the placement.
struct Effect {
  enum Kind { kSplit, kPlacement };
  Kind kind;
  const PolicyReport* from;
  const PolicyReport* to;
};

/// The two policies that answer the page's question, and the answer.
struct Answer {
  /// The "+lplb" or "+time" policy with the smallest mean cost, or without a cost model the
  /// smallest mean imbalance.
  const PolicyReport* best = nullptr;
  /// What `best` is compared with: "eplb", otherwise "none", otherwise the first policy that does
  /// not solve. With a cost model: the policy of the smallest mean cost among those that do not
  /// solve, because replicas may cost more than they save.
  const PolicyReport* base = nullptr;
  double cut = 0;  ///< if both exist: cut_between(*base, *best)
  /// How `base` becomes `best`, one change at a time. Empty if placement and split both change, and
  /// no policy between the two was replayed.
  std::vector<Effect> effects;
};

/// Finds these two policies. Policies without a finite mean imbalance are left out.
Answer find_answer(const SimulateReport& report);

/// What policies are compared by: the mean cost of the slowest rank, or without a cost model the
/// mean imbalance.
double mean_of(const PolicyReport& policy);

/// mean_of() with the digits that are shown: "80.2 us" or "1.204". Not escaped.
std::string mean_text(const SimulateReport& report, const PolicyReport& policy);

/// A cost with its unit: "80.2 us". Not escaped.
std::string cost_text(const SimulateReport& report, double cost);

/// 1 - mean_of(to) / mean_of(from): the share of the slowest rank's load or cost that is cut.
double cut_between(const PolicyReport& from, const PolicyReport& to);

/// Whether the means differ in the digits that are shown, and the cut is not 0.0 %.
bool differs(const PolicyReport& from, const PolicyReport& to);

/// What the text calls a policy: "EPLB", "no replicas", or the policy's name. Not escaped.
std::string spoken(const PolicyReport& policy);

/// The answer in a sentence that says what is compared, and what split and placement do by
/// themselves.
std::string verdict(const SimulateReport& report, const Answer& answer);

/// What a rebalance of this policy moves, as a sentence.
std::string price(const SimulateReport& report, const PolicyReport& policy);

/// Sentences about what is not in the figures, or may mislead: policies left out, skipped steps,
/// pairs without tokens, tokens that repeat.
std::vector<std::string> notes(const SimulateReport& report);

/// How many tokens repeat, and whether they were dropped. Empty if none repeat and none were to be
/// dropped.
std::string repeats_note(const std::optional<RepeatedTokens>& found, bool dropped);

/// "2 redundants a rank", or "72 slots in all" if ranks cannot have equally many redundants. Empty
/// if only given placements were replayed.
std::string slots_text(const SimulateReport& report);

/// The redundants of a rank, or -1 if ranks cannot have equally many.
Index redundants_of(const SimulateReport& report);

/// The bytes that a rebalance of all layers moves on average, or 0 if expert_bytes is not given.
double moved_bytes(const SimulateReport& report, const PolicyReport& policy);

/// The share of a layer's expert time that the average rank waits for the slowest: 1 - mean / max
/// load. It takes time to be in proportion to tokens.
double waiting_share(double imbalance);

/// The command that writes the policy's placement for deployment.
std::string deploy_command(const SimulateReport& report, const std::string& policy);

/// The top of the page: the question, the answer, what it means, and the figures it is based on.
std::string answer_html(const SimulateReport& report);

}  // namespace lplb::report
