// RDMSR of IA32_APIC_BASE, at ring 0.
// Operations: 1000
#include "primitive.inc"
prepare:
finished:
    ret
operations:
    movl $IA32_APIC_BASE, %ecx
1:  rdmsr
    decl %ebx
    jnz 1b
    ret
