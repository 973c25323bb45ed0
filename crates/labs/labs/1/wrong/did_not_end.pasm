# The host waits for longer than anybody would.

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
wait 1000000
preload d=b c=c
compute_preloaded a=a
mvout dram=C local=full(c) cols=DIM rows=DIM
fence
