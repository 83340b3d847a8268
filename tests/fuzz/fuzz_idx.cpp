#include "data/idx.h"

#include "fuzz_parser.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const auto kind =
      size > 0 && data[0] % 2 == 0 ? gradist::IdxKind::kImages : gradist::IdxKind::kLabels;
  const size_t skipped = size > 0 ? 1 : 0;  // the first byte chooses the kind
  return gradist::fuzz::run([&] {
    gradist::parse_idx(gradist::fuzz::reader_of(data + skipped, size - skipped), kind, "input");
  });
}
