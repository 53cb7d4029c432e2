// SPDX-License-Identifier: MIT
#include "choices.h"

#include "lplb/trace.h"

namespace lplb::app {
namespace {

/// The policies that are complete words: files and topologies with sizes are not.
std::vector<std::string> policy_names() {
  std::vector<std::string> names = {"none", "none+time", "none+dynamic:1"};
  for (const std::string placement : {"eplb", "eplb-spread", "homes", "cube", "hypercube"}) {
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

}  // namespace lplb::app
