#include "runtime/plugin/library.h"

#include <dlfcn.h>
#include <errno.h>
#include <libgen.h>
#include <limits.h>
#include <link.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "runtime/base/err.h"
#include "runtime/record/schema.h"

#define ANY_KIND \
 (RML_PLUGIN_INT | RML_PLUGIN_UINT | RML_PLUGIN_FLOAT | RML_PLUGIN_BOOL | RML_PLUGIN_STR)

/* Trust */

// Could anybody but root and the user have changed it?
static int check_owner(const char *what, const struct stat *st, struct rml_err *err)
{
    if (st->st_uid != 0 && st->st_uid != geteuid())
        return RML_FAIL(err, -EPERM, "%s belongs to user %u, who is neither root nor you", what,
                        (unsigned)st->st_uid);
    // in a sticky folder nobody can take another's file away
    bool sticky = S_ISDIR(st->st_mode) && (st->st_mode & S_ISVTX) != 0;
    if ((st->st_mode & (S_IWGRP | S_IWOTH)) != 0 && !sticky)
        return RML_FAIL(err, -EPERM, "others can write to %s: chmod go-w", what);
    return 0;
}

static int check_file(const char *path, struct rml_err *err)
{
    struct stat st;
    if (stat(path, &st) < 0)
        return RML_FAIL(err, -errno, "%s", strerrordesc_np(errno));
    if (!S_ISREG(st.st_mode))
        return RML_FAIL(err, -ENOEXEC, "it is no file");
    int rc = check_owner("it", &st, err);
    if (rc < 0)
        return rc;
    char copy[PATH_MAX];
    snprintf(copy, sizeof copy, "%s", path);
    if (stat(dirname(copy), &st) < 0)
        return RML_FAIL(err, -errno, "its folder: %s", strerrordesc_np(errno));
    return check_owner("its folder", &st, err);
}

/* The table */

static bool is_name(const char *name)
{
    size_t length = strnlen(name, RML_NAME_MAX + 1);
    for (size_t i = 0; i < length; i++) {
        char c = name[i];
        bool letter = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_';
        if (!letter && (i == 0 || c < '0' || c > '9'))
            return false;
    }
    return length > 0 && length <= RML_NAME_MAX;
}

bool rml_library_may_grow(const struct rml_plugin_aggregate *f, uint32_t bytes)
{
    return f->state_bytes_max == 0
           || (bytes >= RML_PLUGIN_GROWS_MIN && bytes <= f->state_bytes_max
               && (bytes & (bytes - 1)) == 0);
}

static const char *fault_of(const struct rml_plugin_aggregate *f)
{
    if (f->sentence == NULL || f->sentence[0] == '\0')
        return "has no sentence";
    if (f->add == NULL || f->merge == NULL || f->finish == NULL)
        return "lacks add, merge or finish";
    if (f->argument_count == 0 || f->argument_count > RML_PLUGIN_ARGUMENTS_MAX)
        return "takes no argument, or more than there can be";
    for (uint32_t a = 0; a < f->argument_count; a++)
        if (f->takes[a] == 0 || (f->takes[a] & ~ANY_KIND) != 0)
            return "takes an argument of no kind there is";
    if (f->parameters_least > f->parameters_most || f->parameters_most > RML_PLUGIN_PARAMETERS_MAX)
        return "takes a number of parameters that cannot be";
    if (f->gives < RML_PLUGIN_GIVES_F64 || f->gives > RML_PLUGIN_GIVES_SAME)
        return "gives a result of no type there is";
    if (f->size == NULL && (f->state_bytes == 0 || f->state_bytes > RML_PLUGIN_STATE_MAX))
        return "has a state of no size, or of more than 4096 bytes";
    if (f->state_bytes_max > RML_PLUGIN_GROWN_MAX || !rml_library_may_grow(f, f->state_bytes_max)
        || (f->size == NULL && !rml_library_may_grow(f, f->state_bytes)))
        return "has a state that grows from or to what is no power of two from 64 to 16384";
    return NULL;
}

_Static_assert(RML_PLUGIN_STATE_MAX == 4096 && RML_PLUGIN_GROWS_MIN == 64
                   && RML_PLUGIN_GROWN_MAX == 16384,
               "the sentences above say so");

static int check_functions(const struct rml_plugin *plugin, struct rml_err *err)
{
    if (plugin->aggregates == NULL || plugin->aggregate_count == 0
        || plugin->aggregate_count > RML_PLUGIN_FUNCTIONS_MAX)
        return RML_FAIL(err, -EINVAL, "it has %u functions, from 1 to %u go",
                        plugin->aggregate_count, RML_PLUGIN_FUNCTIONS_MAX);
    for (uint32_t i = 0; i < plugin->aggregate_count; i++) {
        const struct rml_plugin_aggregate *f = &plugin->aggregates[i];
        if (f->name == NULL || !is_name(f->name))
            return RML_FAIL(err, -EINVAL, "function %u of it has no name that can be called", i);
        const char *fault = fault_of(f);
        if (fault != NULL)
            return RML_FAIL(err, -EINVAL, "its function %s %s", f->name, fault);
    }
    return 0;
}

// The size of the object at a symbol, so that no more is read than is there; 0: it is no object.
static size_t object_bytes(const void *symbol)
{
    Dl_info info;
    void *entry = NULL;
    if (dladdr1(symbol, &info, &entry, RTLD_DL_SYMENT) == 0 || entry == NULL)
        return 0;
    const ElfW(Sym) *found = entry;
    return ELF64_ST_TYPE(found->st_info) == STT_OBJECT ? found->st_size : 0;
}

static int check_table(const struct rml_plugin *plugin, struct rml_err *err)
{
    size_t bytes = object_bytes(plugin);
    if (bytes < 3 * sizeof(uint32_t))
        return RML_FAIL(err, -EINVAL, "what it calls rml_plugin is no table of functions");
    if (plugin->abi != RML_PLUGIN_ABI)
        return RML_FAIL(err, -EPROTO,
                        "it is made for version %u of plug-ins, this is version %u: build it with "
                        "this version's ringmill/plugin.h",
                        plugin->abi, RML_PLUGIN_ABI);
    if (bytes < sizeof *plugin || plugin->plugin_bytes != sizeof *plugin
        || plugin->aggregate_bytes != sizeof *plugin->aggregates)
        return RML_FAIL(err, -EPROTO,
                        "its structures have other sizes than here (%u and %u bytes, not %zu and "
                        "%zu): build it with this version's ringmill/plugin.h",
                        plugin->plugin_bytes, plugin->aggregate_bytes, sizeof *plugin,
                        sizeof *plugin->aggregates);
    return check_functions(plugin, err);
}

int rml_library_open(struct rml_library *library, const char *path, struct rml_err *err)
{
    *library = (struct rml_library){0};
    char *real =
        realpath(path, NULL);  // what is checked is what is loaded, and no path is searched
    if (real == NULL)
        return RML_FAIL(err, -errno, "%s", strerrordesc_np(errno));
    int rc = check_file(real, err);
    if (rc == 0) {
        library->handle = dlopen(real, RTLD_NOW | RTLD_LOCAL);
        if (library->handle == NULL)
            rc = RML_FAIL(err, -ENOEXEC, "%s", dlerror());
    }
    if (rc == 0) {
        library->plugin = dlsym(library->handle, "rml_plugin");
        rc = library->plugin != NULL
                 ? check_table(library->plugin, err)
                 : RML_FAIL(err, -EINVAL,
                            "it has no rml_plugin, the table that ringmill/plugin.h tells of");
    }
    free(real);
    if (rc < 0)
        rml_library_close(library);
    return rc;
}

void rml_library_close(struct rml_library *library)
{
    if (library->handle != NULL)
        dlclose(library->handle);
    *library = (struct rml_library){0};
}
