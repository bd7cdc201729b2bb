// IN from the mask register of the first 8259, at ring 0.
// Operations: 1000
#include "primitive.inc"
prepare:
finished:
    ret
operations:
1:  inb $0x21, %al
    decl %ebx
    jnz 1b
    ret
