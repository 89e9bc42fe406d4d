#include "tools/wrap.h"

// Up to the next blank that is not within square brackets.
static uint32_t piece_at(const char *text)
{
    uint32_t length = 0, depth = 0;
    for (; text[length] != '\0' && (text[length] != ' ' || depth > 0); length++) {
        if (text[length] == '[')
            depth++;
        else if (text[length] == ']' && depth > 0)
            depth--;
    }
    return length;
}

void rml_wrap(FILE *out, uint32_t first, uint32_t indent, const char *text)
{
    uint32_t column = first;
    const char *blank = "";
    while (*text != '\0') {
        uint32_t length = piece_at(text);
        if (blank[0] != '\0' && column + 1 + length > RML_WRAP_COLUMNS) {
            fprintf(out, "\n%*s", (int)indent, "");
            column = indent;
            blank = "";
        }
        fprintf(out, "%s%.*s", blank, (int)length, text);
        column += length + (blank[0] != '\0');
        blank = " ";
        text += length + (text[length] == ' ');
    }
    fprintf(out, "\n");
}
