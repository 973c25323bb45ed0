# Two sets of rows take turns: the third load waits for the first product all the same.

config default16

buffer A: i8[128, 16]
buffer B: i8[16, 16]
buffer C: i32[128, 16]

const TILES = A.rows / DIM

spad a[DIM]
spad b[DIM]
acc c[TILES * DIM]

config_ex dataflow=ws
config_ld stride=A.stride
config_st stride=C.stride
mvin dram=B local=b cols=DIM rows=DIM

repeat t in 0..TILES
    mvin dram=A[t * DIM, 0] local=a cols=DIM rows=DIM
    preload d=b c=c[t * DIM]
    compute_preloaded a=a
    mvout dram=C[t * DIM, 0] local=full(c[t * DIM]) cols=DIM rows=DIM
end
fence
