/*
 * ending - have a pipeline end, wait for it, and say how it ended.
 */
#ifndef RML_TOOLS_ENDING_H
#define RML_TOOLS_ENDING_H

struct rml_args;

struct rml_ending {
    const char *request;  // "drain" or "stop"
    const char *schema;   // of the JSON
};

/* The whole of the command; the exit code. */
int rml_ending_run(const struct rml_ending *command, const struct rml_args *args, int argc,
                   char **argv);

#endif
