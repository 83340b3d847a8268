#pragma once

#include <filesystem>
#include <string>

namespace gradist::detail {

/// What a file's bytes must add up to.
struct Checksum {
  const char* algorithm = nullptr;  ///< "SHA-256" or "MD5"; null: none is known
  const char* hexadecimal = nullptr;

  bool known() const { return algorithm != nullptr; }
};

/// The checksum of a file, in lower-case hexadecimal digits.
std::string checksum_of(const std::filesystem::path& file, const char* algorithm);

}  // namespace gradist::detail
