// 32-bit protected mode: system registers and instructions, who may use them, MSRs, SYSENTER and SYSCALL.
#include "lib.inc"
START_PROTECTED

.macro SET_CR4 bits
    movl %cr4, %eax
    orl $(\bits), %eax
    movl %eax, %cr4
.endm
.macro CLEAR_CR4 bits
    movl %cr4, %eax
    andl $~(\bits), %eax
    movl %eax, %cr4
.endm
.macro READ_MSR msr
    movl $\msr, %ecx
    rdmsr
.endm
.macro WRITE_MSR msr, low, high=0
    movl $\msr, %ecx
    movl $\low, %eax
    movl $\high, %edx
    wrmsr
.endm
.macro MSR_FAULT name, msr, low, high=0
    movl $\msr, %ecx
    movl $\low, %eax
    movl $\high, %edx
    FAULT "\name", GP, 0, wrmsr
.endm

main:
    // ---- Ring 3 ----------------------------------------------------------------------------------------------------------
    FAULT3 "ring 3: HLT", GP, 0, hlt
    FAULT3 "ring 3: CLI", GP, 0, cli
    FAULT3 "ring 3: STI", GP, 0, sti
    FAULT3 "ring 3: LGDT", GP, 0, lgdtl gdt_pointer
    FAULT3 "ring 3: LIDT", GP, 0, lidtl idt32_pointer
    FAULT3 "ring 3: LMSW", GP, 0, lmsw %ax
    FAULT3 "ring 3: CLTS", GP, 0, clts
    FAULT3 "ring 3: MOV from CR0", GP, 0, movl %cr0, %eax
    FAULT3 "ring 3: MOV to CR0", GP, 0, movl %eax, %cr0
    FAULT3 "ring 3: MOV from CR2", GP, 0, movl %cr2, %eax
    FAULT3 "ring 3: MOV from CR3", GP, 0, movl %cr3, %eax
    FAULT3 "ring 3: MOV to CR4", GP, 0, movl %eax, %cr4
    FAULT3 "ring 3: RDMSR", GP, 0, rdmsr
    FAULT3 "ring 3: WRMSR", GP, 0, wrmsr
    FAULT3 "ring 3: INVD", GP, 0, invd
    FAULT3 "ring 3: WBINVD", GP, 0, wbinvd
    FAULT3 "ring 3: INVLPG", GP, 0, invlpg 0
    FAULT3 "ring 3: IN", GP, 0, inb $0x80, %al
    FAULT3 "ring 3: OUT", GP, 0, outb %al, $0x80
    FAULT3 "ring 3: INS", GP, 0, insb
    FAULT3 "ring 3: OUTS", GP, 0, outsb
    FAULT3 "ring 3: REP OUTS with count 0", GP, 0, rep outsb
    NOFAULT3 "ring 3: SGDT", sgdtl 0x700
    NOFAULT3 "ring 3: SIDT", sidtl 0x700
    NOFAULT3 "ring 3: SMSW", smswl %eax
    NOFAULT3 "ring 3: CPUID", cpuid
    NOFAULT3 "ring 3: RDTSC", rdtsc
    NOFAULT3 "ring 3: PUSHF, POPF", .byte 0x9c, 0x9d
    FAULT3 "ring 3: SYSEXIT", GP, 0, sysexit
    movl $2, user_flags

    // ---- Control registers --------------------------------------------------------------------------------------------------
    movl %cr0, %ebx
    CHECK "CR0: CD and NW from reset, ET, PE", "%ebx", 0x60000011
    movl $0x20000011, %eax
    FAULT "CR0.NW without CD", GP, 0, movl %eax, %cr0
    movl $0x80000010, %eax
    FAULT "CR0.PG without PE", GP, 0, movl %eax, %cr0
    movl %cr0, %eax
    CHECK "CR0 is unchanged", "%eax", 0x60000011
    movl $0x60050033, %eax
    movl %eax, %cr0
    movl %cr0, %eax
    CHECK "CR0: CD, NW, AM, WP, NE, MP", "%eax", 0x60050033
    movl $0x00000011, %eax
    movl %eax, %cr0
    movl $0x1ffaffc1, %eax
    movl %eax, %cr0
    movl %cr0, %eax
    CHECK "CR0: reserved bits are ignored", "%eax", 0x11
    movl $0x00000001, %eax
    movl %eax, %cr0
    movl %cr0, %eax
    CHECK "CR0.ET stays set", "%eax", 0x11
    movl $0xdeadbeef, %eax
    movl %eax, %cr2
    movl %cr2, %ebx
    CHECK "CR2 can be written", "%ebx", 0xdeadbeef
    movl $0x00123018, %eax
    movl %eax, %cr3
    movl %cr3, %ebx
    CHECK "CR3 keeps address, PWT, PCD", "%ebx", 0x00123018
    xorl %eax, %eax
    movl %eax, %cr3
    movl %cr4, %eax
    CHECK "CR4", "%eax", 0
    movl $0x80000000, %eax
    FAULT "CR4 bit 31", GP, 0, movl %eax, %cr4
    movl $0x00008000, %eax
    FAULT "CR4 bit 15", GP, 0, movl %eax, %cr4
    SET_CR4 CR4_TSD | CR4_DE | CR4_PSE | CR4_PAE | CR4_PGE | CR4_PCE | CR4_OSFXSR | CR4_OSXMMEXCPT
    movl %cr4, %eax
    CHECK "CR4: TSD, DE, PSE, PAE, PGE, PCE, OSFXSR, OSXMMEXCPT", "%eax", 0x7bc
    xorl %eax, %eax
    movl %eax, %cr4
    movl $0x12345678, %ecx
    .byte 0x0f, 0x20, 0x05              // MOV EBP, CR0: the MOD bits do not matter
    CHECK "MOV from CR0 with MOD 0", "%ebp", 0x11
    movl $0x7777, %eax
    .byte 0x0f, 0x22, 0x50, 0x90        // MOV CR2, EAX with MOD 1; NOP, no displacement
    movl %cr2, %ebx
    CHECK "MOV to CR2 with MOD 1", "%ebx", 0x7777
    .byte 0x66, 0x0f, 0x20, 0xd1        // the operand size does not matter
    CHECK "MOV from CR2 with 66h", "%ecx", 0x7777
    movw $0xfff1, %ax
    lmsw %ax
    movl %cr0, %eax
    CHECK "LMSW writes four bits", "%eax", 0x11
    movw $0xffff, %ax
    lmsw %ax
    movl %cr0, %eax
    CHECK "LMSW sets MP, EM, TS", "%eax", 0x1f
    xorl %eax, %eax
    lmsw %ax
    movl %cr0, %eax
    CHECK "LMSW cannot clear PE", "%eax", 0x11
    movl $0x0008, 0x700
    lmsw 0x700
    clts
    movl %cr0, %eax
    CHECK "LMSW from memory, CLTS", "%eax", 0x11
    movl $-1, 0x700
    smsw 0x700
    CHECK "SMSW to memory writes a word", "0x700", 0xffff0011
    movl $-1, %eax
    smsww %ax
    CHECK "SMSW to a 16-bit register", "%eax", 0xffff0011
    movl %cr0, %eax
    orl $0x00050000, %eax
    movl %eax, %cr0
    smswl %ebx
    CHECK "SMSW to a 32-bit register", "%ebx", 0x00050011
    movl $0x11, %eax
    movl %eax, %cr0

    // ---- Descriptor tables -----------------------------------------------------------------------------------------------------
    sgdtl 0x700
    CHECKW "SGDT: limit", "0x700", 0x1ff
    CHECK "SGDT: base", "0x702", gdt
    sidtl 0x708
    CHECKW "SIDT: limit", "0x708", VECTORS*8-1
    CHECK "SIDT: base", "0x70a", idt32
    movw $0x123, 0x710
    movl $0xfedcba98, 0x712
    lgdtl 0x710
    sgdtl 0x718
    lgdtl 0x700
    CHECK "LGDT: base", "0x71a", 0xfedcba98
    CHECKW "LGDT: limit", "0x718", 0x123
    .byte 0x66
    lidtl 0x710
    sidtl 0x718
    lidtl 0x708
    CHECK "LIDT with 16-bit operand: 24 bits of base", "0x71a", 0x00dcba98
    movl $0x11111111, 0x71c
    sgdtl 0x718
    CHECKW "SGDT writes six bytes", "0x71e", 0x1111
    FAULT "LGDT with a register", UD, NONE, .byte 0x0f, 0x01, 0xd7
    FAULT "SIDT with a register", UD, NONE, .byte 0x0f, 0x01, 0xcf
    movl $-1, %eax
    strw %ax
    CHECK "STR to a 16-bit register", "%eax", 0xffff0000+TSS_SEL
    strl %eax
    CHECK "STR to a 32-bit register", "%eax", TSS_SEL
    movl $-1, 0x700
    sldtw 0x700
    CHECK "SLDT to memory writes a word", "0x700", 0xffff0000

    // ---- Flags --------------------------------------------------------------------------------------------------------------------
    pushl $0xffffffff & ~(FL_TF | FL_VM)
    popfl
    pushfl
    popl %eax
    pushl $2
    popfl
    CHECK "POPF at ring 0", "%eax", 0x00247ed7
    pushw $0x4003
    popfw
    CHECKF "POPFW", 0xffff, 0x4003
    pushl $2
    popfl
    movl $FL_ID | 2, user_flags
    TRY
    calll enter_ring3_32
    pushl $FL_AC | 2
    popfl
    pushfl
    popl %eax
    int $SYS_VECTOR
    EXPECT_ANY_IP "ring 3 changes ID and AC", SYS_VECTOR
    CHECK "its EFLAGS", "%eax", FL_AC | 2
    movl $2, user_flags

    // ---- Time ---------------------------------------------------------------------------------------------------------------------
    SET_CR4 CR4_TSD
    NOFAULT "RDTSC at ring 0 with TSD", rdtsc
    FAULT3 "RDTSC at ring 3 with TSD", GP, 0, rdtsc
    xorl %eax, %eax
    movl %eax, %cr4
    rdtsc
    movl %eax, %ebx
    movl %edx, %esi
    movl $100, %ecx
1:  loop 1b
    rdtsc
    subl %ebx, %eax
    sbbl %esi, %edx
    CHECK "RDTSC goes forward, high half", "%edx", 0
    cmpl $0, %eax
    seta %al
    CHECKB "RDTSC goes forward", "%al", 1
    WRITE_MSR 0x10, 0x12345678, 0
    rdtsc
    subl $0x12345678, %eax
    CHECK "TSC after WRMSR: high half", "%edx", 0
    cmpl $0x10000000, %eax
    setb %al
    CHECKB "TSC after WRMSR: low half", "%al", 1
    FAULT3 "RDPMC at ring 3", GP, 0, rdpmc
    movl $0x1000, %ecx
    FAULT "RDPMC of no counter", GP, 0, rdpmc

    // ---- MSRs ------------------------------------------------------------------------------------------------------------------------
    movl $0x12345678, %ecx
    FAULT "RDMSR of no MSR", GP, 0, rdmsr
    FAULT "WRMSR of no MSR", GP, 0, wrmsr
    movl $0x80000001, %eax
    cpuid
    testl $0x20000800, %edx             // LM or SYSCALL
    jz 1f
    MSR_FAULT "EFER: reserved bit", EFER, 0x80000000
    MSR_FAULT "EFER: reserved high bit", EFER, 0, 1
    WRITE_MSR EFER, EFER_SCE
    READ_MSR EFER
    CHECK "EFER.SCE", "%eax", EFER_SCE
    WRITE_MSR EFER, EFER_LMA
    READ_MSR EFER
    CHECK "EFER.LMA cannot be written", "%eax", 0
    WRITE_MSR STAR, 0x11223344, 0x55667788
    xorl %eax, %eax
    READ_MSR STAR
    CHECK "STAR low", "%eax", 0x11223344
    CHECK "STAR high", "%edx", 0x55667788
1:  movl $1, %eax
    cpuid
    testl $0x10000, %edx                // PAT
    jz 1f
    READ_MSR 0x277
    CHECK "PAT after reset, low", "%eax", 0x00070406
    CHECK "PAT after reset, high", "%edx", 0x00070406
    MSR_FAULT "PAT: reserved type", 0x277, 0x00070402, 0x00070406
1:  movl $1, %eax
    cpuid
    testl $0x800, %edx                  // SEP
    jnz sysenter_checks
    SKIP "SYSENTER", "not in CPUID"
    jmp no_sysenter

    // ---- SYSENTER and SYSEXIT ---------------------------------------------------------------------------------------------------------
sysenter_checks:
    WRITE_MSR IA32_SYSENTER_CS, 0
    FAULT "SYSENTER with CS 0", GP, 0, sysenter
    FAULT3 "SYSENTER with CS 0, ring 3", GP, 0, sysenter
    FAULT "SYSEXIT with CS 0", GP, 0, sysexit
    WRITE_MSR IA32_SYSENTER_CS, 3
    FAULT "SYSENTER with CS 3", GP, 0, sysenter
    WRITE_MSR IA32_SYSENTER_CS, CS32
    WRITE_MSR IA32_SYSENTER_ESP, RING0_TOP-0x200
    WRITE_MSR IA32_SYSENTER_EIP, 0
    movl $sysenter_target, %eax
    wrmsr
    READ_MSR IA32_SYSENTER_ESP
    CHECK "IA32_SYSENTER_ESP", "%eax", RING0_TOP-0x200
    movl $FL_IOPL | FL_IF | FL_CF | 2, user_flags
    movl $1f, return_address
    TRY
    calll enter_ring3_32
    sysenter
    ud2
1:  movl %cs, %eax
    movl %ss, %edx
    movl %esp, %esi
    pushfl
    popl %edi
    int $SYS_VECTOR
    EXPECT_ANY_IP "SYSENTER and SYSEXIT", SYS_VECTOR
    movl $2, user_flags
    CHECKW "SYSENTER: CS", "0x700", CS32
    CHECKW "SYSENTER: SS", "0x704", DS32
    CHECK "SYSENTER: ESP", "0x708", RING0_TOP-0x200
    CHECK "SYSENTER clears IF only", "0x70c", FL_IOPL | FL_CF | 2
    CHECKW "SYSENTER leaves DS", "0x710", DS32_3
    CHECK "SYSEXIT: CS", "%eax", CS32_3
    CHECK "SYSEXIT: SS", "%edx", DS32_3
    CHECK "SYSEXIT: ESP", "%esi", RING3_TOP-0x100
    andl $FL_IOPL | FL_IF, %edi
    CHECK "SYSEXIT leaves IOPL and IF", "%edi", FL_IOPL
    WRITE_MSR IA32_SYSENTER_CS, CS32 + 3
    movl $1f, return_address
    TRY
    calll enter_ring3_32
    sysenter
1:  int $SYS_VECTOR
    EXPECT_ANY_IP "SYSENTER ignores the RPL in the MSR", SYS_VECTOR
    CHECKW "its CS", "0x700", CS32
    WRITE_MSR IA32_SYSENTER_CS, SEL(20)
    TRY
    sysenter
    nop
    EXPECT_ANY_IP "SYSENTER needs no descriptors", SYS_VECTOR
    CHECKW "CS from the MSR", "0x700", SEL(20)
    CHECKW "SS from the MSR", "0x704", SEL(21)
no_sysenter:

    // ---- SYSCALL outside long mode --------------------------------------------------------------------------------------------------------
    movl $0x80000001, %eax
    cpuid
    testl $0x20000800, %edx
    jz 1f
    WRITE_MSR EFER, 0
1:  FAULT3 "SYSCALL without SCE", UD, NONE, syscall
    FAULT "SYSRET without SCE", UD, NONE, sysretl
    movl $0x80000001, %eax
    cpuid
    testl $0x20000800, %edx
    jz 2f
    cmpb $0, vendor_amd
    jne 1f
    WRITE_MSR EFER, EFER_SCE
    FAULT3 "SYSCALL outside 64-bit mode (Intel)", UD, NONE, syscall
    FAULT "SYSRET outside 64-bit mode (Intel)", UD, NONE, sysretl
    jmp 2f
1:  movl $0x80000001, %eax
    cpuid
    testl $0x800, %edx
    jz 2f
    WRITE_MSR EFER, EFER_SCE
    movl $STAR, %ecx
    movl $syscall_target, %eax
    movl $((CS32_3 - 3) << 16) + CS32, %edx
    wrmsr
    movl $FL_IOPL | FL_IF | FL_CF | 2, user_flags
    TRY
    calll enter_ring3_32
    syscall
1:  movl %cs, %eax
    movl %ss, %edx
    pushfl
    popl %edi
    int $SYS_VECTOR
    EXPECT_ANY_IP "SYSCALL and SYSRET (AMD)", SYS_VECTOR
    movl $2, user_flags
    CHECKW "SYSCALL: CS", "0x700", CS32
    CHECKW "SYSCALL: SS", "0x704", DS32
    CHECK "SYSCALL: ESP stays", "0x708", RING3_TOP
    CHECK "SYSCALL clears IF", "0x70c", FL_IOPL | FL_CF | 2
    CHECK "SYSCALL: ECX is the return address", "0x710", 1b
    CHECK "SYSRET: CS", "%eax", CS32_3
    CHECK "SYSRET: SS", "%edx", DS32_3
    CHECK "SYSRET sets IF", "%edi", FL_IOPL | FL_IF | FL_CF | 2
    FAULT3 "SYSRET at ring 3", GP, 0, sysretl
2:  // ---- Identification ----------------------------------------------------------------------------------------------------------------------
    xorl %eax, %eax
    cpuid
    cmpl $1, %eax
    setae %al
    CHECKB "CPUID has leaf 1", "%al", 1
    movl $1, %eax
    cpuid
    andl $0x00000131, %edx
    CHECK "FPU, TSC, MSR, CMPXCHG8B", "%edx", 0x131
    FAULT "INVLPG with a register", UD, NONE, .byte 0x0f, 0x01, 0xff
    NOFAULT "WBINVD", wbinvd
    NOFAULT "INVLPG without paging", invlpg 0x700
    FINISH

sysenter_target:
    movw %cs, 0x700
    movw %ss, 0x704
    movl %esp, 0x708
    pushfl
    popl 0x70c
    movw %ds, 0x710
    cmpw $CS32, 0x700
    jne 1f
    movl $RING3_TOP-0x100, %ecx
    movl return_address, %edx
    sysexit
1:  int $SYS_VECTOR
syscall_target:
    movw %cs, 0x700
    movw %ss, 0x704
    movl %esp, 0x708
    pushfl
    popl 0x70c
    movl %ecx, 0x710
    sysretl
    .data
return_address: .long 0
