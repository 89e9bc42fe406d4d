"""The stream of events that feeder.c writes, made again, and an oracle of what must come of it.

The oracle takes records one at a time and keeps every window of every key as a list: the meaning of
windows written down as plainly as it can be, sharing nothing with the engine.
"""
import math

MASK = (1 << 64) - 1


def mix(x):
    """splitmix64 (G. L. Steele, D. Lea, C. H. Flood, OOPSLA 2014)."""
    x = (x + 0x9E3779B97F4A7C15) & MASK
    x = ((x ^ (x >> 30)) * 0xBF58476D1CE4E5B9) & MASK
    x = ((x ^ (x >> 27)) * 0x94D049BB133111EB) & MASK
    return x ^ (x >> 31)


SCHEMA = "{ts: time_ns, id: u64, key: u32, value: i32}"


def event(seed, i, keys, step_ns, disorder_ns, from_ns=0):
    h = mix(((seed << 32) + i) & MASK)
    return {
        "ts": from_ns + i * step_ns - ((h >> 40) % disorder_ns if disorder_ns else 0),
        "id": (seed << 32) + i,
        "key": seed * keys + h % keys,
        "value": (h >> 20) % 1000 - 300,
    }


def events(seed, count, keys=4, step_ns=1_000_000, disorder_ns=0, from_ns=0):
    return [event(seed, i, keys, step_ns, disorder_ns, from_ns) for i in range(count)]


def as_csv(records, names=("ts", "id", "key", "value")):
    lines = [",".join(names)]
    lines += [",".join(str(r[n]) for n in names) for r in records]
    return "\n".join(lines) + "\n"


def starts_of(ts, size, every):
    """The starts of all windows [start, start + size) that hold ts."""
    start = ts // every * every
    while start > ts - size:
        yield start
        start -= every


def windows(records, size, every, key="key", out_of_order=0, late=0, value="value"):
    """Result rows, those of corrections included, and the records that came too late."""
    state, fired, rows, refused = {}, {}, [], []
    watermark = greatest = -math.inf

    def emit(start, k):
        values = state[start, k]
        revision = fired.get((start, k), -1) + 1
        fired[start, k] = revision
        rows.append({
            "window_start": start, "window_end": start + size, key: k, "revision": revision,
            "n": len(values), "total": sum(values), "low": min(values), "high": max(values),
            "mean": sum(values) / len(values),
        })

    def advance(to):
        for start, k in sorted(state, key=lambda w: (w[0] + size, w[1])):
            end = start + size
            if end <= to and (start, k) not in fired:
                emit(start, k)
            if end + late <= to:
                del state[start, k]

    for record in records:
        ts, k = record["ts"], record[key]
        counted = False
        for start in sorted(starts_of(ts, size, every)):
            if watermark >= start + size + late:
                continue
            counted = True
            state.setdefault((start, k), []).append(record[value])
            if watermark >= start + size:
                emit(start, k)
        if not counted:
            refused.append(record)
        greatest = max(greatest, ts)
        if greatest - out_of_order > watermark:
            watermark = greatest - out_of_order
            advance(watermark)
    advance(math.inf)
    return rows, refused


AGGREGATES = ("{n: count(), total: sum(value), low: min(value), high: max(value), "
              "mean: avg(value)}")


def typed(row):
    """A row of CSV or JSONL with its numbers as numbers, to be compared with the oracle's."""
    return {name: (float(v) if name == "mean" else int(v)) for name, v in row.items()
            if name != "stage"}


def ordered(rows):
    return sorted(rows, key=lambda r: tuple(r[n] for n in sorted(r)))
