#include "runtime/lane/geometry.h"

#include <errno.h>
#include <unistd.h>

#include "runtime/base/err.h"
#include "runtime/lane/layout.h"

static int check_key(const struct rml_lane_geometry *geometry, struct rml_err *err)
{
    if (geometry->key_field_count > RML_LANE_KEY_FIELDS_MAX)
        return RML_FAIL(err, -EINVAL, "key_field_count is at most %d, got %u",
                        RML_LANE_KEY_FIELDS_MAX, geometry->key_field_count);
    uint32_t key_bytes = 0;
    for (uint32_t i = 0; i < geometry->key_field_count; i++) {
        const struct rml_lane_key_field *field = &geometry->key[i];
        if (field->bytes == 0 || field->bytes > geometry->cell_bytes
            || field->offset > geometry->cell_bytes - field->bytes)
            return RML_FAIL(err, -EINVAL, "key field %u: %u bytes at %u in a record of %u", i,
                            field->bytes, field->offset, geometry->cell_bytes);
        if (field->is_str > 1)
            return RML_FAIL(err, -EINVAL, "key field %u: is_str is 0 or 1, got %u", i,
                            field->is_str);
        key_bytes += field->bytes;
    }
    if (key_bytes > RML_LANE_KEY_BYTES_MAX)
        return RML_FAIL(err, -EINVAL, "a key has at most %d bytes, got %u", RML_LANE_KEY_BYTES_MAX,
                        key_bytes);
    return 0;
}

static int check_workers(const struct rml_lane_geometry *geometry, struct rml_err *err)
{
    if (geometry->workers == 0 || geometry->workers > RML_LANE_WORKERS_MAX)
        return RML_FAIL(err, -EINVAL, "workers must be 1 to %d, got %u", RML_LANE_WORKERS_MAX,
                        geometry->workers);
    for (uint32_t p = 0; p < geometry->partitions; p++) {
        if (geometry->worker_of[p] >= geometry->workers)
            return RML_FAIL(err, -EINVAL, "worker_of[%u] is %u of %u workers", p,
                            geometry->worker_of[p], geometry->workers);
    }
    return 0;
}

static int check_shared(const struct rml_lane_geometry *geometry, struct rml_err *err)
{
    if (geometry->owners == 0)
        return geometry->log_cells == 0
                   ? 0
                   : RML_FAIL(err, -EINVAL, "an exclusive lane has no log, got %u cells",
                              geometry->log_cells);
    if (geometry->owners > RML_LANE_OWNERS_MAX)
        return RML_FAIL(err, -EINVAL, "owners are at most %d, got %u", RML_LANE_OWNERS_MAX,
                        geometry->owners);
    uint32_t log = geometry->log_cells;
    if ((log & (log - 1)) != 0 || log < rml_lane_run_max(geometry) || log > RML_RING_CELLS_MAX)
        return RML_FAIL(err, -EINVAL, "log_cells must be a power of two from %u to %u, got %u",
                        rml_lane_run_max(geometry), RML_RING_CELLS_MAX, log);
    return 0;
}

int rml_lane_geometry_check(const struct rml_lane_geometry *geometry, struct rml_err *err)
{
    if (geometry->partitions == 0 || geometry->partitions > RML_LANE_PARTITIONS_MAX)
        return RML_FAIL(err, -EINVAL, "partitions must be 1 to %d, got %u", RML_LANE_PARTITIONS_MAX,
                        geometry->partitions);
    int rc = rml_ring_check_shape(
        (struct rml_ring_shape){.cell_bytes = geometry->cell_bytes, .cell_count = geometry->cells},
        err);
    if (rc < 0)
        return rc;
    if (geometry->time_offset % 8 != 0 || geometry->cell_bytes < 8
        || geometry->time_offset > geometry->cell_bytes - 8)
        return RML_FAIL(err, -EINVAL, "time_offset %u in a record of %u bytes",
                        geometry->time_offset, geometry->cell_bytes);
    if (geometry->on_full != RML_LANE_BLOCK && geometry->on_full != RML_LANE_DROP_NEWEST)
        return RML_FAIL(err, -EINVAL, "on_full must be 0 or 1, got %u", geometry->on_full);
    if (geometry->durable > RML_LANE_DURABLE_JOURNAL)
        return RML_FAIL(err, -EINVAL, "durable must be 0 to 2, got %u", geometry->durable);
    if (geometry->grid.granule_ns < 1)
        return RML_FAIL(err, -EINVAL, "the grid's granule must be at least 1 ns, got %lld",
                        (long long)geometry->grid.granule_ns);
    rc = check_shared(geometry, err);
    if (rc == 0)
        rc = check_key(geometry, err);
    return rc < 0 ? rc : check_workers(geometry, err);
}

static size_t round_up(size_t bytes, size_t to)
{
    return (bytes + to - 1) / to * to;
}

struct rml_shared_shape rml_lane_shared_shape(const struct rml_lane_geometry *geometry)
{
    return (struct rml_shared_shape){.cell_bytes = geometry->cell_bytes,
                                     .cell_count = geometry->cells,
                                     .run_max = rml_lane_run_max(geometry),
                                     .owner_count = geometry->owners + 1};
}

static struct rml_lane_layout shared_layout(const struct rml_lane_geometry *geometry)
{
    size_t partitions = geometry->partitions, log_cells = geometry->log_cells;
    const struct rml_shared_shape shape = rml_lane_shared_shape(geometry);
    const size_t apart = 5 * (size_t)RML_RING_LINE;  // as below
    struct rml_lane_layout layout = {0};
    layout.owners_at = partitions * RML_RING_LINE;
    layout.rings_at = round_up(layout.owners_at + geometry->owners * RML_RING_LINE, 4096);
    layout.rings_stride = rml_shared_records_bytes(shape) + apart;
    layout.records_bytes = round_up(layout.rings_at + partitions * layout.rings_stride, 4096);

    layout.states_at = (1 + partitions + geometry->workers) * RML_RING_LINE;
    size_t states = round_up((1 + (size_t)geometry->owners) * sizeof(uint64_t), RML_RING_LINE);
    layout.logs_at = layout.states_at + states;
    layout.heads_at = layout.logs_at + partitions * RML_RING_LINE;
    layout.heads_stride = rml_shared_returns_bytes(shape);
    layout.cells_at = round_up(layout.heads_at + partitions * layout.heads_stride, 4096);
    layout.cells_stride = round_up(log_cells * geometry->cell_bytes, RML_RING_LINE) + apart;
    layout.marks_at = round_up(layout.cells_at + partitions * layout.cells_stride, 4096);
    layout.marks_stride = log_cells * sizeof(struct rml_lane_mark_cell) + 3 * (size_t)RML_RING_LINE;
    layout.returns_bytes = round_up(layout.marks_at + partitions * layout.marks_stride, 4096);
    return layout;
}

struct rml_lane_layout rml_lane_layout(const struct rml_lane_geometry *geometry)
{
    if (geometry->owners > 0)
        return shared_layout(geometry);
    size_t partitions = geometry->partitions;
    struct rml_lane_layout layout = {0};
    layout.cells_at = round_up(partitions * RML_RING_LINE, 4096);
    layout.cells_stride = round_up((size_t)geometry->cells * geometry->cell_bytes, RML_RING_LINE);
    if (partitions > 1) {
        // Some odd number of lines more, so that the rings' tails, which advance together, do not
        // all fall into the same sets of the cache.
        layout.cells_stride += 5 * (size_t)RML_RING_LINE;
        layout.marks_stride =
            geometry->cells * sizeof(struct rml_lane_mark_cell) + 3 * (size_t)RML_RING_LINE;
    }
    layout.marks_at = round_up(layout.cells_at + partitions * layout.cells_stride, 4096);
    layout.records_bytes = round_up(layout.marks_at + partitions * layout.marks_stride, 4096);
    layout.returns_bytes = round_up((1 + partitions + geometry->workers) * RML_RING_LINE, 4096);
    return layout;
}

size_t rml_lane_records_bytes(const struct rml_lane_geometry *geometry)
{
    return rml_lane_layout(geometry).records_bytes;
}

size_t rml_lane_returns_bytes(const struct rml_lane_geometry *geometry)
{
    return rml_lane_layout(geometry).returns_bytes;
}

void rml_lane_fds_init(struct rml_lane_fds *fds)
{
    fds->records = fds->returns = fds->room = -1;
    for (int w = 0; w < RML_LANE_WORKERS_MAX; w++)
        fds->wake[w] = -1;
}

static void close_fd(int *fd)
{
    if (*fd >= 0)
        close(*fd);
    *fd = -1;
}

void rml_lane_fds_close(struct rml_lane_fds *fds)
{
    close_fd(&fds->records);
    close_fd(&fds->returns);
    close_fd(&fds->room);
    for (int w = 0; w < RML_LANE_WORKERS_MAX; w++)
        close_fd(&fds->wake[w]);
}
