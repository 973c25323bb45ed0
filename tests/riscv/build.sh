#!/bin/sh
# Builds the public test programs that crates/riscv/tests/public_programs.rs runs. Nothing of them is part of Pollux.
#
#     tests/riscv/build.sh RISCV_TESTS RISCV_TEST_ENV GEMMINI_ROCC_TESTS OUT
#
# The first three are clones of riscv-software-src/riscv-tests, riscv/riscv-test-env and ucb-bar/gemmini-rocc-tests. OUT gets
# the folders isa (rv64ui, um, ua, uf, ud, uc, mi), gemmini-13e7e1f and gemmini-180c468. Needs Debian's gcc-riscv64-unknown-elf and
# picolibc-riscv64-unknown-elf. Programs that do not build are named.
set -eu
[ $# = 4 ] || { sed -n '2,9s/^# \{0,1\}//p' "$0" >&2; exit 2; }
isa_tests=$(realpath "$1") environment=$(realpath "$2") gemmini=$(realpath "$3")
mkdir -p "$4"
out=$(realpath "$4")
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cc=riscv64-unknown-elf-gcc

# A commit's files, without those that a partial clone lacks.
unpack() {
    mkdir -p "$3"
    git -C "$1" ls-tree -r --name-only "$2" | while read -r file; do
        mkdir -p "$3/$(dirname "$file")"
        git -C "$1" show "$2:$file" >"$3/$file" 2>/dev/null || rm -rf "${3:?}/$file"
    done
}

unpack "$isa_tests" HEAD "$work/isa"
unpack "$environment" HEAD "$work/isa/env"
mkdir -p "$out/isa"
for source in "$work"/isa/isa/rv64u[imafdc]/*.S "$work"/isa/isa/rv64mi/*.S; do
    suite=$(basename "$(dirname "$source")") name=$(basename "$source" .S)
    $cc -march=rv64g -mabi=lp64 -static -mcmodel=medany -fvisibility=hidden -nostdlib -nostartfiles \
        -I"$work/isa/env/p" -I"$work/isa/isa/macros/scalar" -T"$work/isa/env/p/link.ld" "$source" \
        -o "$out/isa/$suite-p-$name" 2>"$work/log" || echo "does not build: $suite $name"
done

# The macros of `xcustom.h` (rocc-software) that Gemmini's header uses.
rocc_header() {
    mkdir -p "$1/rocc-software/src"
    cat >"$1/rocc-software/src/xcustom.h" <<'HEADER'
#define STR1(x) #x
#define STR(x) STR1(x)
#define CAT_(a, b) a##b
#define CAT(a, b) CAT_(a, b)
#define CUSTOM_0 0x0b
#define CUSTOM_1 0x2b
#define CUSTOM_2 0x5b
#define CUSTOM_3 0x7b
#define ROCC_INSTRUCTION_0_R_R(x, rs1, rs2, funct) \
  { asm volatile(".insn r " STR(CAT(CUSTOM_, x)) ", 3, " STR(funct) ", x0, %0, %1" : : "r"(rs1), "r"(rs2)); }
#define ROCC_INSTRUCTION(x, rd, rs1, rs2, funct) \
  { asm volatile(".insn r " STR(CAT(CUSTOM_, x)) ", 7, " STR(funct) ", %0, %1, %2" : "=r"(rd) : "r"(rs1), "r"(rs2)); }
HEADER
}

# Commits of the programs, of riscv-tests with its start code, and of its environment.
gemmini_programs() {
    root=$work/gemmini-$1 common=$work/gemmini-$1/riscv-tests/benchmarks/common
    unpack "$gemmini" "$1" "$root"
    unpack "$isa_tests" "$2" "$root/riscv-tests"
    unpack "$environment" "$3" "$root/riscv-tests/env"
    rocc_header "$root"
    mkdir -p "$out/gemmini-$1"
    for source in "$root"/bareMetalC/*.c "$root"/mlps/*.c "$root"/transformers/*.c; do
        name=$(basename "$source" .c)
        $cc --specs=picolibc.specs -DPREALLOCATE=1 -DMULTITHREAD=1 -DBAREMETAL=1 -DPRINT_TILE=0 -DID_STRING= -mcmodel=medany \
            -std=gnu99 -O2 -ffast-math -fno-common -fno-builtin-printf -fno-tree-loop-distribute-patterns -march=rv64gc \
            -Wno-incompatible-pointer-types -I"$root/riscv-tests" -I"$root/riscv-tests/env" -I"$root" -I"$common" -nostdlib \
            -nostartfiles -static -T "$common/test.ld" "$source" "$common"/*.c "$common"/*.S -lm -lgcc \
            -o "$out/gemmini-$1/$name" 2>"$work/log" || echo "does not build: $1 $name"
    done
}
gemmini_programs 13e7e1f c84daca 0666378
gemmini_programs 180c468 34e6b6d HEAD
