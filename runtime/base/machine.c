#include "runtime/base/machine.h"

#include <unistd.h>

uint64_t rml_machine_memory(void)
{
    return (uint64_t)sysconf(_SC_PHYS_PAGES) * (uint64_t)sysconf(_SC_PAGESIZE);
}
