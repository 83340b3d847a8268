#include "data/csv.h"

#include "fuzz_parser.h"

using namespace gradist;

namespace {

/// Row by row it is the table that the whole text is.
void check_rows(const TextRows& rows, const TextIndex& index, const CsvTable& table) {
  CsvTable again{.columns = index.width, .values = {}};
  for (int64_t row = 0; row < rows.size(); ++row) {
    rows.parse(row, [&](const TextLine& line) { append_csv_row(line, again); });
    const auto label = static_cast<size_t>(row * index.width);
    if (index.labels[static_cast<size_t>(row)] != table.values[label]) std::abort();
  }
  if (again.values != table.values) std::abort();
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  return fuzz::run([&] {
    const auto table = parse_csv(fuzz::reader_of(data, size), "input");
    if (table.rows() * table.columns != static_cast<int64_t>(table.values.size())) std::abort();
    const auto index = index_csv(fuzz::reader_of(data, size), "input", /*first_column=*/true);
    check_rows(fuzz::rows_in(data, size, index), index, table);
  });
}
