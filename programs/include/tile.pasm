# Macros for square tiles of DIM rows. To be included.

# Loads a tile with channel 0.
macro load_tile from to
    mvin dram=from local=to cols=DIM rows=DIM
end

# Multiplies two scratchpad tiles, weight-stationary; the product overwrites the accumulator tile, or is added to it.
macro multiply_tiles a b to add=1
    preload d=b c=accumulate(to, add)
    compute_preloaded a=a
end
