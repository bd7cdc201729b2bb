// The loop of baseline once, so that what is between the marks apart from operations can be told.
// Operations: 1
#define OPERATIONS 1
#include "baseline.S"
