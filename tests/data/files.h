#pragma once

#include "data/bytes.h"

#include <gtest/gtest.h>
#include <unistd.h>
#include <zlib.h>

#include <algorithm>
#include <cstdint>
#include <filesystem>
#include <fstream>
#include <string>
#include <vector>

namespace gradist::test {

/// A folder of this test's own, gone with it.
class TemporaryFolder {
 public:
  TemporaryFolder() {
    const auto* test = ::testing::UnitTest::GetInstance()->current_test_info();
    std::string name =
        std::string(test->test_suite_name()) + "-" + test->name() + "-" + std::to_string(getpid());
    for (char& letter : name) letter = letter == '/' ? '-' : letter;
    path_ = std::filesystem::path(::testing::TempDir()) / name;
    std::filesystem::create_directories(path_);
  }
  ~TemporaryFolder() { std::filesystem::remove_all(path_); }
  TemporaryFolder(const TemporaryFolder&) = delete;
  TemporaryFolder& operator=(const TemporaryFolder&) = delete;

  std::filesystem::path operator/(const std::string& name) const { return path_ / name; }
  std::string string() const { return path_.string(); }

 private:
  std::filesystem::path path_;
};

inline void write_file(const std::filesystem::path& file, const std::string& bytes) {
  std::ofstream(file, std::ios::binary) << bytes;
}

inline std::string read_file(const std::filesystem::path& file) {
  std::ifstream stream(file, std::ios::binary);
  return {std::istreambuf_iterator<char>(stream), {}};
}

inline void write_gzip(const std::filesystem::path& file, const std::string& bytes) {
  gzFile handle = gzopen(file.c_str(), "wb");
  gzwrite(handle, bytes.data(), static_cast<unsigned>(bytes.size()));
  gzclose(handle);
}

/// Magic number and dimensions, big-endian.
inline std::string idx_header(const std::vector<uint32_t>& words) {
  std::string bytes;
  for (uint32_t word : words) {
    for (int shift : {24, 16, 8, 0}) bytes += static_cast<char>((word >> shift) & 0xff);
  }
  return bytes;
}

/// N labels.
inline std::string idx_labels(const std::vector<uint8_t>& labels) {
  return idx_header({2049, static_cast<uint32_t>(labels.size())}) +
         std::string(labels.begin(), labels.end());
}

/// N images of `height` x `width`.
inline std::string idx_images(const std::vector<uint8_t>& pixels, uint32_t height, uint32_t width) {
  auto count = static_cast<uint32_t>(pixels.size()) / (height * width);
  return idx_header({2051, count, height, width}) + std::string(pixels.begin(), pixels.end());
}

/// Delivers `bytes`.
inline ByteReader reader_of(const std::string& bytes) {
  return [bytes, position = size_t{0}](std::span<uint8_t> into) mutable {
    const size_t count = std::min(into.size(), bytes.size() - position);
    std::copy_n(bytes.begin() + static_cast<std::ptrdiff_t>(position), count, into.begin());
    position += count;
    return count;
  };
}

/// Delivers `bytes` over and over, without end, as a small .gz may hold them.
inline ByteReader endless_reader_of(const std::string& bytes) {
  return [bytes, position = size_t{0}](std::span<uint8_t> into) mutable {
    for (uint8_t& byte : into) byte = static_cast<uint8_t>(bytes[position++ % bytes.size()]);
    return into.size();
  };
}

/// The message with which a reader refuses its data; "" if it does not.
template <typename Action>
std::string data_refusal(Action action) {
  try {
    action();
  } catch (const DataError& error) {
    return error.what();
  }
  return "";
}

/// A record of CIFAR: its labels, then the pixels first, first + 1, ... modulo 256.
inline std::string cifar_record(const std::vector<uint8_t>& labels, int first) {
  std::string bytes(labels.begin(), labels.end());
  for (int p = 0; p < 3 * 32 * 32; ++p) bytes += static_cast<char>((first + p) % 256);
  return bytes;
}

}  // namespace gradist::test
