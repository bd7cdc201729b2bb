// A write to the end-of-interrupt register of the local APIC, at ring 0.
// Operations: 1000
#include "primitive.inc"
#define LOCAL_APIC 0xfee00000
prepare:
    movl $LOCAL_APIC, %edi
    movl $0x1ff, 0xf0(XDI)              // enabled, spurious vector FF
finished:
    ret
operations:
    movl $LOCAL_APIC, %edi
1:  movl $0, 0xb0(XDI)
    decl %ebx
    jnz 1b
    ret
