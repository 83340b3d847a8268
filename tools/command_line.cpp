#include "tools/command_line.h"

#include <c10/util/Exception.h>
#include <boost/program_options.hpp>

namespace gradist::detail {

namespace {

namespace po = boost::program_options;

bool contains(const std::vector<std::string>& names, const std::string& name) {
  return std::find(names.begin(), names.end(), name) != names.end();
}

po::options_description described(const CommandLineForm& form, const OptionList& options) {
  po::options_description described;
  auto add = described.add_options();
  for (const auto& name : form.switches) {
    add(name.c_str(), "");
  }
  for (const auto& name : form.texts) {
    add(name.c_str(), po::value<std::string>(), "");
  }
  for (const auto& option : options) {
    const auto* flag = std::get_if<bool*>(&option.value());
    auto* text = po::value<std::string>();
    add(option.name().c_str(), flag != nullptr && !**flag ? text->implicit_value("yes") : text, "");
  }
  return described;
}

std::string without_dashes(const std::string& name) {
  return name.substr(std::min(name.find_first_not_of('-'), name.size()));
}

/// The parser's complaints, in the one form our errors have.
po::parsed_options parse(const std::vector<std::string>& arguments,
                         const po::options_description& described, OptionList& options) {
  using po::command_line_style::allow_long;
  using po::command_line_style::long_allow_adjacent;
  using po::command_line_style::long_allow_next;
  try {
    return po::command_line_parser(arguments)
        .options(described)
        .style(allow_long | long_allow_adjacent | long_allow_next)
        .run();
  } catch (const po::unknown_option& error) {
    find_option(options, without_dashes(error.get_option_name()), "--");
    throw;
  } catch (const po::invalid_command_line_syntax& error) {
    const bool extra = error.kind() == po::invalid_syntax::extra_parameter;
    TORCH_CHECK_VALUE(false, error.get_option_name(),
                      extra ? ", must stand without a value" : ", must be followed by a value");
  }
}

}  // namespace

CommandLine read_command_line(std::vector<std::string> arguments, const CommandLineForm& form,
                              OptionList options) {
  std::replace(arguments.begin(), arguments.end(), std::string("-h"), std::string("--help"));
  CommandLine line;
  std::vector<std::string> seen;
  for (const auto& option : parse(arguments, described(form, options), options).options) {
    const std::string& name = option.string_key;
    const std::string text = option.value.empty() ? "yes" : option.value.front();
    TORCH_CHECK_VALUE(!name.empty(), text.empty() ? "\"\"" : text, ", must be an option of ",
                      form.command, " (they begin with --)");
    // The parser takes the next option for the value of one that has none.
    TORCH_CHECK_VALUE(text.rfind("--", 0) != 0, "--", name, ", must be followed by a value");
    TORCH_CHECK_VALUE(!contains(seen, name), "--", name, " = ", text, ", must be given only once");
    seen.push_back(name);
    if (contains(form.switches, name)) {
      line.switches.push_back(name);
    } else if (contains(form.texts, name)) {
      TORCH_CHECK_VALUE(!text.empty(), "--", name, " = \"\", must not be empty");
      line.texts[name] = text;
    } else {
      line.options.emplace_back(name, text);
    }
  }
  return line;
}

}  // namespace gradist::detail
