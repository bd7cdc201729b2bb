// The kernel makes page-table entries present that were absent: one after the other, nothing else.
// Operations: 1000
#include "primitive.inc"
prepare:
    // The last page of each table is used, so that every model knows the tables.
    movl $(AREA_PAGES / TABLE_ENTRIES), %esi
    movl $(TABLE_ENTRIES - 1), %eax
1:  push XAX
    push XSI
    movl $1, %ecx
    movl $P + RW + US, %edx
    call map_pages
    pop XSI
    pop XAX
    mov XAX, XDI
    shl $12, XDI
    movl AREA(XDI), %edx
    addl $TABLE_ENTRIES, %eax
    decl %esi
    jnz 1b
    movl $AREA_TABLES, next_entry
finished:
    ret
operations:
    movl next_entry, %edi
    movl $FRAMES + P + RW + US, %eax
1:  mov XAX, (XDI)
    add $ENTRY_BYTES, XDI
    // The last entry of a 64-bit table is taken already.
#if WIDTH == 64
    cmpl $AREA_TABLES + 0xff8, %edi
    jne 2f
    add $ENTRY_BYTES, XDI
2:
#endif
    decl %ebx
    jnz 1b
    movl %edi, next_entry
    ret
.data
next_entry: .quad 0
.text
