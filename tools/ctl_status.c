#include "tools/commands.h"
#include "tools/ctl.h"
#include "tools/exit.h"
#include "tools/status.h"

static int show(const struct rml_ctl *ctl, struct rml_view *view)
{
    static struct rml_status status;  // too large for a stack
    rml_status_take(&status, view);
    if (!ctl->as_json)
        return rml_status_text(&status) < 0 ? RML_EXIT_FAILED : RML_EXIT_OK;
    rml_status_json(&status);
    return RML_EXIT_OK;
}

int rml_ctl_cmd_status(int argc, char **argv)
{
    const struct rml_args args = {
        .usage = "ringctl status [PIPELINE] [--json] [--timeout DURATION]",
        .sentence =
            "Show a running pipeline: its process, workers and the CPUs that they are pinned "
            "to, how far sources are (watermark) and what waits in lanes (backlog), what went "
            "into stages and came out, what sinks wrote and lost.",
    };
    struct rml_ctl ctl = {0};
    return rml_ctl_run(&ctl, &args, argc, argv, show);
}
