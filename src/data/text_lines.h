#pragma once

#include "data/bytes.h"

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace gradist {

/// The lines of a text one after the other, without their ends (\n or \r\n); blank ones are passed
/// over. A line may have 16 MiB at most, so that memory stays bounded.
class TextLines {
 public:
  /// `name` is what errors call the text.
  TextLines(ByteReader read, std::string name);

  /// The next line, valid until the next call; nothing at the end.
  std::optional<std::string_view> next();

  /// Throws the error "<name>:<line>: <what>" for the line that `next` gave.
  [[noreturn]] void refuse(const std::string& what) const;

 private:
  void fetch();

  ByteReader read_;
  std::string name_;
  std::string buffer_;
  size_t begin_ = 0;  ///< of what is not yet given out
  bool ended_ = false;
  int64_t number_ = 0;  ///< of the line, from 1
};

/// Takes what comes before `separator` off the front of `rest`, which then is what comes after it;
/// nothing left where there is none.
std::string_view take_field(std::optional<std::string_view>& rest, char separator);

/// The finite number that a text is, spaces around it and a plus sign allowed; nothing for another
/// text, and for a number that float32 cannot hold.
std::optional<float> parse_number(std::string_view text);

/// A text as errors show it: in quotes, cut if long, without characters that would break the line.
std::string quoted(std::string_view text);

}  // namespace gradist
