#pragma once

#include "data/bytes.h"

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace gradist {

constexpr int64_t kLongestLine = int64_t{1} << 24;  ///< bytes, so that memory stays bounded
constexpr int64_t kMostNumbers = int64_t{1} << 31;  ///< of a text that is read into memory

/// A line of a text, which lives no longer than what it was read into.
struct TextLine {
  std::string_view text;  ///< without its end (\n or \r\n) and the spaces around it
  int64_t begin = 0;      ///< of the line, in bytes of the text
  int64_t end = 0;        ///< where the next line begins
  std::string_view name;  ///< what errors call the text
  int64_t number = 0;     ///< of the line, from 1

  /// Throws the error "<name>:<line>: <what>".
  [[noreturn]] void refuse(const std::string& what) const;

  /// Throws where the numbers up to this line are more than `most`.
  void check_count(size_t numbers, int64_t most) const;
};

/// The lines of a text one after the other; blank ones are passed over. A line that is longer than
/// kLongestLine is refused.
class TextLines {
 public:
  /// `name` is what errors call the text.
  TextLines(ByteReader read, std::string name);

  /// The next line, valid until the next call; nothing at the end.
  std::optional<TextLine> next();

 private:
  void fetch();

  ByteReader read_;
  std::string name_;
  std::string buffer_;
  int64_t passed_ = 0;  ///< bytes before the buffer
  size_t begin_ = 0;    ///< of what is not yet given out
  bool ended_ = false;
  int64_t number_ = 0;  ///< of the line, from 1
};

/// Without spaces around it.
std::string_view trimmed(std::string_view text);

/// Takes what comes before `separator` off the front of `rest`, which then is what comes after it;
/// nothing left where there is none.
std::string_view take_field(std::optional<std::string_view>& rest, char separator);

/// The finite number that a text is, spaces around it and a plus sign allowed; nothing for another
/// text, and for a number that float32 cannot hold.
std::optional<float> parse_number(std::string_view text);

/// A text as errors show it: in quotes, cut if long, without characters that would break the line.
std::string quoted(std::string_view text);

}  // namespace gradist
