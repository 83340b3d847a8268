#include "data/text_rows.h"

#include <algorithm>
#include <utility>

namespace gradist {

TextRows::TextRows(PlaceReader read, std::string name, std::span<const int64_t> begins)
    : read_(std::move(read)), name_(std::move(name)), begins_(begins.begin(), begins.end()) {}

void TextRows::parse(int64_t row, const std::function<void(const TextLine&)>& parse) const {
  const auto at = static_cast<size_t>(row);
  const int64_t begin = begins_[at];
  // Behind the line there may be any number of blank ones, and a line that was found whole is at
  // most a piece longer than the longest.
  const int64_t length = std::min(begins_[at + 1] - begin, 2 * kLongestLine);
  std::string bytes(static_cast<size_t>(length), '\0');
  bytes.resize(read_(begin, {reinterpret_cast<uint8_t*>(bytes.data()), bytes.size()}));
  const std::string_view text = trimmed(std::string_view(bytes).substr(0, bytes.find('\n')));
  try {
    parse({.text = text, .begin = begin, .end = begins_[at + 1], .name = name_});
  } catch (const DataError&) {
    refuse_data(name_, "row " + std::to_string(row) +
                           " (from 0) is not what it was, must not change while it is read");
  }
}

}  // namespace gradist
