// The loop of baseline-ring3 once, so that what is between the marks apart from operations can be told.
// Operations: 1
#define OPERATIONS 1
#include "baseline-ring3.S"
