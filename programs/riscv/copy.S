# A matrix of 16 x 16 int8 is copied through the scratchpad, in assembly. Gemmini's instructions are R-type words of opcode
# custom-3 (0x7b): .insn r opcode, funct3 (3: rs1 and rs2 are read), function, rd, rs1, rs2.

  .equ DIM, 16
  .equ CONFIG, 0
  .equ MVIN, 2
  .equ MVOUT, 3

  .text
  .globl main
main:
  # config_ld stride=16: scale 1.0, block stride 16, 1 repeat
  li a0, 0x3f80000000100101
  li a1, DIM
  .insn r 0x7b, 3, CONFIG, x0, a0, a1
  # config_st stride=16: scale 1.0
  li a0, 2
  li a1, 0x3f80000000000000 + DIM
  .insn r 0x7b, 3, CONFIG, x0, a0, a1
  # 16 rows of 16 columns, scratchpad row 0
  li a1, DIM << 48 | DIM << 32
  la a0, source
  .insn r 0x7b, 3, MVIN, x0, a0, a1
  la a2, target
  .insn r 0x7b, 3, MVOUT, x0, a2, a1
  fence
  # 0 if all bytes agree
  li t0, DIM * DIM
1:
  lbu t1, (a0)
  lbu t2, (a2)
  bne t1, t2, 2f
  addi a0, a0, 1
  addi a2, a2, 1
  addi t0, t0, -1
  bnez t0, 1b
  li a0, 0
  ret
2:
  li a0, 1
  ret

  .data
  .balign 16
source:
  .set value, 0
  .rept DIM * DIM
  .byte value & 0x7f
  .set value, value + 37
  .endr
  .bss
  .balign 16
target:
  .zero DIM * DIM
