#pragma once

#include "rf/sweep.h"
#include "trajectory/observer.h"

#include <functional>
#include <iostream>
#include <memory>
#include <string>
#include <vector>

namespace gradist {

/// Where the program writes, and how it shows progress.
struct ProgramFaces {
  std::ostream& out = std::cout;  ///< results
  std::ostream& err = std::cerr;  ///< progress, and errors of one line each

  /// Makes what shows the progress of a run; plain lines on `err` where it is empty. Not asked with
  /// --quiet.
  std::function<std::unique_ptr<Observer>()> make_progress;

  /// The same for sweeps.
  std::function<std::unique_ptr<rf::SweepObserver>()> make_sweep_progress;
};

/// Exit statuses: done; our own bug, a failed check or a lack of memory; the user's mistake, or a
/// file that cannot be read or written. A run that a signal stopped cleanly gives 128 + the
/// signal's number.
inline constexpr int kDone = 0;
inline constexpr int kFailed = 1;
inline constexpr int kRefused = 2;

/// The program `gradist`, arguments without its own name; returns the exit status. Both the binary
/// and the Python package's console script are this function. Every error is exactly one line on
/// `err`, `gradist: ...`.
int run_program(const std::vector<std::string>& arguments, const ProgramFaces& faces = {});

namespace detail {

// The subcommands, a file each; arguments without the subcommand's name.
int run_command(const std::vector<std::string>& arguments, const ProgramFaces& faces);
int check_command(const std::vector<std::string>& arguments, const ProgramFaces& faces);
int data_command(const std::vector<std::string>& arguments, const ProgramFaces& faces);
int rf_command(const std::vector<std::string>& arguments, const ProgramFaces& faces);
int info_command(const std::vector<std::string>& arguments, const ProgramFaces& faces);

}  // namespace detail

}  // namespace gradist
