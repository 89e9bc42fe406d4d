/*
 * aftermath - what is left of a pipeline whose keeper has ended without a drain or a stop, for people to read.
 */
#ifndef RML_TOOLS_AFTERMATH_H
#define RML_TOOLS_AFTERMATH_H

#include <stdbool.h>

/* With a state, what the next run does and what is lost nevertheless: "goes on from ...". Without, what is lost. */
const char *rml_aftermath(bool has_state, bool has_journal);

#endif
