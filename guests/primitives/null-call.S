// INT 80h from ring 3 to a handler that returns at once.
// Operations: 1000
#include "primitive.inc"
prepare:
    GATE 0x80, system_call, 0xee
finished:
    ret
system_call:
    INTERRUPT_RETURN
operations:
    movl $user, %eax
    jmp call_ring3
user:
1:  int $0x80
    decl %ebx
    jnz 1b
    int $SYS_VECTOR
