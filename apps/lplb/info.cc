// SPDX-License-Identifier: MIT
#include <fmt/format.h>

#include <memory>
#include <thread>

#include "commands.h"
#include "io/files.h"
#include "lplb/lplb.h"
#include "options.h"
#include "outputs.h"

namespace lplb::app {
namespace {

constexpr const char* kNoCuda = "this version has no CUDA backend yet";

#if defined(__clang__)
constexpr const char* kCompiler = "clang " __clang_version__;
#else
constexpr const char* kCompiler = "g++ " __VERSION__;
#endif

nlohmann::ordered_json info_json() {
  nlohmann::ordered_json json;
  json["version"] = version();
  json["compiler"] = kCompiler;
  json["backends"]["cpu"] = {{"available", true}, {"threads", std::thread::hardware_concurrency()}};
  json["backends"]["cuda"] = {{"available", false}, {"reason", kNoCuda}};
  json["solvers"] = {solver_name(Solver::kAuto), solver_name(Solver::kCut),
                     solver_name(Solver::kFlow)};
  json["synthetic_traces"] = synthetic_names();
#ifdef LPLB_HAVE_BENCH
  json["benchmarks"] = true;
#else
  json["benchmarks"] = false;
#endif
  json["limits"] = {{"num_ranks", kMaxRanks},
                    {"num_physical_experts", kMaxPhysical},
                    {"num_ranks_of_cut", kMaxCutRanks}};
  return json;
}

std::string info_table(const nlohmann::ordered_json& json) {
  const auto joined = [](const nlohmann::ordered_json& names) {
    return fmt::format("{}", fmt::join(names.get<std::vector<std::string>>(), ", "));
  };
  const auto line = [](const char* name, const std::string& value) {
    return fmt::format("{:<18}{}\n", name, value);
  };
  return line("version", version()) + line("compiler", kCompiler) +
         line("backend cpu", fmt::format("available, {} threads",
                                         json["backends"]["cpu"]["threads"].get<unsigned>())) +
         line("backend cuda", fmt::format("not available: {}", kNoCuda)) +
         line("solvers", joined(json["solvers"])) +
         line("synthetic traces", joined(json["synthetic_traces"])) +
         line("benchmarks",
              json["benchmarks"].get<bool>() ? "in this build" : "not in this build") +
         line("limits", fmt::format("{} ranks, {} physical experts; solver cut: {} ranks",
                                    kMaxRanks, kMaxPhysical, kMaxCutRanks));
}

}  // namespace

void add_info(CLI::App& program) {
  CLI::App* command = program.add_subcommand(
      "info", "Show version, backends (and why one is missing), solvers and limits");
  auto path = std::make_shared<std::string>();
  add_json(*command, *path);
  command->callback([path] {
    const Outputs outputs({{"--json", *path}});
    const nlohmann::ordered_json json = info_json();
    outputs.write({path->empty() ? "" : io::json_text(json)});
    if (!outputs.take_standard_output()) print(info_table(json));
  });
}

}  // namespace lplb::app
