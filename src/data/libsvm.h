#pragma once

#include "data/bytes.h"
#include "data/text_rows.h"

#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

namespace gradist {

/// Examples with few nonzero features, as the text format of LIBSVM [Chang11] holds them: a line
/// each, "label index:value index:value ...", indices from 1 and ascending. Kept in compressed
/// rows.
struct SparseRows {
  std::vector<float> labels;       ///< [N]
  std::vector<int64_t> starts{0};  ///< [N + 1], where each row begins in the two below
  std::vector<int64_t> columns;    ///< from 0, ascending in a row
  std::vector<float> values;       ///< finite
  int64_t features = 0;            ///< the largest index of all

  int64_t rows() const { return static_cast<int64_t>(labels.size()); }
};

/// Adds the example of a line.
void append_libsvm_row(const TextLine& line, SparseRows& rows);

/// At least one row. Indices may be 2^26 at most: a model has weights for all of them. `name` is
/// what errors call the text. Memory is that of the labels and values really there, 12 bytes each,
/// at most `most` of them.
SparseRows parse_libsvm(const ByteReader& read, const std::string& name,
                        int64_t most = kMostNumbers);

/// Parses the whole text too, and keeps the places of its rows, their labels and how many features
/// there are.
TextIndex index_libsvm(const ByteReader& read, const std::string& name);

/// Reads a file, plain or gzip-compressed (told by its content, not its name).
SparseRows read_libsvm(const std::filesystem::path& file);

}  // namespace gradist
