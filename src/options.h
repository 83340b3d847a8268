#pragma once

#include <algorithm>
#include <cstdint>
#include <functional>
#include <string>
#include <string_view>
#include <utility>
#include <variant>
#include <vector>

namespace gradist {

/// Options are plain structs with one visitor each, where every option is written once: name,
/// meaning, group and rule.
///
///   struct WalkOptions {
///     int64_t steps = 10;
///
///     template <class Self, class Visitor>
///     static void fields(Self& self, Visitor&& visit) {
///       visit({"steps", "steps to walk", "Walk"}, self.steps, at_least<int64_t>(1));
///     }
///   };
///
/// Program, TOML file, Python keywords and the trace's attribute all read `list_options(options)`;
/// there is no second list. An error is one line that names where the value came from, the option,
/// the value and the rule.

/// What an option is called and what it means.
struct OptionField {
  const char* name;   ///< as on the command line: batch-size
  const char* doc;    ///< one line, with the unit where there is one
  const char* group;  ///< heading under which it is shown
};

/// A number of bytes, written as 512M or 2G (powers of 1024); 0 stands for a default.
struct ByteSize {
  int64_t bytes = 0;
  bool operator==(const ByteSize&) const = default;
};

/// Which values an option takes, and how an error says so: "must be > 0". An empty text: no rule.
template <class T>
struct Rule {
  std::string text;
  std::function<bool(const T&)> accepts;
};

template <class T>
Rule<T> anything() {
  return {"", [](const T&) { return true; }};
}

namespace detail {
std::string number_text(int64_t value);
std::string number_text(double value);
}  // namespace detail

template <class T>
Rule<T> at_least(T low) {
  return {"must be >= " + detail::number_text(low), [low](const T& value) { return value >= low; }};
}

template <class T>
Rule<T> greater_than(T low) {
  return {"must be > " + detail::number_text(low), [low](const T& value) { return value > low; }};
}

template <class T>
Rule<T> in_closed(T low, T high) {
  return {"must lie in [" + detail::number_text(low) + ", " + detail::number_text(high) + "]",
          [=](const T& value) { return value >= low && value <= high; }};
}

template <class T>
Rule<T> in_half_open(T low, T high) {
  return {"must lie in [" + detail::number_text(low) + ", " + detail::number_text(high) + ")",
          [=](const T& value) { return value >= low && value < high; }};
}

template <class T>
Rule<T> in_half_open_above(T low, T high) {
  return {"must lie in (" + detail::number_text(low) + ", " + detail::number_text(high) + "]",
          [=](const T& value) { return value > low && value <= high; }};
}

/// 0, which stands for the default, or at least `low`.
Rule<ByteSize> default_or_at_least(ByteSize low);

/// Every element at least `low`.
Rule<std::vector<int64_t>> each_at_least(int64_t low);

/// One or more numbers, each at least `low` or greater, none twice: an axis of a grid.
Rule<std::vector<int64_t>> some_at_least(int64_t low);
Rule<std::vector<double>> some_at_least(double low);
Rule<std::vector<double>> some_greater_than(double low);

/// One or more numbers in [low, high), none twice.
Rule<std::vector<double>> some_in_half_open(double low, double high);

/// Any number of numbers in [low, high].
Rule<std::vector<double>> each_in_closed(double low, double high);

/// One of the names.
Rule<std::string> one_of(const std::vector<std::string>& names);

/// One or more of the names, none twice.
Rule<std::vector<std::string>> some_of(const std::vector<std::string>& names);

/// Where a value came from, as errors show it: `--` before the name on the command line,
/// `run.toml:3: ` in a file, nothing for a keyword.
using OptionOrigin = std::string;

/// One option bound to its place in a struct, whatever its type.
class Option {
 public:
  using Value =
      std::variant<bool*, int64_t*, uint64_t*, double*, ByteSize*, std::string*,
                   std::vector<std::string>*, std::vector<int64_t>*, std::vector<double>*>;

  template <class T>
  Option(const OptionField& field, T& value, Rule<T> rule)
      : name_(field.name),
        doc_(field.doc),
        group_(field.group),
        rule_(rule.text),
        value_(&value),
        accepts_([place = &value, accepts = std::move(rule.accepts)] { return accepts(*place); }) {}

  const std::string& name() const { return name_; }
  const std::string& doc() const { return doc_; }
  const std::string& group() const { return group_; }
  const std::string& rule() const { return rule_; }
  const Value& value() const { return value_; }

  std::string text() const;  ///< the value as on the command line: 0.02, yes, sg-b,gc, 2G
  std::string toml() const;  ///< the value in TOML: 0.02, true, ["sg-b", "gc"], "2G"

  /// Parses and checks `text`; on an error the value stays.
  void set(const std::string& text, const OptionOrigin& origin);

  /// Refuses a value that breaks the rule.
  void check(const OptionOrigin& origin) const;

  /// The error of a value that cannot be, in the one form all have: <origin><name> = <text>,
  /// <rule>.
  [[noreturn]] void refuse(const OptionOrigin& origin, const std::string& text,
                           const std::string& rule) const;

 private:
  std::string name_, doc_, group_, rule_;
  Value value_;
  std::function<bool()> accepts_;
};

using OptionList = std::vector<Option>;

/// All options of a struct, in the order in which they are shown.
template <class Options>
OptionList list_options(Options& options) {
  OptionList list;
  Options::fields(options, [&](const OptionField& field, auto& value, const auto& rule) {
    list.emplace_back(field, value, rule);
  });
  return list;
}

/// The option of this name; an unknown name is an error that suggests the nearest one. `what` says
/// what was named: "option".
Option& find_option(OptionList& options, const std::string& name, const OptionOrigin& origin);

/// The name in `names` closest to `name` where it may be a slip (at most two letters), else empty.
std::string nearest_name(const std::string& name, const std::vector<std::string>& names);

/// All options as a TOML document, a comment a group and, on request, the meaning of each.
std::string to_toml(const OptionList& options, bool with_docs = false);

/// Sets the options that a TOML document names and returns their names; `source` names the file in
/// errors.
std::vector<std::string> set_from_toml(OptionList& options, std::string_view document,
                                       const std::string& source);

/// Sets options from a TOML file (no file where its name is empty) and then from single texts by
/// name, and returns the names of all that were set.
std::vector<std::string> set_from_request(
    OptionList& options, const std::string& config_file,
    const std::vector<std::pair<std::string, std::string>>& texts, const OptionOrigin& origin);

}  // namespace gradist
