// The way into the tested instruction and back. Everything is addressed relative to RIP, since no register is free.
#include "offsets.h"

    .text
    .globl hostcpu_run
    .type hostcpu_run, @function
hostcpu_run:
    endbr64
    pushq %rbx
    pushq %rbp
    pushq %r12
    pushq %r13
    pushq %r14
    pushq %r15
    movq %rsp, hostcpu_saved_rsp(%rip)
    fxrstor64 hostcpu_block + STATE_FX(%rip)

    // Code may have been written through another mapping: IRETQ serializes.
    movl %ss, %eax
    movq %rsp, %rcx
    pushq %rax
    pushq %rcx
    pushfq
    movl %cs, %eax
    pushq %rax
    leaq 1f(%rip), %rax
    pushq %rax
    iretq
1:
    movl $1, hostcpu_running(%rip)
    movw hostcpu_block + STATE_ES(%rip), %es
    movw hostcpu_block + STATE_DS(%rip), %ds
    movw hostcpu_block + STATE_FS(%rip), %fs
    movw hostcpu_block + STATE_GS(%rip), %gs
    movq hostcpu_block + STATE_RIP(%rip), %rax
    movq %rax, hostcpu_target(%rip)
    movw hostcpu_block + STATE_CS(%rip), %cx
    leaq hostcpu_scratch_top(%rip), %rsp
    pushq hostcpu_block + STATE_RFLAGS(%rip)
    cmpw $0x33, %cx
    jne 2f
    call load_registers
    popfq
    movq hostcpu_block + STATE_GPR + 4 * 8(%rip), %rsp
    jmpq *hostcpu_target(%rip)
2:
    movw %cx, hostcpu_target + 4(%rip)
    movw hostcpu_block + STATE_SS(%rip), %ss
    call load_registers
    popfq
    movq hostcpu_block + STATE_GPR + 4 * 8(%rip), %rsp
    ljmpl *hostcpu_target(%rip)

load_registers:
    movq hostcpu_block + STATE_GPR + 0 * 8(%rip), %rax
    movq hostcpu_block + STATE_GPR + 1 * 8(%rip), %rcx
    movq hostcpu_block + STATE_GPR + 2 * 8(%rip), %rdx
    movq hostcpu_block + STATE_GPR + 3 * 8(%rip), %rbx
    movq hostcpu_block + STATE_GPR + 5 * 8(%rip), %rbp
    movq hostcpu_block + STATE_GPR + 6 * 8(%rip), %rsi
    movq hostcpu_block + STATE_GPR + 7 * 8(%rip), %rdi
    movq hostcpu_block + STATE_GPR + 8 * 8(%rip), %r8
    movq hostcpu_block + STATE_GPR + 9 * 8(%rip), %r9
    movq hostcpu_block + STATE_GPR + 10 * 8(%rip), %r10
    movq hostcpu_block + STATE_GPR + 11 * 8(%rip), %r11
    movq hostcpu_block + STATE_GPR + 12 * 8(%rip), %r12
    movq hostcpu_block + STATE_GPR + 13 * 8(%rip), %r13
    movq hostcpu_block + STATE_GPR + 14 * 8(%rip), %r14
    movq hostcpu_block + STATE_GPR + 15 * 8(%rip), %r15
    ret

// The signal handler: (signal, siginfo, ucontext). While a case runs FS may be the guest's and AC or NT may be set, so
// nothing that is compiled runs before they are put right.
    .globl hostcpu_handler
    .type hostcpu_handler, @function
hostcpu_handler:
    endbr64
    cmpl $0, hostcpu_running(%rip)
    je 3f
    pushq $2
    popfq
    movl %edi, %ebx
    movq %rdx, %rbp
    xorl %eax, %eax
    movl %eax, %fs
    movq hostcpu_fs_base(%rip), %rsi
    cmpl $0, hostcpu_has_fsgsbase(%rip)
    je 1f
    wrfsbase %rsi
    jmp 2f
1:  movl $158, %eax         // arch_prctl(ARCH_SET_FS, base)
    movl $0x1002, %edi
    syscall
2:  cld
    fninit
    movl $0, hostcpu_running(%rip)
    movl %ebx, %edi
    movq %rbp, %rsi
    andq $-16, %rsp
    call hostcpu_capture
    movq hostcpu_saved_rsp(%rip), %rsp
    popq %r15
    popq %r14
    popq %r13
    popq %r12
    popq %rbp
    popq %rbx
    ret
3:  jmp hostcpu_stray

    .bss
    .balign 64
    .globl hostcpu_block
hostcpu_block: .zero STATE_SIZE
    .balign 16
hostcpu_saved_rsp: .zero 8
hostcpu_target: .zero 16
    .globl hostcpu_fs_base
hostcpu_fs_base: .zero 8
    .globl hostcpu_has_fsgsbase
hostcpu_has_fsgsbase: .zero 4
    .globl hostcpu_running
hostcpu_running: .zero 4
    .balign 16
    .zero 64
hostcpu_scratch_top:

    .section .note.GNU-stack, "", @progbits
