// SPDX-License-Identifier: MIT
#include "controller_option.h"

#include <charconv>
#include <cmath>
#include <limits>

#include "core/format.h"
#include "lplb/error.h"
#include "options.h"

namespace lplb::app {
namespace {

constexpr const char* kOption = "--controller";
constexpr const char* kDefault = "default";

double number_of(const std::string& key, const std::string& text) {
  double value = 0;
  const char* const end = text.data() + text.size();
  const auto [stop, error] = std::from_chars(text.data(), end, value);
  if (error != std::errc() || stop != end || !std::isfinite(value) || value < 0) {
    throw ArgumentError(kOption,
                        formatted("{} is \"{}\", expected a number of at least 0", key, text));
  }
  return value;
}

std::int64_t integer_of(const std::string& key, const std::string& text, std::int64_t low,
                        std::int64_t high) {
  return parse_integer(formatted("{} {}", kOption, key), text, low, high);
}

struct Key {
  std::string name;
  void (*set)(ControllerOptions&, const std::string& name, const std::string& value);
};

const std::vector<Key>& keys() {
  constexpr std::int64_t kMost = std::numeric_limits<std::int64_t>::max();
  constexpr std::int64_t kMostIndex = std::numeric_limits<Index>::max();
  static const std::vector<Key> all = {
      {"round-cost", [](auto& o, auto& key, auto& text) { o.round_cost = number_of(key, text); }},
      {"life", [](auto& o, auto& key, auto& text) { o.life = number_of(key, text); }},
      {"min-gain", [](auto& o, auto& key, auto& text) { o.min_gain = number_of(key, text); }},
      {"interval",
       [](auto& o, auto& key, auto& text) {
         o.interval = static_cast<Index>(integer_of(key, text, 1, kMostIndex));
       }},
      {"min-tokens",
       [](auto& o, auto& key, auto& text) { o.min_tokens = integer_of(key, text, 1, kMost); }},
      {"max-moves",
       [](auto& o, auto& key, auto& text) { o.max_moves = integer_of(key, text, 0, kMost); }},
      {"max-trials",
       [](auto& o, auto& key, auto& text) { o.max_trials = integer_of(key, text, 0, kMost); }},
      {"homes", [](auto& o, auto& key, auto& text) {
         if (text != "keep" && text != "move") {
           throw ArgumentError(kOption,
                               formatted("{} is \"{}\", expected keep or move", key, text));
         }
         o.may_move_homes = text == "move";
       }}};
  return all;
}

ControllerOptions parse(const std::string& text) {
  ControllerOptions options;
  if (text == kDefault) return options;
  std::vector<std::string> names;
  for (const Key& key : keys()) names.push_back(key.name);
  for (const std::string& word : split_list(text)) {
    const std::size_t equals = word.find('=');
    const std::string name = word.substr(0, equals);
    const auto key =
        std::ranges::find_if(keys(), [&](const Key& known) { return known.name == name; });
    if (key == keys().end() || equals == std::string::npos) {
      const std::string nearest = nearest_name(name, names);
      throw ArgumentError(kOption,
                          formatted("\"{}\" is not KEY=VALUE with one of the keys {}{}", word,
                                    fmt::join(names, ", "),
                                    nearest.empty() ? "" : "; did you mean " + nearest + "=?"));
    }
    key->set(options, name, word.substr(equals + 1));
  }
  return options;
}

}  // namespace

void add_controller(CLI::App& app, std::optional<ControllerOptions>& options) {
  add_value(app, kOption, kSettings, "KEY=VALUE,...",
            "Replay a controller too, which decides after each batch and layer whether a rebalance "
            "pays, and charge all policies for their moves. Keys: round-cost (what a round of "
            "moves costs, in tokens of the slowest rank, or with --cost in its unit; 1750), life "
            "(batches that a placement is expected to last; 32), min-gain (0.01), interval "
            "(batches between decisions; 1), min-tokens (smaller batches are ignored; 1), "
            "max-moves, max-trials, homes=keep|move (move). \"default\" changes none",
            [&options](const std::string& text) { options = parse(text); });
}

}  // namespace lplb::app
