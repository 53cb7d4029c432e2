// SPDX-License-Identifier: MIT

#include "core/format.h"
#include "simulate/report/charts.h"
#include "simulate/report/markup.h"
#include "simulate/report/styles.h"

namespace lplb::report {
namespace {

std::string chips(const SimulateReport& report) {
  const std::vector<std::string> classes = policy_classes(report);
  std::string out = "<ul class=\"chips\" aria-label=\"Policies that are shown\">";
  for (std::size_t i = 0; i < report.policies.size(); ++i) {
    // The class by which a policy is hidden would hide its chip too.
    const std::string style = classes[i].substr(0, classes[i].rfind(' '));
    out += formatted(R"(<li><button type="button" class="chip {}" aria-pressed="true">)"
                     R"({}<span class="name">{}</span></button></li>)",
                     style, swatch(), escape(report.policies[i].name));
  }
  return out + "</ul>\n";
}

std::string layer_choice(const SimulateReport& report) {
  if (report.trace.num_layers < 2) return "";
  std::string out =
      "<label>Layer <select class=\"layer-choice\"><option value=\"-1\">mean of all</option>";
  for (Index i = 0; i < report.trace.num_layers; ++i) {
    out += formatted("<option value=\"{}\">{}</option>", i,
                     report.trace.layer_number(static_cast<std::size_t>(i)));
  }
  return out + "</select></label>\n";
}

}  // namespace

std::string controls_html(const SimulateReport& report) {
  if (report.policies.empty() || report.num_batches == 0) return "";
  const std::int64_t last = report.num_batches - 1;
  std::string out =
      "<div class=\"controls\" role=\"group\" aria-label=\"What the figures show\" hidden>\n" +
      chips(report) + "<div class=\"choices\">\n" + layer_choice(report);
  if (report.bucket_start.size() > 1) {
    out += formatted(
        R"(<span class="stretch"><label>Batches <input class="from" type="number" min="0" max="{0}" )"
        R"(value="0"/></label> <label>to <input class="to" type="number" min="0" max="{0}" )"
        R"(value="{0}"/></label></span>
)",
        last);
  }
  return out +
         "<label class=\"whole\"><input type=\"checkbox\"/> whole scale</label>\n"
         "<button type=\"button\" class=\"reset\">Show all</button>\n</div>\n</div>\n";
}

}  // namespace lplb::report
