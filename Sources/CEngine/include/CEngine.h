#ifndef CENGINE_H
#define CENGINE_H
#include "CPUState.h"
#include "CodeMapping.h"
#include "SIMDOperations.h"
#include "X87Operations.h"
#endif
