// A switch to another address space, of which four pages are then read, at ring 0: two spaces in turn.
// Operations: 1000
#include "primitive.inc"
prepare:
    xorl %eax, %eax
    movl $4, %ecx
    movl $P + RW + US, %edx
    call map_pages
    movl $AREA_TABLES, %esi             // the same four pages in the other space
    movl $OTHER_TABLE, %edi
    movl $(4 * ENTRY_BYTES / 4), %ecx
    rep movsl
finished:
    ret
operations:
    movl $ROOT, %eax
1:  xorl $(ROOT ^ OTHER_ROOT), %eax
    mov XAX, %cr3
    movl AREA, %ecx
    movl AREA + 0x1000, %ecx
    movl AREA + 0x2000, %ecx
    movl AREA + 0x3000, %ecx
    decl %ebx
    jnz 1b
    movl $ROOT, %eax
    mov XAX, %cr3
    ret
