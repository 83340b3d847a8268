#include "data/stored_images.h"

#include "data/data_folder.h"

#include <ATen/ATen.h>
#include <ATen/Parallel.h>
#include <c10/util/Exception.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <mutex>
#include <string>

namespace gradist {
namespace {

constexpr int64_t kBytes = 256, kChunk = 1024;
constexpr float kBrightest = 255;

class ImagesInMemory final : public StoredImages {
 public:
  explicit ImagesInMemory(const at::Tensor& bytes)
      : StoredImages(bytes.sizes().vec()), bytes_(bytes.contiguous()) {}

  at::Tensor bytes(const at::Tensor& rows) const override { return bytes_.index_select(0, rows); }
  at::Tensor bytes_range(int64_t begin, int64_t count) const override {
    return bytes_.narrow(0, begin, count);
  }

 private:
  at::Tensor bytes_;
};

void check_whole(const PlainFile& opened, const RecordFile& file, int64_t record) {
  const int64_t size = opened.size(), expected = file.header + file.records * record;
  if (size != expected) {
    refuse_data(file.file.string(),
                std::to_string(size) + " bytes, must have " + std::to_string(expected) + ": " +
                    std::to_string(file.records) + " records of " + std::to_string(record));
  }
}

class ImagesInFiles final : public StoredImages {
 public:
  ImagesInFiles(const std::vector<RecordFile>& files, const std::vector<int64_t>& image)
      : StoredImages(sizes_of(files, image)), length_(c10::multiply_integers(image)) {
    int64_t first = 0;
    for (const RecordFile& file : files) {
      Part part{first, file.header + file.before, file.before + length_,
                std::make_unique<PlainFile>(file.file)};
      check_whole(*part.file, file, part.record);
      parts_.push_back(std::move(part));
      first += file.records;
    }
  }

  at::Tensor bytes(const at::Tensor& rows) const override {
    std::vector<int64_t> sizes = this->sizes();
    sizes[0] = rows.numel();
    const at::Tensor bytes = at::empty(sizes, at::kByte), wanted = rows.contiguous();
    const auto* row = wanted.const_data_ptr<int64_t>();
    auto* into = bytes.mutable_data_ptr<uint8_t>();
    checked([&] {
      for (int64_t i = 0; i < rows.numel(); ++i) read_one(row[i], into + i * length_);
    });
    return bytes;
  }

 private:
  struct Part {
    int64_t first;   ///< number of its first image
    int64_t begin;   ///< where the pixels of its first record begin
    int64_t record;  ///< bytes from one to the next
    std::unique_ptr<PlainFile> file;
  };

  static std::vector<int64_t> sizes_of(const std::vector<RecordFile>& files,
                                       const std::vector<int64_t>& image) {
    std::vector<int64_t> sizes = {0};
    for (const RecordFile& file : files) sizes[0] += file.records;
    sizes.insert(sizes.end(), image.begin(), image.end());
    return sizes;
  }

  void read_one(int64_t row, uint8_t* into) const {
    const auto after = std::ranges::upper_bound(parts_, row, {}, &Part::first);
    const Part& part = *(after - 1);
    part.file->read(part.begin + (row - part.first) * part.record,
                    {into, static_cast<size_t>(length_)});
  }

  int64_t length_;
  std::vector<Part> parts_;
};

using Counts = std::vector<std::array<int64_t, kBytes>>;  // [channels][256]

void add_counts(const uint8_t* plane, int64_t length, std::array<int64_t, kBytes>& counts) {
  // Neighbours are often equal; four tables, so that none waits for the count before it.
  std::array<std::array<uint32_t, kBytes>, 4> tables = {};
  int64_t i = 0;
  for (; i + 4 <= length; i += 4) {
    for (size_t t = 0; t < 4; ++t) ++tables[t][plane[i + static_cast<int64_t>(t)]];
  }
  for (; i < length; ++i) ++tables[0][plane[i]];
  for (size_t b = 0; b < kBytes; ++b) {
    counts[b] += int64_t{tables[0][b]} + tables[1][b] + tables[2][b] + tables[3][b];
  }
}

/// How often each byte occurs in each channel.
Counts count_bytes(const StoredImages& images) {
  const int64_t size = images.sizes()[0], channels = images.sizes()[1];
  const int64_t length = images.sizes()[2] * images.sizes()[3];
  Counts counts(static_cast<size_t>(channels));
  std::mutex adding;
  for (int64_t begin = 0; begin < size; begin += kChunk) {
    const int64_t count = std::min(kChunk, size - begin);
    const at::Tensor bytes = images.bytes_range(begin, count);
    const auto* pixels = bytes.const_data_ptr<uint8_t>();
    at::parallel_for(0, count, kChunk / 8, [&](int64_t from, int64_t to) {
      Counts mine(counts.size());
      for (int64_t plane = from * channels; plane < to * channels; ++plane) {
        add_counts(pixels + plane * length, length, mine[static_cast<size_t>(plane % channels)]);
      }
      const std::lock_guard<std::mutex> alone(adding);
      for (size_t c = 0; c < counts.size(); ++c) {
        std::ranges::transform(counts[c], mine[c], counts[c].begin(), std::plus<>());
      }
    });
  }
  return counts;
}

struct Spread {
  double mean = 0, deviation = 1;
};

/// Of the brightnesses b / 255.
Spread spread_of(const std::array<int64_t, kBytes>& counts) {
  double total = 0, sum = 0, squares = 0;
  for (size_t b = 0; b < kBytes; ++b) {
    total += static_cast<double>(counts[b]);
    sum += static_cast<double>(counts[b]) * static_cast<double>(b);
  }
  const double mean = sum / total;
  for (size_t b = 0; b < kBytes; ++b) {
    const double away = static_cast<double>(b) - mean;
    squares += static_cast<double>(counts[b]) * away * away;
  }
  const double deviation = std::sqrt(squares / total);
  return {mean / kBrightest, deviation > 0 ? deviation / kBrightest : 1};
}

/// Numbers for bytes: the byte b of channel c counts as values[c, b] (float32 [channels, 256]).
at::Tensor byte_values(int64_t channels, const InputScale& scale) {
  at::Tensor values = at::arange(kBytes, at::kFloat).div_(kBrightest).repeat({channels, 1, 1});
  scale.apply(values);
  return values;
}

at::Tensor look_up(const at::Tensor& bytes, const at::Tensor& values) {
  const at::Tensor from = bytes.contiguous(), to = at::empty(bytes.sizes(), at::kFloat);
  const int64_t channels = bytes.size(1), length = bytes.size(2) * bytes.size(3);
  const auto* pixels = from.const_data_ptr<uint8_t>();
  const auto* table = values.const_data_ptr<float>();
  auto* numbers = to.mutable_data_ptr<float>();
  at::parallel_for(0, bytes.size(0) * channels, 64, [&](int64_t begin, int64_t end) {
    for (int64_t plane = begin; plane < end; ++plane) {
      const float* row = table + (plane % channels) * kBytes;
      for (int64_t i = plane * length; i < (plane + 1) * length; ++i) numbers[i] = row[pixels[i]];
    }
  });
  return to;
}

}  // namespace

at::Tensor StoredImages::bytes_range(int64_t begin, int64_t count) const {
  return bytes(at::arange(begin, begin + count));
}

at::Tensor StoredImages::read(const at::Tensor& rows, const InputScale& scale) const {
  return look_up(bytes(rows), byte_values(sizes()[1], scale));
}

at::Tensor StoredImages::read_range(int64_t begin, int64_t count, const InputScale& scale) const {
  return look_up(bytes_range(begin, count), byte_values(sizes()[1], scale));
}

InputScale StoredImages::scale(bool /*by_feature*/) const {
  const Counts counts = count_bytes(*this);
  const auto channels = static_cast<int64_t>(counts.size());
  const at::Tensor mean = at::empty({channels, 1, 1}), deviation = at::empty({channels, 1, 1});
  for (int64_t c = 0; c < channels; ++c) {
    const Spread spread = spread_of(counts[static_cast<size_t>(c)]);
    mean[c].fill_(spread.mean);
    deviation[c].fill_(spread.deviation);
  }
  return {.mean = mean, .deviation = deviation};
}

std::shared_ptr<const StoredImages> images_in_memory(const at::Tensor& bytes) {
  return std::make_shared<ImagesInMemory>(bytes);
}

std::shared_ptr<const StoredImages> images_in_files(const std::vector<RecordFile>& files,
                                                    const std::vector<int64_t>& image) {
  return checked([&] { return std::make_shared<const ImagesInFiles>(files, image); });
}

}  // namespace gradist
