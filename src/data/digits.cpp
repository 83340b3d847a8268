#include "data/digits.h"

#include "data/embedded_digits.h"

#include <ATen/ATen.h>
#include <c10/util/Exception.h>

#include <algorithm>
#include <charconv>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <system_error>
#include <vector>

namespace gradist {
namespace {

constexpr int64_t kPixels = 64;
constexpr int kBrightest = 16;
constexpr int kClasses = 10;

/// Cuts the text before the first `separator` off `rest`.
std::string_view take_until(std::string_view& rest, char separator) {
  size_t end = std::min(rest.find(separator), rest.size());
  std::string_view taken = rest.substr(0, end);
  rest.remove_prefix(std::min(end + 1, rest.size()));
  return taken;
}

/// A whole number 0..most, or -1.
int parse_count(std::string_view text, int most) {
  int value = -1;
  auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  bool whole = error == std::errc() && end == text.data() + text.size();
  return whole && value >= 0 && value <= most ? value : -1;
}

struct Rows {
  std::vector<float> pixels;
  std::vector<int64_t> classes;
};

void parse_line(std::string_view line, int64_t number, const std::string& name, Rows& rows) {
  int64_t fields = std::ranges::count(line, ',') + 1;
  TORCH_CHECK_VALUE(fields == kPixels + 1, name, ": line ", number, " has ", fields,
                    " fields, must have ", kPixels + 1);
  for (int64_t pixel = 0; pixel < kPixels; ++pixel) {
    std::string_view field = take_until(line, ',');
    int value = parse_count(field, kBrightest);
    TORCH_CHECK_VALUE(value >= 0, name, ": line ", number, ", pixel ", pixel + 1, " = '", field,
                      "', must be a whole number 0..", kBrightest);
    rows.pixels.push_back(static_cast<float>(value) / kBrightest);
  }
  int label = parse_count(line, kClasses - 1);
  TORCH_CHECK_VALUE(label >= 0, name, ": line ", number, ", class = '", line,
                    "', must be a whole number 0..", kClasses - 1);
  rows.classes.push_back(label);
}

std::string read_text(const std::filesystem::path& file) {
  std::error_code error;
  TORCH_CHECK_VALUE(
      std::filesystem::is_regular_file(file, error), file.string(),
      ": no such file, the folder data-dir must hold optdigits.tra and optdigits.tes");
  std::ifstream stream(file, std::ios::binary);
  TORCH_CHECK_VALUE(stream, file.string(), ": cannot be opened, must be readable");
  return {std::istreambuf_iterator<char>(stream), {}};
}

Dataset read_digits(const std::filesystem::path& file) {
  return parse_digits(read_text(file), file.string());
}

}  // namespace

Dataset parse_digits(std::string_view csv, const std::string& name) {
  TORCH_CHECK_VALUE(!csv.empty(), name, ": empty file, must hold one image a line");
  Rows rows;
  for (int64_t number = 1; !csv.empty(); ++number) {
    std::string_view line = take_until(csv, '\n');
    if (line.ends_with('\r')) line.remove_suffix(1);
    parse_line(line, number, name, rows);
  }
  auto size = static_cast<int64_t>(rows.classes.size());
  return {.inputs = at::tensor(rows.pixels).view({size, kPixels}),
          .targets = at::tensor(rows.classes),
          .classes = kClasses,
          .name = "digits"};
}

DataSplit load_digits(const std::string& data_dir) {
  if (data_dir.empty()) {
    return {.train = parse_digits(detail::digits_train_csv(), "bundled optdigits.tra"),
            .test = parse_digits(detail::digits_test_csv(), "bundled optdigits.tes")};
  }
  std::filesystem::path folder = data_dir;
  return {.train = read_digits(folder / "optdigits.tra"),
          .test = read_digits(folder / "optdigits.tes")};
}

}  // namespace gradist
