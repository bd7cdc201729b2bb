// The work of pair-a, with one pair of CLI and STI more in each iteration.
// Operations: 1000
#define EXTRA_PAIR
#include "pair.inc"
