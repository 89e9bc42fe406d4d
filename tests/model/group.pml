/*
 * group.pml - a group of runtime/ring/group.c: every interleaving of a writer that waits for nobody, two members,
 * one of which may stop for ever or die between any two of its steps, whoever buries the dead, and a member that
 * then comes under the same number.
 *
 * Words are swapped as in the code, one atomic step for each compare-and-swap, and looked at before in a step of
 * its own; a row is looked at before and after it is copied. Left out are partitions, what is in a row, where
 * a group begins, and room to breathe behind a writer that has come round, which a ring this small has none of.
 *
 * Who sleeps wakes when the look of the code would have him wake, and at nothing else: rows that nobody is
 * woken for end the search as a stuck state. The promises:
 *
 *   1. a row has one living taker at a time, and none once it is done
 *   2. a row is taken again only when its taker is gone
 *   3. every row ends in one way: done, missed, expired, or held by one who is stopped; and is counted so once
 *   4. with WAITS, where the writer overwrites only what is done with, none is missed or expires
 *
 * With NOBODY_FAILS there are more rows: the search has to come to its end.
 *
 * Built with one of these, it leaves out what the code does, and the search must find a fault:
 *
 *     TAKE_BY_STORE   a row is taken by a store after a look
 *     DONE_BY_STORE   done is a store, whatever the word has become
 *     FROM_STOPPED    who is stopped is taken for gone
 *     NO_GO_BACK      nobody looks once more at what the dead had taken
 *     NEXT_FIRST      `next` moves before the row is taken
 *     NO_LAP          a word is swapped whatever its lap has become
 *     ANY_TURN        who has a dead one's number is taken for him
 *     TOLD_FIRST      the burial is told before it can be seen
 */
#ifdef ANY_TURN
# define WAITS
#endif
#define ROWS 2
#ifdef NOBODY_FAILS
# define LAST  5
# define FAILS false
#else
# define LAST  3
# define FAILS (me == 0 && !failed)
#endif
#define NONE 255

#define LAP(n)   ((n) / ROWS + 1)
#define INDEX(n) ((n) % ROWS)

#define NEVER  0
#define TAKEN  1
#define DONE   2
#define MISSED 3

/* Owners: 0, and 2 after it, have one number; 1 has another. */
#define OWNERS 3

byte stamp[ROWS];
byte announced = 0;

/* The words. */
byte lap[ROWS];
byte state[ROWS];
byte owner[ROWS];
byte next = 0;

/* The roster. */
bool gone[OWNERS];
byte version = 0;

/* What is true, known to nobody. */
byte fate[LAST];    /* NEVER, TAKEN, DONE, MISSED; 4: expired */
byte holder[LAST];
bool dead = false;
bool stopped = false;
bool failed = false; /* dead or stopped */

#ifdef ANY_TURN
# define IS_GONE(o) (o == 0 && gone[0] && !second_is_there)
#else
# ifdef FROM_STOPPED
#  define IS_GONE(o) (gone[o] || (o == 0 && stopped))
# else
#  define IS_GONE(o) gone[o]
# endif
#endif
bool second_is_there = false;

#define ENDED(n) (fate[n] > TAKEN || (fate[n] == TAKEN && stopped && holder[n] == 0))
#if LAST == 3
# define ALL_ENDED (announced == LAST && ENDED(0) && ENDED(1) && ENDED(2))
#else
# define ALL_ENDED \
    (announced == LAST && ENDED(0) && ENDED(1) && ENDED(2) && ENDED(3) && ENDED(4))
#endif

typedef word_t {
    byte lap;
    byte state;
    byte owner
}

#define LOOK(w, i) w.lap = lap[i]; w.state = state[i]; w.owner = owner[i]
#ifdef NO_LAP
# define UNCHANGED(w, i) (state[i] == w.state && owner[i] == w.owner)
#else
# define UNCHANGED(w, i) \
    (lap[i] == w.lap && state[i] == w.state && owner[i] == w.owner)
#endif
#define FORGET(w) w.lap = 0; w.state = 0; w.owner = 0
#define IS_LEFT(w) (w.state == TAKEN && IS_GONE(w.owner))

proctype writer()
{
    byte n = 0;
    do
    :: n == LAST -> break
    :: n < LAST ->
#ifdef WAITS
        n < ROWS || fate[n - ROWS] == DONE;
#endif
        stamp[INDEX(n)] = 2 * n + 1;
        stamp[INDEX(n)] = 2 * n + 2;
        n = n + 1;
        announced = n
    od
}

/* Account for the rows of this index that no word was of, and for the one that the word was of. */
inline account(w, to, is_taken)
{
    i = (w.lap == 0 -> INDEX(to) : (w.lap - 1) * ROWS + INDEX(to));
    if
    :: w.lap > 0 && w.state == TAKEN ->
        assert(fate[i] == TAKEN);
        fate[i] = 4;
        holder[i] = 0
    :: else
    fi;
    i = (w.lap == 0 -> i : i + ROWS);
    do
    :: i < to || (i == to && !is_taken) ->
        assert(fate[i] == NEVER);
        fate[i] = MISSED;
        i = i + ROWS
    :: else -> break
    od;
    i = 0
}

inline may_fail()
{
    if
    :: skip
    :: FAILS -> failed = true; goto dies
#ifndef WAITS
    :: FAILS -> failed = true; goto stops
#endif
    fi
}

proctype member(byte me)
{
    byte at = 0;
    byte until = 0;
    byte seen = NONE; /* version */
    byte hint = 0;
    byte newest = 0;
    byte now = 0; /* a stamp */
    byte i = 0;
    byte n = 0;
    bool mine = false;
    word_t w;
sleep:
    atomic {
        if
        :: ALL_ENDED -> goto ends
        :: !ALL_ENDED && (
#ifndef NO_GO_BACK
                          seen != version ||
#endif
                          at < until
                          || announced > (next > at -> next : at)) -> skip
        fi
    }
    may_fail();
    atomic {
        hint = next;
        if
#ifdef NO_GO_BACK
        :: seen == NONE ->
#else
        :: seen != version ->
#endif
            seen = version;
            until = (at > announced -> at : announced);
            at = (until > ROWS -> until - ROWS : 0)
        :: else
        fi;
        at = (at >= until && at < hint -> hint : at);
        hint = 0;
        until = (at >= until -> 0 : until)
    }
    do
    ::
#ifdef NEXT_FIRST
        if
        :: stamp[INDEX(at)] == 2 * at + 2 && next <= at -> next = at + 1
        :: else
        fi;
#endif
        atomic {
            LOOK(w, INDEX(at));
            if
            :: w.lap == LAP(at) && !IS_LEFT(w) ->
                at = at + 1;
                FORGET(w);
                goto passed
            :: else
            fi
        }
        atomic {
            now = stamp[INDEX(at)];
            if
            :: now < 2 * at + 2 ->
                assert(w.lap < LAP(at));
                now = 0;
                FORGET(w);
                goto nothing
            :: now > 2 * at + 2 ->
                newest = (now - 1) / 2;
                now = 0;
                FORGET(w);
                goto overwritten
            :: else -> now = 0
            fi
        }
        /* it is copied here */
        may_fail();
        atomic {
            now = stamp[INDEX(at)];
            if
            :: now > 2 * at + 2 ->
                newest = (now - 1) / 2;
                now = 0;
                FORGET(w);
                goto overwritten
            :: else ->
                now = 0;
                assert(w.lap <= LAP(at))
            fi
        }
        atomic {
#ifdef TAKE_BY_STORE
            mine = true;
#else
            mine = UNCHANGED(w, INDEX(at));
#endif
            if
            :: mine ->
                if
                :: w.lap == LAP(at) ->
                    assert(fate[at] == TAKEN && holder[at] != me);
                    assert(holder[at] == 0 && dead)
                :: else ->
                    account(w, at, true);
                    assert(fate[at] == NEVER)
                fi;
                fate[at] = TAKEN;
                holder[at] = me;
                lap[INDEX(at)] = LAP(at);
                state[INDEX(at)] = TAKEN;
                owner[INDEX(at)] = me
            :: else
            fi;
            FORGET(w)
        }
        if
        :: !mine -> skip
        :: mine ->
            may_fail();
            atomic {
                if
#ifdef DONE_BY_STORE
                :: true ->
                    state[INDEX(at)] = DONE;
#else
                :: (lap[INDEX(at)] == LAP(at) && state[INDEX(at)] == TAKEN
                    && owner[INDEX(at)] == me) ->
                    state[INDEX(at)] = DONE;
#endif
                    assert(fate[at] == TAKEN && holder[at] == me);
                    fate[at] = DONE;
                    holder[at] = 0
                :: else
                fi;
                at = at + 1;
                mine = false
            }
            may_fail()
        fi;
        goto passed;
overwritten:
        /* rows before newest - ROWS + 1 have gone */
        atomic { hint = newest - ROWS + 1; newest = 0; n = at }
        do
        :: n < hint && n < at + ROWS ->
            atomic { i = n + (hint - 1 - n) / ROWS * ROWS; LOOK(w, INDEX(i)) }
            atomic {
                if
                :: w.lap >= LAP(i) -> n = n + 1
                :: else ->
                    if
                    :: UNCHANGED(w, INDEX(i)) ->
                        now = i;
                        account(w, now, false);
                        i = now;
                        now = 0;
                        lap[INDEX(i)] = LAP(i);
                        state[INDEX(i)] = MISSED;
                        owner[INDEX(i)] = me;
                        n = n + 1
                    :: else
                    fi
                fi;
                i = 0;
                FORGET(w)
            }
            may_fail()
        :: else -> break
        od;
        atomic { at = hint; hint = 0; n = 0 }
passed:
        skip
    od;
nothing:
    atomic {
        next = (next < at -> at : next);
        until = (at >= until -> 0 : until)
    }
    goto sleep;
dies:
    dead = true;
    goto ends;
stops:
    stopped = true;
ends:
    skip
}

/* Buries who has died; another comes under the same number, with another turn. */
proctype bury()
{
end:
    dead;
#ifdef TOLD_FIRST
    version = version + 1;
    gone[0] = true;
#else
    gone[0] = true;
    version = version + 1;
#endif
    if
#ifdef ANY_TURN
    :: true ->
#else
    :: skip
    :: true ->
#endif
        atomic { second_is_there = true; run member(2) }
    fi
}

#ifdef WAITS
/* Nothing is lost where nothing is overwritten. */
active proctype watch()
{
end:
    atomic {
        (fate[0] > DONE || fate[1] > DONE || fate[2] > DONE) -> assert(false)
    }
}
#endif

init
{
    atomic {
        run writer();
        run bury();
        run member(0);
        run member(1)
    }
}
