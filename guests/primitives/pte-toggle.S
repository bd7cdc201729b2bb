// The kernel makes a page absent, invalidates it, makes it present again and reads it.
// Operations: 1000
#include "primitive.inc"
prepare:
    xorl %eax, %eax
    movl $1, %ecx
    movl $P + RW + US, %edx
    call map_pages
    movl AREA, %eax
finished:
    ret
operations:
    movl $AREA_TABLES, %edi
    movl $FRAMES + P + RW + US, %eax
    xorl %edx, %edx
1:  mov XDX, (XDI)
    invlpg AREA
    mov XAX, (XDI)
    movl AREA, %ecx
    decl %ebx
    jnz 1b
    ret
