#!/bin/sh
# Is what we build hardened as docs/trust.md says? check_hardening.sh FILE...
# For each file: position independent, nothing lazily bound, the tables of addresses read-only, a stack
# that cannot be run, guards on stacks, and libc calls that know their sizes.
set -u
failed=0
fail() {
    echo "$1: $2" >&2
    failed=1
}
for file in "$@"; do
    readelf -hW "$file" | grep -q 'Type: *DYN' || fail "$file" "is not position independent"
    readelf -dW "$file" | grep -Eq 'BIND_NOW|Flags:.* NOW' || fail "$file" "binds lazily"
    readelf -lW "$file" | grep -q GNU_RELRO || fail "$file" "has no RELRO"
    readelf -lW "$file" | grep GNU_STACK | grep -q 'RWE' && fail "$file" "has a stack that can be run"
    symbols=$(readelf -sW --dyn-syms "$file")
    echo "$symbols" | grep -q '__stack_chk_fail' || fail "$file" "has no guards on its stacks"
    echo "$symbols" | grep -Eq '__(sn|vsn|f|v?f)?printf_chk|__mem[a-z]*_chk|__[a-z]*_chk@' \
        || fail "$file" "was built without _FORTIFY_SOURCE"
done
exit $failed
