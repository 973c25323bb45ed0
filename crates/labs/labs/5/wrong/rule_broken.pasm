# B lies at the end of the same bank.

config default16

buffer A: i8[16, 256]
buffer B: i8[256, 16]
buffer C: i32[16, 16]

const TILES = A.cols / DIM
const BANK = 4096           # rows of a bank of the scratchpad

spad a[TILES * DIM]
spad b[TILES * DIM] at BANK - TILES * DIM
acc c[DIM]

config_ex dataflow=ws
config_st stride=C.stride
config_ld stride=A.stride
config_ld state_id=1 stride=B.stride
repeat k in 0..TILES
    mvin dram=A[0, k * DIM] local=a[k * DIM] cols=DIM rows=DIM
    mvin2 dram=B[k * DIM, 0] local=b[k * DIM] cols=DIM rows=DIM
end
repeat k in 0..TILES
    preload d=b[k * DIM] c=accumulate(c, k > 0)
    compute_preloaded a=a[k * DIM]
end
mvout dram=C local=full(c) cols=DIM rows=DIM
fence
