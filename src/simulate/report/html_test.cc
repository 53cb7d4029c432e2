// SPDX-License-Identifier: MIT
#include <fmt/ranges.h>
#include <gmock/gmock.h>

#include <cmath>
#include <limits>
#include <nlohmann/json.hpp>
#include <set>
#include <sstream>

#include "core/format.h"
#include "lplb/simulate.h"
#include "lplb/version.h"
#include "simulate/report/test_page.h"
#include "simulate/report/test_report.h"
#include "simulate/test_options.h"
#include "support/test_files.h"

namespace lplb {
namespace {

using testing::Element;
using ::testing::HasSubstr;
using testing::kCommand;
using ::testing::Not;
using testing::Page;
using testing::policy;
using testing::report_of;

using Json = nlohmann::json;

/// A long replay.
SimulateOptions long_replay() {
  SimulateOptions options = testing::small_replay();
  options.synthetic.num_steps = 300;
  options.synthetic.num_tokens = 64;
  return options;
}

/// The value at a path such as "imbalance.mean".
Json at_path(const Json& json, const std::string& path) {
  Json value = json;
  std::istringstream keys(path);
  for (std::string key; std::getline(keys, key, '.');) value = Json(value.at(key));
  return value;
}

std::vector<double> numbers(const std::string& text) {
  std::istringstream stream(text);
  std::vector<double> out;
  for (double value; stream >> value;) out.push_back(value);
  return out;
}

/// With and without a cost model.
class ReportFigures : public ::testing::TestWithParam<bool> {};
INSTANTIATE_TEST_SUITE_P(Cost, ReportFigures, ::testing::Bool());

TEST_P(ReportFigures, OfPoliciesAreThoseOfTheJson) {
  SimulateOptions options = long_replay();
  if (GetParam()) {
    options.cost = CostModel("us", CostTable{3.5, {4, 16}, {7, 9}, 16, 8});
    options.policies.emplace_back("eplb+time");
    options.policies.emplace_back("none+dynamic:1");
    options.expert_bytes = 44'000'000;
    options.copy_gigabytes_per_s = 400;
  }
  const char* const compared = GetParam() ? "cost" : "imbalance";
  const SimulateReport report = simulate(options);
  const Json json = Json::parse(report_json(report));
  const std::string html = report_html(report, kCommand);
  std::map<std::string, Json> policies;
  for (const Json& p : json["policies"]) policies[p["name"]] = p;

  std::map<std::string, std::set<std::string>> seen;
  for (const Element& element : Page(html).all("", "data-value")) {
    const std::string metric = element.at("data-metric");
    if (metric.empty()) continue;
    const Json& p = policies.at(element.at("data-policy"));
    seen[p["name"]].insert(metric);
    const std::string value = element.at("data-value");
    if (metric == "answer.cut") {
      const double base = policies.at(element.at("data-baseline"))[compared]["mean"];
      EXPECT_EQ(std::stod(value), 1 - p[compared]["mean"].get<double>() / base);
    } else if (metric == "waiting") {
      EXPECT_EQ(std::stod(value), 1 - 1 / p["imbalance"]["mean"].get<double>());
    } else if (metric.starts_with("solve_us") && p["solve_us"].is_null()) {
      EXPECT_EQ(value + element.text, "–") << metric;
    } else if (metric.starts_with("copies") && p["copies"].is_null()) {
      EXPECT_EQ(value + element.text, "–") << metric;
    } else if (metric.starts_with("cost.gap") && at_path(p, metric).is_null()) {
      EXPECT_EQ(p["name"], "none+dynamic:1");  // the bound of its cost is not known
      EXPECT_EQ(value + element.text, "–") << metric;
    } else {
      const Json expected = at_path(p, metric);
      ASSERT_FALSE(expected.is_null()) << metric;
      EXPECT_EQ(std::stod(value), expected.get<double>()) << p["name"] << " " << metric;
    }
  }
  ASSERT_EQ(seen.size(), options.policies.size());
  for (const auto& [name, metrics] : seen) {
    for (const char* metric :
         {"imbalance.mean", "imbalance.p50", "imbalance.p95", "imbalance.p99", "imbalance.max",
          "gap.mean", "gap.max", "solves", "optimal", "solve_us.mean", "solve_us.p99", "rebalances",
          "moved_experts.total", "moved_experts.mean", "local_share"}) {
      EXPECT_EQ(metrics.count(metric), 1u) << name << " " << metric;
    }
    for (const char* metric : {"cost.mean", "cost.p99", "cost.gap.mean", "cost.gap.max"}) {
      EXPECT_EQ(metrics.count(metric), GetParam() ? 1u : 0u) << name << " " << metric;
    }
    for (const char* metric : {"copies.mean", "copies.max", "copies.busiest", "copies.mean_bytes",
                               "copies.exposed_us"}) {
      EXPECT_EQ(metrics.count(metric), GetParam() ? 1u : 0u) << name << " " << metric;
    }
  }
}

/// The figures that a reader sees are the values that a program reads, rounded.
TEST(ReportHtmlTest, ShownFiguresAreTheValuesRounded) {
  const std::string html = report_html(simulate(long_replay()), kCommand);
  int checked = 0;
  for (const Element& cell : Page(html).all("td", "data-value")) {
    if (cell.has("data-setting") || cell.at("data-value").empty()) continue;
    std::string shown = cell.text;
    std::erase(shown, ',');
    const bool percent = shown.ends_with("%");
    const std::size_t point = shown.find('.');
    const auto decimals = point == std::string::npos
                              ? 0
                              : shown.find_first_not_of("0123456789", point + 1) - point - 1;
    const double digits = point == std::string::npos
                              ? 0
                              : static_cast<double>(std::min(decimals, shown.size() - point - 1));
    const double value = std::stod(cell.at("data-value")) * (percent ? 100 : 1);
    EXPECT_NEAR(std::stod(shown), value, 0.5000001 * std::pow(10, -digits)) << cell.text;
    ++checked;
  }
  EXPECT_GT(checked, 100);
}

TEST(ReportHtmlTest, LayersTimeAndRanksAreThoseOfTheJson) {
  const SimulateReport report = simulate(long_replay());
  const Json json = Json::parse(report_json(report));
  const std::string html = report_html(report, kCommand);
  const Page page(html);
  const Element main = page.one("main");
  EXPECT_EQ(numbers(main.at("data-bucket-start")),
            json["trace"]["bucket_start"].get<std::vector<double>>());
  EXPECT_EQ(main.at("data-num-batches"), "300");

  const std::vector<Element> lines = page.all("g", "data-metric", "over_time");
  ASSERT_EQ(lines.size(), 5u);
  for (std::size_t i = 0; i < lines.size(); ++i) {
    EXPECT_EQ(lines[i].at("data-policy"), json["policies"][i]["name"]);
    EXPECT_EQ(numbers(lines[i].at("data-values")),
              json["policies"][i]["over_time"].get<std::vector<double>>());
  }

  const std::vector<Element> maps = page.all("svg", "data-metric", "rank_heat");
  ASSERT_EQ(maps.size(), 2u);
  for (const Element& map : maps) {
    for (const Json& p : json["policies"]) {
      if (p["name"] != map.at("data-policy")) continue;
      std::vector<double> expected;
      for (const Json& row : p["rank_heat"]) {
        expected.insert(expected.end(), row.begin(), row.end());
      }
      EXPECT_THAT(numbers(map.at("data-values")),
                  ::testing::Pointwise(::testing::DoubleNear(5.1e-5), expected));
    }
  }
  EXPECT_EQ(maps[0].at("data-policy"), "eplb");

  std::vector<std::pair<std::string, std::string>> columns;  // policy, "layers.mean"
  for (const Element& head : page.all("th", "data-sort")) {
    if (head.has("data-metric")) {
      columns.emplace_back(head.at("data-policy"), head.at("data-metric").substr(7));
    }
  }
  ASSERT_EQ(columns.size(), 10u);
  const Element h1 = page.one("h1");
  std::vector<double> cells, expected;
  for (const Element& cell : page.all("td", "data-value")) {
    const Element& row = page.elements()[cell.within.back()];
    if (row.has("data-layer")) cells.push_back(std::stod(cell.at("data-value")));
  }
  for (std::size_t layer = 0; layer < 3; ++layer) {
    for (std::size_t i = 0; i < columns.size(); ++i) {
      const Json& p = json["policies"][i / 2];
      EXPECT_EQ(p["name"], columns[i].first);
      expected.push_back(p["layers"][layer][columns[i].second]);
    }
    const auto mean_of = [&](const std::string& name) {
      for (const Json& p : json["policies"]) {
        if (p["name"] == name) return p["layers"][layer]["mean"].get<double>();
      }
      return std::nan("");
    };
    expected.push_back(1 - mean_of(h1.at("data-policy")) / mean_of(h1.at("data-baseline")));
  }
  EXPECT_EQ(cells, expected);
}

TEST(ReportHtmlTest, SettingsAreThoseOfTheJson) {
  const SimulateReport report = simulate(long_replay());
  const Json json = Json::parse(report_json(report));
  const std::string html = report_html(report, kCommand);
  int checked = 0;
  for (const Element& cell : Page(html).all("td", "data-setting")) {
    const Json expected = at_path(json, cell.at("data-setting"));
    std::string text = expected.is_string() ? expected.get<std::string>() : expected.dump();
    if (expected.is_array()) {
      text = formatted("{}", fmt::join(expected.get<std::vector<std::string>>(), ","));
    }
    EXPECT_EQ(cell.at("data-value"), text) << cell.at("data-setting");
    ++checked;
  }
  EXPECT_EQ(checked, 27);
  EXPECT_THAT(html, HasSubstr(std::string("lplb ") + version()));
}

TEST(ReportHtmlTest, AllTextIsEscaped) {
  const std::string evil = "</td><script>alert('1' & \"2\")</script>";
  SimulateReport report = report_of({policy("none", 1.5), policy("r2o:" + evil + "+even", 1.3),
                                     policy("r2o:" + evil + "+lplb", 1.2)});
  report.trace.name = evil + "\n\x01\xff";
  report.trace.format = evil;
  report.settings.trace = evil;
  report.settings.policies = {evil};
  const std::string html = report_html(report, "lplb simulate --trace " + evil);
  const Page page(html);  // reads strictly: unescaped text fails
  EXPECT_EQ(page.all("script").size(), 1u);
  EXPECT_THAT(page.one("script").text, Not(HasSubstr("alert")));
  EXPECT_THAT(page.all("title")[0].text, HasSubstr(evil + "\\x0a\\x01\\xff"));
  EXPECT_EQ(page.one("code", "data-command").text, "lplb simulate --trace " + evil);
  EXPECT_EQ(page.one("h1").at("data-policy"), "r2o:" + evil + "+lplb");
}

TEST(ReportHtmlTest, PageStandsAlone) {
  const std::string html = report_html(simulate(long_replay()), kCommand);
  const Page page(html);
  EXPECT_EQ(page.one("html").at("lang"), "en");
  EXPECT_THAT(page.one("meta", "http-equiv").at("content"), HasSubstr("default-src 'none'"));
  std::set<std::string> ids;
  for (const Element& element : page.elements()) {
    EXPECT_THAT(element.tag, Not(::testing::AnyOf("link", "img", "iframe", "object", "image")));
    for (const char* name : {"src", "href", "onclick", "xlink:href"}) {
      EXPECT_FALSE(element.has(name)) << element.tag << " " << name;
    }
    if (element.has("id")) {
      EXPECT_TRUE(ids.insert(element.at("id")).second) << element.at("id");
    }
  }
  EXPECT_THAT(page.one("style").text, Not(HasSubstr("url(")));
  EXPECT_THAT(page.one("style").text, Not(HasSubstr("@import")));
}

TEST(ReportHtmlTest, FiguresAndTablesCanBeReadWithoutEyesOrColours) {
  const std::string html = report_html(simulate(long_replay()), kCommand);
  const Page page(html);
  for (const Element& section : page.all("section")) {
    EXPECT_EQ(page.all("h2", "id", section.at("aria-labelledby")).size(), 1u);
  }
  int described = 0;
  for (const Element& image : page.all("svg", "role", "img")) {
    EXPECT_FALSE(image.text.empty());
    ++described;
  }
  EXPECT_EQ(page.all("desc").size(), static_cast<std::size_t>(described));
  EXPECT_EQ(described, 5 + 1 + 2);
  for (const Element& head : page.all("th")) EXPECT_TRUE(head.has("scope")) << head.text;
  // Each line of the chart over time has its name next to it.
  std::vector<std::string> ends;
  for (const Element& text : page.all("text")) {
    if (text.at("class") == "end") ends.push_back(text.text);
  }
  EXPECT_THAT(ends, ::testing::UnorderedElementsAreArray(long_replay().policies));
}

TEST(ReportHtmlTest, SyntheticFiguresAreMarkedWhereverTheyShow) {
  SimulateReport report = report_of({policy("eplb", 1.2), policy("eplb+lplb", 1.1)});
  EXPECT_THAT(report_html(report, kCommand), Not(HasSubstr("class=\"badge\"")));
  report.trace.synthetic = true;
  const std::string html = report_html(report, kCommand);
  const Page page(html);
  EXPECT_EQ(page.one("p", "class", "notice").text.find("synthetic"), 0u);
  EXPECT_THAT(page.all("title")[0].text, HasSubstr("(synthetic)"));
  // Each figure, table and number has a heading.
  for (const Element& heading : page.all("h2")) EXPECT_THAT(heading.text, HasSubstr("synthetic"));
}

TEST(ReportHtmlTest, MarksStandWhereTheirValuesAre) {
  const std::string html =
      report_html(report_of({policy("eplb", 1.4), policy("eplb+lplb", 1.2)}), kCommand);
  const Page page(html);
  // The worst values are 2.8 and 2.4, so the axis runs from 1 to 3.
  std::vector<double> means;
  for (const Element& circle : page.all("circle", "class", "mean")) {
    const Element& symbol = page.elements()[circle.within.back()];
    means.push_back(std::stod(symbol.at("x")));
  }
  ASSERT_EQ(means.size(), 3u);  // one in the key, and one in each policy's row
  EXPECT_EQ(means[1], 20);
  EXPECT_EQ(means[2], 10);
  // Ranks with loads 1.4 and 0.6 have the outermost colours. Those with 1.2 and 0.8 are nearer to
  // the mean, equally far on both sides.
  for (const char* colour : {"h10", "h0", "h7", "h3", "h5"}) {
    EXPECT_EQ(page.all("path", "class", colour).size(), colour == std::string("h5") ? 2u : 1u)
        << colour;
  }
}

TEST(ReportHtmlTest, OneBatchOneLayerAndNothingSolved) {
  SimulateOptions options = long_replay();
  options.synthetic.num_layers = 1;
  options.synthetic.num_steps = 1;
  options.policies = {"none"};
  options.redundants = 0;
  const std::string html = report_html(simulate(options), kCommand);
  const Page page(html);
  EXPECT_EQ(page.all("g", "data-metric", "over_time").size(), 1u);
  EXPECT_EQ(page.all("tr", "data-layer").size(), 1u);
  EXPECT_THAT(html, HasSubstr("1 batch, 1 layer,"));
  EXPECT_THAT(html, Not(HasSubstr("nan")));
}

/// The rows of a map are at least 3 pixels high, and their labels 16 to 31 apart.
TEST(ReportHtmlTest, RowsOfMapsHaveRoomForTheirLabels) {
  SimulateReport report = report_of({policy("none", 1.5), policy("eplb+lplb", 1.1)});
  for (const Index ranks : {2, 22, 45, 72, 90}) {
    report.settings.num_ranks = ranks;
    for (PolicyReport& p : report.policies) {
      p.rank_heat.assign(static_cast<std::size_t>(ranks) * report.bucket_start.size(), 1);
    }
    const std::string html = report_html(report, kCommand);
    const Page page(html);
    const Element map = page.all("svg", "data-metric", "rank_heat").at(0);
    const double height = std::stod(map.at("height"));
    EXPECT_GE(height, 3 * std::stod(map.at("data-rows")));
    std::vector<double> labels;
    for (const Element& text : page.all("text", "text-anchor", "end")) {
      const bool is_label = text.at("x") == "-8" && text.at("class").empty();
      if (is_label && text.within == map.within) labels.push_back(std::stod(text.at("y")));
    }
    ASSERT_GE(labels.size(), 2u) << ranks;
    EXPECT_GE(labels[1] - labels[0], 16) << ranks;
    EXPECT_TRUE(ranks == 2 || labels[1] - labels[0] < 32) << ranks;
    EXPECT_LE(labels.back(), height + 4) << ranks;
  }
}

TEST(ReportHtmlTest, OneMapHasNothingToCompareWith) {
  const auto titles = [](const std::vector<PolicyReport>& policies) {
    const std::string html = report_html(report_of(policies), kCommand);
    std::string text;
    for (const Element& title : Page(html).all("h3")) text += title.text + "\n";
    return text;
  };
  EXPECT_THAT(titles({policy("none", 1.5)}), Not(HasSubstr("After:")));
  EXPECT_THAT(titles({policy("none", 1.5)}), Not(HasSubstr("Before:")));
  EXPECT_THAT(titles({policy("none", 1.5), policy("eplb+lplb", 1.1)}), HasSubstr("After:"));
}

TEST(ReportHtmlTest, SlotsOfALayerAreShownUnlessPlacementsAreGiven) {
  SimulateReport report = report_of({policy("none", 1)});
  for (const Index slots : {0, 1, 12}) {
    report.settings.num_replicas = slots;
    const std::string html = report_html(report, kCommand);
    EXPECT_EQ(Page(html).all("td", "data-setting", "settings.num_replicas").size(),
              slots > 0 ? 1u : 0u);
  }
}

TEST(ReportHtmlTest, FiguresThatAreNoNumbersAreDashes) {
  const double nan = std::nan("");
  PolicyReport bad = policy("eplb", nan);
  bad.gap_max = std::numeric_limits<double>::infinity();
  const std::string html = report_html(report_of({policy("none", 1.5), bad}), kCommand);
  const Page page(html);
  for (const Element& cell : page.all("td", "data-policy", "eplb")) {
    if (cell.at("data-metric") == "imbalance.mean" || cell.at("data-metric") == "gap.max") {
      EXPECT_EQ(cell.text, "–");
      EXPECT_EQ(cell.at("data-value"), "");
    }
  }
  for (const Element& line : page.all("polyline")) {
    EXPECT_THAT(line.at("points"), Not(HasSubstr("nan")));
  }
}

TEST(ReportHtmlTest, EmptyReportIsAPage) {
  const std::string html = report_html(SimulateReport{}, "");
  const Page page(html);
  EXPECT_EQ(page.all("section").size(), 5u);  // the section of ranks is missing
}

TEST(ReportHtmlTest, ManyRanksLayersAndBucketsStaySmall) {
  constexpr std::size_t kRanks = 1024, kBuckets = 128, kLayers = 61;
  SimulateReport report = report_of({});
  report.settings.num_ranks = kRanks;
  report.num_batches = kBuckets;
  report.trace.num_layers = kLayers;
  report.bucket_start.clear();
  for (std::size_t i = 0; i < kBuckets; ++i) report.bucket_start.push_back(std::int64_t(i));
  for (const char* name : {"none", "eplb", "eplb+lplb", "cube+lplb"}) {
    PolicyReport p = policy(name, 1.25);
    p.layer_mean.assign(kLayers, 1.234567890123456789);
    p.layer_max.assign(kLayers, 2.345678901234567891);
    p.over_time.assign(kBuckets, 1.234567890123456789);
    // Neighbouring cells never have the same colour: the worst case for run lengths.
    p.rank_heat.clear();
    for (std::size_t i = 0; i < kRanks * kBuckets; ++i) {
      p.rank_heat.push_back(i % 2 == 0 ? 0.25 : 1.75 + static_cast<double>(i / kBuckets % 8) / 100);
    }
    report.policies.push_back(p);
  }
  const std::string html = report_html(report, kCommand);
  EXPECT_LT(html.size(), 1'500'000u);
  const Page page(html);
  const std::vector<Element> maps = page.all("svg", "data-metric", "rank_heat");
  ASSERT_EQ(maps.size(), 2u);
  EXPECT_EQ(maps[0].at("data-rows"), "128");
  EXPECT_EQ(maps[0].at("data-ranks-per-row"), "8");
  const std::vector<double> values = numbers(maps[0].at("data-values"));
  ASSERT_EQ(values.size(), 128 * kBuckets);
  EXPECT_EQ(values[0], 0.25);
  EXPECT_EQ(values[1], 1.82);  // the busiest of ranks 0 to 7
}

}  // namespace
}  // namespace lplb
