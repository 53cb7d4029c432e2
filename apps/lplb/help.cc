// SPDX-License-Identifier: MIT
#include "help.h"

#include <sys/ioctl.h>
#include <unistd.h>

#include <algorithm>
#include <charconv>
#include <cstdlib>
#include <sstream>

#include "core/format.h"
#include "exit_status.h"
#include "options.h"

namespace lplb::app {
namespace {

/// The columns of the terminal, otherwise COLUMNS, otherwise 80; 40 to 100.
std::size_t terminal_width() {
  std::size_t width = 80;
  if (const char* columns = std::getenv("COLUMNS"); columns != nullptr) {
    std::from_chars(columns, columns + std::string_view(columns).size(), width);
  }
  struct winsize size {};
  for (const int fd : {STDOUT_FILENO, STDERR_FILENO}) {
    if (::ioctl(fd, TIOCGWINSZ, &size) != 0 || size.ws_col == 0) continue;
    width = size.ws_col;
    break;
  }
  return std::clamp<std::size_t>(width, 40, 100);
}

/// Where lines end, and where the meaning of an option begins.
struct Layout {
  std::size_t width = terminal_width();
  std::size_t column = width < 72 ? 8 : 30;
};

/// Breaks `text` into lines of at most `width` characters. All lines after the first are indented.
/// Every broken line ends in `mark`.
std::string wrapped(const std::string& text, std::size_t indent, std::size_t width,
                    const std::string& mark = "") {
  std::istringstream words(text);
  std::string out;
  std::size_t column = indent;
  for (std::string word; words >> word; column += word.size() + 1) {
    if (column > indent && column + word.size() + mark.size() > width) {
      out += formatted("{}\n{:{}}", mark, "", indent);
      column = indent;
    } else if (column > indent) {
      out += ' ';
    }
    out += word;
  }
  return out;
}

/// The examples of a footer, "Example: lplb ...", broken so that a shell reads the lines of each as
/// one. Each starts with "lplb"; an option and its value stay together.
std::string examples(const std::string& footer, std::size_t width) {
  constexpr char kTie = '\x01';
  const std::string label = footer.substr(0, footer.find(':')) + ": ";
  const std::size_t indent = label.size();
  std::istringstream words(footer.substr(indent - 1));
  std::vector<std::string> commands;
  std::string before;
  for (std::string word; words >> word; before = word) {
    const bool value = before.starts_with("--") && !word.starts_with('-');
    if (word == "lplb" || commands.empty()) commands.emplace_back();
    if (!commands.back().empty()) commands.back() += value ? kTie : ' ';
    commands.back() += word;
  }
  std::string out;
  for (const std::string& command : commands) {
    out += out.empty() ? label : formatted("\n{:{}}", "", indent);
    out += wrapped(command, indent, width, " \\");
  }
  std::replace(out.begin(), out.end(), kTie, ' ');
  return out;
}

/// Makes "  NAME      help". If the name is long, the help starts on the next line.
std::string entry(const std::string& name, const std::string& help, const Layout& layout) {
  const auto [width, column] = layout;
  const bool fits = name.size() + 4 <= column;
  return formatted("  {}{}{:{}}{}\n", name, fits ? "" : "\n", "",
                   fits ? column - name.size() - 2 : column, wrapped(help, column, width));
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

/// The command with its positional arguments.
std::string usage(const CLI::App& app) {
  std::string out = full_name(app);
  for (const CLI::Option* option : options_of(app)) {
    if (option->get_positional()) out += " " + option->get_name();
  }
  return out + (commands_of(app).empty() ? " [options]" : " COMMAND [options]");
}

/// Text for roff, in which a backslash and a leading dot or quote mean something.
std::string roff(const std::string& text) {
  std::string out = text.starts_with('.') || text.starts_with('\'') ? "\\&" : "";
  for (const char c : text) out += c == '\\' ? "\\e" : c == '-' ? "\\-" : std::string(1, c);
  return out;
}

std::string man_options(const CLI::App& app) {
  std::string out;
  for (const CLI::Option* option : options_of(app)) {
    const std::string more = remark(*option);
    out += formatted(".TP\n.B {}\n{}{}\n", roff(name_and_type(*option)),
                     roff(option->get_description()),
                     more.empty() ? "." : formatted(" [{}].", roff(more)));
  }
  return out;
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
  const Layout layout;
  const auto commands = commands_of(app);
  std::string out =
      formatted("usage: {}\n\n{}\n", usage(app), wrapped(app.get_description(), 0, layout.width));
  if (!commands.empty()) {
    out += "\nCommands:\n";
    for (const CLI::App* command : commands) {
      out += entry(command->get_name(), command->get_description(), layout);
    }
    out += "\nlplb help COMMAND shows the options of a command.\n";
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
                                    : formatted("{} [{}]", option->get_description(), more),
                       layout);
    }
    if (!entries.empty()) out += formatted("\n{}:\n{}", group, entries);
  }
  const std::string footer = app.get_footer();
  if (!footer.empty()) out += formatted("\n{}\n", examples(footer, layout.width));
  return out + formatted("\n{}\n", wrapped(kExitHelp, 0, layout.width));
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
      out += formatted("\n```\n{}\n```\n", examples(command->get_footer(), 100));
    }
  }
  return out;
}

std::string help_man(const CLI::App& program, const std::string& version) {
  std::string out = formatted(
      ".\\\" Made by lplb --help-man.\n.TH LPLB 1 \"\" \"lplb {}\"\n.SH NAME\nlplb \\- load "
      "balancer for "
      "Mixture\\-of\\-Experts models\n.SH SYNOPSIS\n.B lplb\n.I COMMAND\n[options]\n"
      ".SH DESCRIPTION\n{}.\n.SH COMMANDS\n",
      roff(version), roff(program.get_description()));
  for (const CLI::App* command : commands_of(program)) {
    out += formatted(".SS {}\n{}.\n{}", roff(usage(*command)), roff(command->get_description()),
                     man_options(*command));
    if (const std::string example = command->get_footer(); !example.empty()) {
      out += formatted(".PP\n.nf\n{}\n.fi\n", roff(example));
    }
  }
  return out +
         formatted(".SH OPTIONS\n{}.SH EXIT STATUS\n{}\n", man_options(program), roff(kExitHelp));
}

}  // namespace lplb::app
