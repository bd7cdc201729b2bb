// A child's address space is made of 256 pages of a parent that become read-only, runs for four of them, and is taken
// down again. Each parent has a page table of its own.
// Operations: 7
#define WARM_UP 1
#define OPERATIONS 7
#include "primitive.inc"
#define CHILD_TABLE SCRATCH_TABLE
#define CHILD_PAGES 256
prepare:
    movl $0, parent
    xorl %eax, %eax
    movl $AREA_PAGES, %ecx
    movl $P + RW + US, %edx
    call map_pages
    movl $AREA, %edi                    // the parents use their pages
    movl $AREA_PAGES, %ecx
1:  incl (XDI)
    addl $0x1000, %edi
    decl %ecx
    jnz 1b
    // The child's space is the second one, without its table.
#if WIDTH == 64
    movl $0, OTHER_AREA_PD
#else
    movl $0, OTHER_ROOT + 256 * 4
#endif
finished:
    ret
operations:
fork:
    movl parent, %esi
    shll $12, %esi
    addl $AREA_TABLES, %esi
    movl $CHILD_TABLE, %edi
    movl $CHILD_PAGES, %ecx
1:  mov (XSI), XAX
    and $~RW, XAX
    mov XAX, (XSI)
    mov XAX, (XDI)
    add $ENTRY_BYTES, XSI
    add $ENTRY_BYTES, XDI
    decl %ecx
    jnz 1b
    mov %cr3, XAX                       // the parent's writes fault from now on
    mov XAX, %cr3
    movl $CHILD_TABLE + P + RW + US, %eax
#if WIDTH == 64
    mov %rax, OTHER_AREA_PD
#else
    movl %eax, OTHER_ROOT + 256 * 4
#endif
    movl $OTHER_ROOT, %eax
    mov XAX, %cr3
    movl AREA, %ecx
    movl AREA + 0x1000, %ecx
    movl AREA + 0x2000, %ecx
    movl AREA + 0x3000, %ecx
    movl $CHILD_TABLE, %edi             // the child ends
    movl $CHILD_PAGES, %ecx
    xorl %eax, %eax
2:  mov XAX, (XDI)
    add $ENTRY_BYTES, XDI
    decl %ecx
    jnz 2b
#if WIDTH == 64
    mov %rax, OTHER_AREA_PD
#else
    movl %eax, OTHER_ROOT + 256 * 4
#endif
    movl $ROOT, %eax
    mov XAX, %cr3
    incl parent
    decl %ebx
    jnz fork
    ret
.data
parent: .quad 0
.text
