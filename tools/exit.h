/*
 * exit - what the programs' exit codes mean.
 */
#ifndef RML_TOOLS_EXIT_H
#define RML_TOOLS_EXIT_H

enum rml_exit {
    RML_EXIT_OK = 0,
    RML_EXIT_FAILED = 1,       // a check or a test failed, or the work could not be done
    RML_EXIT_USAGE = 2,        // the command line makes no sense
    RML_EXIT_NOT_RUNNING = 3,  // no such pipeline is running
    RML_EXIT_DEAD = 4,         // it was running, and is dead
    RML_EXIT_TIMEOUT = 5,
    RML_EXIT_VERSION = 6,     // the other side speaks another version
    RML_EXIT_PERMISSION = 7,  // the other side does not let us
    RML_EXIT_PIPELINE = 78,   // the pipeline file is bad (EX_CONFIG of sysexits.h)
};

#endif
