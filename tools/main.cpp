#include "tools/program.h"

#include <csignal>

int main(int count, char** arguments) {
  // A reader that went away is an error of writing like any other.
  std::signal(SIGPIPE, SIG_IGN);
  return gradist::run_program({arguments + 1, arguments + count});
}
