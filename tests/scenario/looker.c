/*
 * looker - a program of somebody else's that reads a catalog, and stands still in one state of it.
 *
 *     looker STATE/catalog.mdb
 *
 * It says "looking" once it holds a state, and again for each line that it is told, having gone on to the newest.
 */
#include <stdio.h>

#include <lmdb.h>

static int say(int rc)
{
    if (rc != 0)
        fprintf(stderr, "looker: %s\n", mdb_strerror(rc));
    else
        printf("looking\n");
    fflush(stdout);
    return rc;
}

int main(int argc, char **argv)
{
    MDB_env *env = NULL;
    MDB_txn *txn = NULL;
    char line[64];
    if (argc != 2) {
        fprintf(stderr, "usage: looker FILE\n");
        return 2;
    }
    int rc = mdb_env_create(&env);
    if (rc == 0)
        rc = mdb_env_set_maxdbs(env, 2);
    if (rc == 0)
        rc = mdb_env_open(env, argv[1], MDB_NOSUBDIR | MDB_RDONLY, 0);
    if (rc == 0)
        rc = mdb_txn_begin(env, NULL, MDB_RDONLY, &txn);
    while (say(rc) == 0 && fgets(line, sizeof line, stdin) != NULL) {
        mdb_txn_reset(txn);
        rc = mdb_txn_renew(txn);
    }
    if (txn != NULL)
        mdb_txn_abort(txn);
    mdb_env_close(env);
    return rc != 0;
}
