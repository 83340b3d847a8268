#include "data/csv.h"

#include "data/text_lines.h"

#include <optional>
#include <string_view>

namespace gradist {
namespace {

constexpr size_t kMostValues = size_t{1} << 31;

/// A header: nothing in it is a number.
bool names_columns(std::string_view line) {
  std::optional<std::string_view> rest = line;
  while (rest) {
    if (parse_number(take_field(rest, ','))) return false;
  }
  return true;
}

std::string fields(int64_t count) {
  return std::to_string(count) + (count == 1 ? " field" : " fields");
}

void append_row(std::string_view line, const TextLines& lines, CsvTable& table) {
  int64_t column = 0;
  std::optional<std::string_view> rest = line;
  while (rest) {
    const std::string_view field = take_field(rest, ',');
    const auto value = parse_number(field);
    if (!value) {
      lines.refuse("column " + std::to_string(column + 1) + " is " + quoted(field) +
                   ", must be a finite number");
    }
    table.values.push_back(*value);
    ++column;
  }
  if (table.columns == 0) table.columns = column;
  if (column < 2) lines.refuse(fields(column) + ", must be at least 2: a target and a feature");
  if (column != table.columns) {
    lines.refuse(fields(column) + ", must be " + std::to_string(table.columns) +
                 " as in the first row");
  }
  if (table.values.size() > kMostValues) {
    lines.refuse("more numbers than fit, must be at most " + std::to_string(kMostValues));
  }
}

}  // namespace

CsvTable parse_csv(const ByteReader& read, const std::string& name) {
  TextLines lines(read, name);
  CsvTable table;
  auto line = lines.next();
  if (line && names_columns(*line)) line = lines.next();
  for (; line; line = lines.next()) append_row(*line, lines, table);
  if (table.rows() == 0) refuse_data(name, "no row of numbers, must have at least one");
  return table;
}

CsvTable read_csv(const std::filesystem::path& file) {
  ByteFile bytes(file);
  return parse_csv(bytes.reader(), file.string());
}

}  // namespace gradist
