#pragma once

#include "options.h"

#include <algorithm>
#include <map>
#include <string>
#include <utility>
#include <vector>

namespace gradist::detail {

/// What a subcommand's command line is made of: its options, and words of the program's own.
struct CommandLineForm {
  std::string command;                ///< gradist run
  std::vector<std::string> switches;  ///< without a value: help, quiet
  std::vector<std::string> texts;     ///< with a value: config
};

/// A command line, read but not yet checked: options as text.
struct CommandLine {
  std::vector<std::pair<std::string, std::string>> options;
  std::vector<std::string> switches;
  std::map<std::string, std::string> texts;

  bool has(const std::string& name) const {
    return std::find(switches.begin(), switches.end(), name) != switches.end();
  }
  std::string text(const std::string& name) const {
    const auto found = texts.find(name);
    return found == texts.end() ? "" : found->second;
  }
};

/// Reads arguments, -h for --help among them. `options` are the subcommand's own; one that is off
/// by default may stand without a value. Every mistake is one line.
CommandLine read_command_line(std::vector<std::string> arguments, const CommandLineForm& form,
                              OptionList options);

}  // namespace gradist::detail
