// Waits 1 ms by polling the time-stamp counter (1 GHz), after 100 pairs of CLI and STI and before 100 more.
// Operations: 1
#define WARM_UP 0
#define OPERATIONS 1
#define WAIT 1000000
#include "wait.inc"
