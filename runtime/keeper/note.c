#include "runtime/keeper/note.h"

#include <errno.h>
#include <signal.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>

#include "runtime/base/check.h"
#include "runtime/base/err.h"

static struct rml_note *heard_by;

int rml_note_open(struct rml_note **ret_note, struct rml_err *err)
{
    void *page = mmap(NULL, sizeof(struct rml_note), PROT_READ | PROT_WRITE,
                      MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (page == MAP_FAILED)
        return RML_FAIL(err, -ENOMEM, "no memory for a note");
    *ret_note = page;
    return 0;
}

void rml_note_close(struct rml_note *note)
{
    if (note != NULL)
        munmap(note, sizeof *note);
}

static void add(size_t *used, const char *text)
{
    while (*text != '\0' && *used < RML_NOTE_TEXT - 1)
        heard_by->text[(*used)++] = *text++;
    heard_by->text[*used] = '\0';
}

static void add_hex(size_t *used, uintptr_t value)
{
    char digits[2 * sizeof value + 1];
    size_t at = sizeof digits - 1;
    digits[at] = '\0';
    do {
        digits[--at] = "0123456789abcdef"[value & 15];
        value >>= 4;
    } while (value != 0);
    add(used, "0x");
    add(used, digits + at);
}

// Of several threads that break at once the first is heard.
static bool is_first(void)
{
    // relaxed: read when this process is dead
    return atomic_exchange_explicit(&heard_by->written, 1, memory_order_relaxed) == 0;
}

static void add_thread(size_t *used)
{
    char name[17] = "";
    if (prctl(PR_GET_NAME, name) < 0)
        return;
    add(used, ", thread ");
    add(used, name);
}

static void hear_check(const char *sentence)
{
    size_t used = 0;
    if (!is_first())
        return;
    add(&used, sentence);
    add_thread(&used);
}

static const char *fault_name(int number)
{
    switch (number) {
    case SIGSEGV:
        return "SIGSEGV";
    case SIGBUS:
        return "SIGBUS";
    case SIGILL:
        return "SIGILL";
    case SIGFPE:
        return "SIGFPE";
    case SIGSYS:
        return "SIGSYS";
    default:
        return "abort";
    }
}

static void hear_signal(int number, siginfo_t *info, void *context)
{
    (void)context;
    size_t used = 0;
    if (is_first()) {
        add(&used, fault_name(number));
        if (info->si_code > 0 && number != SIGABRT && number != SIGSYS) {
            add(&used, " at address ");
            add_hex(&used, (uintptr_t)info->si_addr);
        }
        add_thread(&used);
    }
    raise(number);  // blocked until we return; then it does what it does by default
}

void rml_note_listen(struct rml_note *note)
{
    static const int faults[] = {SIGSEGV, SIGBUS, SIGILL, SIGFPE, SIGSYS, SIGABRT};
    heard_by = note;
    rml_check_listen(hear_check);
    for (size_t i = 0; i < sizeof faults / sizeof faults[0]; i++) {
        struct sigaction before;
        struct sigaction action = {.sa_sigaction = hear_signal,
                                   .sa_flags = SA_SIGINFO | (int)SA_RESETHAND};
        sigemptyset(&action.sa_mask);
        if (sigaction(faults[i], NULL, &before) == 0 && before.sa_handler == SIG_DFL)
            sigaction(faults[i], &action, NULL);
    }
}

void rml_note_say(const char *sentence)
{
    size_t used = 0;
    if (heard_by != NULL && is_first())
        add(&used, sentence);
}

void rml_note_take(struct rml_note *note, char text[RML_NOTE_TEXT])
{
    memcpy(text, note->text, RML_NOTE_TEXT);
    text[RML_NOTE_TEXT - 1] = '\0';
    for (char *c = text; *c != '\0'; c++) {
        if (*c < ' ' || *c == 0x7f)
            *c = '?';
    }
    memset(note->text, 0, sizeof note->text);
    // relaxed: whoever wrote it is dead
    atomic_store_explicit(&note->written, 0, memory_order_relaxed);
}
