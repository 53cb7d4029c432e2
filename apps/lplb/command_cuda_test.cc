// SPDX-License-Identifier: MIT
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/wait.h>

#include <array>
#include <cstdlib>
#include <nlohmann/json.hpp>
#include <sstream>

#include "core/format.h"
#include "io/npy.h"
#include "lplb/backend.h"
#include "support/instances.h"
#include "support/test_files.h"

// Compares the command with --backend cuda to itself with --backend cpu: outputs have the same
// bytes, and a line on standard error says what ran.
namespace lplb::app {
namespace {

using ::testing::EndsWith;
using ::testing::HasSubstr;
using ::testing::StartsWith;

std::string slurp(const std::string& path) {
  std::ostringstream bytes;
  bytes << std::ifstream(path, std::ios::binary).rdbuf();
  return bytes.str();
}

/// The command of the same build: it is next to this program if all programs are in one folder.
std::string command_path() {
  const std::filesystem::path here = std::filesystem::read_symlink("/proc/self/exe").parent_path();
  return std::filesystem::exists(here / "lplb") ? (here / "lplb").string() : LPLB_COMMAND;
}

std::string trace_path(const std::string& name) {
  const std::string path = lplb::testing::recorded(name);
  return std::filesystem::exists(path) ? path : "data/traces/" + name;
}

struct Ran {
  int status = -1;
  std::string out, err;
};

class CommandCuda : public lplb::testing::Files {
 protected:
  void SetUp() override {
    if (!cuda_support().missing.empty()) GTEST_SKIP() << "no GPU: " << cuda_support().missing;
  }

  Ran run(const std::string& arguments) const {
    const std::string line = formatted("'{}' {} > '{}' 2> '{}'", command_path(), arguments,
                                       path("stdout"), path("stderr"));
    const int status = std::system(line.c_str());
    return {WIFEXITED(status) ? WEXITSTATUS(status) : -1, slurp(path("stdout")),
            slurp(path("stderr"))};
  }

  /// Runs `arguments` with each backend. {} in them stands for a file of its own for each backend.
  /// Returns both results, cpu first. Expects that the device did `on_device` of `solves`.
  std::array<Ran, 2> run_both(const std::string& arguments, int solves, int on_device) const {
    const auto with = [&](const char* backend) {
      return run(formatted(fmt::runtime(arguments), path(backend)) + " --backend " + backend);
    };
    std::array<Ran, 2> ran = {with("cpu"), with("cuda")};
    EXPECT_EQ(ran[0].status, 0) << ran[0].err;
    EXPECT_EQ(ran[1].status, 0) << ran[1].err;
    EXPECT_EQ(ran[0].err, "");
    EXPECT_THAT(ran[1].err, StartsWith(formatted("lplb: backend cuda: {} of {} solves on ",
                                                 on_device, solves)));
    EXPECT_EQ(on_device < solves, ran[1].err.find(" on the CPU: ") != std::string::npos);
    return ran;
  }

  void expect_equal_output(const std::string& arguments, int solves, int on_device) const {
    SCOPED_TRACE(arguments);
    const auto [cpu, cuda] = run_both(arguments + " --json -", solves, on_device);
    EXPECT_EQ(cuda.out, cpu.out);
    EXPECT_GT(cpu.out.size(), 100u);
    EXPECT_EQ(slurp(path("cuda")), slurp(path("cpu")));
  }

  void expect_equal_table(const std::string& arguments, int solves, int on_device) const {
    SCOPED_TRACE(arguments);
    const auto [cpu, cuda] = run_both(arguments, solves, on_device);
    EXPECT_EQ(cuda.out, cpu.out);
    EXPECT_THAT(cpu.out, HasSubstr("imbalance"));
  }

  /// Writes a placement file for `num_layers` layers of 64 experts.
  std::string place(const std::string& policy, int num_layers) const {
    write("past.json", load_json(num_layers, 1));
    const Ran placed = run(formatted("place --load '{}' --policy {} --json '{}'", path("past.json"),
                                     policy, path("placement.json")));
    EXPECT_EQ(placed.status, 0) << placed.err;
    return path("placement.json");
  }

  /// Writes the model of an H200 with DeepSeek-V3's layer.
  std::string cost() const {
    return write("cost.json",
                 R"({"unit": "us", "rank": 32.2, "tokens": [128, 256, 384, 512],
                     "cost": [30.6, 43.2, 68.1, 68.1], "then_every": 256, "then_cost": 35.2})");
  }

  static std::string load_json(int rows, std::uint64_t seed) {
    lplb::testing::SplitMix64 random(seed);
    nlohmann::json json;
    for (int i = 0; i < rows; ++i) {
      json["load"].push_back(
          lplb::testing::make_load(lplb::testing::LoadShape::kLognormal, 64, 20000, random));
    }
    return json.dump();
  }
};

constexpr std::array kPolicies = {
    "cube --num-ranks 8 --redundants 2", "cube --num-ranks 16 --redundants 1",
    "hypercube --num-ranks 16 --redundants 2", "torus:8x4 --num-ranks 32 --redundants 1",
    "eplb --num-ranks 64 --num-replicas 128"};

TEST_F(CommandCuda, SolveGivesTheSameBytes) {
  for (const char* policy : kPolicies) {
    for (const int layers : {1, 5}) {
      const std::string placement = place(policy, layers);
      const int rows = layers == 1 ? 40 : layers;
      const std::string load = write("load.json", load_json(rows, 2));
      const std::string arguments =
          formatted("solve --placement '{}' --load '{}'", placement, load);
      expect_equal_output(arguments, rows, rows);
      if (layers == 1) {
        expect_equal_output(arguments + " --solver flow", rows, rows);
        expect_equal_table(arguments, rows, rows);
      }
    }
  }
}

TEST_F(CommandCuda, PlanGivesTheSameBytes) {
  lplb::testing::SplitMix64 random(3);
  for (const char* policy : kPolicies) {
    const std::string placement = place(policy, 1);
    const auto ranks = nlohmann::json::parse(slurp(placement)).at("num_ranks").get<std::int64_t>();
    for (const std::int64_t tokens : {0, 1, 333}) {
      const std::vector<std::int64_t> shape = {ranks, tokens, 4};
      std::vector<std::int64_t> ids(static_cast<std::size_t>(ranks * tokens * 4));
      for (std::int64_t& id : ids) id = random.between(-1, 63) & random.between(-1, 63);
      const std::string topk =
          write("topk.npy", io::npy_bytes(tokens == 1 ? "<i8" : "<i4", shape, ids));
      const std::string arguments =
          formatted("plan --placement '{}' --topk '{}' --out '{{}}'", placement, topk);
      expect_equal_output(arguments, 1, 1);
      EXPECT_EQ(slurp(path("cuda")).size(), slurp(topk).size());
      if (tokens == 1) expect_equal_table(arguments, 1, 1);
    }
  }
}

// make_load() gives 20,000 tokens to 64 experts. In decode none has more than 128.
TEST_F(CommandCuda, SolveByCostGivesTheSameBytes) {
  const std::string model = cost();
  nlohmann::json decode = nlohmann::json::parse(load_json(40, 6));
  for (auto& row : decode["load"]) {
    for (auto& tokens : row) tokens = std::min<std::int64_t>(tokens.get<std::int64_t>(), 128);
  }
  for (const char* policy : kPolicies) {
    const std::string placement = place(policy, 1);
    for (const std::string& loads : {load_json(40, 6), decode.dump()}) {
      const std::string arguments = formatted("solve --placement '{}' --load '{}' --cost '{}'",
                                              placement, write("load.json", loads), model);
      expect_equal_output(arguments + " --solver fast-time", 40, 40);
      const auto [cpu, cuda] = run_both(arguments + " --solver fast-time", 40, 40);
      EXPECT_EQ(cuda.out, cpu.out);
      EXPECT_THAT(cpu.out, HasSubstr("costs in us"));
    }
  }
  // Solver time, which is what auto is, runs on the CPU.
  const std::string arguments = formatted("solve --placement '{}' --load '{}' --cost '{}'",
                                          path("placement.json"), path("load.json"), model);
  for (const char* solver : {"time", "auto"}) {
    const auto ran = run_both(formatted("{} --solver {} --json -", arguments, solver), 40, 0);
    EXPECT_EQ(ran[1].out, ran[0].out);
    EXPECT_THAT(ran[1].err, HasSubstr("solvers ipm and time"));
  }
}

TEST_F(CommandCuda, PlanByCostGivesTheSameBytes) {
  const std::string model = cost();
  lplb::testing::SplitMix64 random(7);
  for (const char* policy : kPolicies) {
    const std::string placement = place(policy, 1);
    const auto ranks = nlohmann::json::parse(slurp(placement)).at("num_ranks").get<std::int64_t>();
    for (const std::int64_t tokens : {3, 700}) {
      const std::vector<std::int64_t> shape = {ranks, tokens, 4};
      std::vector<std::int64_t> ids(static_cast<std::size_t>(ranks * tokens * 4));
      for (std::int64_t& id : ids) id = random.between(-1, 63) & random.between(-1, 63);
      const std::string topk = write("topk.npy", io::npy_bytes("<i4", shape, ids));
      expect_equal_output(
          formatted("plan --placement '{}' --topk '{}' --cost '{}' --solver fast-time --out '{{}}'",
                    placement, topk, model),
          1, 1);
    }
  }
}

TEST_F(CommandCuda, TheCpuDoesWhatTheDeviceDoesNotTake) {
  const std::string placement = place("cube --num-ranks 8 --redundants 2", 1);
  const std::string load = write("load.json", load_json(3, 4));
  expect_equal_output(formatted("solve --placement '{}' --load '{}' --solver ipm", placement, load),
                      3, 0);

  nlohmann::json large = nlohmann::json::parse(slurp(load));
  large["load"][1][7] = std::int64_t{1} << 40;
  const std::string large_load = write("large.json", large.dump());
  expect_equal_output(formatted("solve --placement '{}' --load '{}'", placement, large_load), 3, 2);

  nlohmann::json unequal = nlohmann::json::parse(slurp(placement));
  unequal["rank_speed"] = {1, 1, 1, 2, 1, 1, 1, 0.5};
  const std::string speeds = write("speeds.json", unequal.dump());
  expect_equal_output(formatted("solve --placement '{}' --load '{}'", speeds, load), 3, 0);
}

/// A report without the figures that differ from run to run.
std::string without_times(const std::string& text) {
  nlohmann::ordered_json json = nlohmann::ordered_json::parse(text);
  for (auto& policy : json.at("policies")) policy.erase("solve_us");
  return json.dump(1);
}

/// The table without its last column.
std::string without_last_column(const std::string& text) {
  std::istringstream lines(text);
  std::string kept;
  for (std::string line; std::getline(lines, line);) {
    const bool in_table =
        line.find("us/solve") != std::string::npos || line.find('%') != std::string::npos;
    kept += (in_table ? line.substr(0, line.find_last_of(' ')) : line) + "\n";
    while (in_table && kept[kept.size() - 2] == ' ') kept.erase(kept.size() - 2, 1);
  }
  return kept;
}

TEST_F(CommandCuda, SimulateGivesTheSameFigures) {
  struct Replay {
    std::string arguments;
    int solves;  // batches x layers x placements
  };
  const std::string made =
      "--trace synthetic:W6_rotating_hotspot --synthetic-num-layers 3 "
      "--synthetic-num-steps 40 --synthetic-num-tokens 512 ";
  const std::string lite = trace_path("deepseek-v2-lite.load.jsonl");
  const std::string topk = trace_path("deepseek-v2-lite.topk.npy");
  for (const Replay& replay : {
           Replay{made + "--num-ranks 8 --policies none,eplb,eplb+lplb,cube+lplb", 360},
           Replay{made + "--num-ranks 8 --policies eplb+lplb,cube+lplb --rebalance-every 7", 240},
           Replay{made + "--num-ranks 16 --policies none,hypercube+lplb --rebalance-every 16 "
                         "--solver flow",
                  240},
           Replay{"--trace '" + lite +
                      "' --num-ranks 8 --policies eplb+lplb --batch-tokens 1024 "
                      "--rebalance-every 4",
                  -1},
           Replay{"--trace '" + topk +
                      "' --num-ranks 16 --policies none,eplb+lplb "
                      "--rebalance-every 32",
                  -1},
       }) {
    if (replay.solves < 0 && !std::filesystem::exists(lite)) continue;
    SCOPED_TRACE(replay.arguments);
    const Ran cpu = run("simulate " + replay.arguments + " --threads 4 --json -");
    ASSERT_EQ(cpu.status, 0) << cpu.err;
    int solves = replay.solves;
    if (solves < 0) {
      const auto report = nlohmann::json::parse(cpu.out);
      solves = report["trace"]["num_batches"].get<int>() *
               report["trace"]["num_layers"].get<int>() *
               static_cast<int>(report["policies"].size());
    }
    const std::string arguments = "simulate " + replay.arguments + " --threads 4";
    const auto json = run_both(arguments + " --json -", solves, solves);
    EXPECT_EQ(without_times(json[1].out), without_times(json[0].out));
    const auto table = run_both(arguments, solves, solves);
    EXPECT_EQ(without_last_column(table[1].out), without_last_column(table[0].out));
  }
}

// The splits by tokens run on the device, those of solver time on the CPU.
TEST_F(CommandCuda, SimulateByCostGivesTheSameFigures) {
  const std::string arguments = formatted(
      "simulate --trace synthetic:W6_rotating_hotspot --synthetic-num-layers 3 "
      "--synthetic-num-steps 40 --synthetic-num-tokens 512 --num-ranks 8 --threads 4 "
      "--rebalance-every 7 --policies eplb+time,cube+time --cost '{}'",
      cost());
  constexpr int kSplits = 3 * 40 * 2;
  const auto ran = run_both(arguments + " --json -", 2 * kSplits, kSplits);
  EXPECT_EQ(without_times(ran[1].out), without_times(ran[0].out));
}

TEST_F(CommandCuda, AutoIsTheGpu) {
  const std::string placement = place("cube --num-ranks 8 --redundants 2", 1);
  const std::string load = write("load.json", load_json(3, 5));
  const Ran ran =
      run(formatted("solve --placement '{}' --load '{}' --backend auto", placement, load));
  EXPECT_EQ(ran.status, 0);
  EXPECT_THAT(ran.err, StartsWith("lplb: backend cuda: 3 of 3 solves on "));
}

TEST_F(CommandCuda, BenchMeasuresTheDevice) {
  const Ran ran = run("bench --backend cuda --filter '^(empty kernel|solve/cube8x2/cut)$'");
  EXPECT_EQ(ran.status, 0) << ran.err;
  EXPECT_THAT(ran.out, HasSubstr("solve/cube8x2/cut"));
  EXPECT_THAT(ran.out, EndsWith(" 400/400 optimal\n"));
  // The bench compares each cost with the CPU's.
  const Ran by_cost = run("bench --backend cuda --filter '^time/(cube8x2|EP64\\+64)/128$'");
  EXPECT_EQ(by_cost.status, 0) << by_cost.err;
  EXPECT_THAT(by_cost.out, HasSubstr("time/EP64+64/128"));
  EXPECT_EQ(run("bench --backend cuda --min-time 1").status, 2);
}

}  // namespace
}  // namespace lplb::app
