// A call and a return, at ring 0.
// Operations: 1000
#include "primitive.inc"
prepare:
finished:
    ret
operations:
1:  call 2f
    decl %ebx
    jnz 1b
2:  ret
