#pragma once

#include "data/text_lines.h"

#include <cstdint>
#include <functional>
#include <span>
#include <string>
#include <vector>

namespace gradist {

/// What is kept of a text whose rows are parsed again when they are asked for: 12 bytes a row.
struct TextIndex {
  std::vector<float> labels = {};     ///< [N]
  std::vector<int64_t> begins = {0};  ///< [N + 1], of each row's line in bytes; the end of the last
  int64_t width = 0;                  ///< columns of a table, features of sparse rows

  int64_t rows() const { return static_cast<int64_t>(labels.size()); }

  void add(const TextLine& line, float label) {
    begins.back() = line.begin;
    begins.push_back(line.end);
    labels.push_back(label);
  }
};

/// Fills the span from a byte of the text on, as PlainFile does.
using PlaceReader = std::function<size_t(int64_t position, std::span<uint8_t> into)>;

/// Some rows of a text, each read and parsed when it is asked for, by any thread.
class TextRows {
 public:
  /// The rows whose lines begin at all of `begins` but the last; `name` is what errors call the
  /// text.
  TextRows(PlaceReader read, std::string name, std::span<const int64_t> begins);

  int64_t size() const { return static_cast<int64_t>(begins_.size()) - 1; }

  /// Lets `parse` take the line of a row. It parsed once: if it refuses now, the text has changed.
  void parse(int64_t row, const std::function<void(const TextLine&)>& parse) const;

 private:
  PlaceReader read_;
  std::string name_;
  std::vector<int64_t> begins_;
};

}  // namespace gradist
