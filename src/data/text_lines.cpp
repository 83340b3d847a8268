#include "data/text_lines.h"

#include <charconv>
#include <cmath>
#include <utility>

namespace gradist {
namespace {

constexpr size_t kPiece = size_t{1} << 16;
constexpr size_t kShown = 20;  // characters of a text that errors show
constexpr std::string_view kSpaces = " \t\r";

}  // namespace

std::string_view trimmed(std::string_view text) {
  const size_t begin = text.find_first_not_of(kSpaces);
  if (begin == std::string_view::npos) return {};
  return text.substr(begin, text.find_last_not_of(kSpaces) + 1 - begin);
}

TextLines::TextLines(ByteReader read, std::string name)
    : read_(std::move(read)), name_(std::move(name)) {}

void TextLine::refuse(const std::string& what) const {
  refuse_data(std::string(name) + ":" + std::to_string(number), what);
}

void TextLine::check_count(size_t numbers, int64_t most) const {
  if (numbers > static_cast<size_t>(most)) {
    refuse("more numbers than fit, must be at most " + std::to_string(most));
  }
}

/// Reads one piece more behind what is not yet given out.
void TextLines::fetch() {
  buffer_.erase(0, begin_);
  passed_ += static_cast<int64_t>(begin_);
  begin_ = 0;
  const size_t have = buffer_.size();
  buffer_.resize(have + kPiece);
  const size_t got = read_({reinterpret_cast<uint8_t*>(buffer_.data()) + have, kPiece});
  buffer_.resize(have + got);
  ended_ = got < kPiece;
}

std::optional<TextLine> TextLines::next() {
  while (true) {
    size_t searched = begin_;
    size_t end = buffer_.find('\n', searched);
    while (end == std::string::npos && !ended_) {
      if (buffer_.size() - begin_ > kLongestLine) {
        const TextLine line{.text = {}, .name = name_, .number = number_ + 1};
        line.refuse("line without an end, must have at most " + std::to_string(kLongestLine) +
                    " bytes");
      }
      searched = buffer_.size() - begin_;
      fetch();
      end = buffer_.find('\n', searched);
    }
    if (end == std::string::npos && begin_ == buffer_.size()) return std::nullopt;
    ++number_;
    const size_t stop = end == std::string::npos ? buffer_.size() : end;
    TextLine line{.text = trimmed(std::string_view(buffer_).substr(begin_, stop - begin_)),
                  .begin = passed_ + static_cast<int64_t>(begin_),
                  .name = name_,
                  .number = number_};
    begin_ = end == std::string::npos ? stop : end + 1;
    line.end = passed_ + static_cast<int64_t>(begin_);
    if (!line.text.empty()) return line;
  }
}

std::string_view take_field(std::optional<std::string_view>& rest, char separator) {
  const std::string_view text = *rest;
  const size_t end = text.find(separator);
  if (end == std::string_view::npos) {
    rest.reset();
    return text;
  }
  rest = text.substr(end + 1);
  return text.substr(0, end);
}

std::optional<float> parse_number(std::string_view text) {
  text = trimmed(text);
  if (text.starts_with('+')) text.remove_prefix(1);
  if (text.starts_with('+')) return std::nullopt;
  double value = 0;
  const char* end = text.data() + text.size();
  const auto [stop, error] = std::from_chars(text.data(), end, value);
  if (text.empty() || stop != end || error != std::errc()) return std::nullopt;
  const auto narrow = static_cast<float>(value);
  return std::isfinite(narrow) ? std::optional(narrow) : std::nullopt;
}

std::string quoted(std::string_view text) {
  std::string shown = "\"";
  for (const char letter : text.substr(0, kShown)) {
    shown += letter >= ' ' && letter <= '~' ? letter : '?';
  }
  return shown + (text.size() > kShown ? "...\"" : "\"");
}

}  // namespace gradist
