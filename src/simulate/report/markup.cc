// SPDX-License-Identifier: MIT
#include "simulate/report/markup.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "core/format.h"
#include "io/text.h"

namespace lplb::report {

std::string escape(std::string_view text) {
  std::string out;
  for (const char c : io::printable(text, std::numeric_limits<std::size_t>::max())) {
    switch (c) {
      case '&':
        out += "&amp;";
        break;
      case '<':
        out += "&lt;";
        break;
      case '>':
        out += "&gt;";
        break;
      case '"':
        out += "&quot;";
        break;
      case '\'':
        out += "&#39;";
        break;
      default:
        out += c;
    }
  }
  return out;
}

std::string shorten(std::string_view text, std::size_t max) {
  // Cut only where a character starts, so that no UTF-8 sequence is broken.
  std::vector<std::size_t> start;
  for (std::size_t i = 0; i < text.size(); ++i) {
    if ((static_cast<unsigned char>(text[i]) & 0xC0) != 0x80) start.push_back(i);
  }
  if (start.size() <= max) return std::string(text);
  const std::size_t head = (max - 1) / 2;
  const std::size_t tail = max - 1 - head;
  return formatted("{}…{}", text.substr(0, start[head]), text.substr(start[start.size() - tail]));
}

std::string fixed(double value, int decimals) {
  if (!std::isfinite(value)) return "–";
  const std::string text = formatted("{:.{}f}", value, decimals);
  // The page never shows "-0.0".
  const bool zero = text.find_first_not_of("-0.") == std::string::npos;
  return zero && text[0] == '-' ? text.substr(1) : text;
}

std::string percent(double share, int decimals) {
  return std::isfinite(share) ? fixed(100 * share, decimals) + "\u00A0%" : "–";
}

std::string grouped(std::int64_t value) {
  const std::string text = formatted("{}", value);
  std::string out;
  for (std::size_t i = 0; i < text.size(); ++i) {
    const bool after_digit = i > 0 && text[i - 1] != '-';
    if (after_digit && (text.size() - i) % 3 == 0) out += ',';
    out += text[i];
  }
  return out;
}

std::string bytes_text(double bytes) {
  int unit = 0;
  constexpr const char* kUnits[] = {"bytes", "kB", "MB", "GB", "TB", "PB"};
  for (; bytes >= 999.95 && unit < 5; ++unit) bytes /= 1000;
  return formatted("{} {}", fixed(bytes, unit == 0 ? 0 : 1), kUnits[unit]);
}

std::string counted(std::int64_t count, std::string_view noun) {
  const char* plural = noun.ends_with("ch") ? "es" : "s";
  return formatted("{} {}{}", grouped(count), noun, count == 1 ? "" : plural);
}

std::string plain(const std::string& text) {
  std::string out = text;
  for (const auto& [character, ascii] : {std::pair{"\u00A0", " "}, std::pair{"’", "'"}}) {
    const std::string_view from = character;
    for (std::size_t at = 0; (at = out.find(from, at)) != std::string::npos; ++at) {
      out.replace(at, from.size(), ascii);
    }
  }
  return out;
}

std::string words(const std::string& command) {
  std::string out;
  for (std::size_t first = 0, end = 0; first < command.size(); first = end + 1) {
    end = std::min(command.find(' ', first), command.size());
    out += formatted("{}<span>{}</span>", first == 0 ? "" : " ",
                     escape(std::string_view(command).substr(first, end - first)));
  }
  return out;
}

std::string exact(double value) { return std::isfinite(value) ? formatted("{}", value) : ""; }

std::string exact_list(const std::vector<double>& values) {
  std::string out;
  for (const double value : values) {
    if (!out.empty()) out += ' ';
    out += std::isfinite(value) ? exact(value) : "nan";
  }
  return out;
}

std::string data_attributes(std::string_view policy, std::string_view metric, double value) {
  return formatted(R"( data-policy="{}" data-metric="{}" data-value="{}")", escape(policy), metric,
                   exact(value));
}

bool is_lplb(const PolicyReport& policy) {
  return policy.copies || policy.name.ends_with("+lplb") || policy.name.ends_with("+time");
}

bool makes_copies(const SimulateReport& report) {
  return std::ranges::any_of(report.policies,
                             [](const PolicyReport& policy) { return policy.copies.has_value(); });
}

std::string synthetic_badge(const SimulateReport& report) {
  return report.trace.synthetic ? R"( <span class="badge">synthetic</span>)" : "";
}

std::string bucket_name(const SimulateReport& report, std::size_t bucket) {
  const std::int64_t first = report.bucket_start[bucket];
  const std::int64_t end = bucket + 1 < report.bucket_start.size() ? report.bucket_start[bucket + 1]
                                                                   : report.num_batches;
  return end - first > 1 ? formatted("batches {} to {}", grouped(first), grouped(end - 1))
                         : formatted("batch {}", grouped(first));
}

}  // namespace lplb::report
