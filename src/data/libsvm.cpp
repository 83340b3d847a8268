#include "data/libsvm.h"

#include "data/text_lines.h"

#include <algorithm>
#include <charconv>
#include <optional>
#include <string_view>

namespace gradist {
namespace {

constexpr int64_t kMostFeatures = int64_t{1} << 26;

int64_t parse_index(std::string_view text, const TextLines& lines) {
  int64_t index = 0;
  const char* end = text.data() + text.size();
  const auto [stop, error] = std::from_chars(text.data(), end, index);
  if (stop != end || error != std::errc() || index < 1 || index > kMostFeatures) {
    lines.refuse("index " + quoted(text) + ", must be a whole number 1.." +
                 std::to_string(kMostFeatures));
  }
  return index;
}

void append_entry(std::string_view entry, int64_t& last, const TextLines& lines, SparseRows& rows) {
  const size_t colon = entry.find(':');
  if (colon == std::string_view::npos) {
    lines.refuse(quoted(entry) + ", must be index:value");
  }
  const int64_t index = parse_index(entry.substr(0, colon), lines);
  const auto value = parse_number(entry.substr(colon + 1));
  if (!value) {
    lines.refuse("value " + quoted(entry.substr(colon + 1)) + " of index " + std::to_string(index) +
                 ", must be a finite number");
  }
  if (index <= last) {
    lines.refuse("index " + std::to_string(index) + " after " + std::to_string(last) +
                 ", must be larger than the one before");
  }
  last = index;
  rows.columns.push_back(index - 1);
  rows.values.push_back(*value);
}

void append_row(std::string_view line, const TextLines& lines, SparseRows& rows) {
  std::optional<std::string_view> rest = line;
  const std::string_view first = take_field(rest, ' ');
  const auto label = parse_number(first);
  if (!label) lines.refuse("label " + quoted(first) + ", must be a finite number");
  int64_t last = 0;
  while (rest) {
    const std::string_view entry = take_field(rest, ' ');
    if (!entry.empty()) append_entry(entry, last, lines, rows);
  }
  rows.labels.push_back(*label);
  rows.starts.push_back(static_cast<int64_t>(rows.columns.size()));
  rows.features = std::max(rows.features, last);
}

}  // namespace

SparseRows parse_libsvm(const ByteReader& read, const std::string& name) {
  TextLines lines(read, name);
  SparseRows rows;
  while (const auto line = lines.next()) append_row(*line, lines, rows);
  if (rows.rows() == 0) refuse_data(name, "no example, must have at least one");
  return rows;
}

SparseRows read_libsvm(const std::filesystem::path& file) {
  ByteFile bytes(file);
  return parse_libsvm(bytes.reader(), file.string());
}

}  // namespace gradist
