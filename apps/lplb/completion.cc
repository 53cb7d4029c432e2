// SPDX-License-Identifier: MIT

#include <algorithm>

#include "choices.h"
#include "commands.h"
#include "core/format.h"
#include "help.h"
#include "lplb/error.h"
#include "options.h"
#include "outputs.h"

namespace lplb::app {
namespace {

/// What main.cc takes for --help and --version.
constexpr const char* kHelpCommand = "help:Show the help of lplb or of a command";
constexpr const char* kVersionCommand = "version:Show the version";

std::string long_name(const CLI::Option& option) {
  return formatted("--{}", option.get_lnames().at(0));
}

/// The options that have a name to complete. Positional arguments have none.
std::vector<const CLI::Option*> named_options_of(const CLI::App& app) {
  std::vector<const CLI::Option*> options = options_of(app);
  std::erase_if(options, [](const CLI::Option* option) { return option->get_lnames().empty(); });
  return options;
}

bool has_value(const CLI::Option& option) { return option.get_type_size() != 0; }

bool takes_file(const CLI::Option& option) { return option.get_type_name() == kFile; }
bool takes_list(const CLI::Option& option) { return option.get_type_name().ends_with(",..."); }

/// Puts `text` into single quotes. All three shells read it in the same way.
std::string quoted(std::string text) {
  for (std::size_t at = 0; (at = text.find('\'', at)) != std::string::npos; at += 4) {
    text.replace(at, 1, "'\\''");
  }
  return formatted("'{}'", text);
}

/// Whether arguments without a name are files, as those of `lplb report`.
bool takes_files(const CLI::App& app) {
  return std::ranges::any_of(options_of(app), [](const CLI::Option* option) {
    return option->get_lnames().empty() && takes_file(*option);
  });
}

std::string names_of(const CLI::App& program) {
  std::string names;
  for (const CLI::App* command : commands_of(program)) {
    names += formatted("{}{}", names.empty() ? "" : " ", command->get_name());
  }
  return names;
}

/// What bash runs to complete the value of an option.
std::string bash_values(const CLI::Option& option) {
  std::string out;
  if (takes_file(option)) out += "COMPREPLY+=($(compgen -f -- \"$value\")); ";
  if (const auto choices = choices_of(option); !choices.empty()) {
    out += formatted("_lplb_words '{}' {}; ", fmt::join(choices, " "),
                     takes_list(option) ? "list" : "one");
  }
  return out;
}

std::string bash_script(const CLI::App& program) {
  std::string options;
  std::string values;
  for (const CLI::App* command : commands_of(program)) {
    std::string names;
    for (const CLI::Option* option : named_options_of(*command)) {
      names += formatted("{}{}", names.empty() ? "" : " ", long_name(*option));
      if (!has_value(*option)) continue;
      values += formatted("    {}.{}) {}return ;;\n", command->get_name(), long_name(*option),
                          bash_values(*option));
    }
    options += formatted("    {}) words='{}'{} ;;\n", command->get_name(), names,
                         takes_files(*command) ? "; COMPREPLY=($(compgen -f -- \"$value\"))" : "");
  }
  return formatted(
      R"(# bash completion for lplb, made by: lplb completion bash
# Adds the words that begin as $value does; in a list, as what follows its last comma does.
_lplb_words() {{
  local prefix=''
  [ "$2" = list ] && prefix=${{value%"${{value##*,}}"}}
  COMPREPLY+=($(compgen -P "$prefix" -W "$1" -- "${{value#"$prefix"}}"))
}}
_lplb_all() {{
  local words='' option=${{COMP_WORDS[1]}}.$before
  case "$option" in
{}    completion.completion) _lplb_words 'bash zsh fish' one; return ;;
    help.help) _lplb_words '{}' one; return ;;
  esac
  case "${{COMP_WORDS[1]}}" in
{}  esac
  COMPREPLY+=($(compgen -W "$words" -- "$value"))
}}
_lplb() {{
  local line=${{COMP_LINE:0:COMP_POINT}} value before kept mark i
  COMPREPLY=()
  # bash cuts words at = and :, so the word comes from the line.
  value=${{line##*[[:space:]]}}
  before=${{line%"$value"}}
  before=${{before%"${{before##*[![:space:]]}}"}}
  before=${{before##*[[:space:]]}}
  if [ "$before" = "${{COMP_WORDS[0]}}" ]; then
    COMPREPLY=($(compgen -W '{} help version --help --version' -- "$value"))
    return
  fi
  case "$value" in --*=*) before=${{value%%=*}} value=${{value#*=}} ;; esac
  _lplb_all
  # bash keeps what is before its own last cut.
  for mark in : =; do
    case "$COMP_WORDBREAKS" in *"$mark"*) ;; *) continue ;; esac
    kept=${{value%"${{value##*"$mark"}}"}}
    for i in "${{!COMPREPLY[@]}}"; do COMPREPLY[i]=${{COMPREPLY[i]#"$kept"}}; done
  done
}}
complete -o filenames -F _lplb lplb
)",
      values, names_of(program), options, names_of(program));
}

/// Escapes text for a zsh specification "--name[text]:value:action".
std::string zsh_text(const std::string& text) {
  std::string out;
  for (const char c : text) {
    if (c == '[' || c == ']' || c == ':' || c == '\\') out += '\\';
    out += c;
  }
  return out;
}

/// The message and the action of a zsh specification.
std::string zsh_values(const CLI::Option& option) {
  const auto choices = choices_of(option);
  const std::string type = zsh_text(option.get_type_name());
  const std::string words = zsh_text(formatted("{}", fmt::join(choices, " ")));
  if (choices.empty()) return formatted(":{}:{}", type, takes_file(option) ? "_files" : " ");
  if (takes_list(option)) return formatted(":{}:_sequence compadd - {}", type, words);
  if (takes_file(option)) return formatted(":{}:{{_files; compadd -- {}}}", type, words);
  return formatted(":value:({})", words);
}

std::string zsh_script(const CLI::App& program) {
  std::string commands;
  std::string cases;
  for (const CLI::App* command : commands_of(program)) {
    commands += formatted("    {}\n",
                          quoted(command->get_name() + ":" + zsh_text(command->get_description())));
    cases += formatted("    {})\n      _arguments", command->get_name());
    for (const CLI::Option* option : named_options_of(*command)) {
      std::string spec =
          formatted("{}[{}]", long_name(*option), zsh_text(option->get_description()));
      if (has_value(*option)) {
        spec += zsh_values(*option);
      }
      cases += formatted(" \\\n        {}", quoted(spec));
    }
    if (takes_files(*command)) cases += " \\\n        '*:file:_files'";
    if (command->get_name() == "completion") cases += " \\\n        '1:shell:(bash zsh fish)'";
    cases += "\n      ;;\n";
  }
  commands += formatted("    {}\n    {}\n", quoted(kHelpCommand), quoted(kVersionCommand));
  cases += formatted("    help)\n      _arguments '1:command:({})'\n      ;;\n", names_of(program));
  return formatted(
      R"(#compdef lplb
# zsh completion for lplb, made by: lplb completion zsh
_lplb() {{
  local -a commands
  commands=(
{}  )
  if (( CURRENT == 2 )); then
    _describe command commands
    return
  fi
  shift words
  (( CURRENT-- ))
  case $words[1] in
{}  esac
}}
if [ "$funcstack[1]" = _lplb ]; then
  _lplb "$@"
else
  compdef _lplb lplb
fi
)",
      commands, cases);
}

std::string fish_command(const std::string& name, const std::string& description) {
  return formatted("complete -c lplb -n __fish_use_subcommand -a {} -d {}\n", name,
                   quoted(description));
}

std::string fish_script(const CLI::App& program) {
  std::string out =
      "# fish completion for lplb, made by: lplb completion fish\ncomplete -c lplb -f\n";
  for (const CLI::App* command : commands_of(program)) {
    const std::string& name = command->get_name();
    out += fish_command(name, command->get_description());
    if (takes_files(*command)) {
      out += formatted("complete -c lplb -n '__fish_seen_subcommand_from {}' -F\n", name);
    }
    for (const CLI::Option* option : named_options_of(*command)) {
      out += formatted("complete -c lplb -n '__fish_seen_subcommand_from {}' -l {} -d {}", name,
                       option->get_lnames().at(0), quoted(option->get_description()));
      if (has_value(*option)) {
        const std::string words = formatted("{}", fmt::join(choices_of(*option), " "));
        out += takes_file(*option) ? " -r -F" : " -x";
        if (!words.empty()) {
          out += takes_list(*option) ? formatted(" -a '(__fish_append , {})'", words)
                                     : formatted(" -a '{}'", words);
        }
      }
      out += '\n';
    }
  }
  for (const std::string text : {kHelpCommand, kVersionCommand}) {
    const std::size_t colon = text.find(':');
    out += fish_command(text.substr(0, colon), text.substr(colon + 1));
  }
  out += formatted("complete -c lplb -n '__fish_seen_subcommand_from help' -a '{}'\n",
                   names_of(program));
  return out + "complete -c lplb -n '__fish_seen_subcommand_from completion' -a 'bash zsh fish'\n";
}

}  // namespace

std::string completion_script(const CLI::App& program, const std::string& shell) {
  if (shell == "bash") return bash_script(program);
  if (shell == "zsh") return zsh_script(program);
  if (shell == "fish") return fish_script(program);
  throw ArgumentError("SHELL", formatted("\"{}\", expected bash, zsh or fish", shell));
}

void add_completion(CLI::App& program) {
  CLI::App* command =
      program.add_subcommand("completion", "Print a completion script for bash, zsh or fish");
  auto shell = std::make_shared<std::string>();
  command->add_option("SHELL", *shell, "bash, zsh or fish")
      ->required()
      ->type_name("bash|zsh|fish")
      ->group(kInput);
  command->footer("Example: source <(lplb completion bash)");
  command->callback([&program, shell] { print(completion_script(program, *shell)); });
}

}  // namespace lplb::app
