// SPDX-License-Identifier: MIT
#include <atomic>
#include <bit>
#include <cmath>

#include "core/check.h"
#include "core/cost_curve.h"
#include "core/exact_speed.h"
#include "lplb/cost.h"

namespace lplb {
namespace {

constexpr Cost kLargestInUnits = kMaxCost / kCostsPerUnit;
constexpr auto kLargest = static_cast<double>(kLargestInUnits);

/// A number of a table in thousandths.
Cost thousandths(double value, Cost least) {
  return std::max<Cost>(least, std::llround(value * static_cast<double>(kCostsPerUnit)));
}

void check_cost(double value, const std::string& name) {
  check_argument(std::isfinite(value) && value >= 0 && value <= kLargest, name.c_str(),
                 "is {}, expected a number from 0 to {:.0f}", value, kLargest);
}

void check_table(const CostTable& t, const std::string& where) {
  const auto name = [&](const char* field) { return where + field; };
  const auto entry = [&](const char* field, std::size_t i) {
    return formatted("{}{}[{}]", where, field, i);
  };
  check_cost(t.rank, name("rank"));
  check_argument(!t.tokens.empty(), name("tokens").c_str(), "is empty, expected at least one step");
  check_argument(t.tokens.size() <= kMaxCostSteps, name("tokens").c_str(),
                 "has {} entries, expected at most {}", t.tokens.size(), kMaxCostSteps);
  check_argument(t.cost.size() == t.tokens.size(), name("cost").c_str(),
                 "has {} entries, expected {} as tokens has", t.cost.size(), t.tokens.size());
  for (std::size_t i = 0; i < t.tokens.size(); ++i) {
    const Load before = i == 0 ? 0 : t.tokens[i - 1];
    check_argument(t.tokens[i] > before && t.tokens[i] <= kMaxCostTokens,
                   entry("tokens", i).c_str(), "is {}, expected more than {}{}", t.tokens[i],
                   before, t.tokens[i] > before ? " and at most 2^53" : "");
    check_cost(t.cost[i], entry("cost", i));
    check_argument(t.cost[i] > 0, entry("cost", i).c_str(), "is 0, expected more than 0");
    check_argument(i == 0 || t.cost[i] >= t.cost[i - 1], entry("cost", i).c_str(),
                   "is {}, expected at least {}, which fewer tokens cost", t.cost[i],
                   i == 0 ? 0 : t.cost[i - 1]);
  }
  check_argument(t.then_every >= 1 && t.then_every <= kMaxCostTokens, name("then_every").c_str(),
                 "is {}, expected 1 to 2^53", t.then_every);
  check_cost(t.then_cost, name("then_cost"));
}

std::uint64_t next_version() {
  static std::atomic<std::uint64_t> versions{0};
  return ++versions;
}

}  // namespace

Cost divide_by_speed(Cost cost, double speed) {
  if (cost == 0) return 0;
  const ExactSpeed exact(speed);
  const int exponent = exact.exponent;
  Int128 dividend = cost;
  Int128 divisor = exact.mantissa;
  if (exponent < 0) {
    const int width = static_cast<int>(std::bit_width(static_cast<std::uint64_t>(cost)));
    if (width - exponent > 53 + 53 + 1) return -1;
    dividend <<= -exponent;
  } else {
    if (exponent > 11) return 1;  // a speed above 2^63
    divisor <<= exponent;
  }
  const Int128 quotient = (dividend + divisor - 1) / divisor;
  return quotient <= kMaxCost ? static_cast<Cost>(quotient) : -1;
}

Cost multiply_by_speed(Cost cost, double speed) {
  const ExactSpeed exact(speed);
  const int exponent = exact.exponent;
  const Int128 product = static_cast<Int128>(exact.mantissa) * cost;  // below 2^115
  if (product == 0) return 0;
  if (exponent <= -126) return 0;
  if (exponent > 10) return kCostLimit;  // mantissa * 2^11 alone passes 2^62
  const Int128 shifted = exponent < 0 ? product >> -exponent
                         : product > (static_cast<Int128>(kCostLimit) >> exponent)
                             ? static_cast<Int128>(kCostLimit)
                             : product << exponent;
  return shifted < kCostLimit ? static_cast<Cost>(shifted) : kCostLimit;
}

void CostCurve::assign(const CostTable& table, double speed) {
  const auto scaled = [speed](double value, Cost least) {
    const Cost quotient = divide_by_speed(thousandths(value, least), speed);
    check_argument(quotient >= 0, "cost", "{} divided by the speed {} passes 2^53 thousandths",
                   value, speed);
    return quotient;
  };
  rank = scaled(table.rank, 0);
  tokens.assign(table.tokens.begin(), table.tokens.end());
  cost.resize(table.cost.size());
  for (std::size_t i = 0; i < cost.size(); ++i) cost[i] = scaled(table.cost[i], 1);
  then_every = table.then_every;
  then_cost = scaled(table.then_cost, 0);
}

CostModel::CostModel(std::string unit, CostTable table)
    : unit_(std::move(unit)), tables_{std::move(table)}, version_(next_version()) {
  check_table(tables_[0], "");
}

CostModel::CostModel(std::string unit, std::vector<CostTable> tables)
    : unit_(std::move(unit)), tables_(std::move(tables)), version_(next_version()) {
  check_argument(!tables_.empty(), "ranks", "is empty, expected a table for each rank");
  check_argument(tables_.size() <= static_cast<std::size_t>(kMaxRanks), "ranks",
                 "has {} tables, expected at most {}", tables_.size(), kMaxRanks);
  for (std::size_t g = 0; g < tables_.size(); ++g) {
    check_table(tables_[g], tables_.size() == 1 ? "" : formatted("ranks[{}].", g));
  }
}

namespace {

const CostTable& table_of(const CostModel& model, Index rank) {
  const auto tables = static_cast<Index>(model.tables().size());
  check_argument(rank >= 0 && (tables == 1 || rank < tables), "rank",
                 "is {}, expected 0 to {} as the cost model has", rank, tables - 1);
  return model.tables()[tables == 1 ? 0 : static_cast<std::size_t>(rank)];
}

}  // namespace

Cost CostModel::expert_cost(Index rank, Load tokens, double speed) const {
  CostCurve curve;
  curve.assign(table_of(*this, rank), speed);
  return curve.of(tokens);
}

Cost CostModel::rank_cost(Index rank, double speed) const {
  CostCurve curve;
  curve.assign(table_of(*this, rank), speed);
  return curve.rank;
}

std::uint64_t CostModel::fingerprint() const {
  std::uint64_t hash = 0xcbf29ce484222325u;  // FNV-1a, by whole entries in place of bytes
  const auto add = [&hash](std::uint64_t value) { hash = (hash ^ value) * 0x100000001b3u; };
  for (const CostTable& table : tables_) {
    add(std::bit_cast<std::uint64_t>(table.rank));
    for (const Load tokens : table.tokens) add(static_cast<std::uint64_t>(tokens));
    for (const double cost : table.cost) add(std::bit_cast<std::uint64_t>(cost));
    add(static_cast<std::uint64_t>(table.then_every));
    add(std::bit_cast<std::uint64_t>(table.then_cost));
  }
  return hash;
}

bool CostModel::operator==(const CostModel& other) const {
  return unit_ == other.unit_ && tables_ == other.tables_;
}

CostModel weights_only_model() { return CostModel("experts", CostTable{0, {1}, {1}, 1, 0}); }

}  // namespace lplb
