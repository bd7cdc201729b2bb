// IN from port 80h, at ring 0.
// Operations: 1000
#include "primitive.inc"
prepare:
finished:
    ret
operations:
1:  inb $0x80, %al
    decl %ebx
    jnz 1b
    ret
