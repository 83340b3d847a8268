#include "data/csv.h"

#include "fuzz_parser.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  return gradist::fuzz::run([&] {
    const auto table = gradist::parse_csv(gradist::fuzz::reader_of(data, size), "input");
    if (table.rows() * table.columns != static_cast<int64_t>(table.values.size())) std::abort();
  });
}
