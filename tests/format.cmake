# cmake -DROOT=<repository> -DCLANG_FORMAT=<program> -P format.cmake: every C++ file is as clang-format would write it.

cmake_minimum_required(VERSION 3.24)

execute_process(
  COMMAND git ls-files --cached --others --exclude-standard -- *.h *.cpp *.cu
  WORKING_DIRECTORY "${ROOT}"
  OUTPUT_VARIABLE files
  RESULT_VARIABLE failed
  OUTPUT_STRIP_TRAILING_WHITESPACE ERROR_QUIET
)
if(failed)
  message("SKIPPED: not a git checkout, so the files to check are not known")
  return()
endif()
string(REPLACE "\n" ";" files "${files}")
list(FILTER files EXCLUDE REGEX "^tests/include_order/")
set(present "")
foreach(file IN LISTS files)
  if(EXISTS "${ROOT}/${file}")
    list(APPEND present "${file}")
  endif()
endforeach()

execute_process(
  COMMAND "${CLANG_FORMAT}" --dry-run --Werror ${present}
  WORKING_DIRECTORY "${ROOT}"
  RESULT_VARIABLE failed
  ERROR_VARIABLE complaints
)
if(failed)
  string(REGEX MATCHALL "[^ :\n]+:[0-9]+:[0-9]+: error:" places "${complaints}")
  list(TRANSFORM places REPLACE ":[0-9]+:[0-9]+: error:$" "")
  list(REMOVE_DUPLICATES places)
  list(JOIN places " " places)
  message("${CLANG_FORMAT} -i ${places}")
  message(FATAL_ERROR "Files not formatted; the line above formats them")
endif()
list(LENGTH present count)
message(STATUS "${count} files formatted")
