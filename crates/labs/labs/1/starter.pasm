# Lab 1: load, multiply and store.

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

# Your commands.
fence
