#include "storage/child_process.h"

#include <c10/util/Exception.h>
#include <fcntl.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cctype>
#include <cerrno>
#include <csignal>
#include <cstring>
#include <fstream>
#include <utility>

namespace gradist::detail {
namespace {

constexpr int kGood = 0, kWrong = 1;

/// False where nobody listens any more.
bool send_all(int socket, const void* bytes, size_t count) {
  const auto* next = static_cast<const char*>(bytes);
  while (count > 0) {
    const ssize_t sent = send(socket, next, count, MSG_NOSIGNAL);
    if (sent < 0 && errno == EINTR) continue;
    if (sent <= 0) return false;
    next += sent;
    count -= static_cast<size_t>(sent);
  }
  return true;
}

size_t receive_all(int socket, std::span<uint8_t> into) {
  size_t have = 0;
  while (have < into.size()) {
    const ssize_t got = recv(socket, into.data() + have, into.size() - have, 0);
    if (got < 0 && errno == EINTR) continue;
    if (got <= 0) break;
    have += static_cast<size_t>(got);
  }
  return have;
}

/// Leaves the child nothing but its standard streams and the socket: locks on the parent's files
/// would last as long as the child. Where the kernel has no such call, they do.
int close_all_but(int socket) {
  const int kept = dup2(socket, STDERR_FILENO + 1);
#ifdef SYS_close_range
  syscall(SYS_close_range, static_cast<unsigned>(kept) + 1, ~0U, 0U);
#endif
  return kept;
}

[[noreturn]] void be_the_child(const std::function<void(const ChildProcess::Parent&)>& work,
                               int socket) {
  prctl(PR_SET_PDEATHSIG, SIGKILL);
  const rlimit no_core = {0, 0};
  setrlimit(RLIMIT_CORE, &no_core);
  const int nowhere = open("/dev/null", O_WRONLY | O_CLOEXEC);
  dup2(nowhere, STDERR_FILENO);
  for (const int signal : {SIGSEGV, SIGBUS, SIGABRT, SIGFPE, SIGILL, SIGXCPU}) {
    std::signal(signal, SIG_DFL);  // a handler of the parent's would print what happened
  }
  work(ChildProcess::Parent(close_all_but(socket)));
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

/// What `wait` says of it.
std::string end_of(int status) {
  if (WIFSIGNALED(status)) return signal_name(WTERMSIG(status));
  const int left = WEXITSTATUS(status);
  return left == kGood ? "" : "exit status " + std::to_string(left);
}

}  // namespace

void ChildProcess::Parent::write(const void* bytes, size_t count) const {
  if (!send_all(socket_, bytes, count)) _exit(kWrong);
}

size_t ChildProcess::Parent::read(std::span<uint8_t> into) const {
  return receive_all(socket_, into);
}

ChildProcess::ChildProcess(const std::function<void(const Parent&)>& work) {
  std::array<int, 2> ends = {-1, -1};
  TORCH_CHECK(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends.data()) == 0,
              "no sockets can be made: ", std::strerror(errno));
  child_ = fork();
  if (child_ == 0) {
    close(ends[0]);
    be_the_child(work, ends[1]);
  }
  const int problem = errno;
  close(ends[1]);
  socket_ = ends[0];
  if (child_ < 0) {
    close(socket_);
    TORCH_CHECK(false, "no process can be started: ", std::strerror(problem));
  }
}

ChildProcess::~ChildProcess() {
  if (child_ > 0) {
    kill(child_, SIGKILL);
    wait();
  }
  close(socket_);
}

size_t ChildProcess::read(std::span<uint8_t> into) { return receive_all(socket_, into); }

bool ChildProcess::write(const void* bytes, size_t count) {
  return send_all(socket_, bytes, count);
}

std::string ChildProcess::wait() {
  if (child_ > 0) {
    int status = 0;
    while (waitpid(child_, &status, 0) < 0 && errno == EINTR) {
    }
    child_ = -1;
    end_ = end_of(status);
  }
  return end_;
}

void stay_for_requests() {
  prctl(PR_SET_PDEATHSIG, 0);
  for (const int signal : {SIGINT, SIGTERM, SIGHUP}) std::signal(signal, SIG_IGN);
}

void limit_processor_time(int64_t seconds) {
  rusage used = {};
  getrusage(RUSAGE_SELF, &used);
  rlimit limit = {};
  getrlimit(RLIMIT_CPU, &limit);
  limit.rlim_cur = static_cast<rlim_t>(used.ru_utime.tv_sec + used.ru_stime.tv_sec + 1 + seconds);
  setrlimit(RLIMIT_CPU, &limit);
}

void limit_memory(uint64_t bytes) {
  uint64_t pages = 0;
  if (!(std::ifstream("/proc/self/statm") >> pages)) return;
  rlimit limit = {};
  getrlimit(RLIMIT_AS, &limit);
  const auto page = static_cast<uint64_t>(sysconf(_SC_PAGESIZE));
  limit.rlim_cur = std::min<rlim_t>(pages * page + bytes, limit.rlim_max);
  setrlimit(RLIMIT_AS, &limit);
}

}  // namespace gradist::detail
