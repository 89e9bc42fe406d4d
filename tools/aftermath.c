#include "tools/aftermath.h"

#define LOST "of what is durable nothing is lost, and what else producers had published is"

const char *rml_aftermath(bool has_state, bool has_journal)
{
    if (!has_state)
        return "what windows held and what lay in lanes is lost";
    return has_journal
               ? "goes on from the last checkpoint, and with what the journal has behind it; " LOST
               : "goes on from the last checkpoint; " LOST;
}
