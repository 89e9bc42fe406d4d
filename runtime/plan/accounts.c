#include "runtime/plan/accounts.h"

#include <errno.h>
#include <grp.h>
#include <pwd.h>
#include <stdlib.h>

#define ENTRY_BYTES (UINT32_C(1) << 20)  // a group's entry names all of its members

// The database answers with a negative errno, and with 0 and nothing where it knows of none.
static int answer(int rc, const void *entry)
{
    if (rc != 0)
        return rc == ESRCH || rc == ENOENT ? -ENOENT : -rc;
    return entry == NULL ? -ENOENT : 0;
}

int rml_account_find(enum rml_account_kind kind, const char *name, uint32_t *ret_number)
{
    char *memory = malloc(ENTRY_BYTES);
    if (memory == NULL)
        return -ENOMEM;
    int rc;
    if (kind == RML_ACCOUNT_USER) {
        struct passwd entry, *found = NULL;
        rc = getpwnam_r(name, &entry, memory, ENTRY_BYTES, &found);
        rc = answer(rc, found);
        if (rc == 0)
            *ret_number = entry.pw_uid;
    } else {
        struct group entry, *found = NULL;
        rc = getgrnam_r(name, &entry, memory, ENTRY_BYTES, &found);
        rc = answer(rc, found);
        if (rc == 0)
            *ret_number = entry.gr_gid;
    }
    free(memory);
    return rc;
}

// NOLINTBEGIN(concurrency-mt-unsafe): the header says so
void rml_account_each(enum rml_account_kind kind, uint32_t most,
                      void (*see)(void *context, const char *name), void *context)
{
    if (kind == RML_ACCOUNT_USER) {
        const struct passwd *entry;
        setpwent();
        while (most-- > 0 && (entry = getpwent()) != NULL)
            see(context, entry->pw_name);
        endpwent();
    } else {
        const struct group *entry;
        setgrent();
        while (most-- > 0 && (entry = getgrent()) != NULL)
            see(context, entry->gr_name);
        endgrent();
    }
}

// NOLINTEND(concurrency-mt-unsafe)
