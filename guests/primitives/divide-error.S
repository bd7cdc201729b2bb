// Ring 3 divides by zero; the handler skips the instruction.
// Operations: 1000
#include "primitive.inc"
prepare:
    GATE DE, divide_error
    ret
finished:
    REQUIRE handled, OPERATIONS + WARM_UP
    ret
divide_error:
    incl handled
#if WIDTH == 64
    addq $2, (%rsp)
#else
    addl $2, (%esp)
#endif
    INTERRUPT_RETURN
operations:
    movl $user, %eax
    jmp call_ring3
user:
    xorl %ecx, %ecx
    xorl %edx, %edx
1:  divl %ecx
    decl %ebx
    jnz 1b
    int $SYS_VECTOR
