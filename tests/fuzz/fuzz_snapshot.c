/*
 * Any bytes as the stream of a snapshot: it is applied or refused, inside the pages alone, and cut in two
 * it gives the same as in one.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "runtime/base/check.h"
#include "runtime/state/pages.h"
#include "runtime/state/snapshot.h"

#define PAGES 8u

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* Bytes of zeros come cheap: after each byte of input stand as many as it says, so that a granule fits. */
static size_t unfold(const uint8_t *data, size_t size, unsigned char *into, size_t room)
{
    size_t used = 0;
    for (size_t i = 0; i + 1 < size && used < room; i += 2) {
        into[used++] = data[i];
        for (unsigned zeros = data[i + 1]; zeros > 0 && used < room; zeros--)
            into[used++] = 0;
    }
    return used;
}

static int64_t apply(struct rml_pages *pages, const unsigned char *stream, size_t count, size_t cut)
{
    RML_CHECK(rml_pages_open(pages, PAGES * RML_PAGE_BYTES, NULL) == 0);
    int64_t first = rml_snapshot_apply(pages, stream, cut);
    RML_CHECK(first == -EBADMSG || (first >= 0 && first <= (int64_t)cut));
    if (first < 0 || cut == count)
        return first;
    int64_t second = rml_snapshot_apply(pages, stream + first, count - (size_t)first);
    return second < 0 ? second : first + second;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static unsigned char stream[2 * PAGES * RML_PAGE_BYTES];
    if (size < 3)
        return 0;
    size_t count = unfold(data + 2, size - 2, stream, sizeof stream);
    size_t cut = (data[0] | (size_t)data[1] << 8) % (count + 1);
    struct rml_pages whole, parts;
    int64_t used = apply(&whole, stream, count, count);
    RML_CHECK(apply(&parts, stream, count, cut) == used);
    RML_CHECK(used == -EBADMSG || used <= (int64_t)count);
    RML_CHECK(memcmp(whole.base, parts.base, PAGES * RML_PAGE_BYTES) == 0);
    rml_pages_close(&whole);
    rml_pages_close(&parts);
    return 0;
}
