/*
 * parking.pml - going to sleep and being woken, in both directions of a lane, for every interleaving.
 *
 *                    sleeper says        sleeper looks      mover moves       mover looks
 *     worker         sleeps odd          publishes          publishes + 1     sleeps
 *     producer       waiting             released           released          waiting
 *
 * The cells are left out: two positions and who is asleep are all that matters here. A wake-up that
 * is lost leaves both asleep for ever, which Spin reports as an invalid end state. A mover rings at
 * most once for each sleep, and a producer that waits names the position from which on it wants to
 * be woken. Built with one of these, a wake-up must be lost, which shows that the model can find it:
 *
 *     NO_LOOK_WORKER     the worker does not look at `publishes` again before it sleeps
 *     NO_LOOK_PRODUCER   the producer does not look at `released` again before it sleeps
 *     RELEASE_ONLY       the words that announce a sleep are plain release stores: each may wait in
 *                        its processor's store buffer while the look that follows goes ahead
 */
#define CELLS 2
#define LAST  5

byte published = 0;
byte released = 0;
byte publishes = 0;

byte sleeps = 0;   /* the worker's counter; odd: asleep */
bool wake = false; /* its eventfd */
byte waiting = 0;  /* the number of the producer's sleep; 0: awake */
byte room_at = 0;  /* the `released` that ends it */
bool room = false; /* its socket */

#ifdef RELEASE_ONLY
/* One entry of each processor's store buffer; it empties at any moment. */
byte sleeps_stored = 0;
byte waiting_stored = 0;
active proctype store_buffers()
{
end:
    do
    :: sleeps != sleeps_stored -> sleeps = sleeps_stored
    :: waiting != waiting_stored -> waiting = waiting_stored
    od
}
# define STORE_SLEEPS(value)  sleeps_stored = value
# define STORE_WAITING(value) waiting_stored = value
#else
# define STORE_SLEEPS(value)  sleeps = value
# define STORE_WAITING(value) waiting = value
#endif

active proctype producer()
{
    byte released_seen = 0;
    byte sleep = 0;
    byte rung_for = 0;
    byte seen = 0;
    do
    :: published == LAST -> break
    :: published < LAST && published - released_seen < CELLS ->
        /* A batch of any size that fits. */
        seen = 0;
        do
        :: published < LAST && published - released_seen < CELLS ->
            published = published + 1;
            seen = 1
        :: seen == 1 -> break
        od;
        publishes = publishes + 1; /* total order */
        seen = sleeps;             /* total order */
        if
        :: seen % 2 == 1 && seen != rung_for -> rung_for = seen; wake = true
        :: else
        fi
    :: published < LAST && published - released_seen == CELLS ->
        released_seen = released;
        if
        :: published - released_seen == CELLS ->
            sleep = sleep + 1;
            room_at = released_seen + CELLS / 2;
            STORE_WAITING(sleep); /* total order */
#ifndef NO_LOOK_PRODUCER
            released_seen = released; /* total order */
#endif
            if
            :: published - released_seen == CELLS -> room; room = false
            :: else
            fi;
            STORE_WAITING(0)
        :: else
        fi
    od
}

active proctype worker()
{
    byte publishes_seen = 0;
    byte published_seen = 0;
    byte taken = 0;
    byte knocked_for = 0;
    byte seen = 0;
    byte turn = 0;
    do
    :: released == LAST -> break
    :: else ->
        publishes_seen = publishes; /* total order */
        published_seen = published;
        if
        :: taken < published_seen ->
            /* A batch of any size. */
            do
            :: taken < published_seen -> taken = taken + 1
            :: taken > released -> break
            od;
            released = taken; /* total order */
            seen = waiting;   /* total order */
            if
            :: seen != 0 && seen != knocked_for && released >= room_at ->
                knocked_for = seen;
                room = true
            :: else
            fi
        :: taken == published_seen ->
            turn = turn + 1;
            STORE_SLEEPS(turn); /* total order */
#ifdef NO_LOOK_WORKER
            wake;
#else
            if
            :: publishes == publishes_seen -> wake /* total order */
            :: else
            fi;
#endif
            turn = turn + 1;
            STORE_SLEEPS(turn);
            wake = false
        fi
    od
}
