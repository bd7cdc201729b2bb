#define _GNU_SOURCE
#include "CodeMapping.h"

#include <sys/mman.h>
#include <unistd.h>

CodeMapping code_mapping_create(size_t size) {
    CodeMapping mapping = {NULL, NULL};
    int file = memfd_create("trapline-code", MFD_CLOEXEC);
    if (file < 0) return mapping;
    if (ftruncate(file, (off_t)size) == 0) {
        void *writable = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
        void *executable = mmap(NULL, size, PROT_READ | PROT_EXEC, MAP_SHARED | MAP_32BIT, file, 0);
        if (writable != MAP_FAILED && executable != MAP_FAILED) {
            mapping.writable = writable;
            mapping.executable = executable;
        } else {
            if (writable != MAP_FAILED) munmap(writable, size);
            if (executable != MAP_FAILED) munmap(executable, size);
        }
    }
    close(file);
    return mapping;
}
