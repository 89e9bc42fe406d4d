#!/bin/sh
# run_model.sh MODEL.pml holds|fails [-DNAME] - search every interleaving of a model.
# Exits 0 if no error is found where the model holds, or one is found where it must fail.
set -eu
model=$1 expected=$2 define=${3:-}
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cp "$model" "$dir/model.pml"
cd "$dir"
spin -a ${define:+"$define"} model.pml
cc -O2 -w -DSAFETY -DCOLLAPSE -DMEMLIM=1024 -o pan pan.c
./pan -m200000 | tee out
# A search that was cut short has shown nothing.
if grep -qE 'max search depth too small|MEMLIM bound|memory limit|out of memory' out; then
    echo "the search did not come to its end"
    exit 1
fi
if grep -q 'errors: 0' out; then found=holds; else found=fails; fi
echo "$(basename "$model") $define: $found, expected: $expected"
test "$found" = "$expected"
