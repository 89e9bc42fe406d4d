/*
 * ring.pml - the ring of runtime/ring/ring.c: every interleaving of one producer and one consumer,
 * with every way of cutting the messages into claims, publishes, takes and releases.
 *
 * A cell carries the message it holds, or FREE once it has been released. The two edges are the two
 * shared positions; each end's own copy of the other's position is modelled as well, since a stale
 * one is the interesting case. The promises:
 *
 *   1. the producer never fills a cell that is not free, however late `released` follows `taken`
 *   2. the consumer sees 1, 2, 3 ... in order, each once, and only what was published
 *   3. released <= taken <= published <= committed <= released + CELLS
 *   4. neither end is ever stuck before all messages are through
 *
 * Spin tries interleavings, not weak memory: that a store may be late is ThreadSanitizer's part.
 * Built with EARLY_RELEASE, the consumer releases a cell before it has used it; that must be found.
 */
#define CELLS 3
#define LAST  7
#define FREE  0

byte cell[CELLS] = FREE;
byte published = 0; /* edge ring.cells */
byte released = 0;  /* edge ring.room */

/* Private to their ends; global so that promise 3 can be stated. */
byte committed = 0;
byte taken = 0;

#define ORDERED                                                            \
    (released <= taken && taken <= published && published <= committed \
     && committed <= released + CELLS)

active proctype producer()
{
    byte released_seen = 0;
    do
    :: committed == LAST && published == LAST -> break
    :: committed < LAST && committed - released_seen < CELLS ->
        assert(cell[committed % CELLS] == FREE);
        cell[committed % CELLS] = committed + 1;
        d_step { committed = committed + 1; assert(ORDERED) }
    :: published < committed ->
        d_step { published = committed; assert(ORDERED) } /* release: ring.cells */
    :: committed - released_seen == CELLS && released != released_seen ->
        released_seen = released /* acquire: ring.room */
    od
}

active proctype consumer()
{
    byte published_seen = 0;
    byte freed = 0;
    do
    :: released == LAST -> break
    :: taken == published_seen && published != published_seen ->
        published_seen = published /* acquire: ring.cells */
    :: taken < published_seen ->
#ifdef EARLY_RELEASE
        cell[taken % CELLS] = FREE;
        released = taken + 1;
#endif
        assert(cell[taken % CELLS] == taken + 1);
        d_step { taken = taken + 1; assert(taken <= published) }
#ifndef EARLY_RELEASE
    :: released < taken ->
        /* Any number of taken cells, oldest first: a checkpoint may cover them late. */
        freed = released;
        do
        :: freed < taken -> cell[freed % CELLS] = FREE; freed = freed + 1
        :: freed > released -> break
        od;
        atomic { released = freed; assert(ORDERED) } /* release: ring.room */
#endif
    od
}
