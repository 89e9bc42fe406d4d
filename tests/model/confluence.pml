/*
 * confluence.pml - a partition of a shared lane, from its ring into its log (runtime/lane/confluence.c,
 * rml_shared_gather and rml_shared_gather_again, runtime/lane/owners.c): every interleaving of two producers
 * and the engine that brings what they published into the log and releases it there, with an engine
 * killed between any two of its steps, after which another goes on with what lies in memory.
 *
 * Producers' steps on the ring, and the consumer's along the chain, are those of shared_ring.pml, where the
 * ring alone is tried further. Each look at, swap of and store to a word that others use is a step of its own; what
 * the engine alone uses comes with the step before, unless its death in between shows. Left out are `tail`,
 * `passes`, patience, sleep (parking.pml) and the grid of marks. The search has to come to its end, so
 * there are three parts of it:
 *
 *     (nothing)  runs of one cell or two, and room in the log is short; an engine is killed
 *     CLOCKS     producers' clocks, and what a look at them promises; an engine is killed
 *     ONE_DIES   the first producer is killed anywhere, and its number goes to another; an engine is
 *                killed, with its control thread; what is in the log is released at once
 *
 * The promises:
 *
 *   1. what one owner published comes out of the log once, in order, and nothing else does
 *   2. nothing in the log is written over before it is released
 *   3. what a look at the producers' clocks promises is in the log when it ends, for engines after it too
 *   4. everything comes to its end: nothing that is published stays behind, no number stays in use, and
 *      no producer waits for room for ever
 *
 * Built with one of these, it leaves out what the code does, and the search must find a fault:
 *
 *     AGAIN_ALWAYS   the next engine copies the run that was being taken, whatever the log's end says
 *     AGAIN_NEVER    it frees that run, and does not copy it
 *     NO_INTENT      a run is swapped before it is noted down which one it is
 *     COUNT_FIRST    the log's end is stored before the cells are copied
 *     FREE_FIRST     a run is free before the log's end is stored
 *     NO_ROOM        what is not released is no bound for the log
 *     CLOCKS_LATE    the clocks are read after the end of the chain was looked up
 *     NO_LOOK_BACK   a look ends although something that was passed over found no room in the log
 *     REUSE_EARLY    a number is given out again before all that its owner left was seen
 *     OLD_VERSION    an engine begins with the version of the states that it finds
 *     DEATH_UNSEEN   where nothing is announced, nobody looks whether somebody died
 */
#if defined(CLOCKS_LATE) || defined(NO_LOOK_BACK)
# define CLOCKS
#endif
#if defined(REUSE_EARLY) || defined(OLD_VERSION) || defined(DEATH_UNSEEN)
# define ONE_DIES
#endif

#define CELLS 2
#define NONE  255
#ifdef ONE_DIES
# define RUN       1
# define LOG       1
# define KILLS     1 /* of engines */
# define LAST(who) 1 /* messages of a producer */
#else
# ifdef CLOCKS
#  define RUN       1
#  define LOG       1
#  define KILLS     1
#  define LAST(who) (1 + who)
# else
#  define RUN       2
#  define LOG       2
#  define KILLS     1
#  define LAST(who) (1 + who)
# endif
#endif

#define LAP(p)   ((p) / CELLS + 1)
#define INDEX(p) ((p) % CELLS)

#define FREE      0
#define CLAIMED   1
#define PUBLISHED 2
#define TAKING    3

#define NOBODY 0 /* states of an owner */
#define HERE   1
#define DEAD   2

#define MESSAGE(who, number) (16 * (who) + (number))
#define WHO(message)         ((message) / 16)
#define NUMBER(message)      ((message) % 16)

/* The ring. */
byte lap[CELLS];
byte state[CELLS];
byte owner[CELLS];
byte count[CELLS];
bool carried[CELLS];
byte cell[CELLS];

/* What an engine writes, and the next one finds. */
byte head = 0;
byte held_at[2];
bool held_open[2];
byte log[LOG];
byte log_end = 0;
byte intent_at = 0;
byte intent_end = NONE;
byte released = 0;
byte owner_state = HERE; /* of the first producer */
byte version = 1;
byte seen = 0;

/* What producers announce. */
byte clock[2];
byte publishes = 0;

/* What is true, known to nobody. */
byte published[2];
byte promised[2];
byte out[2];
byte ended = 0;
byte kills = 0;
bool is_dead = false; /* the first producer: no other has its number yet */
bool kill_engine = false;
bool kill_control = false;

typedef word_t {
    byte lap;
    byte state;
    byte owner;
    byte count;
    bool carried
}

#define LOOK(w, i)      \
    w.lap = lap[i];     \
    w.state = state[i]; \
    w.owner = owner[i]; \
    w.count = count[i]; \
    w.carried = carried[i]
#define UNCHANGED(w, i)                                                            \
    (lap[i] == w.lap && state[i] == w.state && owner[i] == w.owner && count[i] == w.count \
     && carried[i] == w.carried)
#define FORGET(w) w.lap = 0; w.state = 0; w.owner = 0; w.count = 0; w.carried = 0

/* What is not asked for any more must not tell states apart. */
#define FREE_WORD(i)                         \
    state[i] = FREE;                         \
    owner[i] = 0;                            \
    carried[i] = false;                      \
    cell[i] = 0;                             \
    if                                       \
    :: count[i] == 2 -> cell[i + 1] = 0      \
    :: else                                  \
    fi

proctype producer(byte me)
{
    byte room = 0; /* head, when last looked */
    byte next = 0;
    byte at = 0;
    byte made = 0;
    byte want = 0;
    bool may_die = false;
    word_t w;
#ifdef ONE_DIES
    may_die = (me == 0);
#endif
more:
    do
    :: made == LAST(me) -> break
    :: made < LAST(me) ->
        atomic {
            if
            :: want = 1
            :: RUN == 2 && made + 2 <= LAST(me) -> want = 2
            fi;
            room = head;
            at = (next > room -> next : room)
        }
again:
        if
        :: atomic { at >= room + CELLS && head > room -> room = head; at = (at > room -> at : room) } goto again
        :: atomic {
                at < room + CELLS ->
                LOOK(w, INDEX(at));
                if
                :: w.lap == LAP(at) -> at = at + w.count; FORGET(w); goto again
                :: w.lap > LAP(at) -> FORGET(w); room = head; assert(room > at); at = room; goto again
                :: w.lap < LAP(at) -> skip
                fi
            }
        fi;
        if
        :: w.state != FREE ->
            atomic {
                if
                :: UNCHANGED(w, INDEX(at)) -> lap[INDEX(at)] = LAP(at); carried[INDEX(at)] = true
                :: else
                fi;
                FORGET(w)
            }
            goto again
        :: w.state == FREE && want == 2 ->
            if
            :: INDEX(at) + 2 > CELLS || at + 2 > room + CELLS || state[INDEX(at) + 1] != FREE -> want = 1
            :: else
            fi
        :: w.state == FREE && want == 1 -> skip
        fi;
        atomic {
            if
            :: !UNCHANGED(w, INDEX(at)) -> FORGET(w); goto again
            :: UNCHANGED(w, INDEX(at)) -> skip
            fi;
            lap[INDEX(at)] = LAP(at);
            state[INDEX(at)] = CLAIMED;
            owner[INDEX(at)] = me;
            count[INDEX(at)] = want;
            carried[INDEX(at)] = false;
            cell[INDEX(at)] = MESSAGE(me, made + 1);
            if
            :: want == 2 -> cell[INDEX(at) + 1] = MESSAGE(me, made + 2)
            :: else
            fi;
            next = at + want;
            at = INDEX(at);
            room = 0;
            FORGET(w)
        }
        if
        :: atomic {
                assert(state[at] == CLAIMED && owner[at] == me);
                state[at] = PUBLISHED;
                made = made + want;
                published[me] = made;
                at = 0;
                want = 0
            }
        :: may_die -> goto died
        fi;
#ifdef CLOCKS
        clock[me] = made;
#endif
        if
        :: publishes = publishes + 1
        :: may_die -> goto died
        fi
    od;
    atomic { ended = ended + 1; next = 0 }
    goto over;
died:
    atomic {
        is_dead = true;
        may_die = false;
        made = published[me];
        room = 0;
        next = 0;
        at = 0;
        want = 0
    }
    atomic { !is_dead -> goto more } /* another has the number, and goes on with what was not published */
over:
    skip
}

/* The engine's control thread. */
proctype control()
{
    byte left_at = 0;
begin:
    {
        skip;
end_begin:
        atomic {
            !kill_engine -> skip;
#ifndef OLD_VERSION
            version = version + 1;
#endif
            left_at = version
        }
end:
        do
        :: atomic { owner_state == HERE && is_dead -> owner_state = DEAD }
            atomic { version = version + 1; left_at = version }
#ifdef REUSE_EARLY
        :: atomic { owner_state == DEAD -> owner_state = NOBODY }
#else
        :: atomic { owner_state == DEAD && seen >= left_at -> owner_state = NOBODY }
#endif
            version = version + 1
        :: atomic { owner_state == NOBODY -> owner_state = HERE }
            version = version + 1;
            is_dead = false
        od
    } unless {
        atomic { kill_control -> kill_control = false; left_at = 0 }
    }
    goto begin
}

#define IS_HELD(w, who, entry)                                                  \
    (w.owner == who && (w.state == CLAIMED || w.state == PUBLISHED)             \
     && (w.lap == LAP(entry) || w.carried))

/* A checkpoint covers one more record of the log. */
inline release()
{
    n = log[released % LOG];
    assert(NUMBER(n) == out[WHO(n)] + 1 && NUMBER(n) <= published[WHO(n)]);
    out[WHO(n)] = NUMBER(n);
    released = released + 1;
    n = 0
}

inline count_in(i)
{
    n = 0;
    do
    :: n < w.count -> assert(NUMBER(cell[i + n]) > promised[WHO(cell[i + n])]); n = n + 1
    :: n == w.count -> break
    od;
    n = 0;
    log_end = log_end + w.count;
#ifdef ONE_DIES
    release()
#endif
}

inline copy(i, base)
{
    do
    :: n < w.count -> atomic { log[(base + n) % LOG] = cell[i + n]; n = n + 1 }
    :: n == w.count -> n = 0; break
    od
}

inline copy_and_count(i)
{
#ifdef COUNT_FIRST
    atomic { count_in(i) }
    copy(i, log_end - w.count);
#else
    copy(i, log_end);
# ifdef FREE_FIRST
    atomic { FREE_WORD(i) }
    atomic { log_end = log_end + w.count }
# else
    atomic { count_in(i) }
# endif
#endif
}

/* The word at `i`, looked at as w, is published: into the log with it, unless it has changed. */
inline take(i)
{
    atomic {
        won = UNCHANGED(w, i);
        if
        :: won -> state[i] = TAKING; owner[i] = 2
        :: else
        fi
    }
    if
    :: won ->
#ifdef NO_INTENT
        atomic { intent_at = i; intent_end = log_end }
#endif
        copy_and_count(i);
        atomic {
#ifndef FREE_FIRST
            assert(state[i] == TAKING);
            FREE_WORD(i);
#endif
            got = got + w.count
        }
    :: else
    fi
}

#ifdef NO_INTENT
# define MEAN(i) skip
#else
# define MEAN(i) intent_at = i; intent_end = log_end
#endif

/* The held run of `who`: is it settled, does it stand, or is it published and finds no room? */
inline settle(who)
{
    do
    :: atomic {
            LOOK(w, INDEX(entry));
            if
            :: !IS_HELD(w, who, entry) -> held_open[who] = false; settled = true; break
            :: IS_HELD(w, who, entry) && w.state == CLAIMED -> break
            :: IS_HELD(w, who, entry) && w.state == PUBLISHED && w.count > room - got -> no_place = true; break
            :: IS_HELD(w, who, entry) && w.state == PUBLISHED && w.count <= room - got -> MEAN(INDEX(entry))
            fi
        }
        take(INDEX(entry))
    od
}

inline forget_run()
{
    entry = 0;
    who = 0;
    behind = 0;
    settled = false;
    no_place = false;
    same = false;
    won = false;
    FORGET(w)
}

inline look_back()
{
    do
    :: it == 2 -> it = 0; break
    :: it < 2 && !held_open[it] -> it = it + 1
    :: it < 2 && held_open[it] ->
        entry = held_at[it];
        settle(it);
        atomic {
            is_back = is_back && !no_place;
            it = it + 1;
            forget_run()
        }
    od
}

/* Along the chain; what is met there is taken, or passed over. */
inline walk()
{
    at = head;
    do
    :: got > 0 -> break /* a take may be full anywhere */
    :: got == room -> break
    :: got < room ->
        atomic {
            LOOK(w, INDEX(at));
            assert(w.lap <= LAP(at));
            who = w.owner;
            behind = at + w.count;
            if
            :: w.lap < LAP(at) -> is_end = true; break
            :: w.lap == LAP(at) && (w.state == FREE || w.state == TAKING) -> at = behind; goto next_run
            :: w.lap == LAP(at) && w.state == PUBLISHED && !held_open[who] ->
                if
                :: w.count > room - got -> break
                :: w.count <= room - got -> MEAN(INDEX(at))
                fi
            :: w.lap == LAP(at) && (w.state == CLAIMED || (w.state == PUBLISHED && held_open[who])) ->
                entry = held_at[who]
            fi
        }
        if
        :: !held_open[who] && w.state == PUBLISHED ->
            take(INDEX(at));
            if
            :: won -> at = behind
            :: !won -> skip
            fi
        :: held_open[who] ->
            assert(entry <= at);
            same = (INDEX(entry) == INDEX(at) && IS_HELD(w, who, entry));
            settle(who);
            if
            :: settled
            :: !settled && no_place -> break
            :: !settled && !no_place -> assert(same); at = behind
            fi
        :: !held_open[who] && w.state == CLAIMED ->
            atomic {
                if
                :: lap[INDEX(behind)] != LAP(behind) -> is_end = true; break
                :: lap[INDEX(behind)] == LAP(behind) && got > 0 -> break
                :: lap[INDEX(behind)] == LAP(behind) && got == 0 -> skip
                fi
            }
            atomic {
                if
                :: !UNCHANGED(w, INDEX(at)) -> skip
                :: UNCHANGED(w, INDEX(at)) -> held_at[who] = at; held_open[who] = true; at = behind
                fi
            }
        fi;
next_run:
        atomic { forget_run() }
    od;
    atomic {
        head = at;
        at = 0;
        forget_run()
    }
}

/* Who came and who left, and what the dead had claimed comes free. */
inline see_owner()
{
    look_version = version;
    if
    :: look_version == known
    :: look_version != known ->
        now = owner_state;
        if
        :: now == DEAD && !is_buried ->
            do
            :: at < CELLS ->
                atomic {
                    if
                    :: state[at] == CLAIMED && owner[at] == 0 -> FREE_WORD(at)
                    :: else
                    fi;
                    at = at + 1
                }
            :: at == CELLS -> at = 0; break
            od
        :: else
        fi;
        atomic { is_buried = (now == DEAD); now = 0; known = look_version }
    fi
}

inline read_clocks()
{
    look_clock[0] = clock[0];
    look_clock[1] = clock[1]
}

inline find_chain_end()
{
    look_at = head;
    do
    :: atomic {
            if
            :: look_at < head + CELLS && lap[INDEX(look_at)] == LAP(look_at) ->
                look_at = look_at + count[INDEX(look_at)]
            :: else -> break
            fi
        }
    od
}

inline begin_look()
{
    look_publishes = publishes;
#ifdef ONE_DIES
    see_owner();
#endif
#ifdef CLOCKS
# ifdef CLOCKS_LATE
    find_chain_end();
    read_clocks();
# else
    read_clocks();
    find_chain_end();
# endif
#endif
    is_looking = true
}

#ifdef CLOCKS
# define ALL_SEEN (is_end || head >= look_at)
#else
# define ALL_SEEN is_end
#endif
#ifdef NO_LOOK_BACK
# define LOOK_ENDS ALL_SEEN
#else
# define LOOK_ENDS (is_back && ALL_SEEN)
#endif
#define MORE(known, was) ((known) > (was) -> (known) : (was))

inline end_look()
{
    atomic {
        if
        :: LOOK_ENDS ->
#ifdef CLOCKS
            promised[0] = MORE(look_clock[0], promised[0]);
            promised[1] = MORE(look_clock[1], promised[1]);
            look_clock[0] = 0;
            look_clock[1] = 0;
            look_at = 0;
#endif
#ifdef ONE_DIES
            seen = look_version;
#endif
            is_looking = false;
            is_settled = is_end
        :: else
        fi;
        /* Where nothing came, there was no room, and nothing more comes before there is. */
        blocked_at = (got == 0 && is_looking -> released : NONE);
        got = 0;
        room = 0;
        is_end = false;
        is_back = false
    }
}

#ifdef NO_ROOM
# define ROOM LOG
#else
# define ROOM (released + LOG - log_end)
#endif
#ifdef DEATH_UNSEEN
# define IS_CHANGED (publishes != look_publishes)
#else
# define IS_CHANGED (publishes != look_publishes || version != known)
#endif
#ifdef AGAIN_ALWAYS
# define IS_COPIED false
#else
# ifdef AGAIN_NEVER
#  define IS_COPIED true
# else
#  define IS_COPIED (intent_end != log_end)
# endif
#endif
#ifndef ONE_DIES
# undef IS_CHANGED
# define IS_CHANGED (publishes != look_publishes)
#endif

#define ALL_DONE (ended == 2 && out[0] == published[0] && out[1] == published[1] && released == log_end)

proctype engine()
{
    byte at = 0;
    byte entry = 0;
    byte who = 0;
    byte behind = 0;
    byte it = 0;
    byte n = 0;
    byte now = 0;
    byte room = 0;
    byte got = 0;
    byte known = 0; /* version of the states */
    byte look_clock[2];
    byte look_at = 0;
    byte look_version = 0;
    byte look_publishes = 0;
    byte blocked_at = NONE;
    bool is_buried = false;
    bool is_looking = false;
    bool is_settled = false;
    bool is_end = false;
    bool is_back = false;
    bool settled = false;
    bool no_place = false;
    bool same = false;
    bool won = false;
    word_t w;
begin:
    {
        atomic { !kill_control -> LOOK(w, intent_at) }
        if
        :: w.state == TAKING ->
            if
            :: IS_COPIED
            :: !IS_COPIED -> copy_and_count(intent_at)
            fi;
            atomic { FREE_WORD(intent_at) }
        :: w.state != TAKING -> skip
        fi;
        atomic { n = 0; FORGET(w) }
        do
        :: atomic { ALL_DONE -> break }
#ifndef ONE_DIES
        :: atomic { released < log_end -> release() }
#endif
        :: atomic { is_settled && IS_CHANGED -> is_settled = false }
        :: !is_settled && blocked_at != released ->
            if
            :: !is_looking -> begin_look()
            :: is_looking
            fi;
            atomic { room = ROOM; is_back = true }
            look_back();
#ifndef NO_LOOK_BACK
            if
            :: !is_back
            :: is_back -> walk()
            fi;
#else
            walk();
#endif
            end_look()
        od
    } unless {
        atomic {
            kill_engine -> kill_engine = false;
            at = 0; it = 0; n = 0; now = 0; room = 0; got = 0; known = 0;
            look_clock[0] = 0; look_clock[1] = 0; look_at = 0; look_version = 0; look_publishes = 0;
            blocked_at = NONE; is_buried = false; is_looking = false; is_settled = false; is_end = false;
            is_back = false;
            forget_run();
            goto begin
        }
    }
}

proctype killer()
{
end:
    do
    :: atomic { !kill_engine && !kill_control && kills < KILLS && !ALL_DONE ->
            kills = kills + 1;
            kill_engine = true;
#ifdef ONE_DIES
            kill_control = true
#endif
        }
    od
}

init
{
    atomic {
        run producer(0);
        run producer(1);
        run engine();
        run killer()
#ifdef ONE_DIES
        ; run control()
#endif
    }
}
