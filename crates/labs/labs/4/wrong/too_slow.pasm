# No false dependency, but a fence behind every tile.

config default16

buffer A: i8[128, 16]
buffer B: i8[16, 16]
buffer C: i32[128, 16]

const TILES = A.rows / DIM

spad a[TILES * DIM]
spad b[DIM]
acc c[TILES * DIM]

config_ex dataflow=ws
config_ld stride=A.stride
config_st stride=C.stride
mvin dram=B local=b cols=DIM rows=DIM

repeat t in 0..TILES
    mvin dram=A[t * DIM, 0] local=a[t * DIM] cols=DIM rows=DIM
    preload d=b c=c[t * DIM]
    compute_preloaded a=a[t * DIM]
    mvout dram=C[t * DIM, 0] local=full(c[t * DIM]) cols=DIM rows=DIM
    fence
end
