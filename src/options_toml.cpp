#include "options.h"

#include <c10/util/Exception.h>
#include <toml++/toml.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <sstream>

namespace gradist {

namespace {

/// Which TOML values an option of each type takes, in words for the error.
struct TomlForm {
  bool fits;
  const char* rule;
};

bool all_of_type(const toml::node& node, toml::node_type type) {
  return node.type() == type ||
         (node.is_array() && (node.as_array()->empty() || node.as_array()->is_homogeneous(type)));
}

TomlForm form_of(const toml::node& node, const bool*) {
  return {node.is_boolean(), "must be true or false"};
}
TomlForm form_of(const toml::node& node, const int64_t*) {
  return {node.is_integer(), "must be a whole number"};
}
TomlForm form_of(const toml::node& node, const uint64_t*) {
  return {node.is_integer(), "must be a whole number"};
}
TomlForm form_of(const toml::node& node, const double*) {
  return {node.is_number(), "must be a number"};
}
TomlForm form_of(const toml::node& node, const ByteSize*) {
  return {node.is_integer() || node.is_string(),
          "must be a number of bytes such as 536870912, \"512M\" or \"2G\""};
}
TomlForm form_of(const toml::node& node, const std::string*) {
  return {node.is_string(), "must be text in quotes"};
}
TomlForm form_of(const toml::node& node, const std::vector<std::string>*) {
  return {all_of_type(node, toml::node_type::string),
          "must be a list of names, such as [\"a\", \"b\"]"};
}
TomlForm form_of(const toml::node& node, const std::vector<int64_t>*) {
  return {all_of_type(node, toml::node_type::integer),
          "must be a list of whole numbers, such as [1, 2]"};
}

TomlForm form_of(const toml::node& node, const std::vector<double>*) {
  const auto* list = node.as_array();
  const bool numbers =
      list != nullptr && std::all_of(list->begin(), list->end(),
                                     [](const toml::node& each) { return each.is_number(); });
  return {node.is_number() || numbers, "must be a list of numbers, such as [0.1, 0.01]"};
}

/// The value as it would stand on the command line; lists element by element.
std::string command_line_text(const toml::node& node) {
  if (const auto* list = node.as_array()) {
    std::string text;
    for (const auto& element : *list) {
      text += (text.empty() ? "" : ",") + command_line_text(element);
    }
    return text;
  }
  if (node.is_string()) {
    return **node.as_string();
  }
  if (node.is_floating_point()) {
    return detail::number_text(**node.as_floating_point());
  }
  std::ostringstream text;
  text << toml::node_view<const toml::node>(node);
  return text.str();
}

std::string at_line(const std::string& source, const toml::source_region& region) {
  return source + ":" + std::to_string(region.begin.line) + ": ";
}

toml::table parsed(std::string_view document, const std::string& source) {
  try {
    return toml::parse(document, source);
  } catch (const toml::parse_error& error) {
    TORCH_CHECK_VALUE(false, at_line(source, error.source()), "must be TOML; ",
                      error.description());
  }
}

/// Options are a page; what is longer is another file, or a device without end.
constexpr size_t kLongestConfig = size_t{1} << 20;

std::string read_config_file(const std::string& path, const OptionOrigin& origin) {
  std::error_code ignored;
  std::ifstream file(path, std::ios::binary);
  TORCH_CHECK_VALUE(file.is_open() && !std::filesystem::is_directory(path, ignored), origin,
                    "config = ", path, ", must be a readable TOML file");
  std::string document(kLongestConfig + 1, '\0');
  file.read(document.data(), static_cast<std::streamsize>(document.size()));
  document.resize(static_cast<size_t>(file.gcount()));
  TORCH_CHECK_VALUE(document.size() <= kLongestConfig, origin, "config = ", path,
                    ", must be a TOML file of at most ", kLongestConfig, " bytes");
  return document;
}

}  // namespace

std::vector<std::string> set_from_toml(OptionList& options, std::string_view document,
                                       const std::string& source) {
  std::vector<std::string> names;
  const toml::table table = parsed(document, source);
  for (const auto& [key, node] : table) {
    const OptionOrigin origin = at_line(source, node.source());
    Option& option = find_option(options, std::string(key.str()), origin);
    const TomlForm form = std::visit(
        [&node = node](const auto* value) { return form_of(node, value); }, option.value());
    const std::string text = command_line_text(node);
    if (!form.fits) {
      option.refuse(origin, text, form.rule);
    }
    option.set(text, origin);
    names.push_back(option.name());
  }
  return names;
}

std::vector<std::string> set_from_request(
    OptionList& options, const std::string& config_file,
    const std::vector<std::pair<std::string, std::string>>& texts, const OptionOrigin& origin) {
  std::vector<std::string> names;
  if (!config_file.empty()) {
    names = set_from_toml(options, read_config_file(config_file, origin), config_file);
  }
  for (const auto& [name, text] : texts) {
    find_option(options, name, origin).set(text, origin);
    names.push_back(name);
  }
  return names;
}

}  // namespace gradist
