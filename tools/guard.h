/*
 * guard - a look at a catalog that is damaged under an engine which runs ends with a sentence.
 *
 * LMDB believes what it maps, and a wrong page number leads it past the map's end. Of a folder at rest the whole
 * file is looked through before (runtime/checkpoint/catalog_check.h); beside an engine nobody can.
 */
#ifndef RML_TOOLS_GUARD_H
#define RML_TOOLS_GUARD_H

/* From here on a bad access of memory exits 1, with a sentence that names the folder. */
void rml_guard_catalog(const char *folder);

#endif
