#include <stdlib.h>
#include <string.h>

#include "runtime/io/pile.h"
#include "tests/support/test.h"

// A checkpoint that failed leaves its rows to the next one, also where no row has come since.
static void a_round_without_rows_leaves_those_of_the_one_before_as_they_are(void **state)
{
    (void)state;
    struct rml_pile pile = {0};
    struct rml_result_block *block = aligned_alloc(64, (sizeof *block + 63) / 64 * 64);
    assert_non_null(block);
    memset(block, 0, sizeof *block);
    block->rows = 1;
    block->row_stride = sizeof(struct rml_result_row) + 8;
    rml_result_row_at(block, 0)->seq = 7;
    rml_pile_add(&pile, block, false);
    for (int round = 0; round < 3; round++) {
        rml_pile_turn(&pile);
        size_t at = 0;
        const struct rml_pile_row *row = rml_pile_next(&pile, &at);
        assert_non_null(row);
        assert_int_equal(row->seq, 7);
        assert_null(rml_pile_next(&pile, &at));
    }
    rml_pile_settle(&pile);
    assert_int_equal(rml_pile_bytes(&pile), 0);
    rml_pile_fini(&pile);
    free(block);
}

TEST_MAIN(CLAIM(a_round_without_rows_leaves_those_of_the_one_before_as_they_are))
