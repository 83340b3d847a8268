#include "options.h"

#include <c10/util/Exception.h>

#include <charconv>
#include <cmath>
#include <numeric>
#include <set>
#include <sstream>
#include <type_traits>

namespace gradist {

namespace detail {

std::string number_text(int64_t value) { return std::to_string(value); }

/// The shortest text that reads back as the same number.
std::string number_text(double value) {
  char buffer[32];
  const auto [end, error] = std::to_chars(buffer, buffer + sizeof buffer, value);
  TORCH_INTERNAL_ASSERT(error == std::errc());
  return {buffer, end};
}

}  // namespace detail

namespace {

std::string joined(const std::vector<std::string>& parts, const char* separator) {
  std::string text;
  for (const auto& part : parts) {
    text += (text.empty() ? "" : separator) + part;
  }
  return text;
}

std::vector<std::string> split_at_commas(const std::string& text) {
  std::vector<std::string> parts;
  std::istringstream stream(text);
  for (std::string part; std::getline(stream, part, ',');) {
    parts.push_back(part);
  }
  if (!text.empty() && text.back() == ',') {
    parts.emplace_back();
  }
  return parts;
}

template <class Number>
bool parse_whole(const std::string& text, Number& value) {
  const char* end = text.data() + text.size();
  const auto result = std::from_chars(text.data(), end, value);
  return result.ec == std::errc() && result.ptr == end;
}

// One overload a type: text to value. False where the text is no such value.

bool parse(const std::string& text, bool& value) {
  value = text == "yes" || text == "true";
  return value || text == "no" || text == "false";
}
bool parse(const std::string& text, int64_t& value) { return parse_whole(text, value); }

// TOML knows no larger integers.
bool parse(const std::string& text, uint64_t& value) {
  return parse_whole(text, value) &&
         value <= static_cast<uint64_t>(std::numeric_limits<int64_t>::max());
}
bool parse(const std::string& text, double& value) {
  return parse_whole(text, value) && std::isfinite(value);
}

bool parse(const std::string& text, ByteSize& value) {
  static const std::string kUnits = "KMGT";
  const size_t unit = text.empty() ? std::string::npos : kUnits.find(text.back());
  const int shift = unit == std::string::npos ? 0 : 10 * (static_cast<int>(unit) + 1);
  const std::string digits = shift == 0 ? text : text.substr(0, text.size() - 1);
  if (!parse_whole(digits, value.bytes) || value.bytes < 0 ||
      value.bytes > (std::numeric_limits<int64_t>::max() >> shift)) {
    return false;
  }
  value.bytes <<= shift;
  return true;
}

bool parse(const std::string& text, std::string& value) {
  value = text;
  return true;
}

bool parse(const std::string& text, std::vector<std::string>& value) {
  value = split_at_commas(text);
  return std::none_of(value.begin(), value.end(),
                      [](const std::string& part) { return part.empty(); });
}

template <class Number>
bool parse_numbers(const std::string& text, std::vector<Number>& value) {
  value.clear();
  for (const auto& part : split_at_commas(text)) {
    if (!parse(part, value.emplace_back())) {
      return false;
    }
  }
  return true;
}

bool parse(const std::string& text, std::vector<int64_t>& value) {
  return parse_numbers(text, value);
}
bool parse(const std::string& text, std::vector<double>& value) {
  return parse_numbers(text, value);
}

// What text of the type looks like, as the end of an error.
const char* form_of(const bool*) { return "must be yes or no"; }
const char* form_of(const int64_t*) { return "must be a whole number"; }
const char* form_of(const uint64_t*) { return "must be a whole number in [0, 2^63 - 1]"; }
const char* form_of(const double*) { return "must be a finite number"; }
const char* form_of(const ByteSize*) {
  return "must be a number of bytes such as 536870912, 512M or 2G";
}
const char* form_of(const std::string*) { return "must be text"; }
const char* form_of(const std::vector<std::string>*) { return "must be names separated by commas"; }
const char* form_of(const std::vector<int64_t>*) {
  return "must be whole numbers separated by commas";
}
const char* form_of(const std::vector<double>*) {
  return "must be finite numbers separated by commas";
}

std::string to_text(bool value) { return value ? "yes" : "no"; }
std::string to_text(int64_t value) { return detail::number_text(value); }
std::string to_text(uint64_t value) { return std::to_string(value); }
std::string to_text(double value) { return detail::number_text(value); }
std::string to_text(const std::string& value) { return value; }
std::string to_text(const std::vector<std::string>& value) { return joined(value, ","); }

std::string to_text(ByteSize size) {
  const char* units[] = {"", "K", "M", "G", "T"};
  size_t unit = 0;
  while (size.bytes != 0 && size.bytes % 1024 == 0 && unit < 4) {
    size.bytes /= 1024;
    ++unit;
  }
  return std::to_string(size.bytes) + units[unit];
}

template <class Number>
std::vector<std::string> texts_of(const std::vector<Number>& values) {
  std::vector<std::string> texts;
  std::transform(values.begin(), values.end(), std::back_inserter(texts),
                 [](Number value) { return to_text(value); });
  return texts;
}

std::string to_text(const std::vector<int64_t>& value) { return joined(texts_of(value), ","); }
std::string to_text(const std::vector<double>& value) { return joined(texts_of(value), ","); }

std::string quoted(const std::string& text) {
  std::string result = "\"";
  for (const char letter : text) {
    if (static_cast<unsigned char>(letter) < 0x20 || letter == 0x7f) {
      const char* digits = "0123456789ABCDEF";
      result += std::string("\\u00") + digits[letter >> 4] + digits[letter & 15];
    } else {
      result += (letter == '"' || letter == '\\') ? std::string{'\\', letter} : std::string{letter};
    }
  }
  return result + '"';
}

std::string to_toml_value(bool value) { return value ? "true" : "false"; }
std::string to_toml_value(int64_t value) { return to_text(value); }
std::string to_toml_value(uint64_t value) { return to_text(value); }
std::string to_toml_value(const std::string& value) { return quoted(value); }
std::string to_toml_value(ByteSize value) { return quoted(to_text(value)); }
std::string to_toml_value(const std::vector<int64_t>& value) {
  return "[" + joined(texts_of(value), ", ") + "]";
}

// A TOML float needs a point or an exponent.
std::string to_toml_value(double value) {
  const std::string text = to_text(value);
  return text.find_first_of(".e") == std::string::npos ? text + ".0" : text;
}

std::string to_toml_value(const std::vector<double>& value) {
  std::vector<std::string> parts;
  std::transform(value.begin(), value.end(), std::back_inserter(parts),
                 [](double number) { return to_toml_value(number); });
  return "[" + joined(parts, ", ") + "]";
}

std::string to_toml_value(const std::vector<std::string>& value) {
  std::vector<std::string> parts;
  std::transform(value.begin(), value.end(), std::back_inserter(parts), quoted);
  return "[" + joined(parts, ", ") + "]";
}

/// Letters to change, add or leave out to get from one word to the other.
size_t edit_distance(const std::string& from, const std::string& to) {
  std::vector<size_t> row(to.size() + 1);
  std::iota(row.begin(), row.end(), size_t{0});
  for (size_t i = 1; i <= from.size(); ++i) {
    size_t diagonal = std::exchange(row[0], i);
    for (size_t j = 1; j <= to.size(); ++j) {
      const size_t changed = diagonal + (from[i - 1] == to[j - 1] ? 0 : 1);
      diagonal = std::exchange(row[j], std::min({row[j] + 1, row[j - 1] + 1, changed}));
    }
  }
  return row.back();
}

/// Line breaks and control characters would make two lines of one error.
std::string on_one_line(std::string text) {
  std::replace_if(
      text.begin(), text.end(),
      [](unsigned char letter) { return letter < 0x20 || letter == 0x7f; }, '?');
  return text;
}

}  // namespace

Rule<ByteSize> default_or_at_least(ByteSize low) {
  return {"must be 0 or >= " + to_text(low),
          [low](const ByteSize& value) { return value.bytes == 0 || value.bytes >= low.bytes; }};
}

Rule<std::vector<double>> each_in_closed(double low, double high) {
  return {"every number must lie in [" + detail::number_text(low) + ", " +
              detail::number_text(high) + "]",
          [=](const std::vector<double>& values) {
            return std::all_of(values.begin(), values.end(),
                               [=](double value) { return value >= low && value <= high; });
          }};
}

Rule<std::vector<int64_t>> each_at_least(int64_t low) {
  return {"every number must be >= " + detail::number_text(low),
          [low](const std::vector<int64_t>& values) {
            return std::all_of(values.begin(), values.end(),
                               [low](int64_t value) { return value >= low; });
          }};
}

namespace {

/// One or more numbers that `accepts` takes, none twice; `what` says which in the error.
template <class Number, class Accepts>
Rule<std::vector<Number>> some_that(const std::string& what, Accepts accepts) {
  return {"must be one or more numbers " + what + ", none twice",
          [accepts](const std::vector<Number>& values) {
            const std::set<Number> distinct(values.begin(), values.end());
            return !values.empty() && distinct.size() == values.size() &&
                   std::all_of(values.begin(), values.end(), accepts);
          }};
}

}  // namespace

Rule<std::vector<int64_t>> some_at_least(int64_t low) {
  return some_that<int64_t>(">= " + detail::number_text(low),
                            [low](int64_t value) { return value >= low; });
}

Rule<std::vector<double>> some_at_least(double low) {
  return some_that<double>(">= " + detail::number_text(low),
                           [low](double value) { return value >= low; });
}

Rule<std::vector<double>> some_greater_than(double low) {
  return some_that<double>("> " + detail::number_text(low),
                           [low](double value) { return value > low; });
}

Rule<std::vector<double>> some_in_half_open(double low, double high) {
  return some_that<double>(
      "in [" + detail::number_text(low) + ", " + detail::number_text(high) + ")",
      [=](double value) { return value >= low && value < high; });
}

Rule<std::string> one_of(const std::vector<std::string>& names) {
  return {"must be one of " + joined(names, "|"), [names](const std::string& value) {
            return std::find(names.begin(), names.end(), value) != names.end();
          }};
}

Rule<std::vector<std::string>> some_of(const std::vector<std::string>& names) {
  return {"must be one or more of " + joined(names, "|") + ", none twice",
          [names](const std::vector<std::string>& values) {
            const std::set<std::string> known(names.begin(), names.end());
            const std::set<std::string> distinct(values.begin(), values.end());
            return !values.empty() && distinct.size() == values.size() &&
                   std::includes(known.begin(), known.end(), distinct.begin(), distinct.end());
          }};
}

std::string Option::text() const {
  return std::visit([](const auto* value) { return to_text(*value); }, value_);
}

std::string Option::toml() const {
  return std::visit([](const auto* value) { return to_toml_value(*value); }, value_);
}

void Option::set(const std::string& text, const OptionOrigin& origin) {
  std::visit(
      [&](auto* value) {
        auto parsed = *value;
        if (!parse(text, parsed)) {
          refuse(origin, text, form_of(value));
        }
        std::swap(*value, parsed);
        if (!accepts_()) {
          std::swap(*value, parsed);
          refuse(origin, text, rule_);
        }
      },
      value_);
}

void Option::check(const OptionOrigin& origin) const {
  if (const auto* number = std::get_if<double*>(&value_);
      number != nullptr && !std::isfinite(**number)) {
    refuse(origin, text(), form_of(*number));
  }
  if (!accepts_()) {
    refuse(origin, text(), rule_);
  }
}

void Option::refuse(const OptionOrigin& origin, const std::string& text,
                    const std::string& rule) const {
  TORCH_CHECK_VALUE(false, origin, name_, " = ", text.empty() ? "\"\"" : on_one_line(text), ", ",
                    rule);
}

std::string nearest_name(const std::string& name, const std::vector<std::string>& names) {
  std::string nearest;
  size_t least = std::min<size_t>(3, name.size());
  for (const auto& candidate : names) {
    const size_t distance = edit_distance(name, candidate);
    if (distance < least) {
      least = distance;
      nearest = candidate;
    }
  }
  return nearest;
}

Option& find_option(OptionList& options, const std::string& name, const OptionOrigin& origin) {
  const auto found = std::find_if(options.begin(), options.end(),
                                  [&](const Option& option) { return option.name() == name; });
  if (found == options.end()) {
    std::vector<std::string> names;
    std::transform(options.begin(), options.end(), std::back_inserter(names),
                   std::mem_fn(&Option::name));
    const std::string nearest = nearest_name(name, names);
    TORCH_CHECK_VALUE(false, origin, name.empty() ? "\"\"" : on_one_line(name),
                      ", must be a known option",
                      nearest.empty() ? "" : "; did you mean " + nearest + "?");
  }
  return *found;
}

std::string to_toml(const OptionList& options, bool with_docs) {
  std::string document;
  std::string group;
  for (const auto& option : options) {
    if (option.group() != group) {
      group = option.group();
      document += (document.empty() ? "# " : "\n# ") + group + "\n";
    }
    const std::string line = option.name() + " = " + option.toml();
    const size_t padding = line.size() < 32 ? 32 - line.size() : 1;
    document += line + (with_docs ? std::string(padding, ' ') + "# " + option.doc() : "") + "\n";
  }
  return document;
}

}  // namespace gradist
