// SPDX-License-Identifier: MIT
#include "io/json.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <limits>

#include "io/text.h"

namespace lplb::io {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

constexpr std::int64_t kMax = std::numeric_limits<std::int64_t>::max();

/// Calls `call`, which must throw a FileError, and returns its message.
template <class Call>
std::string problem_of(const Call& call) {
  try {
    call();
  } catch (const FileError& error) {
    EXPECT_EQ(error.path(), "f");
    return error.what();
  }
  ADD_FAILURE() << "nothing was thrown";
  return "";
}

TEST(ParseJson, BuildsWhatTheTextSays) {
  const Json json = parse_json(R"( {"a": [1, -2, 2.5, true, null, "x"], "b": {"c": {}}} )", "f");
  EXPECT_EQ(json.dump(), R"({"a":[1,-2,2.5,true,null,"x"],"b":{"c":{}}})");
  EXPECT_TRUE(json["a"][0].is_number_integer());
  EXPECT_EQ(parse_json("7", "f"), Json(7));
  EXPECT_EQ(parse_json("\xEF\xBB\xBF[1]", "f"), Json({1})) << "a byte order mark";
}

TEST(ParseJson, SaysWhereItFailed) {
  EXPECT_THAT(problem_of([] { parse_json("[1,\n 2,\n  x]", "f"); }),
              HasSubstr("f: line 3, column 3: not valid JSON"));
  EXPECT_THAT(problem_of([] { parse_json("[1,\nx]", "f", 40); }), HasSubstr("line 41, column 1"));
  EXPECT_THAT(problem_of([] { parse_json("", "f"); }), HasSubstr("is empty"));
  EXPECT_THAT(problem_of([] { parse_json("  ", "f", 3); }), HasSubstr("line 3: is empty"));
  EXPECT_THAT(problem_of([] { parse_json("[1] 2", "f"); }), HasSubstr("line 1, column 5"));
}

TEST(ParseJson, RefusesKeysThatStandTwice) {
  const std::string problem = problem_of([] { parse_json("{\"a\": 1,\n \"a\": 2}", "f"); });
  EXPECT_THAT(problem, HasSubstr("line 2, column 4: key \"a\" stands twice"));
  EXPECT_NO_THROW(parse_json(R"([{"a": 1}, {"a": 1}, {"b": {"b": 1}}])", "f"));
}

TEST(ParseJson, RefusesDeepNestingAtTheLevelThatPassesTheLimit) {
  const auto nested = [](std::size_t depth) {
    return std::string(depth, '[') + std::string(depth, ']');
  };
  EXPECT_NO_THROW(parse_json(nested(16), "f"));
  EXPECT_THAT(problem_of([&] { parse_json(nested(17), "f"); }),
              HasSubstr("line 1, column 17: nested deeper than 16"));
  EXPECT_THAT(problem_of([&] { parse_json(std::string(1 << 20, '['), "f"); }),
              HasSubstr("nested deeper"));
}

TEST(ParseJson, RefusesNumbersThatNoDoubleHolds) {
  EXPECT_THAT(problem_of([] { parse_json("[1e999]", "f"); }), HasSubstr("1e999"));
  EXPECT_THAT(problem_of([] { parse_json("[NaN]", "f"); }), HasSubstr("not valid JSON"));
}

TEST(ParseJson, MessagesAreOnePrintableLine) {
  for (const std::string& text :
       {std::string("\0\1\2", 3), std::string("{\"\xff\": 1}"), std::string("\x1b[31m"),
        "\"" + std::string(5000, 'a'), std::string("[\"a\nb\"]")}) {
    const std::string problem = problem_of([&] { parse_json(text, "f"); });
    EXPECT_EQ(problem, printable(problem, 10000));
    EXPECT_LT(problem.size(), 400U);
  }
}

TEST(Object, ReadsByKeyAndRefusesWhatItDoesNotKnow) {
  const Json json = parse_json(R"({"n": 5, "s": "text", "f": 1.5, "b": 9223372036854775808})", "f");
  const Object object(json, "f", "line 3");
  EXPECT_EQ(object.integer("n", 0, 5), 5);
  EXPECT_EQ(object.string("s"), "text");
  EXPECT_TRUE(object.has("n"));
  EXPECT_FALSE(object.has("m"));
  EXPECT_NO_THROW(object.allow_only({"n", "s", "f", "b"}));
  EXPECT_THAT(problem_of([&] {
                object.allow_only({"n", "s"});
              }),
              HasSubstr("f: line 3: key \"b\" is unknown, expected one of n, s"));
  EXPECT_THAT(problem_of([&] { object.at("m"); }), HasSubstr("key \"m\" is missing"));
  EXPECT_THAT(problem_of([&] { object.integer("n", 0, 4); }),
              HasSubstr("line 3, key n: is 5, expected an integer from 0 to 4"));
  EXPECT_THAT(problem_of([&] { object.integer("f", 0, 4); }), HasSubstr("key f: is 1.5"));
  EXPECT_THAT(problem_of([&] { object.integer("b", 0, kMax); }),
              HasSubstr("is 9223372036854775808, expected an integer from 0 to 2^63 - 1"));
  EXPECT_THAT(problem_of([&] { object.integer("s", 0, 4); }), HasSubstr("is \"text\""));
  EXPECT_THAT(problem_of([&] { object.string("n"); }), HasSubstr("expected a string"));
  EXPECT_THAT(problem_of([&] { object.fail("n", "no"); }), HasSubstr("line 3, key n: no"));
  EXPECT_THAT(problem_of([] { Object(Json::array(), "f"); }), HasSubstr("is a list"));
}

Matrix<std::int64_t> integers(const std::string& text, bool flat = false) {
  return integer_matrix(parse_json(text, "f"), "f", "key load", 0, kMax, flat);
}

TEST(Matrix, ReadsRowsOfOneLength) {
  const auto matrix = integers("[[1, 2, 3], [4, 5, 9223372036854775807]]");
  EXPECT_EQ(matrix.rows, 2U);
  EXPECT_EQ(matrix.columns, 3U);
  EXPECT_THAT(matrix.values, ElementsAre(1, 2, 3, 4, 5, kMax));
  EXPECT_EQ(integers("[1, 2]", true).rows, 1U);
  EXPECT_EQ(integers("[[1], [2]]", true).rows, 2U);
  const auto reals = real_matrix(parse_json("[[0.5, 2, 1e300]]", "f"), "f", "key load", false);
  EXPECT_THAT(reals.values, ElementsAre(0.5, 2, 1e300));
}

TEST(Matrix, NamesTheEntryThatIsWrong) {
  const auto says = [](const std::string& text, const std::string& what, bool flat = false) {
    EXPECT_THAT(problem_of([&] { integers(text, flat); }), HasSubstr(what)) << text;
  };
  says("[]", "key load: is an empty list");
  says("[[]]", "key load[0]: is an empty list");
  says("[[1], []]", "key load[1]: is an empty list");
  says("[[1], [2, 3]]", "key load[1]: has 2 entries, expected 1");
  says("[[1], 2]", "key load[1]: is 2, expected a list");
  says("[1, 2]", "key load[0]: is 1, expected a list");
  says("[1, [2]]", "key load[1]: is a list", true);
  says("{}", "key load: is an object");
  says("[[0, 1], [2, 1.5]]", "key load[1][1]: is 1.5, expected an integer");
  says("[[1e3]]", "key load[0][0]: is 1000.0");
  says("[[-1]]", "key load[0][0]: is -1");
  says("[[18446744073709551615]]", "key load[0][0]: is 18446744073709551615");
  says("[[-9223372036854775809]]", "key load[0][0]");
  says("[[true]]", "key load[0][0]: is true");
  says("[null]", "key load[0]: is null", true);
  for (const char* text : {"[[-0.5]]", "[[\"1\"]]", "[[null]]", "[[[1]]]"}) {
    EXPECT_THAT(problem_of([&] { real_matrix(parse_json(text, "f"), "f", "key load", false); }),
                HasSubstr("key load[0][0]"));
  }
}

TEST(Printable, KeepsTextAndEscapesTheRest) {
  EXPECT_EQ(printable("plain \xC3\xA4 \xE2\x82\xAC \xF0\x9F\x98\x80"),
            "plain \xC3\xA4 \xE2\x82\xAC \xF0\x9F\x98\x80");
  EXPECT_EQ(printable("a\nb\x7f"), "a\\x0ab\\x7f");
  EXPECT_EQ(printable("\xff\xC3"), "\\xff\\xc3");
  EXPECT_EQ(printable("\xE2\x82"), "\\xe2\\x82") << "cut off";
  EXPECT_EQ(printable("\xC2\x85"), "\\xc2\\x85") << "a control character of Unicode";
  EXPECT_EQ(printable(std::string(200, 'a')), std::string(120, 'a') + "...");
  EXPECT_EQ(printable("aaa\n", 5), "aaa...");
}

}  // namespace
}  // namespace lplb::io
