// The kernel writes the value that they have to present page-table entries that were used.
// Operations: 500
#define NEW_ENTRY FRAMES + P + RW + US + 0x60   /* as the CPU left it: accessed and dirty */
#include "pte.inc"
