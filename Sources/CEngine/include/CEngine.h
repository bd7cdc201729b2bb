#ifndef CENGINE_H
#define CENGINE_H
#include "CPUState.h"
#include "SIMDOperations.h"
#endif
