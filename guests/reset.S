// Resets by port CF9h, by the keyboard controller and by port 92h: a stage in CMOS memory tells what comes next.
// Run: --reset continue
#include "lib.inc"
START_REAL

#define STAGE 0x57
.macro SET_STAGE value
    movb $STAGE, %al
    outb %al, $0x70
    movb $\value, %al
    outb %al, $0x71
.endm

main:
    movb $STAGE, %al
    outb %al, $0x70
    inb $0x71, %al
    cmpb $0xa1, %al
    je after_cf9
    cmpb $0xa2, %al
    je after_8042
    cmpb $0xa3, %al
    je after_92
    // ---- First start: a reset must clear the CPU --------------------------------------------------------------------------
    SET_STAGE 0xa1
    movl $0x12345678, %eax
    movl %eax, %cr2
    movl %eax, %dr0
    movl $0x200, %eax
    movl %eax, %cr4
    movl $0x10, %eax
    movl %eax, %cr0
    movw $0xcf9, %dx
    movb $2, %al
    outb %al, %dx
    movb $6, %al
    outb %al, %dx
1:  hlt
    jmp 1b

after_cf9:
    CHECKB "reset by port CF9h", "%al", 0xa1
    movl %cr2, %eax
    CHECK "clears CR2", "%eax", 0
    movl %cr4, %eax
    CHECK "clears CR4", "%eax", 0
    movl %cr0, %eax
    CHECK "sets CR0", "%eax", 0x60000010
    movl %dr0, %eax
    CHECK "clears DR0", "%eax", 0
    SET_STAGE 0xa2
2:  inb $0x64, %al
    testb $2, %al
    jnz 2b
    movb $0xfe, %al
    outb %al, $0x64
1:  hlt
    jmp 1b

after_8042:
    CHECKB "reset by the keyboard controller", "%al", 0xa2
    SET_STAGE 0xa3
    inb $0x92, %al
    andb $~1, %al
    outb %al, $0x92
    orb $1, %al
    outb %al, $0x92
1:  hlt
    jmp 1b

after_92:
    CHECKB "reset by port 92h", "%al", 0xa3
    SET_STAGE 0
    FINISH
