// Memory that is written at one address and executed at another.
#ifndef CENGINE_CODE_MAPPING_H
#define CENGINE_CODE_MAPPING_H

#include <stdbool.h>
#include <stddef.h>

#pragma clang assume_nonnull begin

typedef struct CodeMapping {
    void *_Nullable writable;
    void *_Nullable executable;  // in the lower 2 GB of the address space
} CodeMapping;

/// Maps `size` bytes twice; both pointers are NULL where the host refuses that. The caller unmaps both.
CodeMapping code_mapping_create(size_t size);

#pragma clang assume_nonnull end
#endif
