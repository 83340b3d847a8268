# What every target of gradist is compiled with. Flags are the same everywhere, so that one precompiled header serves all.

set(CMAKE_CXX_STANDARD 20)
set(CMAKE_CXX_STANDARD_REQUIRED ON)
set(CMAKE_CXX_EXTENSIONS OFF)
set(CMAKE_EXPORT_COMPILE_COMMANDS ON)

if(NOT CMAKE_BUILD_TYPE AND NOT CMAKE_CONFIGURATION_TYPES)
  set(CMAKE_BUILD_TYPE Release CACHE STRING "Debug, Release, RelWithDebInfo or MinSizeRel" FORCE)
endif()
set(CMAKE_CXX_FLAGS_RELEASE "-O2 -DNDEBUG")
set(CMAKE_CXX_FLAGS_RELWITHDEBINFO "-O2 -g1 -DNDEBUG")

if(GRADIST_CCACHE AND NOT CMAKE_CXX_COMPILER_LAUNCHER)
  find_program(GRADIST_CCACHE_PROGRAM ccache)
  mark_as_advanced(GRADIST_CCACHE_PROGRAM)
  if(GRADIST_CCACHE_PROGRAM)
    # ccache takes a precompiled header only with these two liberties.
    set(CMAKE_CXX_COMPILER_LAUNCHER
        "${CMAKE_COMMAND}" -E env CCACHE_SLOPPINESS=pch_defines,time_macros "${GRADIST_CCACHE_PROGRAM}"
    )
  endif()
endif()

# Without -fopenmp at::parallel_for is a plain loop.
# -fPIC for executables too: a precompiled header made with it is refused by a compilation without it.
add_library(gradist_compile_flags INTERFACE)
target_compile_options(
  gradist_compile_flags
  INTERFACE
    "$<$<COMPILE_LANGUAGE:CXX>:-fPIC;-fopenmp;-Wall;-Wextra;-Wpedantic;-Wshadow;-Wextra-semi;-Wnon-virtual-dtor;-Woverloaded-virtual>"
    "$<$<COMPILE_LANG_AND_ID:CXX,GNU>:-fpch-preprocess;-Wduplicated-cond;-Wlogical-op;-Wredundant-tags>"
    "$<$<AND:$<BOOL:${GRADIST_NATIVE}>,$<COMPILE_LANGUAGE:CXX>>:-march=native>"
)
