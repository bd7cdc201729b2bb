// The kernel makes page-table entries present that were absent.
// Operations: 500
#define NEW_ENTRY FRAMES + P + RW + US
#define ARE_ABSENT
#include "pte.inc"
