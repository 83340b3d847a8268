#include "data/libsvm.h"

#include "fuzz_parser.h"

using namespace gradist;

namespace {

void check_structure(const SparseRows& rows) {
  const auto entries = static_cast<int64_t>(rows.columns.size());
  if (rows.starts.size() != rows.labels.size() + 1 || rows.starts.back() != entries) std::abort();
  for (const int64_t column : rows.columns) {
    if (column < 0 || column >= rows.features) std::abort();
  }
}

/// Row by row they are those of the whole text.
void check_rows(const TextRows& rows, const TextIndex& index, const SparseRows& all) {
  SparseRows again;
  for (int64_t row = 0; row < rows.size(); ++row) {
    rows.parse(row, [&](const TextLine& line) { append_libsvm_row(line, again); });
  }
  const bool same = again.starts == all.starts && again.columns == all.columns &&
                    again.values == all.values && index.labels == all.labels;
  if (!same || index.width != all.features) std::abort();
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  return fuzz::run([&] {
    const auto rows = parse_libsvm(fuzz::reader_of(data, size), "input");
    check_structure(rows);
    const auto index = index_libsvm(fuzz::reader_of(data, size), "input");
    check_rows(fuzz::rows_in(data, size, index), index, rows);
  });
}
