#include "storage/child_process.h"

#include <c10/util/Exception.h>
#include <fcntl.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cctype>
#include <cerrno>
#include <csignal>
#include <cstring>
#include <utility>

namespace gradist::detail {
namespace {

constexpr int kGood = 0, kWrong = 1;

void write_all(int pipe, const void* bytes, size_t count) {
  const auto* next = static_cast<const char*>(bytes);
  while (count > 0) {
    const ssize_t written = write(pipe, next, count);
    if (written < 0 && errno == EINTR) continue;
    if (written <= 0) _exit(kWrong);  // nobody listens any more
    next += written;
    count -= static_cast<size_t>(written);
  }
}

[[noreturn]] void be_the_child(const std::function<void(const ChildProcess::Write&)>& work,
                               int pipe) {
  prctl(PR_SET_PDEATHSIG, SIGKILL);
  const rlimit no_core = {0, 0};
  setrlimit(RLIMIT_CORE, &no_core);
  const int nowhere = open("/dev/null", O_WRONLY | O_CLOEXEC);
  dup2(nowhere, STDERR_FILENO);
  for (const int signal : {SIGSEGV, SIGBUS, SIGABRT, SIGFPE, SIGILL, SIGXCPU}) {
    std::signal(signal, SIG_DFL);  // a handler of the parent's would print what happened
  }
  work([pipe](const void* bytes, size_t count) { write_all(pipe, bytes, count); });
  _exit(kGood);
}

/// "segmentation fault"
std::string signal_name(int signal) {
  const char* words = strsignal(signal);
  std::string name = words == nullptr ? "signal " + std::to_string(signal) : words;
  std::ranges::transform(name, name.begin(), [](unsigned char letter) {
    return static_cast<char>(std::tolower(letter));
  });
  return name;
}

}  // namespace

ChildProcess::ChildProcess(const std::function<void(const Write&)>& work) {
  std::array<int, 2> ends = {-1, -1};
  TORCH_CHECK(pipe2(ends.data(), O_CLOEXEC) == 0, "no pipe can be made: ", std::strerror(errno));
  child_ = fork();
  if (child_ == 0) {
    close(ends[0]);
    be_the_child(work, ends[1]);
  }
  const int problem = errno;
  close(ends[1]);
  pipe_ = ends[0];
  if (child_ < 0) {
    close(pipe_);
    TORCH_CHECK(false, "no process can be started: ", std::strerror(problem));
  }
}

ChildProcess::~ChildProcess() {
  if (child_ > 0) {
    kill(child_, SIGKILL);
    wait();
  }
  close(pipe_);
}

size_t ChildProcess::read(std::span<uint8_t> into) {
  size_t have = 0;
  while (have < into.size()) {
    const ssize_t got = ::read(pipe_, into.data() + have, into.size() - have);
    if (got < 0 && errno == EINTR) continue;
    if (got <= 0) break;
    have += static_cast<size_t>(got);
  }
  return have;
}

std::string ChildProcess::wait() {
  int status = 0;
  while (waitpid(child_, &status, 0) < 0 && errno == EINTR) {
  }
  child_ = -1;
  if (WIFSIGNALED(status)) return signal_name(WTERMSIG(status));
  const int left = WEXITSTATUS(status);
  return left == kGood ? "" : "exit status " + std::to_string(left);
}

void limit_processor_time(int64_t seconds) {
  rusage used = {};
  getrusage(RUSAGE_SELF, &used);
  rlimit limit = {};
  getrlimit(RLIMIT_CPU, &limit);
  limit.rlim_cur = static_cast<rlim_t>(used.ru_utime.tv_sec + used.ru_stime.tv_sec + 1 + seconds);
  setrlimit(RLIMIT_CPU, &limit);
}

}  // namespace gradist::detail
