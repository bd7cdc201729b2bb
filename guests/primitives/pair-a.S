// Some work in a loop.
// Operations: 1000
#include "pair.inc"
