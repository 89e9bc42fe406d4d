#include <inttypes.h>
#include <stdio.h>

#include "runtime/plan/units.h"
#include "tools/ctl.h"
#include "tools/json.h"
#include "tools/status.h"

static bool is_there(const struct rml_status *status, struct rml_board_journal *ret_journal)
{
    rml_board_journal_read(status->board, ret_journal);
    return ret_journal->way[0] != '\0';
}

static double per_flush(const uint64_t *counts, enum rml_journal_counter counter)
{
    uint64_t flushes = counts[RML_JOURNAL_flushes];
    return flushes > 0 ? (double)counts[counter] / (double)flushes : 0;
}

void rml_status_journal_text(const struct rml_status *status)
{
    const uint64_t *counts = status->look.totals.journal;
    struct rml_board_journal journal;
    char bytes[32], largest[32], file[32], used[32], most[32], at[40];
    if (!is_there(status, &journal))
        return;
    rml_size_print_about(counts[RML_JOURNAL_bytes], bytes);
    rml_size_print_about(counts[RML_JOURNAL_group_bytes_max], largest);
    rml_size_print_about(counts[RML_JOURNAL_file_bytes], file);
    rml_size_print_about(counts[RML_JOURNAL_used_bytes], used);
    rml_size_print_about(counts[RML_JOURNAL_max_bytes], most);
    printf("journal     %" PRIu64 " records (%s), by %s%s%s%s\n", counts[RML_JOURNAL_records],
           bytes, journal.way, journal.why_not[0] != '\0' ? " (" : "", journal.why_not,
           journal.why_not[0] != '\0' ? ")" : "");
    printf("            in %" PRIu64
           " flushes, of %.1f records on average (%s at most), %.3fms each (%.3fms at most)\n",
           counts[RML_JOURNAL_flushes], per_flush(counts, RML_JOURNAL_records), largest,
           per_flush(counts, RML_JOURNAL_flush_ns) / 1e6,
           (double)counts[RML_JOURNAL_flush_ns_max] / 1e6);
    printf("            %s in use, of %s at most; the file has %s\n", used, most, file);
    if (counts[RML_JOURNAL_waits] > 0)
        printf("            full %" PRIu64 " times, and waited for a checkpoint\n",
               counts[RML_JOURNAL_waits]);
    if (counts[RML_JOURNAL_failures] == 0)
        return;
    rml_ctl_second(journal.failed_ns, at);
    printf("            %" PRIu64 " failed, the last at %s: %s%s\n", counts[RML_JOURNAL_failures],
           at, journal.failed_why,
           counts[RML_JOURNAL_is_failing] != 0 ? "; it is to be written again" : "");
}

void rml_status_journal_json(struct rml_json *json, const struct rml_status *status)
{
    const uint64_t *counts = status->look.totals.journal;
    struct rml_board_journal journal;
    if (!is_there(status, &journal)) {
        rml_json_text(json, "journal", NULL);
        return;
    }
    rml_json_open(json, "journal", '{');
    rml_json_text(json, "way", journal.way);
    rml_json_text(json, "why_not", journal.why_not[0] != '\0' ? journal.why_not : NULL);
    for (uint32_t c = 0; c < RML_JOURNAL_COUNTERS; c++) {
        const char *name = rml_journal_counter_info[c].name;
        if (c == RML_JOURNAL_is_failing)
            rml_json_bool(json, name, counts[c] != 0);
        else
            rml_json_unsigned(json, name, counts[c]);
    }
    if (counts[RML_JOURNAL_failures] == 0) {
        rml_json_text(json, "last_failure", NULL);
    } else {
        rml_json_open(json, "last_failure", '{');
        rml_json_integer(json, "at_ns", journal.failed_ns);
        rml_json_text(json, "why", journal.failed_why);
        rml_json_close(json, '}');
    }
    rml_json_close(json, '}');
}
