#include "tools/text.h"

#include "rf/presets.h"
#include "trajectory/presets.h"

#include <algorithm>
#include <cctype>
#include <cmath>
#include <cstdio>
#include <iomanip>
#include <sstream>
#include <string_view>
#include <utility>

namespace gradist::detail {

namespace {

constexpr size_t kPageWidth = 100;
constexpr size_t kNameWidth = 28;

std::string printed(const char* format, double number) {
  char buffer[64];
  std::snprintf(buffer, sizeof buffer, format, number);
  return buffer;
}

/// Cuts a word that no line holds after the last | that one of `room` letters does; the rest.
std::string cut_choices(std::string& word, size_t room) {
  const size_t bar = word.size() > room ? word.rfind('|', room - 1) : std::string::npos;
  if (bar == std::string::npos) return "";
  std::string rest = word.substr(bar + 1);
  word.resize(bar + 1);
  return rest;
}

/// Words of `text` in lines no longer than the page, each line after the first indented.
std::string wrapped(const std::string& text, size_t indent) {
  std::istringstream words(text);
  std::string result, rest;
  size_t column = indent;
  for (std::string word; !rest.empty() || words >> word;) {
    if (!rest.empty()) word = std::exchange(rest, "");
    rest = cut_choices(word, kPageWidth - indent);
    if (column > indent && column + 1 + word.size() > kPageWidth) {
      result += "\n" + std::string(indent, ' ');
      column = indent;
    } else if (column > indent) {
      result += ' ';
      ++column;
    }
    result += word;
    column += word.size();
  }
  return result + "\n";
}

bool is_switch(const Option& option) {
  const auto* flag = std::get_if<bool*>(&option.value());
  return flag != nullptr && !**flag;
}

std::string placeholder(const Option& option) {
  struct Placeholder {
    const char* operator()(const bool*) const { return "yes|no"; }
    const char* operator()(const int64_t*) const { return "n"; }
    const char* operator()(const uint64_t*) const { return "n"; }
    const char* operator()(const double*) const { return "x"; }
    const char* operator()(const ByteSize*) const { return "BYTES"; }
    const char* operator()(const std::string*) const { return "TEXT"; }
    const char* operator()(const std::vector<std::string>*) const { return "NAME,..."; }
    const char* operator()(const std::vector<int64_t>*) const { return "n,..."; }
    const char* operator()(const std::vector<double>*) const { return "x,..."; }
  };
  return is_switch(option) ? "" : std::string(" ") + std::visit(Placeholder(), option.value());
}

std::string explanation(const Option& option) {
  std::string text = option.doc();
  if (!option.rule().empty()) {
    text += "; " + option.rule();
  }
  if (!is_switch(option) && !option.text().empty()) {
    text += " [" + option.text() + "]";
  }
  return text;
}

}  // namespace

std::string with_separators(int64_t number) {
  const std::string digits = std::to_string(number);
  std::string text;
  for (size_t i = 0; i < digits.size(); ++i) {
    const bool starts_group = (digits.size() - i) % 3 == 0;
    if (starts_group && !text.empty() && text.back() != '-') {
      text += ',';
    }
    text += digits[i];
  }
  return text;
}

std::string significant(double number) {
  return std::isnan(number) ? "-" : printed("%.3g", number);
}

std::string duration(double seconds) {
  const auto whole = static_cast<int64_t>(std::lround(seconds));
  if (seconds < 60) {
    return printed(seconds < 10 ? "%.1f s" : "%.0f s", seconds);
  }
  if (whole < 3600) {
    return std::to_string(whole / 60) + " min " + std::to_string(whole % 60) + " s";
  }
  return std::to_string(whole / 3600) + " h " + std::to_string(whole % 3600 / 60) + " min";
}

std::string counted(int64_t number, const std::string& thing) {
  return with_separators(number) + " " + thing + (number == 1 ? "" : "s");
}

std::string shell_word(const std::string& path) {
  const bool plain = std::all_of(path.begin(), path.end(), [](unsigned char letter) {
    return letter > 0x7f || std::isalnum(letter) != 0 ||
           std::string_view("_-./+,:@%=").find(static_cast<char>(letter)) != std::string_view::npos;
  });
  std::string quoted = "'";
  for (const char letter : path) {
    quoted += letter == '\'' ? "'\\''" : std::string{letter};
  }
  return plain ? path : quoted + "'";
}

std::string python_text(const std::string& path) {
  std::string quoted = "\"";
  for (const char letter : path) {
    quoted += (letter == '"' || letter == '\\') ? std::string{'\\', letter} : std::string{letter};
  }
  return quoted + "\"";
}

std::string preset_list(const std::vector<Preset>& presets) {
  std::string text;
  for (const auto& preset : presets) {
    text += preset.name + "\n    " + wrapped(preset.source, 4) + "    " +
            wrapped("data " + preset.data + "; time " + preset.time, 4);
  }
  return text;
}

std::string all_presets() {
  return "gradist run --preset NAME\n\n" + preset_list(presets()) +
         "\ngradist rf --preset NAME\n\n" + preset_list(rf::presets());
}

std::string option_help(const OptionList& options) {
  std::string text;
  std::string group;
  for (const auto& option : options) {
    if (option.group() != group) {
      group = option.group();
      text += "\n" + group + "\n";
    }
    std::string name = "  --" + option.name() + placeholder(option);
    name.resize(std::max(kNameWidth, name.size() + 1), ' ');
    text += name + wrapped(explanation(option), kNameWidth);
  }
  return text;
}

std::string estimator_table(const std::vector<EstimatorSummary>& estimators) {
  std::ostringstream text;
  const auto row = [&](const std::string& name, const std::vector<std::string>& cells) {
    text << std::left << std::setw(12) << name << std::right;
    for (const auto& cell : cells) {
      text << std::setw(21) << cell;
    }
    text << '\n';
  };
  row("estimator", {"average variance", "over sg-b", "normalized variance", "noise to signal",
                    "gradients measured"});
  for (const auto& estimator : estimators) {
    row(estimator.name,
        {significant(estimator.average_variance), significant(estimator.ratio),
         significant(estimator.normalized_variance), significant(estimator.noise_to_signal),
         with_separators(estimator.gradient_evaluations)});
  }
  return text.str();
}

}  // namespace gradist::detail
