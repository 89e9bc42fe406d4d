/*
 * suggest - "did you mean": the known name nearest to a word that is none.
 *
 * Nearness is the optimal string alignment distance: insertions, deletions, changed letters and
 * swapped neighbours (F. J. Damerau, "A technique for computer detection and correction of spelling
 * errors", 1964), letters compared without case.
 */
#ifndef RML_BASE_SUGGEST_H
#define RML_BASE_SUGGEST_H

#include <stddef.h>

/*
 * The nearest of `count` names to the `length` bytes at `word`, or NULL when none is near: more than
 * a third of the longer one's letters (at least one) would have to change, or every letter of the
 * shorter one, or the word has more than 64 letters. Of equally near ones the first.
 */
const char *rml_suggest(const char *word, size_t length, const char *const *names, size_t count);

#endif
