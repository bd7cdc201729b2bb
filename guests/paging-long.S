// 4-level paging in 64-bit mode: the four levels' bits, execute-disable, reserved bits, canonical addresses, large pages.
#include "lib.inc"
START_LONG

#define TABLE 0x23000                   /* 400000-5FFFFF in 4 KB pages */
#define PDPT_HIGH 0x24000               /* FFFF800000000000- */
#define PD_HIGH 0x25000
#define PTE(n) TABLE+8*(n)
#define PAGE(n) (0x400000+0x1000*(n))
#define A 0x20
#define D 0x40
#define NX 0x80000000

.macro SETPTE n, value, high=0
    movl $(\value), PTE(\n)
    movl $(\high), PTE(\n)+4
    invlpg PAGE(\n)
.endm
// An entry of another level, then the TLB is emptied.
.macro SETENTRY address, value, high=0
    movl $(\value), \address
    movl $(\high), \address+4
    mov %cr3, %rax
    mov %rax, %cr3
.endm
.macro PAGE_FAULT name, error, address, insn:vararg
    FAULT "\name", PF, \error, \insn
    CHECKQ "\name: CR2", rec_cr2, \address
.endm
.macro FETCH_FAULT name, error, address
    movl $\address, %ebx
    TRY
    jmp *%rbx
    EXPECT_IP "\name", PF, \error, \address
.endm

main:
    mov %cr0, %rax
    or $CR0_WP, %rax
    mov %rax, %cr0
    movl $EFER, %ecx
    rdmsr
    orl $EFER_NXE, %eax
    wrmsr
    movl $TABLE, %edi
    movl $PAGE(0) + 7, %eax
    movl $512, %ecx
1:  mov %rax, (%rdi)
    addl $8, %edi
    addl $0x1000, %eax
    loop 1b
    movl $PDPT_HIGH, %edi
    xorl %eax, %eax
    movl $0x400, %ecx
    rep stosq
    movl $TABLE + 7, PD0 + 16
    movl $PD_HIGH + 7, PDPT_HIGH
    movl $0x00800087, PD_HIGH
    movl $PDPT_HIGH + 7, PML4 + 256 * 8
    movl $PDPT_HIGH + 7, PML4 + 511 * 8
    SETENTRY PML4, PDPT+7

    // ---- Accessed and dirty --------------------------------------------------------------------------------------------
    SETENTRY PDPT, PD0+7
    mov PAGE(0), %rax
    CHECK "read sets A", PTE(0), PAGE(0)+7+A
    CHECK "A in the directory", PD0+16, TABLE+7+A
    CHECK "A in the pointer table", PDPT, PD0+7+A
    CHECK "A in the PML4", PML4, PDPT+7+A
    mov %rax, PAGE(0)
    CHECK "write sets D", PTE(0), PAGE(0)+7+A+D
    movl $0x600dcafe, %eax
    movl %eax, 0x812340
    CHECK "2 MB page: D", PD0+32, 0x008000e7
    mov $0xffff800000012340, %rbx
    CHECK "lowest high address", "(%rbx)", 0x600dcafe
    CHECK "its 2 MB page: A", PD_HIGH, 0x008000a7
    mov $0xffffff8000012340, %rbx
    CHECK "through PML4 entry 511", "(%rbx)", 0x600dcafe
    movl $0x87654321, %ecx
    movl %ecx, (%rbx)
    CHECK "write there", 0x812340, 0x87654321

    // ---- Protection at each level ----------------------------------------------------------------------------------------
    SETPTE 1, PAGE(1)+6
    PAGE_FAULT "read, not present", 0, PAGE(1)+8, mov PAGE(1)+8, %rax
    PAGE_FAULT "write, not present", 2, PAGE(1)+9, movb %al, PAGE(1)+9
    FAULT3 "ring 3: read, not present", PF, 4, movb PAGE(1)+9, %al
    FAULT3 "ring 3: write, not present", PF, 6, movb %al, PAGE(1)+9
    SETPTE 1, PAGE(1)+3
    FAULT3 "ring 3: supervisor page", PF, 5, movb PAGE(1), %al
    SETPTE 1, PAGE(1)+5
    FAULT3 "ring 3: read-only page", PF, 7, movb %al, PAGE(1)
    PAGE_FAULT "ring 0: read-only page", 3, PAGE(1), movb %al, PAGE(1)
    SETPTE 1, PAGE(1)+7
    SETENTRY PD0+16, TABLE+3
    FAULT3 "ring 3: supervisor directory entry", PF, 5, movb PAGE(1), %al
    SETENTRY PD0+16, TABLE+5
    PAGE_FAULT "read-only directory entry", 3, PAGE(1), movb %al, PAGE(1)
    SETENTRY PD0+16, TABLE+7
    movb $0xc3, 0x812345
    mov $0xffff800000012345, %rbx
    SETENTRY PDPT_HIGH, PD_HIGH+3
    FAULT3 "ring 3: supervisor pointer entry", PF, 5, movb (%rbx), %al
    SETENTRY PDPT_HIGH, PD_HIGH+5
    FAULT "read-only pointer entry", PF, 3, movb %al, (%rbx)
    SETENTRY PDPT_HIGH, PD_HIGH+6
    FAULT "pointer entry not present", PF, 2, movb %al, (%rbx)
    SETENTRY PDPT_HIGH, PD_HIGH+7
    SETENTRY PML4+256*8, PDPT_HIGH+3
    FAULT3 "ring 3: supervisor PML4 entry", PF, 5, movb (%rbx), %al
    SETENTRY PML4+256*8, PDPT_HIGH+5
    FAULT "read-only PML4 entry", PF, 3, movb %al, (%rbx)
    CHECKQ "CR2 of a high address", rec_cr2, 0xffff800000012345
    SETENTRY PML4+256*8, PDPT_HIGH+6
    FAULT "PML4 entry not present", PF, 0, movb (%rbx), %al
    // Execute-disable at each level.
    .irp level, 0, 1, 2, 3
    SETENTRY PML4+256*8, PDPT_HIGH+7, (\level == 0) * NX
    SETENTRY PDPT_HIGH, PD_HIGH+7, (\level == 1) * NX
    SETENTRY PD_HIGH, 0x800087, (\level == 2) * NX
    .if \level < 3
    TRY
    jmp *%rbx
    EXPECT_IP "NX at level \level of the walk", PF, 0x11, 0x12345
    CHECKQ "level \level: RIP", rec_ip, 0xffff800000012345
    CHECKQ "level \level: CR2", rec_cr2, 0xffff800000012345
    .else
    NOFAULT "NX at no level", call *%rbx
    .endif
    .endr
    SETPTE 2, PAGE(2)+7, NX
    movb $0xc3, PAGE(2)
    FETCH_FAULT "NX page", 0x11, PAGE(2)
    TRY
    call enter_ring3_64
    movl $PAGE(2), %ebx
    jmp *%rbx
    EXPECT_IP "NX page at ring 3", PF, 0x15, PAGE(2)
    SETPTE 2, PAGE(2)+6
    FETCH_FAULT "fetch, not present", 0x10, PAGE(2)
    SETPTE 2, PAGE(2)+7
    movl $PAGE(2), %ebx
    NOFAULT "without NX", call *%rbx

    // ---- Reserved and ignored bits -----------------------------------------------------------------------------------------
    SETPTE 1, PAGE(1)+7, 0x7ff00000
    NOFAULT "bits 52 to 62 are ignored", mov PAGE(1), %rax
    SETPTE 1, PAGE(1)+0xe07
    NOFAULT "bits 9 to 11 are ignored", mov PAGE(1), %rax
    SETPTE 1, PAGE(1)+7
    SETENTRY PD0+32, 0x00802087
    PAGE_FAULT "2 MB page: bit 13", 9, 0x800008, mov 0x800008, %rax
    SETENTRY PD0+32, 0x00900087
    PAGE_FAULT "2 MB page: bit 20", 9, 0x800008, mov 0x800008, %rax
    SETENTRY PD0+32, 0x00801087
    NOFAULT "2 MB page: PAT bit", mov 0x800008, %rax
    SETENTRY PD0+32, 0x00800087
    SETENTRY PML4+256*8, PDPT_HIGH+0x87
    mov $0xffff800000012345, %rbx
    FAULT "PML4 entry: bit 7", PF, 9, movb (%rbx), %al
    SETENTRY PML4+256*8, PDPT_HIGH+7
    movl $0x80000008, %eax
    cpuid
    movzbl %al, %ecx
    cmpl $52, %ecx
    jae 1f
    movl $1, %eax
    shl %cl, %rax
    shr $32, %rax
    movl %eax, PTE(1)+4                 // the first bit past the physical address
    invlpg PAGE(1)
    PAGE_FAULT "first bit past MAXPHYADDR", 9, PAGE(1), mov PAGE(1), %rax
    movl $0x00080000, PTE(1)+4
    invlpg PAGE(1)
    PAGE_FAULT "bit 51", 9, PAGE(1), mov PAGE(1), %rax
    SETPTE 1, PAGE(1)+7
1:  movl $0x80000001, %eax
    cpuid
    testl $0x04000000, %edx
    jnz 1f
    SETENTRY PDPT+8, 0x00000087
    PAGE_FAULT "1 GB page without the feature", 9, 0x40012345, movb 0x40012345, %al
    jmp 2f
1:  SETENTRY PDPT+8, 0x00000087
    movl $0x13572468, 0x812348
    CHECK "1 GB page", 0x40812348, 0x13572468
    SETENTRY PDPT+8, 0x20000087
    PAGE_FAULT "1 GB page: reserved bit 29", 9, 0x40012345, movb 0x40012345, %al
2:  SETENTRY PDPT+8, 0

    // ---- Canonical addresses -------------------------------------------------------------------------------------------------
    mov $0x0000800000000000, %rbx
    FAULT "read", GP, 0, mov (%rbx), %rax
    FAULT "write", GP, 0, mov %rax, (%rbx)
    mov $0xffff7fffffffffff, %rbx
    FAULT "highest non-canonical", GP, 0, movb (%rbx), %al
    mov $0x00007fffffffffff, %rbx
    FAULT "byte at the last canonical address", PF, 0, movb (%rbx), %al
    FAULT "word across the edge", GP, 0, movw (%rbx), %ax
    mov $0x0000800000000000, %rbp
    FAULT "through RBP", SS, 0, mov (%rbp), %rax
    FAULT "through RBP with a DS override", SS, 0, .byte 0x3e, 0x48, 0x8b, 0x45, 0x00
    FAULT "RBP as index", GP, 0, mov (%rax,%rbp), %rax
    movb $1, idt64 + 16 * SS + 4        // with such an RSP the handler needs a stack of its own
    TRY
    mov $0x0000800000000000, %rsp
    AT
    pop %rax
    EXPECT "POP", SS, 0
    TRY
    mov $0x0000800000000010, %rsp
    AT
    push %rax
    EXPECT "PUSH", SS, 0
    TRY
    mov $0x0000800000000010, %rsp
    AT
    call main
    EXPECT "CALL", SS, 0
    CHECKQ "the handler's stack", rec_handler_sp, IST1_TOP
    movb $0, idt64 + 16 * SS + 4
    movl $1, %ecx
    mov $0x0000800000000000, %rsi
    mov $0x0000800000000000, %rdi
    FAULT "LODSQ", GP, 0, lodsq
    FAULT "STOSQ", GP, 0, stosq
    mov $0x0000800000000000, %rbx
    FAULT "JMP", GP, 0, jmp *%rbx
    FAULT "CALL to it", GP, 0, call *%rbx
    TRY
    push %rbx
    AT
    ret
    EXPECT "RET to it", GP, 0
    TRY
    pushq $CS64
    push %rbx
    AT
    lretq
    EXPECT "far RET to it", GP, 0
    NOFAULT "INVLPG of it", invlpg (%rbx)
    NOFAULT "LEA of it", leaq (%rbx), %rax
    NOFAULT "long NOP with it", nopl (%rbx)
    NOFAULT "PREFETCH of it", prefetcht0 (%rbx)
    FAULT "FXSAVE to it", GP, 0, fxsave (%rbx)
    FAULT "LGDT from it", GP, 0, lgdt (%rbx)
    push %rbx
    movl $1, %eax
    cpuid
    pop %rbx
    testl $0x2000, %ecx
    jz 1f
    FAULT "CMPXCHG16B of it", GP, 0, cmpxchg16b (%rbx)
1:
    mov $FS_BASE, %ecx
    xorl %eax, %eax
    movl $0x00008000, %edx
    FAULT "WRMSR of FS base", GP, 0, wrmsr
    movl $GS_BASE, %ecx
    FAULT "WRMSR of GS base", GP, 0, wrmsr
    movl $KERNEL_GS_BASE, %ecx
    FAULT "WRMSR of KernelGSBase", GP, 0, wrmsr
    movl $LSTAR, %ecx
    FAULT "WRMSR of LSTAR", GP, 0, wrmsr
    // A base may take a canonical offset out of the canonical range, or back into it.
    movl $FS_BASE, %ecx
    movl $0xfffff000, %eax
    movl $0x00007fff, %edx
    wrmsr
    movl $0x1000, %ebx
    FAULT "FS base plus offset", GP, 0, movb %fs:(%rbx), %al
    movl $0xfff, %ebx
    FAULT "FS base plus offset, canonical", PF, 0, movb %fs:(%rbx), %al
    movl $FS_BASE, %ecx
    movl $0x00812348, %eax
    xorl %edx, %edx
    wrmsr
    movl $0x13572468, 0x812348
    mov $-8, %rbx
    CHECK "FS base plus negative offset", "%fs:8(%rbx)", 0x13572468
    // Addresses wrap at 64 bits without 67h, at 32 bits with it.
    mov $0xfffffffffff00000, %rbx
    movl 0x912348(%rbx), %eax
    CHECK "base plus displacement wraps", "%eax", 0x13572468
    mov $0x1200812348, %rbx
    CHECK "32-bit address ignores the high half", "(%ebx)", 0x13572468

    // ---- Accesses across pages, restart ---------------------------------------------------------------------------------------
    SETPTE 1, PAGE(1)+6
    mov $0x1111111111111111, %rax
    mov %rax, PAGE(1)-8
    xorl %eax, %eax
    PAGE_FAULT "quadword store across", 2, PAGE(1), mov %rax, PAGE(1)-4
    CHECKQ "the first page is untouched", PAGE(1)-8, 0x1111111111111111
    movups PAGE(1)-16, %xmm0
    PAGE_FAULT "MOVUPS store across", 2, PAGE(1), movups %xmm0, PAGE(1)-8
    CHECKQ "the first page is untouched by it", PAGE(1)-8, 0x1111111111111111
    mov $PAGE(1)-16, %rdi
    movl $5, %ecx
    mov $0x2222222222222222, %rax
    PAGE_FAULT "REP STOSQ", 2, PAGE(1), rep stosq
    CHECKQ "REP STOSQ: RCX", rec_rcx, 3
    CHECKQ "REP STOSQ: RDI", rec_rdi, PAGE(1)
    mov $PAGE(1)-2, %rsi
    mov $0x100000005, %rcx
    PAGE_FAULT "REP LODSB with a 64-bit count", 0, PAGE(1), rep lodsb
    CHECKQ "its RCX", rec_rcx, 0x100000003
    mov $0xff00000600, %rdi
    mov $0x3, %ecx
    xorl %eax, %eax
    .byte 0x67
    rep stosb
    CHECKQ "67h REP STOSB: RDI", "%rdi", 0x603
    CHECKQ "67h REP STOSB: RCX", "%rcx", 0
    SETPTE 1, PAGE(1)+7
    movb $0xa5, PAGE(1)
    SETPTE 3, PAGE(1)+7
    CHECKB "alias", PAGE(3), 0xa5
    mov %cr4, %rax
    or $CR4_PGE, %rax
    mov %rax, %cr4
    SETPTE 3, PAGE(1)+0x107
    movb PAGE(3), %al
    movb $0x5a, PAGE(2)
    movl $PAGE(2)+0x107, PTE(3)
    invlpg PAGE(3)
    CHECKB "INVLPG drops a global page", PAGE(3), 0x5a
    movl $PAGE(1)+0x107, PTE(3)
    mov %cr4, %rax
    and $~CR4_PGE, %rax
    mov %rax, %cr4
    CHECKB "clearing CR4.PGE drops global pages", PAGE(3), 0xa5
    movl $0x80000008, %eax
    cpuid
    cmpb $52, %al
    jae 1f
    mov $0x0008000000000000, %rax
    or $PML4, %rax
    FAULT "MOV to CR3, reserved bit", GP, 0, mov %rax, %cr3
1:  FINISH
