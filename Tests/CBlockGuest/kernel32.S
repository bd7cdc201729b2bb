// The kernel of programs in 32-bit protected mode; it does as the 64-bit one does. Exceptions of programs at CPL 0 arrive
// on the program's stack.
#include "CBlockGuest.h"

#define PARAMETERS (BLOCKGUEST_BASE32 + BLOCKGUEST_PARAMETERS)
#define LOG (BLOCKGUEST_BASE32 + BLOCKGUEST_LOG)
#define RESUME (BLOCKGUEST_BASE32 + BLOCKGUEST_RESUME)
#define KERNEL_DATA 0x18

// The frame, after eight registers and two selectors were saved. ESP and SS are there if CPL has changed.
#define VECTOR 40(%esp)
#define CODE 44(%esp)
#define EIP 48(%esp)
#define CS 52(%esp)
#define FLAGS 56(%esp)
#define ESP 60(%esp)
#define SS 64(%esp)

    .section .rodata
    .balign 16
    .globl blockguest_kernel32, blockguest_kernel32_end
    .code32
blockguest_kernel32:
    .set vector, 0
    .rept 256
    .balign BLOCKGUEST_STUB_BYTES
    .if vector == 8 || vector == 10 || vector == 11 || vector == 12 || vector == 13 || vector == 14 || vector == 17
    .else
    pushl $0
    .endif
    .byte 0x68
    .long vector
    .byte 0xe9
    .long common - . - 4
    .set vector, vector + 1
    .endr

    .balign 16
common:
    pushal
    pushl %ds
    pushl %es
    movl $KERNEL_DATA, %eax
    movl %eax, %ds
    movl %eax, %es
    movl $PARAMETERS, %ebx
    movl BLOCKGUEST_LOG_COUNT(%ebx), %ecx
    incl BLOCKGUEST_LOG_COUNT(%ebx)
    andl $(BLOCKGUEST_LOG_RECORDS - 1), %ecx
    shll $6, %ecx
    leal LOG(%ecx), %edx
    movl VECTOR, %ecx
    movl %ecx, 0(%edx)
    movl CODE, %eax
    movl %eax, 8(%edx)
    movl EIP, %eax
    movl %eax, 16(%edx)
    movl CS, %eax
    movl %eax, 24(%edx)
    movl FLAGS, %eax
    movl %eax, 32(%edx)
    movl %esp, 44(%edx)
    testb $3, CS
    jz 1f
    movl ESP, %eax
    movl %eax, 40(%edx)
    movl SS, %eax
    movl %eax, 48(%edx)
1:  movl %cr2, %eax
    movl %eax, 56(%edx)

    cmpl $BLOCKGUEST_EXIT, %ecx
    je end
    leal -BLOCKGUEST_FIRST_SERVICE(%ecx), %eax
    cmpl $BLOCKGUEST_SERVICE_COUNT, %eax
    jb service
    cmpl $0x20, %ecx
    jae return
    cmpl $7, %ecx
    je clear_ts
    movl BLOCKGUEST_LOG_COUNT(%ebx), %edx
    cmpl BLOCKGUEST_LOG_LIMIT(%ebx), %edx
    ja end
    testb $7, %dl
    jnz 1f
    andl $~0x44100, FLAGS       // AC, NT, TF
    xorl %eax, %eax
    movl %eax, %dr7
1:  cmpl $1, %ecx
    je return

    // A fault: on with the next instruction, in the program's own mode.
    movl BLOCKGUEST_CODE_BASE(%ebx), %eax
    movl EIP, %ecx
    subl %eax, %ecx
    cmpl $BLOCKGUEST_CODE_BYTES, %ecx
    jb 2f
    movl BLOCKGUEST_CODE_BASE2(%ebx), %eax
    movl EIP, %ecx
    subl %eax, %ecx
    cmpl $BLOCKGUEST_CODE_BYTES, %ecx
    jb 2f
    movl BLOCKGUEST_CODE_BASE(%ebx), %eax
    imull $97, %edx, %ecx
    andl $(BLOCKGUEST_CODE_BYTES - 1), %ecx
2:  movzwl RESUME(,%ecx,2), %ecx
    addl %eax, %ecx
    movl %ecx, EIP
    testb $3, CS
    jz return
    movl BLOCKGUEST_MAIN_CS(%ebx), %eax
    movl %eax, CS
    movl BLOCKGUEST_MAIN_SS(%ebx), %eax
    movl %eax, SS
    testb $3, %dl
    jnz return
    movl BLOCKGUEST_MAIN_STACK(%ebx), %eax
    movl %eax, ESP
return:
    popl %es
    popl %ds
    popal
    addl $8, %esp
    iretl

clear_ts:
    clts
    jmp return

end:
    cli
1:  hlt
    jmp 1b

service:
    shll $5, %eax
    leal BLOCKGUEST_SERVICES(%ebx,%eax), %edx
    movl 0(%edx), %ecx
    movl 16(%edx), %eax
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
    movl 8(%edx), %ebx
    xorl %eax, (%ebx)
    cmpl $BLOCKGUEST_CHANGE, %ecx
    je return
    cmpl $BLOCKGUEST_CHANGE_CR3, %ecx
    je 2f
    movl 24(%edx), %eax
    invlpg (%eax)
    jmp return
2:  movl %cr3, %eax
    movl %eax, %cr3
    jmp return
3:  xorl %eax, CS
    jmp return
4:  xorl %eax, EIP
    jmp return
5:  xorl %eax, FLAGS
    jmp return
6:  movl %cr0, %ecx
    xorl %eax, %ecx
    movl %ecx, %cr0
    jmp return
7:  movl %cr4, %ecx
    xorl %eax, %ecx
    movl %ecx, %cr4
    jmp return
8:  invlpg (%edi)
    jmp return
blockguest_kernel32_end:

    .section .note.GNU-stack, "", @progbits
