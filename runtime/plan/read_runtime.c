#include <sched.h>
#include <stdio.h>

#include "runtime/plan/reader.h"
#include "runtime/plan/units.h"

// CPUs that this process may run on; 1 where the kernel does not say.
static uint32_t usable_cpus(void)
{
    cpu_set_t set;
    if (sched_getaffinity(0, sizeof set, &set) < 0)
        return 1;
    int count = CPU_COUNT(&set);
    return count < 1 ? 1 : count > RML_WORKERS_MAX ? RML_WORKERS_MAX : (uint32_t)count;
}

static void read_cpus(struct rml_reader *reader, const struct rml_values *values)
{
    const struct rml_yaml_node *list[RML_WORKERS_MAX];
    uint32_t count =
        rml_reader_scalars(reader, values, RML_SET_RUNTIME_CPUS, list, RML_WORKERS_MAX);
    const struct rml_setting_info *info = &rml_setting_info[RML_SET_RUNTIME_CPUS];
    for (uint32_t i = 0; i < count; i++) {
        int64_t cpu = -1;
        if (rml_integer_parse(list[i]->text, list[i]->text_length, &cpu) < 0 || cpu < info->least
            || cpu > info->most) {
            rml_report_add(reader->report, list[i]->place, NULL,
                           "runtime: a CPU is a number between %lld and %lld, not %.60s",
                           (long long)info->least, (long long)info->most, list[i]->text);
        } else {
            reader->plan->cpus[reader->plan->cpu_count++] = (uint32_t)cpu;
        }
    }
}

static void read_partitions(struct rml_reader *reader, const struct rml_values *values)
{
    struct rml_plan *plan = reader->plan;
    int64_t workers = usable_cpus(), partitions = 0;
    bool workers_written = values->at[RML_SET_RUNTIME_WORKERS] != NULL;
    if (workers_written && !rml_reader_number(reader, values, RML_SET_RUNTIME_WORKERS, &workers))
        workers_written = false;
    reader->partitions_written = values->at[RML_SET_RUNTIME_PARTITIONS] != NULL || workers_written;
    if (!rml_reader_number(reader, values, RML_SET_RUNTIME_PARTITIONS, &partitions))
        partitions = workers;
    else if (workers > partitions && workers_written) {
        rml_report_add(
            reader->report, values->at[RML_SET_RUNTIME_WORKERS]->place,
            "raise partitions, or lower workers",
            "runtime: %lld workers share %lld partitions, so that some have nothing to do",
            (long long)workers, (long long)partitions);
    } else if (workers > partitions) {
        workers = partitions;
    }
    plan->workers = (uint32_t)workers;
    plan->partitions = (uint32_t)partitions;
}

static void read_state(struct rml_reader *reader, const struct rml_values *values)
{
    if (values->at[RML_SET_RUNTIME_STATE] == NULL)
        return;
    const struct rml_yaml_node *node = rml_reader_scalar(reader, values, RML_SET_RUNTIME_STATE);
    if (node != NULL)
        reader->plan->state = rml_arena_text(reader->arena, node->text, node->text_length);
}

static void read_checkpoint(struct rml_reader *reader, const struct rml_values *runtime,
                            struct rml_place place)
{
    static const struct rml_yaml_node nothing = {.kind = RML_YAML_MAPPING};
    const struct rml_yaml_node *node = runtime->at[RML_SET_RUNTIME_CHECKPOINT];
    struct rml_values values;
    if (!rml_reader_section(reader, RML_SECTION_CHECKPOINT, node != NULL ? node : &nothing,
                            node != NULL ? node->key->place : place, NULL, &values))
        return;
    if (node != NULL && runtime->at[RML_SET_RUNTIME_STATE] == NULL)
        rml_report_add(reader->report, node->key->place, "such as  state: ./state",
                       "checkpoint: without a state there are no checkpoints");
    rml_reader_number(reader, &values, RML_SET_CHECKPOINT_EVERY,
                      &reader->plan->checkpoint_every_ns);
    rml_reader_number(reader, &values, RML_SET_CHECKPOINT_MIN_PAUSE,
                      &reader->plan->checkpoint_min_pause_ns);
    int64_t keep = 0, catalog_bytes = 0;
    rml_reader_number(reader, &values, RML_SET_CHECKPOINT_KEEP, &keep);
    rml_reader_number(reader, &values, RML_SET_CHECKPOINT_CATALOG_MAX, &catalog_bytes);
    reader->plan->checkpoint_keep = (uint32_t)keep;
    reader->plan->catalog_bytes_max = (uint64_t)catalog_bytes;
}

static void read_limits(struct rml_reader *reader, const struct rml_values *runtime,
                        struct rml_place place)
{
    static const struct rml_yaml_node nothing = {.kind = RML_YAML_MAPPING};
    const struct rml_yaml_node *node = runtime->at[RML_SET_RUNTIME_LIMITS];
    struct rml_plan_limits *limits = &reader->plan->limits;
    struct rml_values values;
    if (!rml_reader_section(reader, RML_SECTION_LIMITS, node != NULL ? node : &nothing,
                            node != NULL ? node->key->place : place, NULL, &values))
        return;
    int64_t connections = 0, bytes = 0, attaches = 0, requests = 0;
    rml_reader_number(reader, &values, RML_SET_LIMITS_CONNECTIONS, &connections);
    rml_reader_number(reader, &values, RML_SET_LIMITS_LANE_BYTES, &bytes);
    rml_reader_number(reader, &values, RML_SET_LIMITS_HELLO, &limits->hello_ns);
    rml_reader_number(reader, &values, RML_SET_LIMITS_ATTACHES, &attaches);
    rml_reader_number(reader, &values, RML_SET_LIMITS_REQUESTS, &requests);
    limits->connections = (uint32_t)connections;
    limits->lane_bytes = (uint64_t)bytes;
    limits->attaches_per_s = (uint32_t)attaches;
    limits->requests_per_s = (uint32_t)requests;
}

static void read_journal(struct rml_reader *reader, const struct rml_values *runtime,
                         struct rml_place place)
{
    static const struct rml_yaml_node nothing = {.kind = RML_YAML_MAPPING};
    const struct rml_yaml_node *node = runtime->at[RML_SET_RUNTIME_JOURNAL];
    struct rml_values values;
    if (!rml_reader_section(reader, RML_SECTION_JOURNAL, node != NULL ? node : &nothing,
                            node != NULL ? node->key->place : place, NULL, &values))
        return;
    if (node != NULL && runtime->at[RML_SET_RUNTIME_STATE] == NULL)
        rml_report_add(reader->report, node->key->place, "such as  state: ./state",
                       "journal: without a state there is no journal");
    int64_t bytes = 0;
    rml_reader_number(reader, &values, RML_SET_JOURNAL_MAX, &bytes);
    rml_reader_number(reader, &values, RML_SET_JOURNAL_DELAY, &reader->plan->journal_delay_ns);
    reader->plan->journal_bytes_max = (uint64_t)bytes;
}

static void read_state_bytes(struct rml_reader *reader, const struct rml_values *runtime)
{
    int64_t limit = 0, prefault = 0;
    rml_reader_number(reader, runtime, RML_SET_RUNTIME_STATE_LIMIT, &limit);
    rml_reader_number(reader, runtime, RML_SET_RUNTIME_STATE_PREFAULT, &prefault);
    if (prefault > limit && limit > 0)
        rml_report_add(reader->report, runtime->at[RML_SET_RUNTIME_STATE_PREFAULT]->place,
                       "both are for one partition",
                       "state_prefault must not be more than state_limit");
    reader->plan->state_bytes_max = (uint64_t)limit;
    reader->plan->state_prefault_bytes = (uint64_t)prefault;
}

void rml_read_runtime(struct rml_reader *reader, const struct rml_values *file)
{
    static const struct rml_yaml_node nothing = {.kind = RML_YAML_MAPPING};
    const struct rml_yaml_node *node = file->at[RML_SET_FILE_RUNTIME];
    struct rml_place place = node != NULL ? node->key->place : file->place;
    struct rml_values values;
    if (!rml_reader_section(reader, RML_SECTION_RUNTIME, node != NULL ? node : &nothing, place,
                            NULL, &values))
        return;
    read_partitions(reader, &values);
    read_cpus(reader, &values);
    read_state_bytes(reader, &values);
    int64_t keys = 0, lanes = 0;
    rml_reader_number(reader, &values, RML_SET_RUNTIME_MAX_KEYS, &keys);
    rml_reader_number(reader, &values, RML_SET_RUNTIME_LANES_MAX, &lanes);
    reader->plan->keys_max = (uint32_t)keys;
    reader->plan->lanes_max = (uint32_t)lanes;
    read_state(reader, &values);
    read_checkpoint(reader, &values, place);
    read_limits(reader, &values, place);
    uint32_t sandbox = 0;
    if (rml_reader_choice(reader, &values, RML_SET_RUNTIME_SANDBOX, &sandbox))
        reader->plan->sandbox = (enum rml_plan_sandbox)sandbox;
    rml_read_allow(reader, &values, RML_SET_RUNTIME_VIEW, "runtime.view", &reader->plan->view);
    rml_read_allow(reader, &values, RML_SET_RUNTIME_CONTROL, "runtime.control",
                   &reader->plan->control);
    read_journal(reader, &values, place);
}
