#define _GNU_SOURCE
#include "CCalibrate.h"
#include <errno.h>
#include <fcntl.h>
#include <linux/kvm.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>

struct calibrate_kvm {
    int system, machine, cpu;
    uint8_t *memory;
    struct kvm_run *run;
    size_t run_bytes;
};

#define GUEST_BYTES 0x10000

// Real-mode loops at 1000h; EDI counts.
static const uint8_t cpuid_loop[] = {
    0x66, 0x31, 0xc0,       // xorl %eax, %eax
    0x0f, 0xa2,             // cpuid
    0x66, 0x4f,             // decl %edi
    0x75, 0xf7,             // jnz to the beginning
    0xf4,                   // hlt
};
static const uint8_t out_loop[] = {
    0xe6, 0x80,             // outb %al, $0x80
    0x66, 0x4f,             // decl %edi
    0x75, 0xfa,             // jnz to the beginning
    0xf4,                   // hlt
};

void calibrate_kvm_close(struct calibrate_kvm *kvm) {
    if (!kvm) return;
    int number = errno;
    if (kvm->run && kvm->run != MAP_FAILED) munmap(kvm->run, kvm->run_bytes);
    if (kvm->memory && kvm->memory != MAP_FAILED) munmap(kvm->memory, GUEST_BYTES);
    if (kvm->cpu >= 0) close(kvm->cpu);
    if (kvm->machine >= 0) close(kvm->machine);
    if (kvm->system >= 0) close(kvm->system);
    free(kvm);
    errno = number;
}

struct calibrate_kvm *calibrate_kvm_open(void) {
    struct calibrate_kvm *kvm = calloc(1, sizeof *kvm);
    if (!kvm) return 0;
    kvm->machine = kvm->cpu = -1;
    kvm->system = open("/dev/kvm", O_RDWR | O_CLOEXEC);
    if (kvm->system < 0) goto failed;
    kvm->machine = ioctl(kvm->system, KVM_CREATE_VM, 0);
    if (kvm->machine < 0) goto failed;
    kvm->memory = mmap(0, GUEST_BYTES, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (kvm->memory == MAP_FAILED) goto failed;
    struct kvm_userspace_memory_region region = {
        .memory_size = GUEST_BYTES, .userspace_addr = (uint64_t)kvm->memory};
    if (ioctl(kvm->machine, KVM_SET_USER_MEMORY_REGION, &region) < 0) goto failed;
    kvm->cpu = ioctl(kvm->machine, KVM_CREATE_VCPU, 0);
    if (kvm->cpu < 0) goto failed;
    int bytes = ioctl(kvm->system, KVM_GET_VCPU_MMAP_SIZE, 0);
    if (bytes < (int)sizeof *kvm->run) goto failed;
    kvm->run_bytes = (size_t)bytes;
    kvm->run = mmap(0, kvm->run_bytes, PROT_READ | PROT_WRITE, MAP_SHARED, kvm->cpu, 0);
    if (kvm->run == MAP_FAILED) goto failed;
    return kvm;
failed:
    calibrate_kvm_close(kvm);
    return 0;
}

uint64_t calibrate_kvm_run(struct calibrate_kvm *kvm, int out, uint32_t iterations) {
    struct kvm_sregs system;
    struct kvm_regs registers = {.rip = 0x1000, .rflags = 2, .rdi = iterations};
    if (out) {
        memcpy(kvm->memory + 0x1000, out_loop, sizeof out_loop);
    } else {
        memcpy(kvm->memory + 0x1000, cpuid_loop, sizeof cpuid_loop);
    }
    if (ioctl(kvm->cpu, KVM_GET_SREGS, &system) < 0) return 0;
    system.cs.base = system.cs.selector = 0;
    if (ioctl(kvm->cpu, KVM_SET_SREGS, &system) < 0 || ioctl(kvm->cpu, KVM_SET_REGS, &registers) < 0) return 0;
    uint64_t start = calibrate_ticks();
    // Once for each OUT and once for the HLT.
    for (uint32_t exits = 0; exits <= iterations; exits++) {
        if (ioctl(kvm->cpu, KVM_RUN, 0) < 0) return 0;
        if (kvm->run->exit_reason == KVM_EXIT_HLT) return calibrate_ticks() - start;
        if (kvm->run->exit_reason != KVM_EXIT_IO) break;
    }
    errno = ENOTSUP;
    return 0;
}
