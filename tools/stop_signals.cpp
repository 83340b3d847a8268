#include "tools/stop_signals.h"

namespace gradist::detail {

namespace {

volatile std::sig_atomic_t caught_signal = 0;

void note(int signal) { caught_signal = signal; }

}  // namespace

StopSignals::StopSignals() {
  caught_signal = 0;
  struct sigaction action = {};
  action.sa_handler = note;
  action.sa_flags = SA_RESETHAND;
  sigaction(SIGINT, &action, &interrupt_before_);
  sigaction(SIGTERM, &action, &terminate_before_);
}

StopSignals::~StopSignals() {
  sigaction(SIGINT, &interrupt_before_, nullptr);
  sigaction(SIGTERM, &terminate_before_, nullptr);
}

int StopSignals::caught() const { return caught_signal; }

}  // namespace gradist::detail
