# The unroller does all the work.

config default16

buffer A: i8[16, 16]
buffer B: i8[16, 16]
buffer C: i32[16, 16]

spad a[DIM]
spad b[DIM]
acc c[DIM]

config_ex dataflow=ws
config_ld stride=A.stride
config_st stride=C.stride

mvin dram=A local=a cols=DIM rows=DIM
mvin dram=B local=b cols=DIM rows=DIM
preload d=b c=c
compute_preloaded a=a
mvout dram=C local=full(c) cols=DIM rows=DIM
loop_ws_config_bounds i=1 j=1 k=1
loop_ws skip_lda skip_ldb skip_ldd skip_ex skip_stc
fence
