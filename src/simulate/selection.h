// SPDX-License-Identifier: MIT
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <unordered_map>
#include <unordered_set>
#include <vector>

#include "lplb/simulate.h"

namespace lplb::replay {

/// Counts how often values occur, in bounded memory (Misra and Gries, 1982). A count may be too
/// small, by at most total() / kMaxValues. It is exact if there are no more than kMaxValues
/// different values.
class FrequentValues {
 public:
  static constexpr std::size_t kMaxValues = std::size_t{1} << 16;

  void add(std::uint64_t value);
  std::int64_t total() const { return total_; }
  /// The values that are more than a tenth of all, and their counts.
  std::unordered_map<std::uint64_t, std::int64_t> frequent() const;

 private:
  std::unordered_map<std::uint64_t, std::int64_t> counts_;
  std::int64_t total_ = 0;
};

/// The steps of a trace that a replay reads: without the first skip_steps, and with drop_repeats
/// without the tokens that choose the same experts as more than a tenth of all.
class Selection : public TraceReader {
 public:
  /// Opens the trace. With drop_repeats it is read once, to its end. Throws what open_trace()
  /// throws, and ArgumentError if drop_repeats is set and the trace has no recorded routing.
  Selection(const SimulateOptions& options, const SyntheticOptions& synthetic);

  const TraceInfo& info() const override { return info_; }
  bool next(TraceStep& step) override;

  std::int64_t num_read() const { return num_read_; }  ///< steps, the skipped ones included
  /// The tokens that repeat, of the steps so far; with drop_repeats of all steps.
  std::optional<RepeatedTokens> repeats() const;

 private:
  bool read(TraceReader& reader, TraceStep& step);
  void count(const TraceStep& step);
  void drop(TraceStep& step) const;
  std::uint64_t choice_of(const Index* experts) const;

  std::int64_t skip_steps_;
  std::unique_ptr<TraceReader> reader_;
  TraceInfo info_;
  bool has_routing_ = false;  // a recorded one
  std::int64_t num_read_ = 0;
  FrequentValues choices_;
  std::optional<std::unordered_set<std::uint64_t>> dropped_;  // choices; empty: nothing is dropped
};

}  // namespace lplb::replay
