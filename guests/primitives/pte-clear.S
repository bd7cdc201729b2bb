// The kernel makes page-table entries absent that were present and used: one after the other, nothing else.
// Operations: 1000
#include "primitive.inc"
prepare:
    movl $AREA_TABLES, next_entry
    xorl %eax, %eax
    movl $(OPERATIONS + WARM_UP), %ecx
    movl $P + RW + US, %edx
    call map_pages
    movl $AREA, %edi
    movl $(OPERATIONS + WARM_UP), %ecx
1:  movl (XDI), %eax
    addl $0x1000, %edi
    decl %ecx
    jnz 1b
finished:
    ret
operations:
    movl next_entry, %edi
    xorl %eax, %eax
1:  mov XAX, (XDI)
    add $ENTRY_BYTES, XDI
    decl %ebx
    jnz 1b
    movl %edi, next_entry
    ret
.data
next_entry: .quad 0
.text
