// SPDX-License-Identifier: MIT
#include "choices.h"

#include <algorithm>

#include "lplb/trace.h"
#include "options.h"

namespace lplb::app {
namespace {

/// The policies that are complete words: files and topologies with sizes are not.
std::vector<std::string> policy_names() {
  std::vector<std::string> names = {"none", "none+time", "none+dynamic:1"};
  for (const std::string placement :
       {"eplb", "eplb-spread", "eplb-keep", "homes", "cube", "hypercube"}) {
    if (placement.starts_with("eplb")) {
      names.push_back(placement);
    } else {
      names.push_back(placement + "+even");
    }
    for (const char* split : {"+lplb", "+time", "+stale", "+dynamic:1"}) {
      names.push_back(placement + split);
    }
  }
  return names;
}

}  // namespace

std::vector<std::string> choices_of(const CLI::Option& option) {
  const std::string type = option.get_type_size() != 0 ? option.get_type_name() : "";
  if (type.find('|') != std::string::npos) return CLI::detail::split(type, '|');
  if (option.get_lnames().empty()) return {};
  const std::string& name = option.get_lnames()[0];
  std::vector<std::string> names;
  if (name == "policies" || name == "policy") names = policy_names();
  if (name == "trace") {
    for (const std::string& synthetic : synthetic_names())
      names.push_back("synthetic:" + synthetic);
  }
  return names;
}

std::string meant_value(const CLI::Option& option, const std::string& text) {
  std::vector<std::string> names = choices_of(option);
  if (names.empty() || std::ranges::find(names, text) != names.end()) return "";
  // "ring:N" stands for many values. Its first word is compared below.
  std::vector<std::string> values = names;
  std::erase_if(values, [](const std::string& name) {
    return name.ends_with(":N") || name.ends_with(":MxN") || name.ends_with(":FILE");
  });
  if (const std::string nearest = nearest_name(text, values); !nearest.empty()) return nearest;
  const auto head = [](const std::string& name) {
    return name.substr(0, name.find_first_of(":+"));
  };
  for (std::string& name : names) name = head(name);
  if (option.check_lname("policies") || option.check_lname("policy")) {
    for (const char* more : {"torus", "ring", "r2o", "file"}) names.emplace_back(more);
  }
  std::ranges::sort(names);
  names.erase(std::unique(names.begin(), names.end()), names.end());
  const std::string first = head(text);
  const std::string nearest = nearest_name(first, names);
  return nearest.empty() || nearest == first ? "" : nearest + text.substr(first.size());
}

}  // namespace lplb::app
