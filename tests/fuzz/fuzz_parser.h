#pragma once

#include "data/bytes.h"
#include "data/text_rows.h"

#include <algorithm>
#include <cstdlib>
#include <string>

namespace gradist::fuzz {

/// Delivers the bytes of one input.
inline ByteReader reader_of(const uint8_t* data, size_t size) {
  return [data, size, position = size_t{0}](std::span<uint8_t> into) mutable {
    const size_t count = std::min(into.size(), size - position);
    std::copy_n(data + position, count, into.begin());
    position += count;
    return count;
  };
}

/// The rows of one input, as they would be left in a file.
inline TextRows rows_in(const uint8_t* data, size_t size, const TextIndex& index) {
  const auto read = [data, size](int64_t position, std::span<uint8_t> into) {
    if (static_cast<size_t>(position) > size) std::abort();
    return reader_of(data + position, size - static_cast<size_t>(position))(into);
  };
  return {read, "input", index.begins};
}

/// Whatever the bytes are, a parser returns or throws a DataError of one line.
template <typename Parse>
int run(const Parse& parse) {
  try {
    parse();
  } catch (const DataError& error) {
    if (std::string(error.what()).find('\n') != std::string::npos) std::abort();
  }
  return 0;
}

}  // namespace gradist::fuzz
