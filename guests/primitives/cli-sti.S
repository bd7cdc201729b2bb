// CLI and STI, at ring 0.
// Operations: 1000
#include "primitive.inc"
prepare:
finished:
    ret
operations:
1:  cli
    sti
    decl %ebx
    jnz 1b
    cli
    ret
