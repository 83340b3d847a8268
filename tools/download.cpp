#include "tools/download.h"

#include <c10/util/Exception.h>
#include <curl/curl.h>
#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <ctime>
#include <memory>
#include <optional>
#include <string_view>
#include <system_error>

namespace gradist::detail {
namespace {

namespace fs = std::filesystem;

constexpr long kPartial = 206, kRangeNotSatisfiable = 416;
constexpr long kConnectSeconds = 30, kSilentSeconds = 60, kMostRedirections = 10;

/// The `.part` file, held by one process at a time.
class PartFile {
 public:
  explicit PartFile(const fs::path& path)
      : path_(path.string()), handle_(open(path_.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0666)) {
    TORCH_CHECK_VALUE(handle_ >= 0, path_, ": cannot be written (", std::strerror(errno), ")");
    const bool alone = flock(handle_, LOCK_EX | LOCK_NB) == 0;
    if (!alone) close(handle_);
    TORCH_CHECK_VALUE(alone, path_, ": another fetch is writing it, must be left to end");
    size_ = lseek(handle_, 0, SEEK_END);
  }
  ~PartFile() { close(handle_); }
  PartFile(const PartFile&) = delete;
  PartFile& operator=(const PartFile&) = delete;

  int64_t size() const { return size_; }

  void append(const char* bytes, size_t count) {
    while (count > 0) {
      const ssize_t written = write(handle_, bytes, count);
      if (written < 0 && errno == EINTR) continue;
      TORCH_CHECK_VALUE(written > 0, path_, ": cannot be written (", std::strerror(errno), ")");
      bytes += written;
      count -= static_cast<size_t>(written);
      size_ += written;
    }
  }

  void clear() {
    TORCH_CHECK_VALUE(ftruncate(handle_, 0) == 0, path_, ": cannot be written (",
                      std::strerror(errno), ")");
    size_ = lseek(handle_, 0, SEEK_SET);
  }

  void set_date(time_t date) const {
    const std::array<timespec, 2> times = {{{0, UTIME_OMIT}, {date, 0}}};
    futimens(handle_, times.data());
  }

  /// As HTTP writes it: Sun, 06 Nov 1994 08:49:37 GMT.
  std::string date() const {
    struct stat status = {};
    fstat(handle_, &status);
    std::tm parts = {};
    gmtime_r(&status.st_mtime, &parts);
    std::array<char, 64> text = {};
    const size_t length =
        std::strftime(text.data(), text.size(), "%a, %d %b %Y %H:%M:%S GMT", &parts);
    return {text.data(), length};
  }

 private:
  std::string path_;
  int handle_;
  int64_t size_ = 0;
};

/// What "bytes 100-199/200" says; "bytes */200" has no begin.
struct ContentRange {
  std::optional<int64_t> begin;
  int64_t total = 0;
};

ContentRange parse_content_range(std::string_view text) {
  ContentRange range;
  const auto number = [&](size_t at) {
    return std::strtoll(std::string(text.substr(at)).c_str(), nullptr, 10);
  };
  const size_t slash = text.find('/'), digit = text.find_first_of("0123456789*");
  if (slash != std::string_view::npos) range.total = number(slash + 1);
  if (digit != std::string_view::npos && text[digit] != '*') range.begin = number(digit);
  return range;
}

/// One request and its answer.
class Transfer {
 public:
  Transfer(const Download& wanted, PartFile& part, const DownloadProgress& progress)
      : wanted_(wanted), part_(part), progress_(progress), before_(part.size()) {}

  /// True when the file is whole; false when `progress` stopped it.
  bool run() {
    const CURLcode code = perform();
    if (failure_) std::rethrow_exception(failure_);
    curl_easy_getinfo(handle_.get(), CURLINFO_RESPONSE_CODE, &status_);
    if (curl_off_t date = -1;
        curl_easy_getinfo(handle_.get(), CURLINFO_FILETIME_T, &date) == CURLE_OK && date >= 0) {
      part_.set_date(date);
    }
    if (stopped_) return false;
    reason_ = reason(code);
    cut_ = code != CURLE_OK && status_ < 300;
    whole_ = code == CURLE_OK;
    return true;
  }

  bool whole() const { return whole_; }

  /// The connection broke, but something was brought.
  bool worth_another_try() const { return cut_ && part_.size() > before_; }

  /// The server has no such range: the `.part` is whole already, or no part of this file.
  bool range_refused() const { return status_ == kRangeNotSatisfiable && before_ > 0; }
  bool was_whole() const { return range_refused() && range_.total == before_; }

  std::string why() const {
    if (status_ >= 300) return "the server answered " + std::to_string(status_);
    return reason_ + (part_.size() > 0 ? "; " + std::to_string(part_.size()) +
                                             " bytes are kept, the same command goes on from there"
                                       : "");
  }

 private:
  using Handle = std::unique_ptr<CURL, void (*)(CURL*)>;

  CURLcode perform() {
    static const CURLcode ready = curl_global_init(CURL_GLOBAL_DEFAULT);
    TORCH_CHECK(ready == CURLE_OK, "libcurl cannot be used: ", curl_easy_strerror(ready));
    set_up();
    curl_slist* headers = nullptr;
    if (before_ > 0) {
      set(CURLOPT_RANGE, range_wanted_.c_str());
      if (!wanted_.checksum.known()) {
        headers = curl_slist_append(headers, ("If-Range: " + part_.date()).c_str());
      }
    }
    const std::unique_ptr<curl_slist, void (*)(curl_slist*)> owner(headers, curl_slist_free_all);
    set(CURLOPT_HTTPHEADER, headers);
    return curl_easy_perform(handle_.get());
  }

  void set_up() {
    set(CURLOPT_URL, wanted_.url.c_str());
    set(CURLOPT_ERRORBUFFER, problem_.data());
    set(CURLOPT_PROTOCOLS_STR, "http,https");
    set(CURLOPT_REDIR_PROTOCOLS_STR, "http,https");
    set(CURLOPT_FOLLOWLOCATION, 1L);
    set(CURLOPT_MAXREDIRS, kMostRedirections);
    set(CURLOPT_FAILONERROR, 1L);
    set(CURLOPT_FILETIME, 1L);
    set(CURLOPT_NOSIGNAL, 1L);
    set(CURLOPT_CONNECTTIMEOUT, kConnectSeconds);
    set(CURLOPT_LOW_SPEED_LIMIT, 1L);
    set(CURLOPT_LOW_SPEED_TIME, kSilentSeconds);
    set(CURLOPT_USERAGENT, "gradist/" GRADIST_VERSION);
    set(CURLOPT_WRITEFUNCTION, &Transfer::take_body);
    set(CURLOPT_WRITEDATA, this);
    set(CURLOPT_HEADERFUNCTION, &Transfer::take_header);
    set(CURLOPT_HEADERDATA, this);
    set(CURLOPT_XFERINFOFUNCTION, &Transfer::take_progress);
    set(CURLOPT_XFERINFODATA, this);
    set(CURLOPT_NOPROGRESS, 0L);
  }

  template <class Value>
  void set(CURLoption option, Value value) {
    TORCH_CHECK(curl_easy_setopt(handle_.get(), option, value) == CURLE_OK, "libcurl, must be ",
                LIBCURL_VERSION, " or newer");
  }

  std::string reason(CURLcode code) const {
    std::string text = problem_[0] != '\0' ? problem_.data() : curl_easy_strerror(code);
    std::replace(text.begin(), text.end(), '\n', ' ');
    return text;
  }

  /// Before the first byte of the body: where it belongs.
  void begin_body() {
    long status = 0;
    curl_easy_getinfo(handle_.get(), CURLINFO_RESPONSE_CODE, &status);
    if (before_ > 0 && status != kPartial) {
      part_.clear();
      before_ = 0;
    }
    TORCH_CHECK_VALUE(status != kPartial || range_.begin == before_, wanted_.url,
                      ": the server sent other bytes than those from ", before_, " on");
  }

  size_t append(const char* bytes, size_t count) {
    try {
      if (!std::exchange(began_, true)) begin_body();
      part_.append(bytes, count);
    } catch (...) {
      failure_ = std::current_exception();  // must not pass through libcurl
      return 0;
    }
    return count;
  }

  void take_line(std::string line) {
    std::transform(line.begin(), line.end(), line.begin(),
                   [](unsigned char letter) { return std::tolower(letter); });
    constexpr std::string_view kRange = "content-range:", kLength = "content-length:";
    if (line.starts_with("http/")) {
      range_ = {};
      length_ = 0;
    } else if (line.starts_with(kRange)) {
      range_ = parse_content_range(std::string_view(line).substr(kRange.size()));
    } else if (line.starts_with(kLength)) {
      length_ = std::strtoll(line.c_str() + kLength.size(), nullptr, 10);
    }
  }

  static size_t take_body(char* bytes, size_t size, size_t count, void* self) {
    return static_cast<Transfer*>(self)->append(bytes, size * count);
  }

  static size_t take_header(char* bytes, size_t size, size_t count, void* self) {
    static_cast<Transfer*>(self)->take_line({bytes, size * count});
    return size * count;
  }

  static int take_progress(void* self, curl_off_t, curl_off_t, curl_off_t, curl_off_t) {
    auto& transfer = *static_cast<Transfer*>(self);
    const int64_t total = transfer.range_.total > 0 ? transfer.range_.total : transfer.length_;
    transfer.stopped_ = !transfer.progress_(transfer.part_.size(), total);
    return transfer.stopped_ ? 1 : 0;
  }

  const Download& wanted_;
  PartFile& part_;
  const DownloadProgress& progress_;
  int64_t before_;
  std::string range_wanted_ = std::to_string(before_) + "-";
  Handle handle_{curl_easy_init(), curl_easy_cleanup};
  std::array<char, CURL_ERROR_SIZE> problem_ = {};
  std::exception_ptr failure_;
  ContentRange range_;
  int64_t length_ = 0;
  long status_ = 0;
  std::string reason_;
  bool began_ = false, stopped_ = false, cut_ = false, whole_ = false;
};

/// Until the `.part` is whole; false if stopped.
bool complete(const Download& wanted, PartFile& part, const DownloadProgress& progress) {
  while (true) {
    Transfer transfer(wanted, part, progress);
    if (!transfer.run()) return false;
    if (transfer.whole() || transfer.was_whole()) return true;
    if (transfer.range_refused()) {
      part.clear();
    } else if (!transfer.worth_another_try()) {
      TORCH_CHECK_VALUE(false, wanted.url, ": cannot be fetched: ", transfer.why());
    }
  }
}

void check(const Download& wanted, const fs::path& part) {
  if (!wanted.checksum.known()) return;
  const auto& [algorithm, hexadecimal] = wanted.checksum;
  const std::string found = checksum_of(part, algorithm);
  if (found == hexadecimal) return;
  std::error_code ignored;
  fs::remove(part, ignored);
  TORCH_CHECK_VALUE(false, wanted.url, ": ", algorithm, " ", found, ", must be ", hexadecimal,
                    "; what came was removed");
}

}  // namespace

bool download(const Download& wanted, const DownloadProgress& progress) {
  const fs::path path = wanted.file.string() + ".part";
  PartFile part(path);
  if (!complete(wanted, part, progress)) return false;
  check(wanted, path);
  std::error_code error;
  fs::rename(path, wanted.file, error);
  TORCH_CHECK_VALUE(!error, wanted.file.string(), ": cannot be written (", error.message(), ")");
  return true;
}

}  // namespace gradist::detail
