// The one source of target gradist_pch; CMake makes the precompiled header of a target that
// compiles something.
