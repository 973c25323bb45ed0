# Lab 3: C = A B, tile by tile, with other commands between. One of them comes at the wrong time: C has one wrong element.
#
# Rows of the scratchpad: tiles of A, then tiles of B. Rows of the accumulator: three tiles of C take turns.

config small4

