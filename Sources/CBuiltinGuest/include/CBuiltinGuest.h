// Programs that run inside a guest, as bytes: assembled from the sources of this target, never executed by the host.
#ifndef CBUILTIN_GUEST_H
#define CBUILTIN_GUEST_H

#include <stddef.h>

extern const unsigned char trapline_guest[], trapline_guest_end[];
extern const unsigned char trapline_init32[], trapline_init32_end[];
extern const unsigned char trapline_init64[], trapline_init64_end[];

/// A program's bytes, which live as long as the process.
typedef struct GuestProgram {
    const unsigned char *_Nonnull bytes;
    size_t count;
} GuestProgram;

/// The built-in guest, an image with a multiboot header.
static inline GuestProgram guest_kernel(void) {
    return (GuestProgram){trapline_guest, (size_t)(trapline_guest_end - trapline_guest)};
}

/// The init program of `--exec`, an ELF executable for 32-bit kernels.
static inline GuestProgram guest_init32(void) {
    return (GuestProgram){trapline_init32, (size_t)(trapline_init32_end - trapline_init32)};
}

/// The init program of `--exec`, an ELF executable for 64-bit kernels.
static inline GuestProgram guest_init64(void) {
    return (GuestProgram){trapline_init64, (size_t)(trapline_init64_end - trapline_init64)};
}

#endif
