// The kernel makes page-table entries absent that were present and used.
// Operations: 500
#define NEW_ENTRY 0
#include "pte.inc"
