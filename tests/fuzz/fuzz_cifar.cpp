#include "data/cifar_records.h"

#include "fuzz_parser.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const auto& labels =
      size > 0 && data[0] % 2 == 0 ? gradist::cifar10_labels() : gradist::cifar100_labels();
  const size_t skipped = size > 0 ? 1 : 0;  // the first byte chooses the kind
  return gradist::fuzz::run([&] {
    gradist::CifarRecords records;
    gradist::parse_cifar(gradist::fuzz::reader_of(data + skipped, size - skipped), labels, "input",
                         records);
    if (records.pixels.size() != records.labels.size() * 3072) std::abort();
  });
}
