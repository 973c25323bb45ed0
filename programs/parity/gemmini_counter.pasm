# Performance counters: configured, read while eight tiles move, frozen in a snapshot, released, reset. The values are
# responses of the port, so that only the cycle-level emulator has them; moved data must be right as well.

config default16

const TILES = 8
const LOAD_ACTIVE = 9
const STATION_LOADS = 1
buffer In: i8[TILES, DIM, DIM] = each n, i, j: (i * DIM + j + n + 128) % 256 - 128
buffer Out: i8[TILES, DIM, DIM]
expect Out = each n, i, j: (i * DIM + j + n + 128) % 256 - 128
spad x[TILES * DIM]

macro move_tiles
    repeat n in 0..TILES
        mvin dram=In[n] local=x[n * DIM] cols=DIM rows=DIM
        mvout dram=Out[n] local=x[n * DIM] cols=DIM rows=DIM
    end
end

flush
counter configure index=0 event=LOAD_ACTIVE
counter index=0                                 # 0
config_ld stride=DIM
config_st stride=DIM
move_tiles
counter index=0                                 # something
counter snapshot
counter index=0                                 # the snapshot
fence
counter index=0                                 # still the snapshot
counter snapshot_reset
counter index=0                                 # more
counter reset
counter index=0                                 # 0
counter configure index=7 event=STATION_LOADS external
move_tiles
counter snapshot index=7                        # loads so far
counter index=7                                 # the same
