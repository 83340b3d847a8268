#include "data/csv.h"

#include "data/text_lines.h"

#include <optional>
#include <string_view>

namespace gradist {
namespace {

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

/// Lets `add` parse line after line behind a header, at least one.
template <class Add>
void each_row(const ByteReader& read, const std::string& name, const Add& add) {
  TextLines lines(read, name);
  auto line = lines.next();
  if (line && names_columns(line->text)) line = lines.next();
  if (!line) refuse_data(name, "no row of numbers, must have at least one");
  for (; line; line = lines.next()) add(*line);
}

}  // namespace

void append_csv_row(const TextLine& line, CsvTable& table) {
  int64_t column = 0;
  std::optional<std::string_view> rest = line.text;
  while (rest) {
    const std::string_view field = take_field(rest, ',');
    const auto value = parse_number(field);
    if (!value) {
      line.refuse("column " + std::to_string(column + 1) + " is " + quoted(field) +
                  ", must be a finite number");
    }
    table.values.push_back(*value);
    ++column;
  }
  if (table.columns == 0) table.columns = column;
  if (column < 2) line.refuse(fields(column) + ", must be at least 2: a target and a feature");
  if (column != table.columns) {
    line.refuse(fields(column) + ", must be " + std::to_string(table.columns) +
                " as in the first row");
  }
}

CsvTable parse_csv(const ByteReader& read, const std::string& name, int64_t most) {
  CsvTable table;
  each_row(read, name, [&](const TextLine& line) {
    append_csv_row(line, table);
    line.check_count(table.values.size(), most);
  });
  return table;
}

TextIndex index_csv(const ByteReader& read, const std::string& name, bool first_column) {
  TextIndex index;
  CsvTable row;
  each_row(read, name, [&](const TextLine& line) {
    row.values.clear();
    append_csv_row(line, row);
    index.add(line, first_column ? row.values.front() : row.values.back());
  });
  index.width = row.columns;
  return index;
}

CsvTable read_csv(const std::filesystem::path& file) {
  ByteFile bytes(file);
  return parse_csv(bytes.reader(), file.string());
}

}  // namespace gradist
