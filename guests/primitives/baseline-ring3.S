// The loop of the other guests around nothing at all, at ring 3.
// Operations: 1000
#include "primitive.inc"
prepare:
finished:
    ret
operations:
    movl $user, %eax
    jmp call_ring3
user:
1:  decl %ebx
    jnz 1b
    int $SYS_VECTOR
