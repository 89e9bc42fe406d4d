#include "tools/args.h"
#include "tools/commands.h"
#include "tools/ending.h"

int rml_ctl_cmd_stop(int argc, char **argv)
{
    static const struct rml_ending stop = {"stop", "ringctl.stop/1"};
    const struct rml_args args = {
        .usage = "ringctl stop [PIPELINE] [--json] [--timeout DURATION]",
        .sentence =
            "Have a pipeline end now: records that lie in lanes stay there, windows that are "
            "open do not fire, the results so far are written. Waits for the end and prints "
            "the balance, which says what was left in lanes. Exits 1 if what was taken last is in no "
            "checkpoint, as it is where the disk is full, or rows were lost; 4 if the pipeline died "
            "meanwhile, or could not come up to obey.",
    };
    return rml_ending_run(&stop, &args, argc, argv);
}
