#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <memory>
#include <span>
#include <stdexcept>
#include <string>
#include <vector>

struct gzFile_s;

namespace gradist {

/// What all readers of files share. Nothing here knows of torch, nor do the parsers of the formats:
/// they can be fuzzed by themselves.

/// A file that is not what it should be; the message is one line with file, value and rule.
class DataError : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

/// Throws the error "<name>: <what>".
[[noreturn]] void refuse_data(const std::string& name, const std::string& what);

/// Fills the span and returns how many bytes it wrote: fewer than asked for only at the end of the
/// data.
using ByteReader = std::function<size_t(std::span<uint8_t>)>;

/// Appends up to `count` bytes to `values` and returns how many there were. Memory never grows
/// beyond what the data has really delivered by more than a fixed piece.
size_t append_bytes(const ByteReader& read, size_t count, std::vector<uint8_t>& values);

/// A file, plain or gzip-compressed (told by its content, not its name).
class ByteFile {
 public:
  explicit ByteFile(const std::filesystem::path& file);

  /// As a ByteReader does.
  size_t read(std::span<uint8_t> into);

  /// This file's `read`; must not outlive it.
  ByteReader reader();

 private:
  struct Close {
    void operator()(gzFile_s* handle) const;
  };

  std::string name_;
  std::unique_ptr<gzFile_s, Close> handle_;
};

/// A file that is not compressed, read at any place by any thread, as long as nobody changes it:
/// each read tells where size or time of the last change are others than at first.
class PlainFile {
 public:
  explicit PlainFile(const std::filesystem::path& file);

  const std::string& name() const { return name_; }
  int64_t size() const { return state_.size; }

  /// Fills the span with what stands from `position` on and returns how many bytes it wrote: fewer
  /// than asked for only at the end.
  size_t read(int64_t position, std::span<uint8_t> into) const;

  /// Throws where the file has changed.
  void check_unchanged() const;

  /// Reads from the beginning on; must not outlive this.
  ByteReader reader() const;

 private:
  struct State {
    int64_t size = 0, seconds = 0, nanoseconds = 0;
    bool operator==(const State&) const = default;
  };

  struct Handle {
    explicit Handle(int opened) : id(opened) {}
    ~Handle();
    Handle(const Handle&) = delete;
    Handle& operator=(const Handle&) = delete;
    int id;
  };

  State now() const;

  std::string name_;
  Handle handle_;
  State state_;
};

}  // namespace gradist
