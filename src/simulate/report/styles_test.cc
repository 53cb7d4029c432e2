// SPDX-License-Identifier: MIT
#include "simulate/report/styles.h"

#include <gmock/gmock.h>

#include <limits>

#include "simulate/report/charts.h"
#include "simulate/report/test_report.h"

namespace lplb::report {
namespace {

using ::testing::ElementsAre;
using testing::policy;
using testing::report_of;

/// The classes of policies without the last one, which is the policy's number.
std::vector<std::string> looks(const std::vector<std::string>& names) {
  std::vector<PolicyReport> policies;
  policies.reserve(names.size());
  for (const std::string& name : names) policies.push_back(policy(name, 1.2));
  std::vector<std::string> out;
  for (const std::string& classes : policy_classes(report_of(policies))) {
    out.push_back(classes.substr(0, classes.rfind(' ')));
  }
  return out;
}

TEST(StylesTest, APolicyLooksTheSameInEveryReport) {
  const auto forward = looks({"none", "eplb", "eplb+lplb", "cube+even", "ring:4+lplb"});
  const auto backward = looks({"ring:4+lplb", "cube+even", "eplb+lplb", "eplb", "none"});
  EXPECT_TRUE(std::equal(forward.begin(), forward.end(), backward.rbegin(), backward.rend()));
  EXPECT_EQ(looks({"cube+even"})[0], forward[3]);
}

TEST(StylesTest, PlacementsAndSplitsLookDifferent) {
  const std::vector<std::string> placements = {"eplb",      "eplb-spread", "cube",  "hypercube",
                                               "torus:2x4", "ring:8",      "homes", "file:x.json"};
  std::vector<std::string> names = {"none"};
  for (const std::string& placement : placements) {
    for (const char* split :
         {"+even", "+lplb", "+stale", "+time", "+dynamic:1", "+dynamic:1:time"}) {
      names.push_back(placement + split);
    }
  }
  const auto classes = looks(names);
  for (std::size_t i = 0; i < classes.size(); ++i) {
    for (std::size_t j = 0; j < i; ++j) EXPECT_NE(classes[i], classes[j]) << names[i] << names[j];
  }
  EXPECT_EQ(looks({"eplb"}), looks({"eplb+even"}));
}

TEST(StylesTest, FindsThePlacementOfPoliciesWithCopies) {
  EXPECT_EQ(placement_of("eplb+dynamic:1"), "eplb");
  EXPECT_EQ(placement_of("torus:2x4+dynamic:8:time"), "torus:2x4");
  EXPECT_EQ(placement_of("file:a+dynamic:x"), "file:a+dynamic:x");
  EXPECT_EQ(split_class("none+dynamic:2"), "copied");
  EXPECT_EQ(split_class("file:a+dynamic:1+lplb"), "exact");
  EXPECT_TRUE(splits_by_cost("none+dynamic:2:time"));
  EXPECT_TRUE(splits_by_cost("eplb+time"));
  EXPECT_FALSE(splits_by_cost("none+dynamic:2"));
  EXPECT_FALSE(splits_by_cost("eplb+lplb"));
}

TEST(StylesTest, PlacementsOfOneColourDifferInWidth) {
  EXPECT_THAT(looks({"ring:8+lplb", "ring:16+lplb", "ring:16+even", "ring:4+lplb"}),
              ElementsAre("c5 exact v2", "c5 exact", "c5 even", "c5 exact v1"));
}

TEST(AxisTest, OneBadPolicyDoesNotSqueezeTheOthers) {
  EXPECT_EQ(axis_end({3.4, 1.2, 1.1}), 1.2);
  EXPECT_EQ(axis_end({1.1, 3.4, 1.2, 3.5}), 1.2);
  EXPECT_EQ(axis_end({1.55, 1.2, 1.1}), 1.55);     // three times as far is near enough
  EXPECT_EQ(axis_end({3.4, 3.3, 1.1}), 3.4);       // most policies are bad
  EXPECT_EQ(axis_end({1.12, 1.0001, 1.0}), 1.12);  // the others fill no axis
  EXPECT_EQ(axis_end({std::nan(""), 1.3}), 1.3);
  EXPECT_EQ(axis_end({std::numeric_limits<double>::infinity()}), 1);
  EXPECT_EQ(axis_end({}), 1);
}

}  // namespace
}  // namespace lplb::report
