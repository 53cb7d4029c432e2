// SPDX-License-Identifier: MIT
#include "simulate/report/answer.h"

#include <gmock/gmock.h>

#include <cmath>
#include <nlohmann/json.hpp>

#include "simulate/report/test_page.h"
#include "simulate/report/test_report.h"

// The first screen of the page: the answer, and the policy to deploy.
namespace lplb {
namespace {

using testing::costing;
using testing::Element;
using ::testing::HasSubstr;
using testing::kCommand;
using ::testing::Not;
using testing::Page;
using testing::policy;
using testing::report_of;

std::string headline(const std::vector<PolicyReport>& policies) {
  const std::string html = report_html(report_of(policies), kCommand);
  return Page(html).one("h1").text;
}

TEST(AnswerTest, IsBestLplbPolicyAgainstEplb) {
  const std::vector<PolicyReport> policies = {policy("none", 1.5), policy("eplb+lplb", 1.1),
                                              policy("cube+lplb", 1.05), policy("eplb", 1.25)};
  const std::string html = report_html(report_of(policies), kCommand);
  const Page page(html);
  const Element h1 = page.one("h1");
  EXPECT_EQ(
      h1.text,
      "LPLB cuts the slowest rank’s load by 16.0\u00A0% against EPLB: 12.0\u00A0% by the exact "
      "split, then 4.5\u00A0% by the placement (cube).");
  EXPECT_EQ(h1.at("data-policy"), "cube+lplb");
  EXPECT_EQ(h1.at("data-baseline"), "eplb");
  EXPECT_EQ(std::stod(h1.at("data-value")), 1 - 1.05 / 1.25);
  // 1 - 1 / 1.25: the average rank has load 1 and waits for a rank with load 1.25.
  EXPECT_THAT(page.one("p", "class", "lead").text, HasSubstr("20.0\u00A0% of the expert time"));
}

PolicyReport copying(const std::string& name, double mean, double copies) {
  PolicyReport p = policy(name, mean);
  p.copies = CopyReport{.mean = copies, .mean_bytes = copies * 44e6, .max = 9};
  p.solves = p.optimal = 8;
  return p;
}

TEST(AnswerTest, SaysWhatIsCopied) {
  SimulateReport report =
      report_of({policy("none", 1.5), policy("eplb", 1.25), copying("none+dynamic:1", 1.0, 6.5)});
  report.settings.expert_bytes = 44'000'000;
  const std::string html = report_html(report, kCommand);
  const Page page(html);
  EXPECT_EQ(page.one("h1").text,
            "LPLB cuts the slowest rank’s load by 20.0\u00A0% against EPLB: 20.0\u00A0% more load "
            "by the placement (none), then 33.3\u00A0% by copies for each batch.");
  const std::string tile = page.one("div", "class", "tile wide").text;
  EXPECT_THAT(tile, HasSubstr("The placement stays as it is. For each batch and layer 6.5 experts "
                              "are copied, 286.0 MB."));
  EXPECT_THAT(headline({policy("eplb", 1.25), copying("eplb+dynamic:1", 1.0, 3)}),
              HasSubstr("all of it by copies for each batch of the same placement."));
}

TEST(AnswerTest, WithoutEplbIsAgainstNoneElseTheFirstEvenPolicy) {
  EXPECT_THAT(
      headline({policy("ring:2+even", 1.2), policy("ring:2+lplb", 1.1), policy("none", 2)}),
      HasSubstr("by 45.0\u00A0% against no replicas: 40.0\u00A0% by the placement (ring:2), "
                "then 8.3\u00A0% by the exact split."));
  EXPECT_THAT(headline({policy("ring:2+lplb", 1.1), policy("ring:2+even", 1.25)}),
              HasSubstr("by 12.0\u00A0% against ring:2+even: all of it by the exact split of the "
                        "same placement."));
  EXPECT_THAT(headline({policy("eplb", 1.25), policy("cube+lplb", 1.0)}),
              HasSubstr("by 20.0\u00A0% against EPLB: placement and split both change."));
  EXPECT_THAT(headline({policy("eplb", 1.25), policy("eplb+lplb", 1.0), policy("cube+lplb", 1.0)}),
              HasSubstr("by 20.0\u00A0% against EPLB: all of it by the exact split"));
  EXPECT_THAT(
      headline({policy("eplb", 1.2), policy("cube+even", 1.25), policy("cube+lplb", 1.1)}),
      HasSubstr("4.2\u00A0% more load by the placement (cube), then 12.0\u00A0% by the exact"));
}

TEST(AnswerTest, IsInTheUnitOfTheCostModel) {
  // Without LPLB, no replicas are the cheapest. The split by cost has the larger imbalance.
  const std::vector<PolicyReport> policies = {
      costing("none", 1.5, 80), costing("eplb", 1.2, 100), costing("eplb+lplb", 1.1, 95),
      costing("eplb+time", 1.4, 72), costing("none+time", 1.5, 80)};
  const std::string html = report_html(report_of(policies), kCommand);
  const Page page(html);
  const Element h1 = page.one("h1");
  EXPECT_EQ(h1.text,
            "LPLB saves 8.0\u00A0us a layer against no replicas, 10.0\u00A0% of the slowest rank’s "
            "cost: nothing by the split by cost, then 10.0\u00A0% by the placement (eplb).");
  EXPECT_THAT(html, HasSubstr("<strong>8.0\u00A0us</strong>"));
  EXPECT_EQ(h1.at("data-policy"), "eplb+time");
  EXPECT_EQ(h1.at("data-baseline"), "none");
  EXPECT_EQ(std::stod(h1.at("data-value")), 1 - 72.0 / 80);
  EXPECT_THAT(page.one("p", "class", "lead").text,
              HasSubstr("With eplb+time the slowest rank of a layer costs 72.0\u00A0us on average, "
                        "25.00\u00A0% above the proven bound of its placement."));
  EXPECT_THAT(page.one("code", "data-deploy").text,
              HasSubstr("--cost us.json --policies eplb+time --write-placement"));
}

TEST(AnswerTest, ByCostSaysSoWhereLplbDoesNotHelp) {
  EXPECT_EQ(headline({costing("eplb", 1.25, 80), costing("eplb+lplb", 1.1, 88)}),
            "LPLB does not help here: the slowest rank’s cost grows by 10.0\u00A0% against EPLB.");
  EXPECT_EQ(headline({costing("eplb", 1.25, 80), costing("eplb+time", 1.1, 80.01)}),
            "LPLB does not help here: the slowest rank’s cost is that of EPLB.");
  EXPECT_EQ(headline({costing("eplb", 1.25, 80)}),
            "EPLB takes a mean of 80.0\u00A0us; no LPLB policy was replayed.");
  EXPECT_EQ(headline({costing("eplb+time", 1.25, 80)}),
            "LPLB takes a mean of 80.0\u00A0us; nothing was replayed to compare with.");
  EXPECT_THAT(headline({costing("eplb", 1.2, 90), costing("cube+even", 1.2, 99),
                        costing("cube+time", 1.2, 81)}),
              HasSubstr("9.0\u00A0us a layer against EPLB, 10.0\u00A0% of the slowest rank’s cost: "
                        "10.0\u00A0% more cost by the placement (cube), then 18.2\u00A0% by the "
                        "split by cost."));
}

TEST(AnswerTest, SaysSoWhereLplbDoesNotHelp) {
  EXPECT_EQ(headline({policy("eplb", 1.25), policy("cube+lplb", 1.30)}),
            "LPLB does not help here: the slowest rank’s load grows by 4.0\u00A0% against EPLB.");
  // 0.0 %; and 0.08 %, but 1.005 with both.
  for (const auto& [before, after] : {std::pair{1.25, 1.2499}, {1.0054, 1.0046}}) {
    EXPECT_EQ(headline({policy("eplb", before), policy("eplb+lplb", after)}),
              "LPLB does not help here: the slowest rank’s load is that of EPLB.");
    const std::string html =
        report_html(report_of({policy("eplb", before), policy("eplb+lplb", after)}), kCommand);
    EXPECT_THAT(html, Not(HasSubstr("Deploy this")));
  }
}

TEST(AnswerTest, ComparesNothingWhereThereIsNothingToCompare) {
  EXPECT_EQ(headline({policy("eplb+lplb", 1.1)}),
            "LPLB leaves an imbalance of 1.100; nothing was replayed to compare with.");
  EXPECT_EQ(headline({policy("none", 1.4), policy("eplb", 1.2)}),
            "EPLB leaves an imbalance of 1.200; no LPLB policy was replayed.");
  EXPECT_EQ(headline({policy("eplb", std::nan(""))}), "No policy has a finite imbalance.");
  EXPECT_EQ(headline({}), "No policy was replayed.");
}

TEST(AnswerTest, DeployCardSaysWhatMovesAndHowToWriteTheFile) {
  SimulateReport report = report_of({policy("eplb", 1.25), policy("file:a, b.json+lplb", 1.1)});
  report.settings.num_replicas = 12;
  report.settings.window = 4;
  report.settings.rebalance_every = 16;
  report.settings.expert_bytes = 88'000'000;
  report.policies[1].rebalances = 3;
  report.policies[1].moved_experts = 30;
  report.policies[1].moved_experts_mean = 10;
  const std::string html = report_html(report, kCommand);
  const Page page(html);
  EXPECT_EQ(page.one("code", "data-deploy").text,
            "lplb simulate --trace data/steps.jsonl --num-ranks 2 --redundants 2 --window 4 "
            "--rebalance-every 16 --policies 'file:a\\, b.json+lplb' --write-placement "
            "placement.json --policy 'file:a, b.json+lplb'");
  EXPECT_THAT(
      page.one("div", "class", "tile wide").text,
      HasSubstr("At each rebalance, every 16 batches, 10.0 of the 12 slots of a layer fetch "
                "an expert from another rank; that is 1.8 GB for 2 layers."));
  EXPECT_EQ(
      nlohmann::json::parse(report_json(report))["policies"][1]["moved_experts"]["mean_bytes"],
      1.76e9);
  report.settings.num_replicas = 9;  // no equal redundants
  EXPECT_THAT(report_html(report, ""), HasSubstr("<span>--num-replicas</span> <span>9</span>"));
}

}  // namespace
}  // namespace lplb
