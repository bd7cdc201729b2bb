// System-management mode from 32-bit code: the save area of either kind of processor, RSM, moving SMBASE.
// Needs the PIIX4's SMI on port 0xB2.
#include "lib.inc"
START_PROTECTED
// Writes a configuration register of the PIIX4's power management: device 1, function 3.
.macro SETPM register, value
    movl $0x80000b00 | \register, %eax
    movw $0xcf8, %dx
    outl %eax, %dx
    movw $0xcfc, %dx
    movl $\value, %eax
    outl %eax, %dx
.endm

main:
    SETPM 0x40, 0x601                   // its registers are at ports 600h
    SETPM 0x80, 1
    SETPM 0x58, 0x2000000               // APMC_EN
    movw $0x628, %dx                    // SMI_EN
    movl $1, %eax
    outl %eax, %dx
    movl $handler, %esi
    movl $0x38000, %edi
    movl $handler_end - handler, %ecx
    rep movsb
    movl $handler, %esi
    movl $0x48000, %edi
    movl $handler_end - handler, %ecx
    rep movsb
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

// Counts its runs at 9000, leaves what it sees after that, and moves SMBASE to 40000.
.code16
handler:
    xorw %ax, %ax
    movw %ax, %ds
    incl 0x9000
    movw %cs, %ax
    movw %ax, 0x9008
    movw %ax, %ds                       // the save area's segment
    movl 0xfefc, %eax                   // revision
    testw %ax, %ax
    jz 1f
    movl $0x40000, 0xff00
    jmp 2f
1:  movl $0x40000, 0xfef8
2:
    xorw %bx, %bx
    movw %bx, %ds
    movl %eax, 0x9004
    movl %cr0, %eax
    movl %eax, 0x900c
    xorl %ecx, %ecx
    rsm
handler_end:
