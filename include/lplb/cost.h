// SPDX-License-Identifier: MIT
#pragma once

#include <cstdint>
#include <limits>
#include <string>
#include <vector>

#include "lplb/export.h"
#include "lplb/types.h"

namespace lplb {

/// A cost in thousandths of the model's unit: with the unit "us" a cost of 42100 is 42.1 us.
using Cost = std::int64_t;

inline constexpr Cost kCostsPerUnit = 1000;
/// The largest cost of a number in a model, also after its division by a speed.
inline constexpr Cost kMaxCost = Cost{1} << 53;
/// The most steps of a table, and the largest number of tokens in it.
inline constexpr std::size_t kMaxCostSteps = 1024;
inline constexpr Load kMaxCostTokens = Load{1} << 53;

/// What the tokens of one expert cost on a rank, in the model's unit. `tokens` ascends. n tokens
/// cost `cost[k]` for the least k with n <= tokens[k]; n tokens beyond the last step cost
/// cost.back() + then_cost * ceil((n - tokens.back()) / then_every). No tokens cost nothing.
struct CostTable {
  double rank = 0;           ///< >= 0: added once to a rank that has any token
  std::vector<Load> tokens;  ///< [steps], 1 to kMaxCostTokens, ascending
  std::vector<double> cost;  ///< [steps], > 0, never less than before
  Load then_every = 1;       ///< 1 to kMaxCostTokens
  double then_cost = 0;      ///< >= 0

  bool operator==(const CostTable&) const = default;
};

/// What a rank's experts cost: its table, summed over the experts that have tokens there, plus the
/// constant `rank`. Times of grouped matrix products are such sums (docs/time.md).
///
/// Inside, costs are integers: each number of a table is rounded to the nearest thousandth of the
/// unit, and to one thousandth at least if it must be > 0. On a rank with a speed s, each of these
/// integers is divided by s and rounded up.
class LPLB_API CostModel {
 public:
  /// One table for all ranks. Throws ArgumentError, which names the field, if a table is empty,
  /// `cost` and `tokens` have different lengths or more than kMaxCostSteps entries, `tokens` does
  /// not ascend, `cost` descends, or a number is out of its range, not finite, or above kMaxCost
  /// thousandths.
  CostModel(std::string unit, CostTable table);
  /// One table for each rank: [num_ranks]. Throws the same, and if there is none.
  CostModel(std::string unit, std::vector<CostTable> tables);

  const std::string& unit() const { return unit_; }
  /// As given: [1] for all ranks, or [num_ranks].
  const std::vector<CostTable>& tables() const { return tables_; }
  /// The version of this content, unique in the process. Copies have the same.
  std::uint64_t version() const { return version_; }

  /// A hash of the tables, the same in all processes.
  std::uint64_t fingerprint() const;

  /// What `tokens` >= 0 tokens of one expert cost on `rank`, if its speed is `speed`; and the
  /// constant of a rank that has tokens. Throws ArgumentError if a number of the table passes
  /// kMaxCost after its division by `speed`. A cost that passes 2^62 is given as 2^62.
  Cost expert_cost(Index rank, Load tokens, double speed = 1.0) const;
  Cost rank_cost(Index rank, double speed = 1.0) const;

  /// Whether unit and tables are equal.
  bool operator==(const CostModel&) const;

 private:
  std::string unit_;
  std::vector<CostTable> tables_;
  std::uint64_t version_ = 0;
};

/// The model for engines that have no measurement: each expert with tokens costs 1, whatever their
/// number. It counts the experts whose weights a rank reads, which decides the time of small
/// batches. Its unit is "experts".
LPLB_API CostModel weights_only_model();

}  // namespace lplb
