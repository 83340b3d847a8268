#pragma once

#include <csignal>

namespace gradist::detail {

/// While it lives, the first SIGINT or SIGTERM is only noted, so that a run can end cleanly; a
/// second one acts as usual.
class StopSignals {
 public:
  StopSignals();
  ~StopSignals();
  StopSignals(const StopSignals&) = delete;
  StopSignals& operator=(const StopSignals&) = delete;

  /// The signal that came, 0 for none.
  int caught() const;

 private:
  struct sigaction interrupt_before_ = {};
  struct sigaction terminate_before_ = {};
};

}  // namespace gradist::detail
