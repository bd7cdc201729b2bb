// System-management mode from 64-bit code: the save area, RSM, moving SMBASE. Needs the PIIX4's SMI on port 0xB2.
#include "lib.inc"
START_LONG

main:
    SMI_SETUP
    mov $0x1122334455667788, %r9
    mov $0xffff800000000123, %rbx
    movl $0x12345, %ecx
    stc
    outb %al, $0xb2
    nop
    CHECKF "flags kept", 1, 1
    CHECK "handler ran", "0x9000", 1
    CHECKQ "R9 kept", "%r9", 0x1122334455667788
    CHECKQ "RBX kept", "%rbx", 0xffff800000000123
    CHECK "revision", "0x9004", 0x20064
    CHECK "CS", "0x9008", 0x3000
    CHECK "CR0 there", "0x900c", 0x60000010
    outb %al, $0xb2
    nop
    CHECK "handler ran again", "0x9000", 2
    CHECK "relocated CS", "0x9008", 0x4000
    movw %cs, %ax
    CHECKW "CS", "%ax", CS64
    mov %cr0, %rax
    CHECK "CR0", "%eax", 0xe0000011
    FAULT "RSM outside", UD, NONE, rsm
    NOFAULT3 "ring 3 still works", nop
    FINISH

    SMI_HANDLER
