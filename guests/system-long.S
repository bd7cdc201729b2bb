// System calls, far transfers, interrupts and MSRs in 64-bit mode.
#include "lib.inc"
START_LONG

main:
    movl $EFER, %ecx
    rdmsr
    CHECK "EFER has LME and LMA", "%eax", 0x500
    orl $EFER_SCE, %eax
    wrmsr
    rdmsr
    CHECK "EFER.SCE", "%eax", 0x501
    movl $0, %edx
    movl $0x1000, %eax
    FAULT "EFER reserved", GP, 0, wrmsr
    movl $EFER, %ecx
    movl $1, %eax
    FAULT "EFER.LME with paging", GP, 0, wrmsr
    // MSR canonical checks
    movl $LSTAR, %ecx
    movl $0x00008000, %edx
    xorl %eax, %eax
    FAULT "LSTAR non-canonical", GP, 0, wrmsr
    movl $GS_BASE, %ecx
    FAULT "GS base non-canonical", GP, 0, wrmsr
    movl $0xffff8000, %edx
    movl $0x12345678, %eax
    wrmsr
    movl $KERNEL_GS_BASE, %ecx
    movl $0x11223344, %eax
    movl $0x55, %edx
    wrmsr
    swapgs
    movl $GS_BASE, %ecx
    rdmsr
    CHECK "SWAPGS low", "%eax", 0x11223344
    CHECK "SWAPGS high", "%edx", 0x55
    swapgs
    rdmsr
    CHECK "SWAPGS back", "%edx", 0xffff8000
    movl $0x12345, %ecx
    FAULT "unknown MSR", GP, 0, rdmsr
    FAULT "unknown MSR write", GP, 0, wrmsr
    FAULT3 "SWAPGS at ring 3", GP, 0, swapgs
    FAULT3 "RDMSR at ring 3", GP, 0, rdmsr
    FAULT3 "HLT at ring 3", GP, 0, hlt
    FAULT3 "MOV CR0 at ring 3", GP, 0, movq %cr0, %rax
    FAULT3 "INVLPG at ring 3", GP, 0, invlpg 0
    NOFAULT3 "RDTSC at ring 3", rdtsc
    mov %cr4, %rax
    or $CR4_TSD, %rax
    mov %rax, %cr4
    FAULT3 "RDTSC with TSD", GP, 0, rdtsc
    FAULT3 "RDTSCP with TSD", GP, 0, rdtscp
    NOFAULT "RDTSC with TSD at ring 0", rdtsc
    mov %cr4, %rax
    and $~CR4_TSD, %rax
    mov %rax, %cr4
    // control registers
    mov $0x100000000, %rax
    FAULT "CR0 upper half", GP, 0, movq %rax, %cr0
    FAULT "CR4 upper half", GP, 0, movq %rax, %cr4
    mov $0x800000, %rax
    FAULT "CR4 reserved", GP, 0, movq %rax, %cr4
    mov %cr4, %rax
    and $~CR4_PAE, %rax
    FAULT "CR4.PAE in long mode", GP, 0, movq %rax, %cr4
    mov %cr0, %rax
    btr $31, %rax
    FAULT "CR0.PG off in 64-bit code", GP, 0, movq %rax, %cr0
    mov $0x8000000000000000, %rax
    FAULT "CR3 reserved", GP, 0, movq %rax, %cr3
    mov $16, %eax
    FAULT "CR8 16", GP, 0, movq %rax, %cr8
    // SS has a base that 64-bit code ignores
    SETDESC 40, 0x100000, 0xfffff, 0x92, 0xc
    movw $SEL(40), %ax
    movw %ax, %ss
    push $0x5a5a1234
    CHECK "PUSH ignores the base of SS", "(%rsp)", 0x5a5a1234
    movl $0x1234abcd, (%rsp)
    pop %rax
    CHECK "POP ignores the base of SS", "%eax", 0x1234abcd
    movw $DS64, %ax
    movw %ax, %ss
    // AMD's performance counters hold values
    cmpb $0, vendor_amd
    je 1f
    cmpb $0, on_kvm
    jne 1f
    movl $0xc0010000, %ecx
    NOFAULT "PerfEvtSel0", rdmsr
    movl $0xc0010007, %ecx
    movl $0xfffffedc, %eax
    movl $0xffffffff, %edx
    wrmsr
    rdmsr
    CHECK "PerfCtr3 low", "%eax", 0xfffffedc
    CHECK "PerfCtr3 high", "%edx", 0xffff
    movl $3, %ecx
    rdpmc
    CHECK "RDPMC 3", "%eax", 0xfffffedc
    movl $0xc0010008, %ecx
    FAULT "beyond PerfCtr3", GP, 0, rdmsr
1:
    // SYSCALL
    movl $STAR, %ecx
    xorl %eax, %eax
    movl $0x001b0038, %edx            // SYSRET base 1b: CS 2b, SS 23; SYSCALL CS 38 SS 40
    wrmsr
    movl $LSTAR, %ecx
    movl $1f, %eax
    xorl %edx, %edx
    wrmsr
    movl $FMASK, %ecx
    movl $0x700, %eax
    wrmsr
    stc
    std
    syscall
9:  hlt
1:  movw %cs, %ax
    CHECKW "SYSCALL CS", "%ax", 0x38
    movw %ss, %ax
    CHECKW "SYSCALL SS", "%ax", 0x40
    CHECKF "SYSCALL flags", 0x701, 0x1
    CHECK "SYSCALL RCX", "%ecx", 9b
    movl %r11d, %eax
    andl $0x703, %eax
    CHECK "SYSCALL R11", "%eax", 0x403
    cld
    // SYSRET to ring 3, come back by INT 40
    TRY
    movl $1f, %ecx
    movl $0x202, %r11d
    .byte 0x48
    sysret
1:  movw %cs, %ax
    movw %ss, %bx
    int $SYS_VECTOR
    EXPECT_IP "SYSRET and INT 40", SYS_VECTOR, NONE, -1
    movw rec_cs, %ax
    CHECKW "SYSRET CS", "%ax", 0x2b
    movl rec_flags, %eax
    CHECK "SYSRET flags", "%eax", 0x202
    TRY
    movl $1f, %ecx
    movl $0x202, %r11d
    sysret
    .code32
1:  int $SYS_VECTOR
    .code64
    EXPECT_IP "SYSRET to compatibility mode", SYS_VECTOR, NONE, -1
    movw rec_cs, %ax
    CHECKW "SYSRET compat CS", "%ax", 0x1b
    mov $0x800000000000, %rcx
    cmpb $1, vendor_amd
    je 2f
    FAULT "SYSRET to non-canonical", GP, 0, .byte 0x48, 0x0f, 0x07
2:
    // SYSENTER
    movl $IA32_SYSENTER_CS, %ecx
    movl $0x38, %eax
    xorl %edx, %edx
    wrmsr
    movl $IA32_SYSENTER_ESP, %ecx
    movl $0xf00, %eax
    wrmsr
    movl $IA32_SYSENTER_EIP, %ecx
    movl $1f, %eax
    wrmsr
    cmpb $1, vendor_amd
    je 2f
    mov %rsp, %rbp
    sysenter
1:  CHECK "SYSENTER RSP", "%esp", 0xf00
    mov %rbp, %rsp
    movw %ss, %ax
    CHECKW "SYSENTER SS", "%ax", 0x40
    jmp 3f
2:  FAULT "SYSENTER on AMD in long mode", UD, NONE, sysenter
    FAULT "SYSEXIT on AMD in long mode", UD, NONE, sysexit
3:
    // #UD in 64-bit
    FAULT "PUSH ES", UD, NONE, .byte 0x06
    FAULT "LDS", UD, NONE, .byte 0xc5, 0
    FAULT "far JMP direct", UD, NONE, .byte 0xea, 0, 0, 0, 0, 0, 0
    FAULT "INTO", UD, NONE, .byte 0xce
    FAULT "ARPL is MOVSXD, DAA", UD, NONE, .byte 0x27
    FAULT "MOV to CS", UD, NONE, .byte 0x8e, 0xc8
    FAULT "XGETBV", UD, NONE, .byte 0x0f, 0x01, 0xd0
    FAULT "MONITOR", UD, NONE, .byte 0x0f, 0x01, 0xc8
    FAULT "RSM", UD, NONE, .byte 0x0f, 0xaa
    FAULT "UD2", UD, NONE, ud2
    // null SS
    xorl %eax, %eax
    NOFAULT "null SS at ring 0", movw %ax, %ss
    movw $DS64, %ax
    movw %ax, %ss
    xorl %eax, %eax
    FAULT3 "null SS at ring 3", GP, 0, movw %ax, %ss
    FAULT "DS past the table", GP, 0xfffc, movw bad_selector, %ds
    // Stack faults
    mov %rsp, %rbp
    mov $0x800000000000, %rax
    FAULT "non-canonical GP", GP, 0, movb (%rax), %bl
    mov $0x800000000000, %r8
    FAULT "non-canonical SS by RBP base", GP, 0, movb (%r8), %bl
    // IRETQ to the same ring pops SS:RSP
    mov %rsp, %rbp
    pushq $DS64
    pushq $0xe00
    pushfq
    pushq $CS64
    pushq $1f
    iretq
1:  CHECK "IRETQ loads RSP", "%esp", 0xe00
    mov %rbp, %rsp
    pushq $0
    push %rbp
    pushfq
    pushq $CS64
    pushq $1f
    iretq
1:  movw %ss, %ax
    CHECKW "IRETQ null SS", "%ax", 0
    movw $DS64, %ax
    movw %ax, %ss
    mov %rbp, %rsp
    // IRETQ with NT
    pushfq
    orl $FL_NT, (%rsp)
    popfq
    FAULT "IRETQ with NT", GP, 0, iretq
    pushfq
    andl $~FL_NT, (%rsp)
    popfq
    // interrupt aligns the stack
    mov %rsp, %rbp
    and $~15, %rsp
    sub $8, %rsp
    TRY
    AT
    ud2
    EXPECT "UD with a misaligned stack", UD, NONE
    mov %rbp, %rsp
    // IST
    movb $1, idt64 + 16 * UD + 4
    FAULT "UD through IST", UD, NONE, ud2
    movb $0, idt64 + 16 * UD + 4
    // far RET and call gates
    pushq $CS64
    pushq $1f
    lretq
1:  CHECK "far RET", "%esp", STACK_TOP
    // LAR, LSL
    movl $CS64, %eax
    lar %eax, %ebx
    CHECKF "LAR finds code", FL_ZF, FL_ZF
    CHECK "LAR code", "%ebx", 0x00af9b00
    movl $TSS_SEL, %eax
    lsl %eax, %ebx
    CHECK "LSL of TSS", "%ebx", 103
    xorl %eax, %eax
    lar %eax, %ebx
    CHECKF "LAR of null", FL_ZF, 0
    movl $DS64, %eax
    verw %ax
    CHECKF "VERW data", FL_ZF, FL_ZF
    movl $CS64, %eax
    verw %ax
    CHECKF "VERW code", FL_ZF, 0
    str %eax
    CHECK "STR", "%eax", TSS_SEL
    smsw %eax
    mov %cr0, %rbx
    sub %rax, %rbx
    CHECK "SMSW is CR0", "%ebx", 0
    // debug
    mov $0x100000000, %rax
    FAULT "DR7 upper half", GP, 0, movq %rax, %db7
    movl $0x2000, %eax
    mov %rax, %dr7
    FAULT "DR7.GD", DB, NONE, movq %db0, %rax
    mov %dr6, %rax
    CHECK "DR6.BD", "%eax", 0xffff2ff0
    mov %dr7, %rax
    CHECK "GD cleared", "%eax", 0x400
    mov $0xffff0ff0, %eax
    mov %rax, %dr6
    // single step
    TRY
    pushfq
    orl $FL_TF, (%rsp)
    popfq
    nop
77: nop
    EXPECT "single step", DB, NONE
    mov %dr6, %rax
    CHECK "DR6.BS", "%eax", 0xffff4ff0
    // MOV SS shadow delays the trap
    movw $DS64, %cx
    TRY
    pushfq
    orl $FL_TF, (%rsp)
    popfq
    movw %cx, %ss
    nop
77: nop
    EXPECT "single step over MOV SS", DB, NONE
    // data breakpoint
    movl $scratch, %eax
    mov %rax, %dr0
    movl $0xd0002, %eax
    mov %rax, %dr7
    TRY
    movl $1, scratch
77: nop
    EXPECT "data breakpoint", DB, NONE
    mov %dr6, %rax
    CHECK "DR6.B0", "%eax", 0xffff4ff1
    // instruction breakpoint
    movl $78f, %eax
    mov %rax, %dr0
    movl $2, %eax
    mov %rax, %dr7
    TRY
    nop
78:
77: nop
    EXPECT "instruction breakpoint", DB, NONE
    xorl %eax, %eax
    mov %rax, %dr7
    // compatibility-mode code at ring 0
    pushq $CS32
    pushq $1f
    lretq
    .code32
1:  movl %cs, %eax

    cmpl $CS32, %eax
    ljmp $CS64, $2f
    .code64
2:  CHECK "compatibility mode CS", "%eax", CS32
    // interrupt in compat mode at ring 0
    FINISH

.data
bad_selector: .word 0xffff
scratch: .long 0, 0
