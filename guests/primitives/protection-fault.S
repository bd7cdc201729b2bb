// Ring 3 writes to a page that is read-only; the handler makes it writable, and the instruction runs again.
// Operations: 1000
#include "primitive.inc"
prepare:
    GATE PF, page_fault
    movl $AREA, next_page
    xorl %eax, %eax
    movl $(OPERATIONS + WARM_UP), %ecx
    movl $P + US, %edx
    jmp map_pages
page_fault:
    push XAX
    mov %cr2, XAX
    subl $AREA, %eax
    shrl $12, %eax
#if WIDTH == 64
    orq $RW, AREA_TABLES(, %rax, 8)
#else
    orl $RW, AREA_TABLES(, %eax, 4)
#endif
    incl handled
    pop XAX
    add $ENTRY_BYTES, XSP               // the error code
    INTERRUPT_RETURN
user:
1:  movl %ebx, (XDI)
    addl $0x1000, %edi
    decl %ebx
    jnz 1b
    int $SYS_VECTOR
#include "fault.inc"
