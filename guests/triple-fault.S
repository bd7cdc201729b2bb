// A triple fault: an exception with an empty IDT. Nothing may run after it.
// Ends: triple-fault
#include "lib.inc"
START_PROTECTED
main:
    CHECK "before the triple fault", $1, 1
    movw $0, idt32_pointer
    lidtl idt32_pointer
    ud2
    CHECK "after the triple fault", $0, 1
    FINISH
