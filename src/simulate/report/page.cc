// SPDX-License-Identifier: MIT
#include "simulate/report/page.h"

#include "core/format.h"
#include "lplb/version.h"
#include "simulate/report/assets.h"
#include "simulate/report/markup.h"

namespace lplb::report {

std::string page_head(const std::string& title) {
  // The page must not load anything: all that it needs is in it.
  return formatted(
      R"(<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; )"
      R"(style-src 'unsafe-inline'; script-src 'unsafe-inline'">
<meta name="generator" content="lplb {}">
<title>{}</title>
<style>
{}</style>
</head>
<body>
)",
      version(), escape(title), style());
}

std::string page_top(const std::string& text) {
  return formatted(
      "<div class=\"top\"><p>{}</p><button class=\"theme\" type=\"button\" hidden>Light / dark"
      "</button></div>\n",
      text);
}

std::string page_end() {
  return formatted(
      "<footer><p>Made by lplb {}.</p></footer>\n<script>\n{}</script>\n</body>\n</html>\n",
      version(), script());
}

std::string page_section(const std::string& id, const std::string& title, const std::string& note,
                         const std::string& body) {
  if (body.empty()) return "";
  return formatted(
      "<section aria-labelledby=\"{0}\">\n<h2 id=\"{0}\">{1}</h2>\n<p class=\"note\">{2}</p>\n"
      "{3}</section>\n",
      id, title, note, body);
}

}  // namespace lplb::report
