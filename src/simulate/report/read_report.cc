// SPDX-License-Identifier: MIT
#include "simulate/report/read_report.h"

#include <cmath>
#include <limits>

#include "core/format.h"
#include "io/json.h"

namespace lplb::report {
namespace {

using io::Json;
using io::Object;

constexpr std::int64_t kMost = std::numeric_limits<std::int64_t>::max();

/// A finite number, or NaN for null.
double number(const Object& object, const std::string& key) {
  const Json& value = object.at(key);
  if (value.is_null()) return std::nan("");
  if (!value.is_number()) object.fail(key, io::describe(value) + ", expected a number or null");
  return value.get<double>();
}

Object inner(const Object& object, const std::string& key, const std::string& path) {
  const Json& value = object.at(key);
  if (!value.is_object()) object.fail(key, io::describe(value) + ", expected an object");
  return Object(value, path, object.place_of(key));
}

const Json& list(const Object& object, const std::string& key) {
  const Json& value = object.at(key);
  if (!value.is_array()) object.fail(key, io::describe(value) + ", expected a list");
  return value;
}

Distribution distribution(const Object& object) {
  return {number(object, "mean"), number(object, "p50"), number(object, "p95"),
          number(object, "p99"), number(object, "max")};
}

PolicyReport policy(const Json& json, const std::string& path, std::size_t i,
                    std::size_t num_buckets) {
  const Object object(json, path, formatted("key policies[{}]", i));
  PolicyReport out;
  out.name = object.string("name");
  out.imbalance = distribution(inner(object, "imbalance", path));
  const Object gap = inner(object, "gap", path);
  out.gap_mean = number(gap, "mean");
  out.gap_max = number(gap, "max");
  out.rebalances = object.integer("rebalances", 0, kMost);
  const Object moved = inner(object, "moved_experts", path);
  out.moved_experts = moved.integer("total", 0, kMost);
  out.moved_experts_mean = number(moved, "mean");
  const Json& over_time = list(object, "over_time");
  if (over_time.size() != num_buckets) {
    object.fail("over_time", formatted("has {} values, expected one for each of {} buckets",
                                       over_time.size(), num_buckets));
  }
  for (const Json& value : over_time) {
    if (!value.is_null() && !value.is_number()) object.fail("over_time", io::describe(value));
    out.over_time.push_back(value.is_null() ? std::nan("") : value.get<double>());
  }
  return out;
}

void add_facts(const Json& json, const std::string& part, ReadReport& out) {
  for (const auto& [key, value] : json.items()) {
    const bool is_names = key == "policies";
    if ((value.is_array() && !is_names) || value.is_object()) continue;
    std::string text;
    if (is_names && value.is_array()) {
      for (const Json& name : value) {
        text += formatted("{}{}", text.empty() ? "" : ", ",
                          name.is_string() ? name.get<std::string>() : name.dump());
      }
    } else {
      text = value.dump();
    }
    out.facts.emplace_back(formatted("{}.{}", part, key), text);
  }
}

void read_time(const Object& trace, const std::string& path, SimulateReport& report) {
  report.num_batches = trace.integer("num_batches", 1, kMost);
  const Json& starts = list(trace, "bucket_start");
  for (std::size_t i = 0; i < starts.size(); ++i) {
    report.bucket_start.push_back(trace.entry("bucket_start", i, 0, report.num_batches - 1));
  }
  if (!trace.has("domains")) return;  // reports of older versions
  const Json& domains = list(trace, "domains");
  for (std::size_t i = 0; i < domains.size(); ++i) {
    const Object domain(domains[i], path, formatted("key trace.domains[{}]", i));
    report.domains.push_back(
        {domain.integer("first_batch", 0, report.num_batches - 1), domain.string("name")});
  }
}

}  // namespace

ReadReport read_report(const std::string& path) {
  const Json json = io::parse_json(io::read_file(path), path);
  const Object top(json, path);
  ReadReport out;
  SimulateReport& report = out.report;
  const Object trace = inner(top, "trace", path);
  const Object settings = inner(top, "settings", path);
  report.trace.name = trace.string("name");
  report.trace.synthetic = trace.at("synthetic").is_boolean() && trace.at("synthetic").get<bool>();
  const auto most = std::numeric_limits<Index>::max();
  report.trace.num_layers = static_cast<Index>(trace.integer("num_layers", 1, most));
  report.settings.num_ranks = static_cast<Index>(settings.integer("num_ranks", 1, kMaxRanks));
  report.settings.rebalance_every =
      static_cast<Index>(settings.integer("rebalance_every", 1, most));
  read_time(trace, path, report);
  const Json& policies = list(top, "policies");
  if (policies.empty()) top.fail("policies", "is empty, expected at least one");
  for (std::size_t i = 0; i < policies.size(); ++i) {
    report.policies.push_back(policy(policies[i], path, i, report.bucket_start.size()));
  }
  add_facts(top.at("trace"), "trace", out);
  add_facts(top.at("settings"), "settings", out);
  return out;
}

}  // namespace lplb::report
