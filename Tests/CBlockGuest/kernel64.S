// The kernel of programs in long mode. Exceptions arrive through interrupt gates on a stack of their own.
#include "CBlockGuest.h"

#define PARAMETERS (BLOCKGUEST_BASE64 + BLOCKGUEST_PARAMETERS)
#define LOG (BLOCKGUEST_BASE64 + BLOCKGUEST_LOG)
#define RESUME (BLOCKGUEST_BASE64 + BLOCKGUEST_RESUME)

// The frame, after four registers were saved.
#define VECTOR 32(%rsp)
#define CODE 40(%rsp)
#define RIP 48(%rsp)
#define CS 56(%rsp)
#define FLAGS 64(%rsp)
#define RSP 72(%rsp)
#define SS 80(%rsp)

    .section .rodata
    .balign 16
    .globl blockguest_kernel64, blockguest_kernel64_end, blockguest_kernel64_syscall
    .code64
blockguest_kernel64:
    .set vector, 0
    .rept 256
    .balign BLOCKGUEST_STUB_BYTES
    .if vector == 8 || vector == 10 || vector == 11 || vector == 12 || vector == 13 || vector == 14 || vector == 17
    .else
    pushq $0
    .endif
    .byte 0x68
    .long vector
    .byte 0xe9
    .long common - . - 4
    .set vector, vector + 1
    .endr

    .balign 16
common:
    pushq %rax
    pushq %rcx
    pushq %rdx
    pushq %rbx
    movq $PARAMETERS, %rbx
    movq BLOCKGUEST_LOG_COUNT(%rbx), %rcx
    incq BLOCKGUEST_LOG_COUNT(%rbx)
    andl $(BLOCKGUEST_LOG_RECORDS - 1), %ecx
    shll $6, %ecx
    leaq LOG(%rcx), %rdx
    movq VECTOR, %rcx
    movq %rcx, 0(%rdx)
    movq CODE, %rax
    movq %rax, 8(%rdx)
    movq RIP, %rax
    movq %rax, 16(%rdx)
    movq CS, %rax
    movq %rax, 24(%rdx)
    movq FLAGS, %rax
    movq %rax, 32(%rdx)
    movq RSP, %rax
    movq %rax, 40(%rdx)
    movq SS, %rax
    movq %rax, 48(%rdx)
    movq %cr2, %rax
    movq %rax, 56(%rdx)

    cmpl $BLOCKGUEST_EXIT, %ecx
    je end
    leal -BLOCKGUEST_FIRST_SERVICE(%rcx), %eax
    cmpl $BLOCKGUEST_SERVICE_COUNT, %eax
    jb service
    cmpl $0x20, %ecx
    jae return
    cmpl $7, %ecx
    je clear_ts
    movq BLOCKGUEST_LOG_COUNT(%rbx), %rdx
    cmpq BLOCKGUEST_LOG_LIMIT(%rbx), %rdx
    ja end
    testb $7, %dl
    jnz 1f
    andq $~0x44100, FLAGS       // AC, NT, TF
    xorl %eax, %eax
    movq %rax, %dr7
1:  cmpl $1, %ecx
    je return

    // A fault: on with the next instruction, in the program's own mode.
    movq BLOCKGUEST_CODE_BASE(%rbx), %rax
    movq RIP, %rcx
    subq %rax, %rcx
    cmpq $BLOCKGUEST_CODE_BYTES, %rcx
    jb 2f
    movq BLOCKGUEST_CODE_BASE2(%rbx), %rax
    movq RIP, %rcx
    subq %rax, %rcx
    cmpq $BLOCKGUEST_CODE_BYTES, %rcx
    jb 2f
    movq BLOCKGUEST_CODE_BASE(%rbx), %rax
    imull $97, %edx, %ecx
    andl $(BLOCKGUEST_CODE_BYTES - 1), %ecx
2:  movzwl RESUME(,%rcx,2), %ecx
    addq %rax, %rcx
    movq %rcx, RIP
    movq BLOCKGUEST_MAIN_CS(%rbx), %rax
    movq %rax, CS
    movq BLOCKGUEST_MAIN_SS(%rbx), %rax
    movq %rax, SS
    testb $3, %dl
    jnz return
    movq BLOCKGUEST_MAIN_STACK(%rbx), %rax
    movq %rax, RSP
return:
    popq %rbx
    popq %rdx
    popq %rcx
    popq %rax
    addq $16, %rsp
    iretq

clear_ts:
    clts
    jmp return

end:
    cli
1:  hlt
    jmp 1b

service:
    shll $5, %eax
    leaq BLOCKGUEST_SERVICES(%rbx,%rax), %rdx
    movl 0(%rdx), %ecx
    movq 16(%rdx), %rax
    cmpl $BLOCKGUEST_RELOAD_CR3, %ecx
    je 2f
    cmpl $BLOCKGUEST_XOR_CS, %ecx
    je 3f
    cmpl $BLOCKGUEST_XOR_RIP, %ecx
    je 4f
    cmpl $BLOCKGUEST_XOR_FLAGS, %ecx
    je 5f
    cmpl $BLOCKGUEST_XOR_CR0, %ecx
    je 6f
    cmpl $BLOCKGUEST_XOR_CR4, %ecx
    je 7f
    cmpl $BLOCKGUEST_INVLPG_RDI, %ecx
    je 8f
    cmpl $BLOCKGUEST_CHANGE_CR3, %ecx
    ja return
    cmpl $0, %ecx
    je return
    movq 8(%rdx), %rbx
    xorl %eax, (%rbx)
    cmpl $BLOCKGUEST_CHANGE, %ecx
    je return
    cmpl $BLOCKGUEST_CHANGE_CR3, %ecx
    je 2f
    movq 24(%rdx), %rax
    invlpg (%rax)
    jmp return
2:  movq %cr3, %rax
    movq %rax, %cr3
    jmp return
3:  xorq %rax, CS
    jmp return
4:  xorq %rax, RIP
    jmp return
5:  xorq %rax, FLAGS
    jmp return
6:  movq %cr0, %rcx
    xorq %rax, %rcx
    movq %rcx, %cr0
    jmp return
7:  movq %cr4, %rcx
    xorq %rax, %rcx
    movq %rcx, %cr4
    jmp return
8:  invlpg (%rdi)
    jmp return

blockguest_kernel64_syscall:
    sysretq
blockguest_kernel64_end:

    .section .note.GNU-stack, "", @progbits
