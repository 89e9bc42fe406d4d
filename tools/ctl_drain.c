#include "tools/args.h"
#include "tools/commands.h"
#include "tools/ending.h"

int rml_ctl_cmd_drain(int argc, char **argv)
{
    static const struct rml_ending drain = {"drain", "ringctl.drain/1"};
    const struct rml_args args = {
        .usage = "ringctl drain [PIPELINE] [--json] [--timeout DURATION]",
        .sentence =
            "Have a pipeline end in good order: no producer attaches any more, what is "
            "published is taken, all windows fire, files are written. Waits for the end, with "
            "progress on standard error, then prints the balance. An engine that comes up and waits for room on "
            "a disk drains once there is room. Exits 1 if it does not add "
            "up, rows were lost or records were left; 4 if the pipeline died "
            "meanwhile, or could not come up to obey.",
    };
    return rml_ending_run(&drain, &args, argc, argv);
}
