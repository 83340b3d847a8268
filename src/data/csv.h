#pragma once

#include "data/bytes.h"
#include "data/text_rows.h"

#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

namespace gradist {

/// Numbers in rows, read from text with commas between them and as many in every line. A first line
/// in which no field is a number is a header and passed over.
struct CsvTable {
  int64_t columns = 0;
  std::vector<float> values;  ///< [N, columns], all finite

  int64_t rows() const { return columns > 0 ? static_cast<int64_t>(values.size()) / columns : 0; }
};

/// Adds the numbers of a line, as many as the table has columns; the first line says how many.
void append_csv_row(const TextLine& line, CsvTable& table);

/// At least one row of at least two numbers. `name` is what errors call the text. Memory is that of
/// the numbers really there, at most `most` of them.
CsvTable parse_csv(const ByteReader& read, const std::string& name, int64_t most = kMostNumbers);

/// Parses the whole text too, and keeps the places of its rows, the numbers in their first or last
/// column, and how many columns there are.
TextIndex index_csv(const ByteReader& read, const std::string& name, bool first_column);

/// Reads a file, plain or gzip-compressed (told by its content, not its name).
CsvTable read_csv(const std::filesystem::path& file);

}  // namespace gradist
