#include "runtime/record/type.h"

#include <string.h>

#define CELL_INT(bytes)   8
#define CELL_UINT(bytes)  8
#define CELL_FLOAT(bytes) 8
#define CELL_BOOL(bytes)  1
#define CELL_STR(bytes)   (bytes)

const struct rml_type_info rml_type_info[RML_TYPES] = {
#define RML_TYPE(NAME, name, bytes, kind, ctype) \
 {#name, #ctype, bytes, (uint32_t) _Alignof(ctype), RML_KIND_##kind, CELL_##kind(bytes)},
#include "runtime/record/type.def"
#undef RML_TYPE
};

enum rml_type rml_type_find(const char *name, size_t length)
{
    for (int i = 0; i < RML_TYPES; i++) {
        if (strlen(rml_type_info[i].name) == length
            && memcmp(rml_type_info[i].name, name, length) == 0)
            return (enum rml_type)i;
    }
    return RML_TYPES;
}
