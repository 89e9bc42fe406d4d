/*
 * shared_ring.pml - the ring of runtime/ring/shared_ring.c: every interleaving of two producers, one
 * consumer or two, and whoever frees what the dead held, with every way of cutting messages into runs.
 *
 * A producer may, with a run claimed, publish it, stop for ever, or die; a stopped one is never freed of
 * its run, a dead one is at some later time. One of two consumers may stop for ever while it takes, or die
 * there; a dead one's run is freed too, and its messages count as taken.
 * Words are swapped as in the code, one atomic step for each compare-and-swap, and looked at before in
 * a step of its own. Left out are `tail`, which is a place to start looking, `passes`, which saves
 * looks, the patience of a consumer, and giving up, which is dying with one step less.
 *
 * Only the first producer stops or dies, but with BOTH_FAIL, where there are fewer messages, as there are
 * with TWO_CONSUMERS: the search has to come to its end. The promises:
 *
 *   1. a cell is filled by one owner at a time, and not while a consumer copies it
 *   2. what one owner published is taken once, in order, and nothing else is
 *   3. who is not stopped comes to his end: no message that is published stays behind, and no producer
 *      waits for room that a stopped one does not hold
 *
 * Built with one of these, it leaves out what the code does, and the search must find a fault:
 *
 *     NO_CARRY         a run that is held up since a lap ago is jumped over, not carried
 *     CARRY_FREE       such a run's cells are claimed as if it were free
 *     NO_HELD          a consumer passes over a claimed run and does not come back
 *     NO_ORDER         it does not look at an owner's held run before it takes a later one of his
 *     NO_SCAN          a claim looks at its first word only
 *     OLD_LAP          a run is published in the lap in which it was claimed
 *     EARLY_FREE       a run is free before it is copied
 *     RECOVER_STOPPED  who is stopped is taken for dead, and then goes on
 *     TAKE_BY_STORE    two consumers take by a store after a look
 */
#ifdef TAKE_BY_STORE
# define TWO_CONSUMERS
#endif
#ifdef TWO_CONSUMERS
# define CONSUMERS 2
# define LAST(who) (2 - who) /* messages of a producer */
# define FAILS(who) (who == 0)
#else
# define CONSUMERS 1
# ifdef BOTH_FAIL
#  define LAST(who)  2
#  define FAILS(who) true
# else
#  define LAST(who)  (3 - who)
#  define FAILS(who) (who == 0)
# endif
#endif
#define CELLS 3
#define RUN   2
#define NONE  255

#define LAP(p)   ((p) / CELLS + 1)
#define INDEX(p) ((p) % CELLS)

#define FREE      0
#define CLAIMED   1
#define PUBLISHED 2
#define TAKING    3

/* The words. */
byte lap[CELLS];
byte state[CELLS];
byte owner[CELLS];
byte count[CELLS];
bool carried[CELLS];

byte cell[CELLS]; /* the message in it */
byte user[CELLS]; /* who fills or copies it; 0: nobody */

byte head = 0;
byte held_at[2];
bool held_open[2];

/* What is true, known to nobody. */
byte published[2];
byte taken[2];
bool dead[2];
byte lost = 0; /* a consumer that died, as an owner */
byte gone = 0; /* producers that ended, died and were freed, or stopped for ever */

typedef word_t {
    byte lap;
    byte state;
    byte owner;
    byte count;
    bool carried
}

#define LOOK(w, i)          \
    d_step {                \
        w.lap = lap[i];     \
        w.state = state[i]; \
        w.owner = owner[i]; \
        w.count = count[i]; \
        w.carried = carried[i] \
    }
#define UNCHANGED(w, i)                                                            \
    (lap[i] == w.lap && state[i] == w.state && owner[i] == w.owner && count[i] == w.count \
     && carried[i] == w.carried)

/* What is not asked for any more must not tell states apart: so the owner of a free run is nobody. */
#define FREE_WORD(i)                                                   \
    state[i] = FREE;                                                   \
    owner[i] = 0;                                                      \
    carried[i] = false;                                                \
    cell[i] = 0;                                                       \
    user[i] = 0;                                                       \
    if                                                                 \
    :: count[i] == 2 -> cell[i + 1] = 0; user[i + 1] = 0               \
    :: else                                                            \
    fi

#define FORGET(w) w.lap = 0; w.state = 0; w.owner = 0; w.count = 0; w.carried = 0

proctype producer(byte me)
{
    byte seen = 0; /* head, when last looked */
    byte next = 0;
    byte at = 0;
    byte made = 0;
    byte want = 0;
    byte i = 0;
    bool won = false;
    word_t w;
    do
    :: made == LAST(me) -> break
    :: made < LAST(me) ->
        if
        :: want = 1
        :: made + 2 <= LAST(me) -> want = 2
        fi;
        d_step { seen = head; at = (next > seen -> next : seen) }
again:
        if
        :: at < seen + CELLS -> skip
        :: at >= seen + CELLS ->
            atomic { head > seen -> seen = head; at = (at > seen -> at : seen) }
            goto again
        fi;
        atomic {
            LOOK(w, INDEX(at));
            if
            :: w.lap == LAP(at) -> at = at + w.count; goto again
            :: w.lap != LAP(at) -> skip
            fi
        }
        if
        :: w.lap > LAP(at) -> atomic { seen = head; assert(seen > at); at = seen } goto again
        :: w.lap < LAP(at) && w.state != FREE ->
#ifdef NO_CARRY
            at = at + w.count;
            goto again
#endif
#ifdef CARRY_FREE
            skip
#else
            d_step {
                if
                :: UNCHANGED(w, INDEX(at)) -> lap[INDEX(at)] = LAP(at); carried[INDEX(at)] = true
                :: else
                fi
            }
            goto again
#endif
        :: w.lap < LAP(at) && w.state == FREE -> skip
        fi;
        if
        :: want == 2 && (INDEX(at) + 2 > CELLS || at + 2 > seen + CELLS) -> want = 1
#ifndef NO_SCAN
        :: want == 2 && INDEX(at) + 2 <= CELLS && at + 2 <= seen + CELLS ->
            if
            :: state[INDEX(at) + 1] != FREE -> want = 1
            :: state[INDEX(at) + 1] == FREE -> skip
            fi
#endif
        :: else -> skip
        fi;
        atomic {
            won = UNCHANGED(w, INDEX(at));
            if
            :: won ->
                lap[INDEX(at)] = LAP(at);
                state[INDEX(at)] = CLAIMED;
                owner[INDEX(at)] = me;
                count[INDEX(at)] = want;
                carried[INDEX(at)] = false;
                i = 0;
                do
                :: i < want ->
                    assert(user[INDEX(at) + i] == 0);
                    user[INDEX(at) + i] = me + 1;
                    cell[INDEX(at) + i] = made + 1 + i; /* filled: `user` keeps others away */
                    i = i + 1
                :: i == want -> break
                od;
                next = at + want;
                at = INDEX(at);
                FORGET(w)
            :: !won -> goto again
            fi;
            won = false;
            seen = 0;
            i = 0
        }
        if
        :: skip
        :: FAILS(me) -> goto stopped
        :: FAILS(me) -> goto died
        fi;
published_now:
        atomic {
#ifndef RECOVER_STOPPED
            assert(state[at] == CLAIMED && owner[at] == me);
#endif
            i = 0;
            do
            :: i < want -> assert(user[at + i] == me + 1); user[at + i] = 0; i = i + 1
            :: i == want -> break
            od;
#ifdef OLD_LAP
            lap[at] = LAP(next - want);
            carried[at] = false;
#endif
            state[at] = PUBLISHED;
            made = made + want;
            published[me] = made;
            at = 0;
            i = 0
        }
    od;
    gone = gone + 1;
    goto ended;
stopped:
#ifdef RECOVER_STOPPED
    dead[me] = true;
    if
    :: goto published_now
    :: skip
    fi;
    goto ended;
#endif
    gone = gone + 1;
    goto ended;
died:
    dead[me] = true;
ended:
    skip
}

/* A pass over all words for each that died. */
proctype recover()
{
    byte i;
    byte who;
end:
    do
    :: atomic { (dead[0] || dead[1]) -> who = (dead[0] -> 0 : 1); dead[who] = false; i = 0 }
        do
        :: i < CELLS ->
            d_step {
                if
                :: owner[i] == who && state[i] == CLAIMED -> FREE_WORD(i)
                :: else
                fi;
                i = i + 1
            }
        :: i == CELLS -> gone = gone + 1; break
        od
    :: atomic { lost > 0 -> who = lost; lost = 0; i = 0 }
        do
        :: i < CELLS ->
            d_step {
                if
                :: owner[i] == who && state[i] == TAKING -> FREE_WORD(i)
                :: else
                fi;
                i = i + 1
            }
        :: i == CELLS -> break
        od
    od
}

#define IS_HELD(w, who, entry)                                                  \
    (w.owner == who && (w.state == CLAIMED || w.state == PUBLISHED)             \
     && (w.lap == LAP(entry) || w.carried))

#define PUBLISHED_HELD(who)                                                          \
    (held_open[who] && owner[INDEX(held_at[who])] == who                             \
     && state[INDEX(held_at[who])] == PUBLISHED                                      \
     && (lap[INDEX(held_at[who])] == LAP(held_at[who]) || carried[INDEX(held_at[who])]))
#define BEHIND(p) ((p) + count[INDEX(p)])
/* A take would find something: looking again and again is waiting for this. */
#define THERE_IS                                                                    \
    (PUBLISHED_HELD(0) || PUBLISHED_HELD(1)                                          \
     || (lap[INDEX(head)] == LAP(head)                                               \
         && (state[INDEX(head)] != CLAIMED || lap[INDEX(BEHIND(head))] == LAP(BEHIND(head)))))
#define ALL_DONE (gone == 2 && taken[0] == published[0] && taken[1] == published[1])

/* One word at `i`, looked at as w, is taken: `got` says whether it was ours. */
inline take(i)
{
#ifdef TAKE_BY_STORE
    skip;
    d_step {
        got = true;
#else
    d_step {
        got = UNCHANGED(w, i);
#endif
        if
        :: got ->
            assert(w.state == PUBLISHED);
            first = taken[w.owner] + 1;
            taken[w.owner] = taken[w.owner] + w.count;
            assert(cell[i] == first);
            assert(taken[w.owner] <= published[w.owner]);
#ifdef EARLY_FREE
            state[i] = FREE;
            owner[i] = 0;
#else
            state[i] = TAKING;
            owner[i] = 2 + me;
            user[i] = 3 + me;
            if
            :: w.count == 2 -> user[i + 1] = 3 + me
            :: else
            fi
#endif
        :: else
        fi
    }
    if
    :: got ->
        if
        :: skip
        :: CONSUMERS == 2 && !one_stopped -> one_stopped = true; goto stopped
        :: CONSUMERS == 2 && !one_stopped -> atomic { one_stopped = true; lost = 2 + me } goto stopped
        fi;
        d_step {
            assert(cell[i] == first);
            assert(w.count == 1 || cell[i + 1] == first + 1);
#ifndef EARLY_FREE
            assert(state[i] == TAKING && owner[i] == 2 + me);
            FREE_WORD(i)
#endif
        }
    :: else
    fi
}

/* Look at the held run of `who`, whose entry is `entry`; gone_by_now says that it is settled. */
inline settle(who)
{
    settled = false;
    do
    :: LOOK(w, INDEX(entry));
        if
        :: !IS_HELD(w, who, entry) ->
            d_step {
                if
                :: held_at[who] == entry -> held_open[who] = false
                :: else
                fi;
                settled = true
            }
            break
        :: IS_HELD(w, who, entry) && w.state == CLAIMED -> break
        :: IS_HELD(w, who, entry) && w.state == PUBLISHED -> take(INDEX(entry))
        fi
    od
}

bool one_stopped = false;

proctype consumer(byte me)
{
    byte at = 0;
    byte entry = 0;
    byte who = 0;
    byte first = 0;
    byte behind = 0;
    byte it = 0;
    bool open = false;
    bool got = false;
    bool settled = false;
    bool same = false;
    word_t w;
    do
    :: atomic { ALL_DONE -> break }
    :: atomic { !ALL_DONE && THERE_IS -> skip }
#ifndef NO_HELD
        it = 0;
        do
        :: it < 2 ->
            atomic { open = held_open[it]; entry = held_at[it] }
            if
            :: open -> settle(it)
            :: else
            fi;
            atomic { it = it + 1; open = false; entry = 0; got = false; settled = false; first = 0; FORGET(w) }
        :: it == 2 -> break
        od;
#endif
        at = head;
        do
        :: break /* a take may be full anywhere */
        :: atomic {
                LOOK(w, INDEX(at));
                if
                :: w.lap < LAP(at) -> break
                :: w.lap == LAP(at) && (w.state == FREE || w.state == TAKING) ->
                    at = at + w.count;
                    FORGET(w)
                :: w.lap > LAP(at)
                :: w.lap == LAP(at) && (w.state == CLAIMED || w.state == PUBLISHED) -> who = w.owner
                fi
            }
            if
            :: w.lap == 0 -> skip
            :: w.lap > LAP(at) -> atomic { assert(head > at); at = head; FORGET(w) }
            :: w.lap == LAP(at) && (w.state == CLAIMED || w.state == PUBLISHED) ->
#ifdef NO_ORDER
                d_step { open = (w.state == CLAIMED && held_open[who]); entry = held_at[who] }
#else
                d_step { open = held_open[who]; entry = held_at[who] }
#endif
                if
                :: open && entry > at ->
                    atomic {
                        if
                        :: !UNCHANGED(w, INDEX(at))
                        :: UNCHANGED(w, INDEX(at)) -> assert(head > at); at = head
                        fi
                    }
                :: open && entry <= at ->
                    same = (INDEX(entry) == INDEX(at) && IS_HELD(w, who, entry));
                    behind = at + w.count;
                    settle(who);
                    if
                    :: settled
                    :: !settled && !same -> assert(false)
                    :: !settled && same -> at = behind
                    fi
                :: !open && w.state == PUBLISHED -> take(INDEX(at))
                :: !open && w.state == CLAIMED ->
                    behind = at + w.count;
                    if
                    :: lap[INDEX(behind)] != LAP(behind) -> break
                    :: else
                    fi;
#ifdef NO_HELD
                    at = behind;
#else
                    if
                    :: !UNCHANGED(w, INDEX(at)) -> skip
                    :: UNCHANGED(w, INDEX(at)) ->
                        d_step {
                            if
                            :: held_at[who] == entry && !held_open[who] ->
                                held_at[who] = at;
                                held_open[who] = true;
                                at = behind
                            :: else
                            fi
                        }
                    fi
#endif
                fi;
                atomic {
                    entry = 0;
                    who = 0;
                    first = 0;
                    behind = 0;
                    open = false;
                    got = false;
                    settled = false;
                    same = false;
                    FORGET(w)
                }
            fi
        od;
        atomic {
            if
            :: head < at -> head = at
            :: else
            fi;
            at = 0;
            entry = 0;
            who = 0;
            first = 0;
            behind = 0;
            it = 0;
            open = false;
            got = false;
            settled = false;
            same = false;
            FORGET(w)
        }
    od;
stopped:
    skip
}

init
{
    atomic {
        held_at[0] = NONE;
        held_at[1] = NONE;
        run producer(0);
        run producer(1);
        run recover();
        run consumer(0);
        if
        :: CONSUMERS == 2 -> run consumer(1)
        :: else
        fi
    }
}
