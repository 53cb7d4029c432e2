// SPDX-License-Identifier: MIT

#include <memory>
#include <thread>

#include "commands.h"
#include "core/format.h"
#include "io/files.h"
#include "lplb/lplb.h"
#include "options.h"
#include "outputs.h"

namespace lplb::app {
namespace {

#if defined(__clang__)
constexpr const char* kCompiler = "clang " __clang_version__;
#else
constexpr const char* kCompiler = "g++ " __VERSION__;
#endif

nlohmann::ordered_json cuda_json() {
  const CudaSupport& cuda = cuda_support();
  nlohmann::ordered_json json;
  json["available"] = cuda.missing.empty();
  if (!cuda.missing.empty()) json["reason"] = cuda.missing;
  json["compiled"] = cuda.compiled;
  if (!cuda.compiled) return json;
  json["toolkit"] = cuda.toolkit;
  json["architectures"] = cuda.architectures;
  json["devices"] = nlohmann::ordered_json::array();
  for (const CudaDevice& device : cuda.devices) {
    json["devices"].push_back(
        {{"name", device.name},
         {"compute_capability", formatted("{}.{}", device.compute_major, device.compute_minor)},
         {"multiprocessors", device.num_multiprocessors},
         {"memory_bytes", device.memory_bytes},
         {"shared_memory_bytes", device.shared_memory_bytes}});
  }
  return json;
}

std::string cuda_text() {
  const CudaSupport& cuda = cuda_support();
  if (!cuda.missing.empty()) return "not available: " + cuda.missing;
  std::string text = "available";
  for (const CudaDevice& device : cuda.devices) {
    text += formatted(", {} (sm_{}{}, {} multiprocessors)", device.name, device.compute_major,
                      device.compute_minor, device.num_multiprocessors);
  }
  return text + "; compiled for " + cuda.architectures;
}

/// The memory that the exchange on the device takes on each rank: one buffer for each group.
nlohmann::ordered_json exchange_json() {
  nlohmann::ordered_json json;
  json["transports"] = nlohmann::ordered_json::array();
  for (const Transport transport :
       {Transport::kIpc, Transport::kFabric, Transport::kNccl, Transport::kNvshmem}) {
    json["transports"].push_back(transport_name(transport));
  }
  json["buffers"] = nlohmann::ordered_json::array();
  const auto add = [&json](Index num_ranks, std::size_t max_counts, Index num_channels) {
    json["buffers"].push_back(
        {{"num_ranks", num_ranks},
         {"max_counts", max_counts},
         {"num_channels", num_channels},
         {"bytes",
          peer_buffer_bytes(num_ranks, {.max_counts = max_counts, .num_channels = num_channels})}});
  };
  add(8, 24, 1);    // a cube with 2 redundants on each rank
  add(64, 128, 1);  // 1 redundant on each rank
  add(64, 128, 58);
  return json;
}

std::string exchange_text(const nlohmann::ordered_json& json) {
  std::string text = "bytes of a rank's buffer:";
  const char* separator = "";
  for (const nlohmann::ordered_json& buffer : json["buffers"]) {
    text += formatted("{} {} ({} ranks x {} counts, layers: {})", separator,
                      buffer["bytes"].get<std::size_t>(), buffer["num_ranks"].get<Index>(),
                      buffer["max_counts"].get<std::size_t>(), buffer["num_channels"].get<Index>());
    separator = ",";
  }
  return text;
}

nlohmann::ordered_json info_json() {
  nlohmann::ordered_json json;
  json["version"] = version();
  json["compiler"] = kCompiler;
  json["backends"]["cpu"] = {{"available", true}, {"threads", std::thread::hardware_concurrency()}};
  json["backends"]["cuda"] = cuda_json();
  json["exchange"] = exchange_json();
  json["solvers"] = {solver_name(Solver::kAuto), solver_name(Solver::kCut),
                     solver_name(Solver::kFlow), solver_name(Solver::kIpm),
                     solver_name(Solver::kTime), solver_name(Solver::kFastTime)};
  json["synthetic_traces"] = synthetic_names();
#ifdef LPLB_HAVE_BENCH
  json["benchmarks"] = true;
#else
  json["benchmarks"] = false;
#endif
  json["limits"] = {{"num_ranks", kMaxRanks},
                    {"num_physical_experts", kMaxPhysical},
                    {"num_ranks_of_cut", kMaxCutRanks},
                    {"num_ranks_of_ipm", kMaxIpmRanks}};
  return json;
}

std::string info_table(const nlohmann::ordered_json& json) {
  const auto joined = [](const nlohmann::ordered_json& names) {
    return formatted("{}", fmt::join(names.get<std::vector<std::string>>(), ", "));
  };
  const auto line = [](const char* name, const std::string& value) {
    return formatted("{:<18}{}\n", name, value);
  };
  return line("version", version()) + line("compiler", kCompiler) +
         line("backend cpu", formatted("available, {} threads",
                                       json["backends"]["cpu"]["threads"].get<unsigned>())) +
         line("backend cuda", cuda_text()) + line("exchange", exchange_text(json["exchange"])) +
         line("solvers", joined(json["solvers"])) +
         line("synthetic traces", joined(json["synthetic_traces"])) +
         line("benchmarks",
              json["benchmarks"].get<bool>() ? "in this build" : "not in this build") +
         line("limits", formatted("{} ranks, {} physical experts; solver cut: {} ranks, ipm: {}",
                                  kMaxRanks, kMaxPhysical, kMaxCutRanks, kMaxIpmRanks));
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
