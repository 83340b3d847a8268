#[[
cmake -DROOT=<repository> [-DPUBLIC_HEADERS=<file>] -P include_order.cmake

Fails, naming file and line, where
  - a file includes a folder that stands above its own (the order of CONTRIBUTING.md);
  - any file includes an umbrella header of torch (20 seconds of compile time each);
  - a public header includes a third party other than torch, or a header that is not installed.
PUBLIC_HEADERS lists the installed headers, relative to src, one a line; without it every header in src counts as public.
#]]

cmake_minimum_required(VERSION 3.24)

set(may_include_options "")
set(may_include_storage storage)
set(may_include_gradients gradients)
set(may_include_data data storage)
set(may_include_models models gradients data)
set(may_include_gc gc ${may_include_models})
set(may_include_estimators estimators ${may_include_gc})
set(may_include_trajectory trajectory storage ${may_include_estimators})
set(may_include_rf rf storage ${may_include_estimators})
set(may_include_tools tools rf ${may_include_trajectory})
set(may_include_bindings bindings ${may_include_tools})

set(torch_umbrellas torch/torch.h torch/all.h torch/extension.h torch/nn.h)
set(standard_or_torch "^(ATen/|c10/|torch/|[a-z0-9_]+$)")

execute_process(
  COMMAND grep -rnE "^[[:space:]]*#[[:space:]]*include[[:space:]]" --include=*.h --include=*.cpp --include=*.cu
          --include=*.in src tools bindings
  WORKING_DIRECTORY "${ROOT}"
  OUTPUT_VARIABLE found
  ERROR_QUIET
)
string(REGEX REPLACE "[][;]" "_" found "${found}")
string(REGEX MATCHALL "[^\n]+" found "${found}")
if(NOT found)
  message(FATAL_ERROR "No #include found under ${ROOT}: the check looks in the wrong place.")
endif()

if(PUBLIC_HEADERS)
  file(STRINGS "${PUBLIC_HEADERS}" public_headers)
endif()

set(errors "")
macro(complain rule)
  string(APPEND errors "${file}:${line}: #include ${name}: ${rule}\n")
endmacro()

macro(check_direction)
  if(name MATCHES "^\\.\\.?/")
    complain("includes are written from the include root, \"folder/file.h\"")
  elseif(NOT DEFINED may_include_${folder})
    complain("folder ${folder} has no place in the order yet; give it one in tests/include_order.cmake")
  elseif(name STREQUAL "gradist.h" AND NOT folder MATCHES "^(tools|bindings)$")
    complain("gradist.h stands above every folder of src")
  elseif(name MATCHES "^([a-z_0-9]+)/" AND NOT CMAKE_MATCH_1 IN_LIST may_include_${folder})
    complain("${folder} must not include ${CMAKE_MATCH_1}")
  endif()
endmacro()

foreach(entry IN LISTS found)
  if(NOT entry MATCHES "^([^:]+):([0-9]+):[^<\"]*([<\"])([^>\"]+)[>\"]")
    continue()
  endif()
  set(file "${CMAKE_MATCH_1}")
  set(line "${CMAKE_MATCH_2}")
  set(quote "${CMAKE_MATCH_3}")
  set(name "${CMAKE_MATCH_4}")
  if(file MATCHES "^src/([a-z_0-9]+)/")
    set(folder "${CMAKE_MATCH_1}")
  elseif(file MATCHES "^(tools|bindings)/")
    set(folder "${CMAKE_MATCH_1}")
  else()
    set(folder options) # src/options.h and its like: the bottom; src/gradist.h is the one file above all
  endif()

  if(name IN_LIST torch_umbrellas)
    complain("include the narrow header instead")
  endif()
  if(quote STREQUAL "\"" AND NOT file STREQUAL "src/gradist.h")
    check_direction()
  endif()

  string(REGEX REPLACE "^src/" "" header "${file}")
  if(file MATCHES "^src/.+\\.h$" AND (NOT PUBLIC_HEADERS OR header IN_LIST public_headers))
    if(quote STREQUAL "<" AND NOT name MATCHES "${standard_or_torch}")
      complain("torch is the only third party in public headers")
    elseif(quote STREQUAL "\"" AND PUBLIC_HEADERS AND NOT name IN_LIST public_headers)
      complain("a public header includes one that is not installed")
    endif()
  endif()
endforeach()

if(errors)
  message("${errors}")
  message(FATAL_ERROR "Includes out of order")
endif()
list(LENGTH found count)
message(STATUS "${count} includes in order")
