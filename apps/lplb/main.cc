// SPDX-License-Identifier: MIT
#include <fcntl.h>

#include <algorithm>
#include <csignal>
#include <cstdio>
#include <new>

#include "choices.h"
#include "commands.h"
#include "core/format.h"
#include "exit_status.h"
#include "help.h"
#include "io/output.h"
#include "io/text.h"
#include "lplb/lplb.h"
#include "options.h"
#include "outputs.h"

namespace lplb::app {
namespace {

constexpr std::size_t kMaxMessage = 2000;

int complain(int status, const std::string& message) {
  std::fprintf(stderr, "lplb: %s\n", io::printable(message, kMaxMessage).c_str());
  return status;
}

/// `argv` as one line that a shell would read in the same way.
std::string command_line(int argc, char** argv) {
  std::string line = "lplb";
  for (int i = 1; i < argc; ++i) line += " " + io::shell_word(argv[i]);
  return line;
}

/// NOTE: if a standard stream is closed, the next file that is opened gets its number and receives
/// what is written to the stream.
void reserve_standard_streams() {
  for (int fd = 0; fd <= 2; ++fd) {
    if (::fcntl(fd, F_GETFD) == -1) ::open("/dev/null", O_RDONLY);
  }
}

/// Handles a signal that ends the process: removes files that are only half written.
void end_by_signal(int signal) {
  io::discard_unfinished();
  std::signal(signal, SIG_DFL);
  std::raise(signal);
}

void handle_signals() {
  // Writing to a closed pipe fails, and does not kill the process before it has cleaned up.
  std::signal(SIGPIPE, SIG_IGN);
  for (const int signal : {SIGHUP, SIGINT, SIGTERM}) {
    // A signal that nohup has set to be ignored stays ignored.
    if (std::signal(signal, end_by_signal) == SIG_IGN) std::signal(signal, SIG_IGN);
  }
}

std::string help_hint(const CLI::App& app) {
  const std::string name = app.get_parent() == nullptr ? "lplb" : "lplb " + app.get_name();
  return formatted("; see {} --help", name);
}

/// The message about the first argument that `app` does not know.
std::string unknown_argument(const CLI::App& app, const std::string& given) {
  const std::string name = given.substr(0, given.find('='));
  std::vector<std::string> names;
  for (const CLI::Option* option : app.get_options()) {
    for (const std::string& known : option->get_lnames()) names.push_back("--" + known);
  }
  const std::string nearest = given.starts_with('-') ? nearest_name(name, names) : "";
  return formatted("{}: is no {} of {}{}{}", given, given.starts_with('-') ? "option" : "argument",
                   app.get_parent() == nullptr ? "lplb" : "lplb " + app.get_name(),
                   nearest.empty() ? "" : ", did you mean " + nearest + "?",
                   nearest.empty() ? help_hint(app) : "");
}

std::string usage_problem(const CLI::App& app, const CLI::ParseError& error) {
  const std::string what = error.what();
  const std::string name = what.substr(0, what.find(':'));
  // NOTE: the parser first reports a required option that is missing. If there is also a misspelt
  // option, the user wants to hear of that one.
  if (const auto extras = app.remaining(); !extras.empty()) return unknown_argument(app, extras[0]);
  if (what.find("At Most") != std::string::npos) return name + ": is given more than once";
  if (what.find("required") != std::string::npos && what.ends_with("missing")) {
    return name + ": has no value" + help_hint(app);
  }
  return what + help_hint(app);
}

/// The message of the library's error, with the name of the option in place of the library's name
/// of the argument, and with the choice that is meant if the value looks like one.
std::string argument_problem(const CLI::App& app, const ArgumentError& error) {
  std::string option = "--" + error.argument();
  std::replace_if(
      option.begin(), option.end(), [](char c) { return c == '_' || c == '.'; }, '-');
  const CLI::Option* known = app.get_option_no_throw(option);
  if (known == nullptr) known = app.get_option_no_throw(error.argument());
  if (known == nullptr) return error.what();
  const std::string problem = std::string(error.what()).substr(error.argument().size());
  // The message quotes the bad value first.
  const std::size_t begin = problem.find('"');
  const std::size_t end = begin == problem.npos ? begin : problem.find('"', begin + 1);
  const std::string nearest =
      end == problem.npos ? "" : meant_value(*known, problem.substr(begin + 1, end - begin - 1));
  return known->get_name() + problem + (nearest.empty() ? "" : "; did you mean " + nearest + "?");
}

/// The words after the program's name. "help", "help COMMAND" and "version" stand for options.
std::vector<std::string> words_of(int argc, char** argv) {
  std::vector<std::string> words(argv + 1, argv + argc);
  if (words.empty()) return words;
  if (words[0] == "version") words[0] = "--version";
  if (words[0] == "help") {
    words.erase(words.begin());
    words.insert(words.begin() + (words.empty() || words[0].starts_with('-') ? 0 : 1), "--help");
  }
  return words;
}

/// Refuses two mistakes that the parser does not report well: it takes the word after "--name=" as
/// the value, and if a command is misspelt, it says that a command is missing.
void check_words(const CLI::App& program, const std::vector<std::string>& words) {
  for (const std::string& word : words) {
    if (word.starts_with("--") && word.find('=') == word.size() - 1) {
      throw ArgumentError(word.substr(0, word.size() - 1), "has no value");
    }
  }
  if (words.empty()) throw ArgumentError("COMMAND", "is missing; see lplb --help");
  const std::string& given = words[0];
  if (given.starts_with('-')) return;
  std::vector<std::string> names;
  for (const CLI::App* command : commands_of(program)) names.push_back(command->get_name());
  if (std::find(names.begin(), names.end(), given) != names.end()) return;
  const std::string nearest = nearest_name(given, names);
  throw ArgumentError(given, nearest.empty()
                                 ? formatted("is no command, expected {}", fmt::join(names, ", "))
                                 : formatted("is no command, did you mean {}?", nearest));
}

int run(int argc, char** argv) {
  CLI::App program(
      "Load balancer for Mixture-of-Experts models under expert parallelism: it decides where "
      "experts go, and which replica takes which token",
      "lplb");
  program.set_help_flag("-h,--help", "Show this help")->group(kGeneral);
  bool markdown = false, man = false;
  program.add_flag("--help-markdown", markdown)->group("");
  program.add_flag("--help-man", man)->group("");
  program.set_version_flag("--version", std::string("lplb ") + version(), "Show the version")
      ->group(kGeneral);
  program.require_subcommand(0, 1);
  add_simulate(program, command_line(argc, argv));
  add_report(program, command_line(argc, argv));
  add_place(program);
  add_solve(program);
  add_replicate(program);
  add_plan(program);
  add_bench(program);
  add_info(program);
  add_completion(program);
  for (CLI::App* command : program.get_subcommands({})) command->get_help_ptr()->group(kGeneral);

  const auto chosen = [&]() -> const CLI::App& {
    const auto commands = program.get_subcommands();
    return commands.empty() ? program : *commands[0];
  };
  try {
    std::vector<std::string> words = words_of(argc, argv);
    check_words(program, words);
    std::reverse(words.begin(), words.end());  // as the parser wants them
    program.parse(std::move(words));
    if (markdown) print(help_markdown(program));
    if (man) print(help_man(program, version()));
    return kDone;
  } catch (const CLI::CallForHelp&) {
    print(help_text(chosen()));
    return kDone;
  } catch (const CLI::CallForVersion& version_text) {
    print(std::string(version_text.what()) + "\n");
    return kDone;
  } catch (const CLI::ParseError& error) {
    return complain(kBadUsage, usage_problem(chosen(), error));
  } catch (const ArgumentError& error) {
    return complain(kBadUsage, argument_problem(chosen(), error));
  }
}

int run_and_report(int argc, char** argv) {
  try {
    return run(argc, argv);
  } catch (const FileError& error) {
    return complain(kBadInput, error.what());
  } catch (const ClosedPipe&) {
    std::signal(SIGPIPE, SIG_DFL);
    std::raise(SIGPIPE);
    return kBadOutput;  // not reached, unless SIGPIPE is blocked
  } catch (const OutputError& error) {
    return complain(kBadOutput, error.what());
  } catch (const CudaError& error) {
    return complain(kFailed, error.what());
  } catch (const std::bad_alloc&) {
    return complain(kFailed, "out of memory");
  } catch (const std::exception& error) {
    return complain(kFailed, std::string("internal error: ") + error.what());
  }
}

}  // namespace
}  // namespace lplb::app

int main(int argc, char** argv) {
  lplb::app::handle_signals();
  lplb::app::reserve_standard_streams();
  return lplb::app::run_and_report(argc, argv);
}
