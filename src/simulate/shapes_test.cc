// SPDX-License-Identifier: MIT
#include <gmock/gmock.h>

#include <nlohmann/json.hpp>

#include "lplb/simulate.h"
#include "support/test_files.h"

// Numbers of ranks and slots that do not divide, and placements that are given.
namespace lplb {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using testing::message_of;

SimulateOptions sixty_experts() {
  SimulateOptions options;
  options.trace = "synthetic:W1_hot_expert_set";
  options.synthetic.num_logical_experts = 60;
  options.synthetic.num_topk = 4;
  options.synthetic.num_layers = 2;
  options.synthetic.num_steps = 4;
  options.synthetic.num_tokens = 256;
  return options;
}

class ShapesTest : public testing::Files {};

TEST(Shapes, AnyNumberOfRanks) {
  for (const auto& [experts, ranks, slots] :
       {std::tuple{60, 8, 64}, {60, 8, 72}, {256, 72, 288}, {256, 144, 288}, {256, 320, 320}}) {
    SimulateOptions options = sixty_experts();
    options.synthetic.num_logical_experts = experts;
    options.num_ranks = ranks;
    options.num_replicas = slots;
    const SimulateReport report = simulate(options);
    ASSERT_EQ(report.policies.size(), 2U);
    EXPECT_EQ(report.policies[1].name, "eplb+lplb");
    EXPECT_EQ(report.policies[1].optimal, report.policies[1].solves);
    EXPECT_EQ(report.policies[1].next_placement[1].num_physical(), slots);
    EXPECT_THAT(report.left_out, ElementsAre("none"));
    EXPECT_THAT(report_html(report, ""), HasSubstr("The policy none is left out, because"));
    const auto json = nlohmann::json::parse(report_json(report));
    EXPECT_EQ(json["settings"]["num_replicas"], slots);
    EXPECT_TRUE(json["settings"]["redundants"].is_null() == ((slots - experts) % ranks != 0));
    EXPECT_EQ(json["settings"]["left_out"][0], "none");
  }
}

TEST(Shapes, NumReplicasIsTheSameAsItsRedundants) {
  SimulateOptions options = sixty_experts();
  options.num_ranks = 4;
  options.redundants = 1;
  const std::vector<double> with_redundants = simulate(options).policies[2].over_time;
  options.redundants = 2;
  options.num_replicas = 64;
  EXPECT_EQ(simulate(options).policies[2].over_time, with_redundants);
  EXPECT_TRUE(simulate(options).left_out.empty());
}

TEST(Shapes, RefusesWhatDoesNotFitAndSaysWhatWould) {
  const auto problem = [](auto change) {
    SimulateOptions options = sixty_experts();
    change(options);
    return message_of<ArgumentError>([&] { simulate(options); });
  };
  EXPECT_THAT(problem([](auto&) {}), HasSubstr("num_ranks: 8 does not divide the 60 experts"));
  EXPECT_THAT(problem([](auto&) {}), HasSubstr("num_replicas"));
  EXPECT_THAT(problem([](auto&) {}), HasSubstr("64 or 72 would do"));
  EXPECT_THAT(problem([](auto& o) { o.num_replicas = 62; }),
              HasSubstr("num_replicas: 62 is not a multiple of num_ranks (8)"));
  EXPECT_THAT(problem([](auto& o) { o.num_replicas = 62; }), HasSubstr("64 or 72 would do"));
  EXPECT_THAT(problem([](auto& o) { o.num_replicas = 56; }), HasSubstr("64 or 72 would do"));
  for (const char* name : {"none", "cube+lplb"}) {
    const auto named = [&](auto& o) {
      o.num_replicas = 64;
      o.policies = {name};
    };
    EXPECT_THAT(problem(named), HasSubstr("policies: \""));
    EXPECT_THAT(problem(named),
                HasSubstr("60 experts of the trace are no multiple of the 8 ranks"));
  }
  EXPECT_THAT(problem([](auto& o) { o.num_replicas = -8; }), HasSubstr("num_replicas: -8"));
  EXPECT_THAT(problem([](auto& o) {
                o.num_ranks = 4;
                o.num_replicas = 124;
                o.policies = {"ring:4+lplb"};
              }),
              HasSubstr("at most two replicas"));
}

/// Without a past, EPLB puts both replicas of an expert onto one rank. A batch that is hot on
/// expert 0 then has 40 + 9 tokens there; with a replica on another rank the split has 70 / 4
/// = 17.5.
TEST_F(ShapesTest, TheFirstPlacementHasNoExpertTwiceOnARank) {
  SimulateOptions options;
  options.trace = write(
      "t.jsonl",
      R"({"format":"lplb-trace","version":1,"num_layers":1,"num_logical_experts":8,"num_topk":1})"
      "\n"
      R"({"load":[[40,9,9,9,9,9,9,9]]})"
      "\n");
  options.redundants = 1;
  options.policies = {"eplb+lplb", "eplb-spread+lplb"};
  for (const PolicyReport& policy : simulate(options).policies) {
    EXPECT_EQ(policy.imbalance.max, 20.0 * 8 / 103) << policy.name;
  }
}

/// A placement of homes: contiguous experts in the first slots of each rank, then replicas. A
/// rebalance begins with the placement in use, so it moves few experts.
TEST_F(ShapesTest, HomesStayAndSuitTheExactSplit) {
  SimulateOptions options = sixty_experts();
  options.trace = "synthetic:W3_spread_hot_experts";
  options.synthetic.num_steps = 24;
  options.num_ranks = 6;
  options.redundants = 2;
  options.warm_up = 4;
  options.policies = {"eplb+lplb", "homes+even", "homes+lplb", "homes+stale"};
  const SimulateReport report = simulate(options);
  EXPECT_LE(report.policies[2].imbalance.mean, report.policies[0].imbalance.mean);
  EXPECT_LT(report.policies[2].imbalance.mean, report.policies[1].imbalance.mean);
  EXPECT_LT(report.policies[2].moved_experts_mean, report.policies[0].moved_experts_mean);
  for (const Placement& layer : report.policies[2].next_placement) {
    for (Index e = 0; e < 60; ++e) EXPECT_EQ(layer.physical_to_logical[e / 10 * 12 + e % 10], e);
  }
  SimulateOptions other = options;
  other.num_threads = 3;
  EXPECT_EQ(simulate(other).policies[2].next_placement, report.policies[2].next_placement);
}

TEST_F(ShapesTest, HomesRefuseWhatTheyCannotTake) {
  SimulateOptions options = sixty_experts();
  options.policies = {"homes+lplb"};
  options.num_replicas = 64;  // 8 ranks
  EXPECT_THAT(message_of<ArgumentError>([&] { simulate(options); }), HasSubstr("homes"));
  options.num_ranks = 60;
  options.num_replicas = 60 * 61;
  EXPECT_THAT(message_of<ArgumentError>([&] { simulate(options); }),
              HasSubstr("no expert on a rank twice"));
}

/// The placements after the first one are EPLB's own; eplb-spread's have no expert twice on a rank.
TEST_F(ShapesTest, EplbStaysEplb) {
  SimulateOptions options;
  options.trace = write(
      "t.jsonl",
      R"({"format":"lplb-trace","version":1,"num_layers":1,"num_logical_experts":8,"num_topk":1})"
      "\n"
      R"({"load":[[5,5,5,5,5,5,5,5]]})"
      "\n");
  options.redundants = 1;
  options.policies = {"eplb", "eplb-spread", "eplb-spread+stale"};
  const SimulateReport report = simulate(options);
  const std::vector<Index> twice = report.policies[0].next_placement[0].physical_to_logical;
  EXPECT_THAT(twice, ElementsAre(0, 0, 1, 1, 2, 2, 3, 3, 4, 4, 5, 5, 6, 6, 7, 7));
  const std::vector<Index> once = report.policies[1].next_placement[0].physical_to_logical;
  for (std::size_t rank = 0; rank < 8; ++rank) EXPECT_NE(once[2 * rank], once[2 * rank + 1]);
  options.num_ranks = 1;
  EXPECT_THAT(message_of<ArgumentError>([&] { simulate(options); }), HasSubstr("spread"));
}

class FixedPlacement : public testing::Files {
 protected:
  /// One layer of 4 experts on 2 ranks, with tokens on experts 0 and 1 only.
  FixedPlacement() {
    options_.trace = write(
        "t.jsonl",
        R"({"format":"lplb-trace","version":1,"num_layers":2,"num_logical_experts":4,"num_topk":1})"
        "\n"
        R"({"load":[[6,4,0,0],[6,4,0,0]]})"
        "\n"
        R"({"load":[[2,8,0,0],[6,4,0,0]]})"
        "\n");
    options_.num_ranks = 2;
  }

  std::string problem() const {
    return message_of<FileError>([this] { simulate(options_); });
  }

  SimulateOptions options_;
};

TEST_F(FixedPlacement, IsReplayedAsItIs) {
  // Both layers hold expert 0 on both ranks; layer 1 has a slot more on each rank.
  const std::string file = write("a+b,c.json", R"({"num_ranks": 2, "num_logical_experts": 4,
      "physical_to_logical": [[0, 1, 2, 0, 3, 3], [0, 1, 2, 2, 0, 3, 3, 3]]})");
  options_.policies = {"file:" + file, "file:" + file + "+even", "file:" + file + "+lplb",
                       "file:" + file + "+stale"};
  const SimulateReport report = simulate(options_);
  // Even: rank 0 has 3 + 4 = 7 and then 1 + 8 = 9 of 10; exact: 5, then 8.
  EXPECT_THAT(report.policies[0].over_time, ElementsAre((1.4 + 1.4) / 2, (1.8 + 1.4) / 2));
  EXPECT_EQ(report.policies[1].over_time, report.policies[0].over_time);
  EXPECT_THAT(report.policies[2].over_time, ElementsAre(1.0, (1.6 + 1.0) / 2));
  EXPECT_EQ(report.policies[0].rebalances, 0);
  EXPECT_EQ(report.policies[0].next_placement[1].num_physical(), 8);
  EXPECT_THAT(report_html(report, ""), HasSubstr("all of it by the exact split of the same"));
}

TEST_F(FixedPlacement, KeepsSpeedsAndDeadRanks) {
  options_.policies = {"file:" + write("p.json", R"({"num_ranks": 2, "num_logical_experts": 4,
      "physical_to_logical": [0, 1, 2, 3, 0, 1, 2, 3], "rank_speed": [1, 0.25]})") +
                       "+lplb"};
  // 8 of 10 tokens go to the rank with speed 1: both ranks need a time of 8.
  EXPECT_EQ(simulate(options_).policies[0].imbalance.max, 1);
  options_.policies = {"file:" + write("p.json", R"({"num_ranks": 2, "num_logical_experts": 4,
      "physical_to_logical": [0, 1, 2, 3, 0, 1, 2, 3], "rank_alive": [true, false]})") +
                       "+even"};
  const SimulateReport report = simulate(options_);
  EXPECT_EQ(report.policies[0].imbalance.max, 1);
  EXPECT_EQ(report.policies[0].rank_heat[2], 0);  // rank 1
  EXPECT_EQ(report.policies[0].next_placement[0].rank_alive[1], 0);
}

/// Expert 0 takes all tokens. It is on both ranks in the rows of layers 3 and 5 only.
TEST_F(FixedPlacement, LayersAreFoundByTheirNumbers) {
  options_.trace = write("n.jsonl", R"({"format":"lplb-trace","version":1,"num_layers":2,)"
                                    R"("num_logical_experts":2,"num_topk":1,"layers":[3,5]})"
                                    "\n"
                                    R"({"load":[[8,0],[8,0]]})"
                                    "\n");
  const auto mean = [this](const std::string& text) {
    options_.policies = {
        "file:" + write("p.json", R"({"num_ranks": 2, "num_logical_experts": 2, )" + text + "}") +
        "+lplb"};
    return simulate(options_).policies[0].imbalance.mean;
  };
  EXPECT_EQ(mean(R"("physical_to_logical": [[0,1,1,0],[0,1,1,0]])"), 1);
  EXPECT_EQ(mean(R"("layers": [3,5], "physical_to_logical": [[0,1,1,0],[0,1,1,0]])"), 1);
  EXPECT_EQ(mean(R"("layers": [1,3,5], "physical_to_logical": [[0,1],[0,1,1,0],[0,1,1,0]])"), 1);
  EXPECT_EQ(mean(R"("physical_to_logical": [[0,1],[0,1],[0,1],[0,1,1,0],[0,1],[0,1,1,0]])"), 1);
  EXPECT_EQ(mean(R"("physical_to_logical": [0,1])"), 2);
  for (const char* text : {R"("layers": [3,4], "physical_to_logical": [[0,1],[0,1]])",
                           R"("layers": [3,4,6], "physical_to_logical": [[0,1],[0,1],[0,1]])",
                           R"("physical_to_logical": [[0,1],[0,1],[0,1],[0,1],[0,1]])"}) {
    EXPECT_THAT(message_of<FileError>([&] { mean(text); }), HasSubstr("the 2 of the trace"))
        << text;
  }
}

TEST_F(FixedPlacement, MustMatchTheTrace) {
  const auto with = [this](const std::string& text) {
    options_.policies = {"file:" + write("p.json", text) + "+lplb"};
    return problem();
  };
  EXPECT_THAT(
      with(R"({"num_ranks": 1, "num_logical_experts": 4, "physical_to_logical": [0,1,2,3]})"),
      HasSubstr("p.json: key num_ranks: 1, expected the 2 ranks of the replay"));
  EXPECT_THAT(with(R"({"num_ranks": 2, "num_logical_experts": 2, "physical_to_logical": [0,1]})"),
              HasSubstr("p.json: key num_logical_experts: 2, expected the 4 experts"));
  EXPECT_THAT(with(R"({"num_ranks": 1, "num_logical_experts": 4})"), HasSubstr("p.json"));
  EXPECT_THAT(with(R"({"num_ranks": 2, "num_logical_experts": 4,
                       "physical_to_logical": [[0,1,2,3],[0,1,2,3],[0,1,2,3]]})"),
              HasSubstr("has 3 layers, expected 1, or the 2 of the trace"));
  EXPECT_THAT(with(R"({"num_ranks": 2, "num_logical_experts": 4, "layers": [0, 3],
                       "physical_to_logical": [[0,1,2,3],[0,1,2,3]]})"),
              HasSubstr("p.json: key layers: does not have the 2 of the trace, numbered 0 to 1"));
  options_.policies = {"file:" + path("none.json")};
  EXPECT_THAT(problem(), HasSubstr("No such file"));
  options_.policies = {"file:"};
  EXPECT_THAT(message_of<ArgumentError>([this] { simulate(options_); }),
              HasSubstr("\"file:\" is unknown"));
}

}  // namespace
}  // namespace lplb
