// Ring 3 reads a page that is not present; the handler enters it, and the instruction runs again.
// Operations: 1000
#include "primitive.inc"
prepare:
    GATE PF, page_fault
    movl $AREA, next_page
    ret
page_fault:
    push XAX
    push XDX
    mov %cr2, XAX
    movl %eax, %edx
    andl $FRAME_MASK, %edx
    addl $FRAMES + P + RW + US, %edx
    subl $AREA, %eax
    shrl $12, %eax
#if WIDTH == 64
    mov %rdx, AREA_TABLES(, %rax, 8)
#else
    movl %edx, AREA_TABLES(, %eax, 4)
#endif
    incl handled
    pop XDX
    pop XAX
    add $ENTRY_BYTES, XSP               // the error code
    INTERRUPT_RETURN
user:
1:  movl (XDI), %eax
    addl $0x1000, %edi
    decl %ebx
    jnz 1b
    int $SYS_VECTOR
#include "fault.inc"
