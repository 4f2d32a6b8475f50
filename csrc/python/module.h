/* The method tables that make up _core, one for each stage; module.c only joins them. */
#ifndef KTC_MODULE_H
#define KTC_MODULE_H

#define PY_SSIZE_T_CLEAN
#include <Python.h>

extern PyMethodDef ktc_py_collect_methods[];
extern PyMethodDef ktc_py_align_methods[];
extern PyMethodDef ktc_py_static_methods[];
extern PyMethodDef ktc_py_permute_methods[];
extern PyMethodDef ktc_py_cast_methods[];
extern PyMethodDef ktc_py_compare_methods[];
extern PyMethodDef ktc_py_dequantize_methods[];
extern PyMethodDef ktc_py_fingerprint_methods[];
extern PyMethodDef ktc_py_stream_methods[];
extern PyMethodDef ktc_py_instruction_set_methods[];

#endif
