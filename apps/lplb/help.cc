// SPDX-License-Identifier: MIT
#include "help.h"

#include <algorithm>
#include <sstream>

#include "core/format.h"
#include "exit_status.h"
#include "options.h"

namespace lplb::app {
namespace {

constexpr std::size_t kHelpColumn = 30;
constexpr std::size_t kWidth = 100;

/// Breaks `text` into lines of at most kWidth characters. All lines after the first are indented.
std::string wrapped(const std::string& text, std::size_t indent) {
  std::istringstream words(text);
  std::string out;
  std::size_t column = indent;
  for (std::string word; words >> word; column += word.size() + 1) {
    if (column > indent && column + word.size() > kWidth) {
      out += formatted("\n{:{}}", "", indent);
      column = indent;
    } else if (column > indent) {
      out += ' ';
    }
    out += word;
  }
  return out;
}

/// Makes "  NAME      help". If the name is long, the help starts on the next line.
std::string entry(const std::string& name, const std::string& help) {
  const bool fits = name.size() + 4 <= kHelpColumn;
  return formatted("  {}{}{:{}}{}\n", name, fits ? "" : "\n", "",
                   fits ? kHelpColumn - name.size() - 2 : kHelpColumn, wrapped(help, kHelpColumn));
}

std::string name_and_type(const CLI::Option& option) {
  const std::string name = option.get_name(false, true);
  const std::string type = option.get_type_size() == 0 ? "" : option.get_type_name();
  return type.empty() ? name : formatted("{} {}", name, type);
}

std::string remark(const CLI::Option& option) {
  if (option.get_required()) return "required";
  const std::string text = option.get_default_str();
  return text.empty() ? text : formatted("default: {}", text);
}

std::string full_name(const CLI::App& app) {
  return app.get_parent() == nullptr
             ? app.get_name()
             : formatted("{} {}", app.get_parent()->get_name(), app.get_name());
}

std::string markdown_cell(const std::string& text) {
  std::string out;
  for (const char c : text) {
    if (c == '|') out += '\\';
    out += c;
  }
  return out;
}

}  // namespace

std::string help_text(const CLI::App& app) {
  const auto commands = commands_of(app);
  std::string out = formatted("usage: {} {}\n\n{}\n", full_name(app),
                              commands.empty() ? "[options]" : "COMMAND [options]",
                              wrapped(app.get_description(), 0));
  if (!commands.empty()) {
    out += "\nCommands:\n";
    for (const CLI::App* command : commands) {
      out += entry(command->get_name(), command->get_description());
    }
  }
  std::vector<std::string> groups = app.get_groups();
  std::stable_partition(groups.begin(), groups.end(),
                        [](const std::string& group) { return group != kGeneral; });
  for (const std::string& group : groups) {
    std::string entries;
    for (const CLI::Option* option : options_of(app)) {
      if (option->get_group() != group) continue;
      const std::string more = remark(*option);
      entries += entry(name_and_type(*option),
                       more.empty() ? option->get_description()
                                    : formatted("{} [{}]", option->get_description(), more));
    }
    if (!entries.empty()) out += formatted("\n{}:\n{}", group, entries);
  }
  if (!app.get_footer().empty()) out += formatted("\n{}\n", app.get_footer());
  return out + formatted("\n{}\n", wrapped(kExitHelp, 0));
}

std::string help_markdown(const CLI::App& program) {
  std::string out =
      "<!-- Made by `lplb --help-markdown`; a test compares this page with it. -->\n# The command "
      "`lplb`\n\n";
  out += program.get_description() + "\n\n| command | what it does |\n|---|---|\n";
  for (const CLI::App* command : commands_of(program)) {
    out += formatted("| [`lplb {0}`](#lplb-{0}) | {1} |\n", command->get_name(),
                     markdown_cell(command->get_description()));
  }
  out += "\n[formats.md](formats.md) and [traces.md](traces.md) describe the files.\n\n";
  out += formatted("`lplb --version` prints the version.\n\n{}\n", kExitHelp);
  for (const CLI::App* command : commands_of(program)) {
    out += formatted("\n## lplb {}\n\n{}\n\n| option | meaning | |\n|---|---|---|\n",
                     command->get_name(), command->get_description());
    for (const CLI::Option* option : options_of(*command)) {
      out += formatted("| `{}` | {} | {} |\n", markdown_cell(name_and_type(*option)),
                       markdown_cell(option->get_description()), remark(*option));
    }
    if (!command->get_footer().empty()) {
      out += formatted("\n```\n{}\n```\n", command->get_footer());
    }
  }
  return out;
}

}  // namespace lplb::app
