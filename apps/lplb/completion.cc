// SPDX-License-Identifier: MIT

#include "commands.h"
#include "core/format.h"
#include "help.h"
#include "lplb/error.h"
#include "options.h"
#include "outputs.h"

namespace lplb::app {
namespace {

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

/// Splits the type "a|b" into {"a", "b"}. Empty if the type has no choices.
std::vector<std::string> choices_of(const CLI::Option& option) {
  const std::string type = has_value(option) ? option.get_type_name() : "";
  if (type.find('|') == std::string::npos) return {};
  return CLI::detail::split(type, '|');
}

/// Puts `text` into single quotes. All three shells read it in the same way.
std::string quoted(std::string text) {
  for (std::size_t at = 0; (at = text.find('\'', at)) != std::string::npos; at += 4) {
    text.replace(at, 1, "'\\''");
  }
  return formatted("'{}'", text);
}

std::string names_of(const CLI::App& program) {
  std::string names;
  for (const CLI::App* command : commands_of(program)) {
    names += formatted("{}{}", names.empty() ? "" : " ", command->get_name());
  }
  return names;
}

std::string bash_script(const CLI::App& program) {
  std::string options;
  std::string values;
  for (const CLI::App* command : commands_of(program)) {
    std::string names;
    for (const CLI::Option* option : named_options_of(*command)) {
      names += formatted("{}{}", names.empty() ? "" : " ", long_name(*option));
      if (!has_value(*option)) continue;
      const auto choices = choices_of(*option);
      const std::string reply =
          choices.empty() ? (option->get_type_name() == kFile ? "$(compgen -f -- \"$word\")" : "")
                          : formatted("$(compgen -W '{}' -- \"$word\")", fmt::join(choices, " "));
      values += formatted("    {}.{}) COMPREPLY=({}); return ;;\n", command->get_name(),
                          long_name(*option), reply);
    }
    options += formatted("    {}) words='{}' ;;\n", command->get_name(), names);
  }
  return formatted(
      R"(# bash completion for lplb, made by: lplb completion bash
_lplb() {{
  local word=${{COMP_WORDS[COMP_CWORD]}} before=${{COMP_WORDS[COMP_CWORD-1]}} words=''
  COMPREPLY=()
  if [ "$COMP_CWORD" -eq 1 ]; then
    COMPREPLY=($(compgen -W '{} --help --version' -- "$word"))
    return
  fi
  case "${{COMP_WORDS[1]}}.$before" in
{}    completion.completion) COMPREPLY=($(compgen -W 'bash zsh fish' -- "$word")); return ;;
  esac
  case "${{COMP_WORDS[1]}}" in
{}  esac
  COMPREPLY=($(compgen -W "$words" -- "$word"))
}}
complete -o filenames -F _lplb lplb
)",
      names_of(program), values, options);
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
        const auto choices = choices_of(*option);
        const std::string type = option->get_type_name();
        spec += choices.empty()
                    ? formatted(":{}:{}", zsh_text(type), type == kFile ? "_files" : " ")
                    : formatted(":value:({})", zsh_text(formatted("{}", fmt::join(choices, " "))));
      }
      cases += formatted(" \\\n        {}", quoted(spec));
    }
    if (command->get_name() == "completion") cases += " \\\n        '1:shell:(bash zsh fish)'";
    cases += "\n      ;;\n";
  }
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

std::string fish_script(const CLI::App& program) {
  std::string out =
      "# fish completion for lplb, made by: lplb completion fish\ncomplete -c lplb -f\n";
  for (const CLI::App* command : commands_of(program)) {
    const std::string& name = command->get_name();
    out += formatted("complete -c lplb -n __fish_use_subcommand -a {} -d {}\n", name,
                     quoted(command->get_description()));
    for (const CLI::Option* option : named_options_of(*command)) {
      out += formatted("complete -c lplb -n '__fish_seen_subcommand_from {}' -l {} -d {}", name,
                       option->get_lnames().at(0), quoted(option->get_description()));
      if (has_value(*option)) {
        const auto choices = choices_of(*option);
        out += option->get_type_name() == kFile ? " -r -F" : " -x";
        if (!choices.empty()) out += formatted(" -a '{}'", fmt::join(choices, " "));
      }
      out += '\n';
    }
  }
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
