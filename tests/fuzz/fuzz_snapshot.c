/*
 * Any bytes as the stream of a snapshot: pages are put together from it or it is refused, inside the pages
 * alone, and cut in two it gives the same as in one. Mostly it has a good head, which nothing would be
 * found behind otherwise.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "runtime/base/check.h"
#include "runtime/state/restored.h"

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

static int apply(struct rml_restored *restored, const unsigned char *stream, size_t count,
                 size_t cut)
{
    RML_CHECK(rml_restored_open(restored, PAGES * RML_PAGE_BYTES, NULL) == 0);
    int rc = rml_restored_stream(restored, NULL);
    if (rc == 0)
        rc = rml_restored_bytes(restored, stream, cut, NULL);
    if (rc == 0)
        rc = rml_restored_bytes(restored, stream + cut, count - cut, NULL);
    return rc == 0 ? rml_restored_end(restored, NULL) : rc;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static unsigned char stream[2 * PAGES * RML_PAGE_BYTES];
    if (size < 3)
        return 0;
    const struct rml_snapshot_head head = {
        .magic = RML_SNAPSHOT_MAGIC, .root_bytes = data[0] % 9, .page_count = data[1] % 12};
    size_t count = 0;
    if (data[1] != UINT8_MAX) {
        memcpy(stream, &head, sizeof head);
        count = sizeof head;
    }
    count += unfold(data + 2, size - 2, stream + count, sizeof stream - count);
    size_t cut = (data[0] | (size_t)data[1] << 8) % (count + 1);
    struct rml_restored whole, parts;
    int rc = apply(&whole, stream, count, count);
    RML_CHECK(rc == 0 || rc == -EBADMSG || rc == -ENOMEM);
    RML_CHECK(apply(&parts, stream, count, cut) == rc);
    RML_CHECK(memcmp(whole.pages.base, parts.pages.base, PAGES * RML_PAGE_BYTES) == 0);
    for (uint32_t page = 0; page <= PAGES; page++)
        RML_CHECK(whole.have[page] == parts.have[page]);
    rml_restored_close(&whole);
    rml_restored_close(&parts);
    return 0;
}
