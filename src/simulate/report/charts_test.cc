// SPDX-License-Identifier: MIT
#include "simulate/report/charts.h"

#include <gmock/gmock.h>

#include "lplb/placement.h"
#include "simulate/report/test_page.h"
#include "simulate/report/test_report.h"

// What the page marks in time, and what it says of experts.
namespace lplb {
namespace {

using testing::Element;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::Not;
using testing::Page;
using testing::policy;
using testing::report_of;

SimulateReport with_domains() {
  SimulateReport report = report_of({policy("eplb", 1.4), policy("eplb+lplb", 1.2)});
  report.domains = {{0, "law"}, {4, "maths & <logic>"}};
  for (PolicyReport& p : report.policies) p.rebalances = 2;
  return report;
}

std::vector<std::string> positions(const Page& page, const std::string& tag,
                                   const std::string& within, const std::string& attribute) {
  std::vector<std::string> out;
  for (const Element& element : page.all(tag)) {
    const bool inside =
        element.at("class") == within ||
        (!element.within.empty() && page.elements()[element.within.back()].at("class") == within);
    if (inside && element.has(attribute)) out.push_back(element.at(attribute));
  }
  return out;
}

TEST(ReportChartsTest, DomainsAndRebalancesStandWhereTheyBegin) {
  SimulateReport report = with_domains();  // 8 batches
  report.settings.rebalance_every = 3;
  const std::string html = report_html(report, "lplb");
  const Page page(html);
  EXPECT_THAT(positions(page, "line", "domain", "x1"), ElementsAre("0.00%", "50.00%"));
  EXPECT_THAT(positions(page, "svg", "rebalance", "x"), ElementsAre("37.50%", "75.00%"));
  EXPECT_THAT(html, HasSubstr("Triangles: a rebalance, every 3 batches."));
  EXPECT_EQ(page.one("main").at("data-domains"), "0 law\n4 maths & <logic>");
}

TEST(ReportChartsTest, RebalancesAtEveryBatchAreSaidAndNotMarked) {
  const std::string html = report_html(with_domains(), "lplb");
  EXPECT_TRUE(Page(html).all("svg", "class", "rebalance").empty());
  EXPECT_THAT(html, HasSubstr("A rebalance comes before every batch but the first."));
}

TEST(ReportChartsTest, WhatIsCutOffIsSaid) {
  const std::string html = report_html(
      report_of({policy("none", 3.5), policy("eplb", 1.2), policy("eplb+lplb", 1.1)}), "lplb");
  const Page page(html);
  // Worst values are twice the means: the axis ends behind 2.4.
  EXPECT_EQ(page.one("text", "class", "beyond").text, "mean 3.500, worst 7.000 ▸");
  EXPECT_EQ(page.all("svg", "class", "lines cut").size(), 1u);
  std::vector<std::string> ends;
  for (const Element& text : page.all("text", "class", "end")) ends.push_back(text.text);
  EXPECT_THAT(ends, ElementsAre("none ▴", "eplb", "eplb+lplb"));
}

TEST(ReportChartsTest, EveryPolicyHasAChipAndAClassThatHidesIt) {
  const std::string html = report_html(with_domains(), "lplb");
  const Page page(html);
  const auto chips = page.all("button", "aria-pressed");
  ASSERT_EQ(chips.size(), 2u);
  EXPECT_EQ(chips[1].text, "eplb+lplb");
  EXPECT_THAT(chips[1].at("class"), Not(HasSubstr("p1")));
  // Whatever shows a figure of the policy has the class, or is within an element that has it.
  const auto hides = [](const Element& element) {
    return (" " + element.at("class") + " ").find(" p1 ") != std::string::npos;
  };
  int checked = 0;
  for (const Element& element : page.all("", "data-policy", "eplb+lplb")) {
    const std::string metric = element.at("data-metric");
    if (metric == "answer.cut" || metric == "rank_heat" || element.tag == "p") continue;
    bool hidden = hides(element);
    for (const std::size_t i : element.within) hidden |= hides(page.elements()[i]);
    EXPECT_TRUE(hidden) << element.tag << " " << metric;
    ++checked;
  }
  EXPECT_GT(checked, 20);
}

TEST(ReportChartsTest, ExpertsAreThoseOfTheLoadAndOfThePlacements) {
  SimulateReport report = with_domains();
  // Two layers of 8 experts. Layer 1 has the hottest expert, number 6.
  report.expert_load = {8, 8, 8, 8, 8, 8, 8, 8, 1, 2, 3, 4, 5, 6, 18, 1};
  const std::vector<Index> slots = {0, 1, 2, 3, 4, 6, 6, 5, 7, 6, 1, 0};
  const Placement placement = make_placement(2, 8, slots);
  for (PolicyReport& p : report.policies) p.next_placement = {placement, placement};
  const std::string html = report_html(report, "lplb");
  const Page page(html);
  const Element table = page.one("table", "class", "experts");
  std::vector<std::vector<std::string>> rows;
  for (const Element& cell : page.elements()) {
    if (cell.tag != "td" && cell.tag != "th") continue;
    bool within = false;
    for (const std::size_t i : cell.within) {
      within |= page.elements()[i].at("class") == "experts";
    }
    if (!within) continue;
    if (cell.tag == "th" && cell.at("scope") == "row") rows.emplace_back();
    if (!rows.empty() && cell.at("class") != "bar") rows.back().push_back(cell.text);
  }
  ASSERT_EQ(rows.size(), 8u);
  // The mean load is 5. eplb and eplb+lplb share their placement, so there is one column.
  EXPECT_THAT(rows[0], ElementsAre("6", "3.60", "3", "1.20"));
  EXPECT_THAT(rows[1], ElementsAre("5", "1.20", "1", "1.20"));
  EXPECT_THAT(rows[7], ElementsAre("7", "0.20", "1", "0.20"));
  EXPECT_EQ(page.one("span", "class", "share").text, "100\u00A0%");
  EXPECT_EQ(page.one("span", "class", "layer").at("data-index"), "1");
}

}  // namespace
}  // namespace lplb
