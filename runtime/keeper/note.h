/*
 * note - the last words of a process, in a page that its parent can read when it is dead.
 *
 * A failed check writes its sentence, a fatal signal its name, where in memory, and on which thread. Both
 * happen in a process that is broken, so nothing but plain stores and two system calls is used. One that
 * cannot do what it is for says why. A process that is killed says nothing.
 */
#ifndef RML_KEEPER_NOTE_H
#define RML_KEEPER_NOTE_H

#include <stdatomic.h>

#define RML_NOTE_TEXT 256

struct rml_note {
    _Atomic int written;
    char text[RML_NOTE_TEXT];
};

struct rml_err;

/* A page that survives this process in those that fork from it or that it forked from. 0 or -errno. */
int rml_note_open(struct rml_note **ret_note, struct rml_err *err);

/* NULL is accepted. */
void rml_note_close(struct rml_note *note);

/* From here on failed checks and fatal signals of this process write to `note`. Signals that something
 * else handles already (a sanitizer) stay its own. Once in a process. */
void rml_note_listen(struct rml_note *note);

/* Why this process ends by itself, where it listens. */
void rml_note_say(const char *sentence);

/* What was written, fit to be shown; "" for nothing; the note is empty again. */
void rml_note_take(struct rml_note *note, char text[RML_NOTE_TEXT]);

#endif
