/*
 * library - a plug-in's file: found trustworthy, loaded, and its table found to be one.
 *
 * Loading a plug-in is running it. So a file is loaded only where nobody but root and the user could have
 * written it: it and its folder belong to one of them, and are not writable for others.
 */
#ifndef RML_PLUGIN_LIBRARY_H
#define RML_PLUGIN_LIBRARY_H

#include <stdbool.h>

#include "runtime/plugin/plugin.h"

struct rml_err;

struct rml_library {
    void *handle;
    const struct rml_plugin *plugin;
};

/*
 * Load the plug-in at `path`. Everything in its table that can be checked has been. 0; -ENOENT and so on:
 * there is no such file; -EPERM: it is not to be trusted; -ENOEXEC: it cannot be loaded; -EPROTO: it is
 * for another version; -EINVAL: its table cannot be. `err` has a sentence that begins with small letters.
 */
int rml_library_open(struct rml_library *library, const char *path, struct rml_err *err);
/* Can a state of a function of so many bytes grow to what it may have? True where none does. */
bool rml_library_may_grow(const struct rml_plugin_aggregate *function, uint32_t bytes);

void rml_library_close(struct rml_library *library);  // one of zeros is fine

#endif
