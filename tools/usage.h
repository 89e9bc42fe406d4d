/*
 * usage - what is said of a command line that makes no sense: two lines, whichever program and command it is.
 *
 *     ringctl stat: --every: a duration such as 500ms or 2s is wanted, at least 10ms, not x
 *     try 'ringctl stat --help'
 */
#ifndef RML_TOOLS_USAGE_H
#define RML_TOOLS_USAGE_H

/* The command line that is being read is of this program and command (NULL: of the program itself); both outlive it. */
void rml_usage_of(const char *program, const char *command);

/* Say on standard error where the line makes no sense and why, and what to try. RML_EXIT_USAGE. */
__attribute__((format(printf, 1, 2))) int rml_usage_fail(const char *format, ...);

#endif
