#include "data/libsvm.h"

#include "data/text_lines.h"

#include <algorithm>
#include <charconv>
#include <optional>
#include <string_view>

namespace gradist {
namespace {

constexpr int64_t kMostFeatures = int64_t{1} << 26;

int64_t parse_index(std::string_view text, const TextLine& line) {
  int64_t index = 0;
  const char* end = text.data() + text.size();
  const auto [stop, error] = std::from_chars(text.data(), end, index);
  if (stop != end || error != std::errc() || index < 1 || index > kMostFeatures) {
    line.refuse("index " + quoted(text) + ", must be a whole number 1.." +
                std::to_string(kMostFeatures));
  }
  return index;
}

void append_entry(std::string_view entry, int64_t& last, const TextLine& line, SparseRows& rows) {
  const size_t colon = entry.find(':');
  if (colon == std::string_view::npos) {
    line.refuse(quoted(entry) + ", must be index:value");
  }
  const int64_t index = parse_index(entry.substr(0, colon), line);
  const auto value = parse_number(entry.substr(colon + 1));
  if (!value) {
    line.refuse("value " + quoted(entry.substr(colon + 1)) + " of index " + std::to_string(index) +
                ", must be a finite number");
  }
  if (index <= last) {
    line.refuse("index " + std::to_string(index) + " after " + std::to_string(last) +
                ", must be larger than the one before");
  }
  last = index;
  rows.columns.push_back(index - 1);
  rows.values.push_back(*value);
}

template <class Add>
void each_row(const ByteReader& read, const std::string& name, const Add& add) {
  TextLines lines(read, name);
  auto line = lines.next();
  if (!line) refuse_data(name, "no example, must have at least one");
  for (; line; line = lines.next()) add(*line);
}

}  // namespace

void append_libsvm_row(const TextLine& line, SparseRows& rows) {
  std::optional<std::string_view> rest = line.text;
  const std::string_view first = take_field(rest, ' ');
  const auto label = parse_number(first);
  if (!label) line.refuse("label " + quoted(first) + ", must be a finite number");
  int64_t last = 0;
  while (rest) {
    const std::string_view entry = take_field(rest, ' ');
    if (!entry.empty()) append_entry(entry, last, line, rows);
  }
  rows.labels.push_back(*label);
  rows.starts.push_back(static_cast<int64_t>(rows.columns.size()));
  rows.features = std::max(rows.features, last);
}

SparseRows parse_libsvm(const ByteReader& read, const std::string& name, int64_t most) {
  SparseRows rows;
  each_row(read, name, [&](const TextLine& line) {
    append_libsvm_row(line, rows);
    line.check_count(rows.labels.size() + rows.values.size(), most);
  });
  return rows;
}

TextIndex index_libsvm(const ByteReader& read, const std::string& name) {
  TextIndex index;
  each_row(read, name, [&](const TextLine& line) {
    SparseRows row;
    append_libsvm_row(line, row);
    index.add(line, row.labels.front());
    index.width = std::max(index.width, row.features);
  });
  return index;
}

SparseRows read_libsvm(const std::filesystem::path& file) {
  ByteFile bytes(file);
  return parse_libsvm(bytes.reader(), file.string());
}

}  // namespace gradist
