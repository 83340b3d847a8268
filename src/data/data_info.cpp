#include "data/data_info.h"

#include "data/bytes.h"
#include "data/cifar_records.h"
#include "data/csv.h"
#include "data/hdf5_array.h"
#include "data/idx.h"
#include "data/image_file.h"
#include "data/image_folder.h"
#include "data/libsvm.h"
#include "data/text_lines.h"

#include <algorithm>
#include <array>
#include <cstdio>
#include <map>
#include <optional>

namespace gradist {
namespace {

namespace fs = std::filesystem;

std::string counted(int64_t count) {
  const std::string digits = std::to_string(count);
  std::string text;
  for (size_t i = 0; i < digits.size(); ++i) {
    if (i > 0 && (digits.size() - i) % 3 == 0) text += ',';
    text += digits[i];
  }
  return text;
}

/// "10 different labels, 937 to 1,032 examples each"
template <typename Labels>
std::string classes_of(const Labels& labels) {
  std::map<double, int64_t> counts;
  for (const auto label : labels) ++counts[static_cast<double>(label)];
  const auto [fewest, most] =
      std::ranges::minmax_element(counts, {}, [](const auto& entry) { return entry.second; });
  return counted(static_cast<int64_t>(counts.size())) + " different labels, " +
         counted(fewest->second) + " to " + counted(most->second) + " examples each";
}

std::string describe_images(const fs::path& file) {
  const IdxArray array = read_idx(file, IdxKind::kImages);
  return "IDX, " + counted(array.dimensions[0]) + " images of " +
         std::to_string(array.dimensions[1]) + " x " + std::to_string(array.dimensions[2]);
}

std::string describe_labels(const fs::path& file) {
  const IdxArray array = read_idx(file, IdxKind::kLabels);
  return "IDX, " + counted(array.dimensions[0]) + " labels; " + classes_of(array.values);
}

std::string describe_cifar(const fs::path& file) {
  const auto as = [&](const char* name, const CifarLabels& labels) {
    CifarRecords records;
    read_cifar(file, labels, records);
    return std::string(name) + ", " + counted(records.size()) + " images of 3 x 32 x 32; " +
           classes_of(records.labels);
  };
  try {
    return as("CIFAR-10", cifar10_labels());
  } catch (const DataError& no_cifar10) {
    try {
      return as("CIFAR-100", cifar100_labels());
    } catch (const DataError& no_cifar100) {
      throw DataError(std::string(no_cifar10.what()) + "; nor is it CIFAR-100");
    }
  }
}

std::string describe_libsvm(const fs::path& file) {
  const SparseRows rows = read_libsvm(file);
  return "LIBSVM, " + counted(rows.rows()) + " examples, " + counted(rows.features) +
         " features, " + counted(rows.starts.back()) + " values; " + classes_of(rows.labels);
}

std::string describe_image(const fs::path& file, const char* format) {
  const Image image = read_image(file);
  return std::string(format) + ", " + std::to_string(image.channels) + " x " +
         std::to_string(image.height) + " x " + std::to_string(image.width);
}

std::string describe_csv(const fs::path& file) {
  const CsvTable table = read_csv(file);
  return "CSV, " + counted(table.rows()) + " rows of " + counted(table.columns) + " numbers";
}

/// Whether the first line of a text is of LIBSVM's format.
bool has_entries(const fs::path& file) {
  ByteFile bytes(file);
  TextLines lines(bytes.reader(), file.string());
  const auto line = lines.next();
  return line && (line->text.find(':') != std::string_view::npos ||
                  line->text.find_first_of(", ") == std::string_view::npos);
}

std::vector<uint8_t> head_of(const fs::path& file) {
  std::vector<uint8_t> head;
  ByteFile bytes(file);
  append_bytes(bytes.reader(), 8, head);
  return head;
}

bool is_hdf5(const std::vector<uint8_t>& head) {
  constexpr std::array<uint8_t, 8> kSignature = {0x89, 'H', 'D', 'F', '\r', '\n', 0x1a, '\n'};
  return std::ranges::equal(head, kSignature);
}

std::optional<IdxKind> idx_kind(const std::vector<uint8_t>& head) {
  if (head.size() < 4 || head[0] != 0 || head[1] != 0 || head[2] != 8) return std::nullopt;
  if (head[3] == 1) return IdxKind::kLabels;
  if (head[3] == 3) return IdxKind::kImages;
  return std::nullopt;
}

bool is_batch(const fs::path& file) {
  const std::string name = file.filename().string();
  return name.ends_with(".bin") || name.ends_with(".bin.gz");
}

/// Nothing for a file that is text, as neither its first bytes nor its name say anything else.
std::optional<std::string> describe_binary(const fs::path& file) {
  const std::vector<uint8_t> head = head_of(file);
  if (is_hdf5(head)) return describe_hdf5(file);
  if (detail::is_png(head)) return describe_image(file, "PNG");
  if (detail::is_jpeg(head)) return describe_image(file, "JPEG");
  if (const auto kind = idx_kind(head)) {
    return *kind == IdxKind::kImages ? describe_images(file) : describe_labels(file);
  }
  if (is_batch(file)) return describe_cifar(file);
  return std::nullopt;
}

std::string describe_text(const fs::path& file) {
  return has_entries(file) ? describe_libsvm(file) : describe_csv(file);
}

DataLine line_of(const fs::path& file, bool text_is_data) {
  try {
    if (const auto described = describe_binary(file)) return {file.string(), *described};
    return {file.string(),
            text_is_data ? describe_text(file) : "text beside CIFAR's *.bin files, passed over"};
  } catch (const DataError& error) {
    return {file.string(), error.what(), false};
  }
}

}  // namespace

std::string describe_data_file(const fs::path& file) {
  const auto described = describe_binary(file);
  return described ? *described : describe_text(file);
}

std::vector<DataLine> describe_data(const fs::path& path) {
  std::vector<fs::path> files = {path};
  if (fs::is_directory(path)) {
    files.clear();
    for (const auto& entry : fs::directory_iterator(path)) {
      if (entry.is_regular_file()) files.push_back(entry.path());
    }
    std::ranges::sort(files);
  }
  std::vector<DataLine> lines;
  if (fs::is_directory(path / "train")) {
    try {
      lines.push_back({path.string(), describe_image_folder(path)});
    } catch (const DataError& error) {
      lines.push_back({path.string(), error.what(), false});
    }
  }
  const bool text_is_data = std::ranges::none_of(files, is_batch);
  for (const fs::path& file : files) {
    lines.push_back(line_of(file, text_is_data));
  }
  return lines;
}

}  // namespace gradist
