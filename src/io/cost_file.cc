// SPDX-License-Identifier: MIT
#include "lplb/cost_file.h"

#include "core/format.h"
#include "io/files.h"
#include "io/output.h"

namespace lplb::io {
namespace {

// 1024 ranks with 1024 steps each, as other programs would write them.
constexpr std::size_t kMaxCostBytes = std::size_t{1} << 26;

double number(const Object& object, const std::string& key) {
  const Json& value = object.at(key);
  if (!value.is_number()) object.fail(key, formatted("is {}, expected a number", describe(value)));
  return value.get<double>();
}

const Json& list(const Object& object, const std::string& key) {
  const Json& value = object.at(key);
  if (!value.is_array()) object.fail(key, formatted("is {}, expected a list", describe(value)));
  return value;
}

CostTable read_table(const Object& object) {
  CostTable table;
  if (object.has("rank")) table.rank = number(object, "rank");
  const Json& tokens = list(object, "tokens");
  for (std::size_t i = 0; i < tokens.size(); ++i) {
    table.tokens.push_back(object.entry("tokens", i, 1, kMaxCostTokens));
  }
  const Json& cost = list(object, "cost");
  for (std::size_t i = 0; i < cost.size(); ++i) {
    if (!cost[i].is_number()) {
      object.fail(formatted("cost[{}]", i),
                  formatted("is {}, expected a number", describe(cost[i])));
    }
    table.cost.push_back(cost[i].get<double>());
  }
  table.then_every = object.integer("then_every", 1, kMaxCostTokens);
  table.then_cost = number(object, "then_cost");
  return table;
}

nlohmann::ordered_json table_json(const CostTable& table) {
  nlohmann::ordered_json json;
  json["rank"] = table.rank;
  json["tokens"] = table.tokens;
  json["cost"] = table.cost;
  json["then_every"] = table.then_every;
  json["then_cost"] = table.then_cost;
  return json;
}

}  // namespace

CostModel parse_cost(std::string_view text, const std::string& path) {
  const Json json = parse_json(text, path);
  const Object object(json, path);
  const std::string unit = object.string("unit");
  std::vector<CostTable> tables;
  const bool by_rank = object.has("ranks");
  if (by_rank) {
    object.allow_only({"unit", "ranks"});
    const Json& ranks = list(object, "ranks");
    for (std::size_t g = 0; g < ranks.size(); ++g) {
      const Object one(ranks[g], path, formatted("key ranks[{}]", g));
      one.allow_only({"rank", "tokens", "cost", "then_every", "then_cost"});
      tables.push_back(read_table(one));
    }
  } else {
    object.allow_only({"unit", "rank", "tokens", "cost", "then_every", "then_cost"});
    tables.push_back(read_table(object));
  }
  try {
    return by_rank ? CostModel(unit, std::move(tables)) : CostModel(unit, std::move(tables[0]));
  } catch (const ArgumentError& error) {
    object.fail(error.argument(), std::string(error.what()).substr(error.argument().size() + 2));
  }
}

std::string cost_json(const CostModel& model) {
  nlohmann::ordered_json json;
  json["unit"] = model.unit();
  if (model.tables().size() == 1) {
    json.update(table_json(model.tables()[0]));
  } else {
    json["ranks"] = nlohmann::ordered_json::array();
    for (const CostTable& table : model.tables()) json["ranks"].push_back(table_json(table));
  }
  return json_text(json);
}

}  // namespace lplb::io

namespace lplb {

CostModel load_cost_model(const std::string& path) {
  return io::parse_cost(io::read_file(path, io::kMaxCostBytes),
                        path == "-" ? "standard input" : path);
}

void save_cost_model(const CostModel& model, const std::string& path) {
  io::write_file(path, io::cost_json(model));
}

}  // namespace lplb
