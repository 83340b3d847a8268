#include "data/hdf5_array.h"

#include "data/bytes.h"
#include "storage/child_process.h"
#include "storage/hdf5_handle.h"

#include <hdf5.h>

#include <algorithm>
#include <cmath>
#include <functional>
#include <limits>
#include <new>
#include <numeric>
#include <optional>
#include <span>
#include <sstream>
#include <system_error>
#include <utility>

namespace gradist {
namespace {

namespace fs = std::filesystem;
using detail::ChildProcess;
using detail::Hdf5Handle;

constexpr int kMostDimensions = 8;
constexpr hsize_t kMostInMemory = hsize_t{1} << 31;  // numbers
constexpr hsize_t kMostInAFile = hsize_t{1} << 40;
constexpr hsize_t kMostInAChunk = hsize_t{1} << 28;  // numbers; HDF5 holds a chunk whole
constexpr hsize_t kPiece = hsize_t{1} << 20;         // numbers read at once
constexpr int64_t kSecondsOfAStep = 60;
constexpr uint64_t kBytesOfHdf5 = uint64_t{1} << 30;  // its own, beside numbers and chunks
constexpr size_t kMostDataSets = 1000;
constexpr size_t kHead = 1 + sizeof(uint64_t);  // what comes before the bytes of a message

/// Takes sizes, then the numbers piece by piece.
struct ArraySink {
  std::function<void(const std::vector<int64_t>&)> sizes;
  std::function<void(std::span<const float>)> values;
  /// Before each thing that may take long, with the bytes that it may take.
  std::function<void(uint64_t)> step = [](uint64_t) {};
};

/// "1e+39", "nan"
std::string shortest(double number) {
  std::ostringstream text;
  text << number;
  return text.str();
}

/// "[60000, 28, 28]"
template <class Sizes>
std::string bracketed(const Sizes& sizes) {
  std::string text;
  for (const auto size : sizes) text += (text.empty() ? "" : ", ") + std::to_string(size);
  return "[" + text + "]";
}

Hdf5Handle open_file(const fs::path& file) {
  std::error_code error;
  if (!fs::exists(file, error)) refuse_data(file.string(), "no such file, must exist");
  if (!fs::is_regular_file(file, error)) refuse_data(file.string(), "not a file, must be one");
  Hdf5Handle opened(H5Fopen(file.c_str(), H5F_ACC_RDONLY, H5P_DEFAULT), H5Fclose);
  if (!opened) {
    refuse_data(file.string(), "cannot be opened (" + detail::innermost_hdf5_reason() +
                                   "), must be a readable HDF5 file");
  }
  return opened;
}

/// One data set that is open; errors name file and data set.
class OpenArray {
 public:
  OpenArray(hid_t file, const Hdf5Place& place, hsize_t most = kMostInMemory)
      : name_(place.file.string() + ":" + place.name) {
    // Asked first, so that a missing name is told from one that cannot be opened.
    if (place.name.empty() || !exists(file, place.name)) {
      refuse("no such data set, must exist");
    }
    set_ = Hdf5Handle(H5Oopen(file, place.name.c_str(), H5P_DEFAULT), H5Oclose);
    if (!set_) {
      refuse("cannot be opened (" + detail::innermost_hdf5_reason() + "), must be readable");
    }
    if (H5Iget_type(set_) != H5I_DATASET) refuse("not a data set, must be one");
    check_type();
    read_extents(most);
    check_chunk();
  }

  const std::vector<hsize_t>& extents() const { return extents_; }

  /// What reading a piece may take at most: its numbers, and a chunk with what filters make of it
  /// on the way from the file.
  uint64_t bytes_of_a_piece() const {
    constexpr uint64_t kOfAPiece = sizeof(double) + sizeof(float), kOfAChunk = 8 * sizeof(double);
    return kBytesOfHdf5 + kOfAPiece * most_rows() * row() + kOfAChunk * chunk_;
  }

  /// The same and the numbers of so many rows.
  uint64_t bytes_of_rows(uint64_t count) const {
    return bytes_of_a_piece() + sizeof(float) * count * row();
  }

  void read(const ArraySink& sink) const {
    sink.sizes({extents_.begin(), extents_.end()});
    Piece piece;
    for (hsize_t begin = 0; begin < extents_[0]; begin += most_rows()) {
      sink.step(bytes_of_a_piece());
      read_piece(begin, std::min(most_rows(), extents_[0] - begin), piece);
      sink.values(piece.rounded);
    }
  }

  /// The numbers of these rows, one row after the other. Rows that follow each other are read at
  /// once, and each only once.
  std::vector<float> read(std::span<const int64_t> rows) const {
    std::vector<size_t> order(rows.size());
    std::iota(order.begin(), order.end(), size_t{0});
    std::ranges::sort(order, {}, [&](size_t i) { return rows[i]; });
    const auto at = [&](size_t i) { return static_cast<hsize_t>(rows[order[i]]); };
    std::vector<float> values(rows.size() * row());
    Piece piece;
    for (size_t first = 0, last = 0; first < order.size(); first = last) {
      hsize_t end = at(first) + 1;
      for (last = first + 1; last < order.size(); ++last) {
        if (at(last) > end || at(last) - at(first) == most_rows()) break;
        end = at(last) + 1;
      }
      read_piece(at(first), end - at(first), piece);
      for (size_t i = first; i < last; ++i) {
        const auto from = static_cast<std::ptrdiff_t>((at(i) - at(first)) * row());
        const auto to = static_cast<std::ptrdiff_t>(order[i] * row());
        std::copy_n(piece.rounded.begin() + from, row(), values.begin() + to);
      }
    }
    return values;
  }

 private:
  struct Piece {
    std::vector<double> numbers;
    std::vector<float> rounded;
  };

  [[noreturn]] void refuse(const std::string& what) const { refuse_data(name_, what); }

  /// H5Lexists wants every group on the way to exist.
  static bool exists(hid_t file, const std::string& name) {
    for (size_t end = name.find('/', 1);; end = name.find('/', end + 1)) {
      const std::string part = name.substr(0, end);
      if (part != "/" && H5Lexists(file, part.c_str(), H5P_DEFAULT) <= 0) return false;
      if (end == std::string::npos || end + 1 == name.size()) return true;
    }
  }

  hid_t good(hid_t status) const {
    if (status < 0) {
      refuse("cannot be read (" + detail::innermost_hdf5_reason() + "), must be readable");
    }
    return status;
  }

  void check_type() const {
    const Hdf5Handle type(good(H5Dget_type(set_)), H5Tclose);
    const H5T_class_t kind = H5Tget_class(type);
    if (kind != H5T_INTEGER && kind != H5T_FLOAT) {
      refuse("holds no numbers, must hold whole or floating-point numbers");
    }
  }

  void read_extents(hsize_t most) {
    const Hdf5Handle space(good(H5Dget_space(set_)), H5Sclose);
    const int rank = static_cast<int>(good(H5Sget_simple_extent_ndims(space)));
    if (rank < 1 || rank > kMostDimensions) {
      refuse(std::to_string(rank) + " dimensions, must be 1 to " + std::to_string(kMostDimensions));
    }
    extents_.resize(static_cast<size_t>(rank));
    good(H5Sget_simple_extent_dims(space, extents_.data(), nullptr));
    hsize_t room = most, room_of_row = kMostInMemory;
    for (const hsize_t extent : extents_) {
      if (extent == 0) refuse(bracketed(extents_) + ", must have no dimension of size 0");
      room /= extent;
      if (&extent != &extents_.front()) room_of_row /= extent;
    }
    if (room == 0 || room_of_row == 0) {
      refuse(bracketed(extents_) + ", must be at most " + std::to_string(most) + " numbers" +
             (most > kMostInMemory ? ", " + std::to_string(kMostInMemory) + " in a row" : ""));
    }
  }

  void check_chunk() {
    const Hdf5Handle creation(good(H5Dget_create_plist(set_)), H5Pclose);
    if (H5Pget_layout(creation) != H5D_CHUNKED) return;
    std::vector<hsize_t> chunk(extents_.size());
    const int rank = H5Pget_chunk(creation, static_cast<int>(chunk.size()), chunk.data());
    hsize_t room = kMostInAChunk;
    for (const hsize_t extent : chunk) room /= std::max<hsize_t>(extent, 1);
    if (rank != static_cast<int>(chunk.size()) || room == 0) {
      refuse("chunks of " + bracketed(chunk) + ", must be at most " +
             std::to_string(kMostInAChunk) + " numbers");
    }
    chunk_ = std::accumulate(chunk.begin(), chunk.end(), hsize_t{1}, std::multiplies<>());
  }

  /// Numbers in a row.
  hsize_t row() const {
    return std::accumulate(extents_.begin() + 1, extents_.end(), hsize_t{1}, std::multiplies<>());
  }

  /// Rows read at once.
  hsize_t most_rows() const { return std::max<hsize_t>(kPiece / row(), 1); }

  void read_piece(hsize_t begin, hsize_t count, Piece& piece) const {
    piece.numbers.resize(count * row());
    read_rows(begin, count, piece.numbers);
    round(piece.numbers, begin * row(), piece.rounded);
  }

  void read_rows(hsize_t begin, hsize_t count, std::vector<double>& into) const {
    std::vector<hsize_t> start(extents_.size(), 0), size = extents_;
    start[0] = begin;
    size[0] = count;
    const Hdf5Handle space(good(H5Dget_space(set_)), H5Sclose);
    good(H5Sselect_hyperslab(space, H5S_SELECT_SET, start.data(), nullptr, size.data(), nullptr));
    const hsize_t numbers = into.size();
    const Hdf5Handle memory(good(H5Screate_simple(1, &numbers, nullptr)), H5Sclose);
    good(H5Dread(set_, H5T_NATIVE_DOUBLE, memory, space, H5P_DEFAULT, into.data()));
  }

  /// Where number `flat` stands: "[3, 17]".
  std::string place_of(hsize_t flat) const {
    std::vector<hsize_t> place(extents_.size());
    for (size_t d = extents_.size(); d-- > 0;) {
      place[d] = flat % extents_[d];
      flat /= extents_[d];
    }
    return bracketed(place);
  }

  void round(const std::vector<double>& numbers, hsize_t first, std::vector<float>& rounded) const {
    rounded.resize(numbers.size());
    for (size_t i = 0; i < numbers.size(); ++i) {
      // Beyond the floats is no finite float either.
      if (!(std::abs(numbers[i]) <= static_cast<double>(std::numeric_limits<float>::max()))) {
        refuse(shortest(numbers[i]) + " at " + place_of(first + i) +
               ", must be finite numbers that 32-bit floats hold");
      }
      rounded[i] = static_cast<float>(numbers[i]);
    }
  }

  std::string name_;
  Hdf5Handle set_;
  std::vector<hsize_t> extents_;
  hsize_t chunk_ = 0;  ///< numbers in a chunk
};

void read_array(const Hdf5Place& place, const ArraySink& sink) {
  const detail::QuietHdf5 quiet;
  sink.step(kBytesOfHdf5);
  const Hdf5Handle file = open_file(place.file);
  OpenArray(file, place).read(sink);
}

std::vector<std::string> data_sets_of(hid_t file, const fs::path& path) {
  std::vector<std::string> names;
  const auto visit = [](hid_t, const char* name, const H5O_info_t* info, void* list) -> herr_t {
    auto& found = *static_cast<std::vector<std::string>*>(list);
    if (info->type == H5O_TYPE_DATASET) found.emplace_back(name);
    return found.size() < kMostDataSets ? 0 : 1;
  };
#if H5_VERSION_GE(1, 12, 0)
  const herr_t status =
      H5Ovisit3(file, H5_INDEX_NAME, H5_ITER_NATIVE, visit, &names, H5O_INFO_BASIC);
#else
  const herr_t status =
      H5Ovisit2(file, H5_INDEX_NAME, H5_ITER_NATIVE, visit, &names, H5O_INFO_BASIC);
#endif
  if (status < 0) {
    refuse_data(path.string(),
                "cannot be listed (" + detail::innermost_hdf5_reason() + "), must be readable");
  }
  std::ranges::sort(names);
  return names;
}

std::string describe(const fs::path& path, const std::function<void(uint64_t)>& step) {
  const detail::QuietHdf5 quiet;
  step(kBytesOfHdf5);
  const Hdf5Handle file = open_file(path);
  const std::vector<std::string> names = data_sets_of(file, path);
  std::string text =
      "HDF5, " + std::to_string(names.size()) + (names.size() == 1 ? " data set" : " data sets");
  for (const std::string& name : names) {
    const OpenArray array(file, {path, name});
    array.read({[](const auto&) {}, [](const auto&) {}, step});
    text += (name == names.front() ? ": " : "; ") + name + " " + bracketed(array.extents());
  }
  return text;
}

// What a child says: a letter, a number, and what follows from them.
enum class Tag : uint8_t {
  kSizes = 'S',
  kValues = 'V',
  kText = 'T',
  kAlive = 'A',
  kError = 'E',
  kDone = 'D'
};

class Sender {
 public:
  explicit Sender(const ChildProcess::Parent& parent) : parent_(parent) {}

  void send(Tag tag, uint64_t bytes = 0, const void* what = nullptr) const {
    parent_.write(&tag, sizeof tag);
    parent_.write(&bytes, sizeof bytes);
    if (bytes > 0) parent_.write(what, bytes);
  }
  template <class Container>
  void send_all(Tag tag, const Container& items) const {
    send(tag, items.size() * sizeof(*items.data()), items.data());
  }

 private:
  const ChildProcess::Parent& parent_;
};

/// A step of the child may take this much.
void limit_step(uint64_t bytes) {
  detail::limit_processor_time(kSecondsOfAStep);
  detail::limit_memory(bytes);
}

/// What the child does: its error becomes a message, and nothing is thrown. False where it failed.
template <class Work>
bool report(const ChildProcess::Parent& parent, const fs::path& file, const Work& work) {
  const Sender sender(parent);
  try {
    work(sender);
    sender.send(Tag::kDone);
    return true;
  } catch (const std::bad_alloc&) {
    sender.send_all(Tag::kError, file.string() + ": does not fit into memory, must fit");
    return false;
  } catch (const std::exception& error) {
    sender.send_all(Tag::kError, std::string(error.what()));
    return false;
  }
}

/// What the child says.
struct Received {
  std::vector<int64_t> sizes;
  std::vector<float> values;
  std::string text;
};

/// Takes the bytes for numbers and adds them.
template <class Number>
void add_numbers(const std::vector<uint8_t>& bytes, std::vector<Number>& numbers) {
  const size_t have = numbers.size();
  numbers.resize(have + bytes.size() / sizeof(Number));
  std::copy_n(bytes.begin(), (numbers.size() - have) * sizeof(Number),
              reinterpret_cast<uint8_t*>(numbers.data() + have));
}

Received receive(ChildProcess& child, const fs::path& file) {
  Received received;
  const ByteReader read = [&](std::span<uint8_t> into) { return child.read(into); };
  std::vector<uint8_t> head, bytes;
  while (true) {
    head.clear();
    bytes.clear();
    uint64_t count = 0;
    const bool headed = append_bytes(read, kHead, head) == kHead;
    if (headed) std::copy_n(head.begin() + 1, sizeof count, reinterpret_cast<uint8_t*>(&count));
    if (!headed || append_bytes(read, count, bytes) < count) {
      refuse_data(file.string(),
                  "damaged: HDF5 died of it (" + child.wait() + "), must be a whole HDF5 file");
    }
    const auto tag = static_cast<Tag>(head.front());
    if (tag == Tag::kDone) return received;
    if (tag == Tag::kSizes) add_numbers(bytes, received.sizes);
    if (tag == Tag::kValues) add_numbers(bytes, received.values);
    if (tag == Tag::kText) received.text.append(bytes.begin(), bytes.end());
    if (tag == Tag::kError) throw DataError(std::string(bytes.begin(), bytes.end()));
  }
}

/// The rows that the parent asks for: how many, then their numbers. False where it is gone.
bool receive_rows(const ChildProcess::Parent& parent, std::vector<int64_t>& rows) {
  uint64_t count = 0;
  std::vector<uint8_t> bytes(sizeof count);
  if (parent.read(bytes) < bytes.size()) return false;
  std::copy_n(bytes.begin(), sizeof count, reinterpret_cast<uint8_t*>(&count));
  bytes.resize(count * sizeof(int64_t));
  if (parent.read(bytes) < bytes.size()) return false;
  rows.clear();
  add_numbers(bytes, rows);
  return true;
}

/// What the child of Hdf5Rows does: reads all, then what it is asked for.
void serve_rows(const Hdf5Place& place, const ChildProcess::Parent& parent) {
  detail::stay_for_requests();
  const detail::QuietHdf5 quiet;
  Hdf5Handle file;
  std::optional<PlainFile> guard;
  std::optional<OpenArray> array;
  const bool good = report(parent, place.file, [&](const Sender& sender) {
    limit_step(kBytesOfHdf5);
    file = open_file(place.file);
    guard.emplace(place.file);
    array.emplace(file, place, kMostInAFile);
    array->read({[&](const auto& sizes) { sender.send_all(Tag::kSizes, sizes); },
                 [&](const auto&) { sender.send(Tag::kAlive); },  // ends with its parent
                 limit_step});
  });
  std::vector<int64_t> rows;
  while (good && receive_rows(parent, rows)) {
    report(parent, place.file, [&](const Sender& sender) {
      limit_step(array->bytes_of_rows(rows.size()));
      const std::vector<float> values = array->read(rows);
      guard->check_unchanged();
      sender.send_all(Tag::kValues, values);
    });
  }
}

}  // namespace

Hdf5Rows::Hdf5Rows(const Hdf5Place& place)
    : file_(place.file),
      child_(std::make_unique<ChildProcess>(
          [&](const ChildProcess::Parent& parent) { serve_rows(place, parent); })),
      sizes_(receive(*child_, file_).sizes) {}

Hdf5Rows::~Hdf5Rows() = default;

std::vector<float> Hdf5Rows::read(std::span<const int64_t> rows) const {
  const std::lock_guard<std::mutex> alone(asking_);
  const uint64_t count = rows.size();
  // Where the child has ended, its answer says so.
  if (child_->write(&count, sizeof count)) child_->write(rows.data(), rows.size_bytes());
  return receive(*child_, file_).values;
}

Hdf5Array read_hdf5(const Hdf5Place& place) {
  ChildProcess child([&](const ChildProcess::Parent& parent) {
    report(parent, place.file, [&](const Sender& sender) {
      read_array(place,
                 {[&](const auto& sizes) { sender.send_all(Tag::kSizes, sizes); },
                  [&](const auto& values) { sender.send_all(Tag::kValues, values); }, limit_step});
    });
  });
  Received received = receive(child, place.file);
  return {std::move(received.sizes), std::move(received.values)};
}

std::string describe_hdf5(const fs::path& file) {
  ChildProcess child([&](const ChildProcess::Parent& parent) {
    report(parent, file,
           [&](const Sender& sender) { sender.send_all(Tag::kText, describe(file, limit_step)); });
  });
  return receive(child, file).text;
}

Hdf5Array detail::read_hdf5_in_process(const Hdf5Place& place) {
  Hdf5Array array;
  read_array(place, {[&](const auto& sizes) { array.sizes = sizes; },
                     [&](const auto& values) {
                       array.values.insert(array.values.end(), values.begin(), values.end());
                     }});
  return array;
}

std::string detail::describe_hdf5_in_process(const fs::path& file) {
  return describe(file, [](uint64_t) {});
}

}  // namespace gradist
