#include "data/libsvm.h"

#include "fuzz_parser.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  return gradist::fuzz::run([&] {
    const auto rows = gradist::parse_libsvm(gradist::fuzz::reader_of(data, size), "input");
    const auto entries = static_cast<int64_t>(rows.columns.size());
    if (rows.starts.size() != rows.labels.size() + 1 || rows.starts.back() != entries) std::abort();
    for (const int64_t column : rows.columns) {
      if (column < 0 || column >= rows.features) std::abort();
    }
  });
}
