#include "runtime/control/held_back.h"

#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "runtime/lane/wire.h"
#include "runtime/plan/units.h"

void rml_held_back_program(uint32_t pid, char ret_name[16])
{
    char path[40];
    snprintf(path, sizeof path, "/proc/%" PRIu32 "/comm", pid);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    ssize_t got = fd >= 0 ? read(fd, ret_name, 15) : 0;
    if (fd >= 0)
        close(fd);
    ret_name[got > 0 ? got : 0] = '\0';
    ret_name[strcspn(ret_name, "\n")] = '\0';
    // whoever it is chose it, and a terminal would do what it says
    size_t length = strlen(ret_name);
    for (size_t i = 0, one; i<length; i += one> 0 ? one : 1) {
        one = rml_wire_shown(ret_name + i, length - i);
        if (one == 0)
            ret_name[i] = '?';
    }
    if (ret_name[0] == '\0')
        snprintf(ret_name, 16, "?");
}

static void say_held(const struct rml_held_back *held, const struct rml_catalog_use *use,
                     int64_t now_ns, char sentence[RML_HELD_BACK_SENTENCE])
{
    char program[16], bytes[32], most[32];
    rml_held_back_program(held->pid, program);
    rml_size_print_about(use->bytes, bytes);
    rml_size_print_about(use->bytes_max, most);
    snprintf(sentence, RML_HELD_BACK_SENTENCE,
             "process %" PRIu32 " (%s) reads the same state of the catalog for %" PRId64
             " s, through %" PRIu64
             " commits: no page that came free since can be used again, so each checkpoint makes "
             "the file larger (%s, %s at most) until that process goes on or ends",
             held->pid, program, (now_ns - held->since_ns) / 1000000000, use->reader_behind, bytes,
             most);
}

bool rml_held_back_see(struct rml_held_back *held, const struct rml_catalog_use *use,
                       int64_t now_ns, int64_t wall_ns, char ret_sentence[RML_HELD_BACK_SENTENCE])
{
    uint32_t pid = use->reader_behind > 0 ? use->reader_pid : 0;
    bool is_same = pid == held->pid && (pid == 0 || use->reader_state == held->state);
    if (!is_same) {
        bool was_long = held->is_long;
        uint32_t before = held->pid;
        *held = (struct rml_held_back){.pid = pid,
                                       .state = use->reader_state,
                                       .since_ns = now_ns,
                                       .since_wall_ns = wall_ns,
                                       .times = held->times};
        if (was_long)
            snprintf(ret_sentence, RML_HELD_BACK_SENTENCE,
                     "process %" PRIu32
                     " holds back no pages of the catalog any more: they are used again",
                     before);
        return was_long;
    }
    if (pid == 0 || now_ns - held->since_ns < RML_HELD_BACK_NS)
        return false;
    if (held->is_long && now_ns - held->said_ns < RML_HELD_BACK_AGAIN_NS)
        return false;
    held->times += !held->is_long;
    held->is_long = true;
    held->said_ns = now_ns;
    say_held(held, use, now_ns, ret_sentence);
    return true;
}
