// The kernel writes the value that it has to a present page-table entry that was used.
// Operations: 1000
#include "primitive.inc"
prepare:
    xorl %eax, %eax
    movl $1, %ecx
    movl $P + RW + US, %edx
    call map_pages
    incl AREA                           // sets its accessed and dirty bits
finished:
    ret
operations:
    mov AREA_TABLES, XAX
    movl $AREA_TABLES, %edi
1:  mov XAX, (XDI)
    decl %ebx
    jnz 1b
    ret
