/*
 * accounts - users and groups of this machine, by name and by number.
 *
 * What the machine's user database says (files, a directory service): a look may take as long as that
 * does, and belongs where a file is read, not where a peer waits. Not for several threads at once.
 */
#ifndef RML_PLAN_ACCOUNTS_H
#define RML_PLAN_ACCOUNTS_H

#include <stdint.h>

enum rml_account_kind { RML_ACCOUNT_USER, RML_ACCOUNT_GROUP };

/* The number of the user or group of that name. 0; -ENOENT: there is none; or what the database says. */
int rml_account_find(enum rml_account_kind kind, const char *name, uint32_t *ret_number);

/* Call `see` with the name of each that the database lists, of the first `most`. */
void rml_account_each(enum rml_account_kind kind, uint32_t most,
                      void (*see)(void *context, const char *name), void *context);

#endif
