/*
 * usage - what the programs of a demo say of a command line that makes no sense.
 */
#ifndef RML_LLM_USAGE_H
#define RML_LLM_USAGE_H

/* Say on standard error what makes no sense, and what to try. What to exit with. */
__attribute__((format(printf, 2, 3))) int llm_usage_fail(const char *program, const char *format,
                                                         ...);

#endif
