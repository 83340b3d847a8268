#include "bind.h"

#include <c10/util/Exception.h>
#include <torch/csrc/Exceptions.h>

#include <cstring>
#include <exception>
#include <filesystem>
#include <ios>

namespace gradist::python {
namespace {

/// Names of files may be any bytes; in the message what is no UTF-8 becomes a question mark.
void set_error(PyObject* type, const char* message) {
  const auto text = py::reinterpret_steal<py::object>(
      PyUnicode_DecodeUTF8(message, static_cast<Py_ssize_t>(std::strlen(message)), "replace"));
  PyErr_SetObject(type, text.ptr());
}

/// What went wrong in one plain line, without the C++ stack that torch appends.
void translate(std::exception_ptr thrown) {
  try {
    std::rethrow_exception(thrown);
  } catch (const c10::ValueError& error) {
    set_error(PyExc_ValueError, error.what_without_backtrace());
  } catch (const c10::IndexError& error) {
    set_error(PyExc_IndexError, error.what_without_backtrace());
  } catch (const c10::TypeError& error) {
    set_error(PyExc_TypeError, error.what_without_backtrace());
  } catch (const c10::OutOfMemoryError& error) {
    set_error(PyExc_MemoryError, error.what_without_backtrace());
  } catch (const c10::Error& error) {
    set_error(PyExc_RuntimeError, error.what_without_backtrace());
  } catch (const std::filesystem::filesystem_error& error) {
    set_error(PyExc_OSError, error.what());
  } catch (const std::ios_base::failure& error) {
    set_error(PyExc_OSError, error.what());
  } catch (python_error& error) {  // of a hook of the caller's, through autograd
    error.restore();
  }
}

}  // namespace

void bind_errors() { py::register_local_exception_translator(&translate); }

}  // namespace gradist::python
