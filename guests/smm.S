// System-management mode from 32-bit code: the save area of either kind of processor, RSM, moving SMBASE.
// Needs the PIIX4's SMI on port 0xB2.
#include "lib.inc"
START_PROTECTED

main:
    SMI_SETUP
    movl $0x12345, %ecx
    stc
    outb %al, $0xb2
    nop
    CHECKF "flags kept", 1, 1
    CHECK "handler ran", "0x9000", 1
    CHECK "CS", "0x9008", 0x3000
    CHECK "CR0 there", "0x900c", 0x60000010
    outb %al, $0xb2
    nop
    CHECK "handler ran again", "0x9000", 2
    CHECK "relocated CS", "0x9008", 0x4000
    movw %cs, %ax
    CHECKW "CS", "%ax", CS32
    mov %cr0, %eax
    CHECK "CR0", "%eax", 0x60000011
    FAULT "RSM outside", UD, NONE, rsm
    NOFAULT3 "ring 3 still works", nop
    FINISH

    SMI_HANDLER
