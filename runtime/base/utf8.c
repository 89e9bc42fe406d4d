#include "runtime/base/utf8.h"

size_t rml_utf8_length(const unsigned char *at, size_t left)
{
    static const struct {
        unsigned char first_low, first_high, second_low, second_high;
        size_t length;
    } forms[] = {
        {0x00, 0x7f, 0, 0, 1},       {0xc2, 0xdf, 0x80, 0xbf, 2}, {0xe0, 0xe0, 0xa0, 0xbf, 3},
        {0xe1, 0xec, 0x80, 0xbf, 3}, {0xed, 0xed, 0x80, 0x9f, 3}, {0xee, 0xef, 0x80, 0xbf, 3},
        {0xf0, 0xf0, 0x90, 0xbf, 4}, {0xf1, 0xf3, 0x80, 0xbf, 4}, {0xf4, 0xf4, 0x80, 0x8f, 4},
    };

    size_t form = 0;
    while (form < sizeof forms / sizeof forms[0]
           && (at[0] < forms[form].first_low || at[0] > forms[form].first_high))
        form++;
    if (form == sizeof forms / sizeof forms[0] || forms[form].length > left)
        return 0;
    if (forms[form].length > 1
        && (at[1] < forms[form].second_low || at[1] > forms[form].second_high))
        return 0;
    for (size_t i = 2; i < forms[form].length; i++) {
        if ((at[i] & 0xc0) != 0x80)
            return 0;
    }
    return forms[form].length;
}
