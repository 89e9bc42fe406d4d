/*
 * load - a command's pipeline file, or its exit code with everything said on standard error.
 */
#ifndef RML_TOOLS_LOAD_H
#define RML_TOOLS_LOAD_H

struct rml_plan;

/* The plan of the file, closed by the caller (rml_plan_close); NULL: finish with *ret_exit. */
struct rml_plan *rml_load_plan(const char *path, int *ret_exit);

#endif
