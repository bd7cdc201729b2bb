// Virtual-8086 mode: entry and exit, what IOPL guards, privileged instructions, segments, interrupts, VME where CPUID has it.
#include "lib.inc"
START_PROTECTED

#define VEC 0x41
#define V86_SS 0x1200
#define V86_SP 0x1000
#define IOPL3 (FL_IOPL | 2)
#define CR4_VME 1
#define CR4_PVI 2
#define FL_VIF 0x80000
#define FL_VIP 0x100000

// One instruction in virtual-8086 mode with EFLAGS user_flags; UD2 after it leaves the mode.
.macro FAULTV name, vector, error, insn:vararg
    TRY
    calll enter_v86
    .code16
77: \insn
    ud2
    .code32
    EXPECT "\name", \vector, \error
.endm
.macro NOFAULTV name, insn:vararg
    TRY
    calll enter_v86
    .code16
    \insn
77: ud2
    .code32
    EXPECT "\name", UD
.endm
// V86 … code … ENDV86 name: runs to the UD2.
.macro V86
    TRY
    calll enter_v86
    BITS16
.endm
.macro ENDV86 name
77: ud2
    BITS32
    EXPECT "\name", UD
.endm

main:
    movl $0x3333, v86_gs
    movl $0x2222, v86_fs
    movl $0x1111, v86_ds
    movl $0x4444, v86_es
    // ---- Entry and exit ------------------------------------------------------------------------------------------
    V86
    movw %cs, %ax
    movw %ss, %bx
    movw %ds, %cx
    movw %fs, %dx
    movw %gs, %si
    movl %esp, %edi
    smsww %bp
    ENDV86 "entry by IRET"
    CHECKW "CS", "%ax", 0
    CHECKW "SS", "%bx", V86_SS
    CHECKW "DS", "%cx", 0x1111
    CHECKW "FS", "%dx", 0x2222
    CHECKW "GS", "%si", 0x3333
    CHECK "ESP", "%edi", V86_SP
    CHECKW "SMSW sees PE", "%bp", 0x11
    CHECK "EFLAGS pushed have VM", "rec_flags", FL_VM | FL_RF | 2
    CHECK "SS pushed", "rec_ss", V86_SS
    CHECK "ESP pushed", "rec_sp", V86_SP
    CHECK "ES pushed", "rec_es", 0x4444
    CHECK "DS pushed", "rec_ds", 0x1111
    CHECK "FS pushed", "rec_fs", 0x2222
    CHECK "GS pushed", "rec_gs", 0x3333
    CHECK "nine doublewords on the ring 0 stack", "rec_handler_sp", RING0_TOP - 24
    movl $0x11111, 0x600                // the handler sees null selectors
    SETIDT UD, CS32, segments_probe, 0x8e
    TRY
    calll enter_v86
    ud2
    EXPECT_ANY_IP "delivery clears the segments", 0xff
    CHECK "DS, ES, FS, GS", "%edx", 0
    RESETIDT UD
    pushl $FL_VM | 2
    popfl
    CHECKF "POPF at ring 0 does not set VM", FL_VM, 0
    TRY
    calll enter_ring3_32
    pushl $FL_VM | 2
    pushl $CS32_3
    pushl $1f
    iretl
1:  int $SYS_VECTOR
    EXPECT_ANY_IP "IRET at ring 3 ignores VM", SYS_VECTOR
    CHECK "no VM", "rec_flags", 2
    // ---- IOPL 0 --------------------------------------------------------------------------------------------------
    movl $2, user_flags
    FAULTV "CLI", GP, 0, cli
    FAULTV "STI", GP, 0, sti
    FAULTV "PUSHF", GP, 0, pushfw
    FAULTV "POPF", GP, 0, popfw
    FAULTV "PUSHFD", GP, 0, pushfl
    FAULTV "POPFD", GP, 0, popfl
    FAULTV "INT n", GP, 0, int $VEC
    FAULTV "INT n with a gate of DPL 3", GP, 0, int $SYS_VECTOR
    FAULTV "INT 3 (CD 03)", GP, 0, .byte 0xcd, 3
    FAULTV "IRET", GP, 0, iretw
    FAULTV "IRETD", GP, 0, iretl
    CHECK "ESP is unchanged", "rec_sp", V86_SP
    TRY
    calll enter_v86
    .code16
    int3
77: ud2
    .code32
    EXPECT "INT3 needs no IOPL", BP
    movb $0x8e, idt32 + 8 * BP + 5
    FAULTV "INT3, gate DPL 0", GP, BP * 8 + 2, int3
    movb $0xee, idt32 + 8 * BP + 5
    TRY
    calll enter_v86
    .code16
    movb $0x7f, %al
    incb %al
    into
77: ud2
    .code32
    EXPECT "INTO needs no IOPL", OF
    TRY
    calll enter_v86
    .code16
    .byte 0xf1
77: ud2
    .code32
    EXPECT "INT1", DB
    FAULTV "OUT without bitmap", GP, 0, outb %al, $0x80
    FAULTV "IN without bitmap", GP, 0, inb $0x80, %al

    // ---- IOPL 3 --------------------------------------------------------------------------------------------------
    movl $IOPL3, user_flags
    V86
    sti
    pushfw
    popw %ax
    cli
    pushfw
    popw %bx
    pushl $0x00240202
    popfl
    pushfl
    popl %ecx
    pushw $0x4003
    popfw
    pushfw
    popw %dx
    pushl $0x00024002
    popfl
    pushfl
    popl %esi
    pushl $0x00010002
    popfl
    pushfl
    popl %edi
    ENDV86 "flags with IOPL 3"
    CHECKW "STI", "%ax", 0x3202
    CHECKW "CLI", "%bx", 0x3002
    CHECK "POPFD sets AC, ID, IF; keeps IOPL", "%ecx", 0x00243202
    CHECKW "POPF sets NT and CF", "%dx", 0x7003
    CHECK "PUSHFD shows no VM", "%esi", 0x00007002
    CHECK "POPFD sets no RF", "%edi", 0x00003002
    FAULTV "INT n, gate DPL 0", GP, VEC * 8 + 2, int $VEC
    FAULTV "INT n past the IDT limit", GP, 0x90 * 8 + 2, int $0x90
    TRY
    calll enter_v86
    .code16
    int $SYS_VECTOR
77:
    .code32
    EXPECT "INT n, gate DPL 3", SYS_VECTOR
    CHECK "its EFLAGS", "rec_flags", FL_VM | IOPL3
    SETDESC 8, 0, 0xfffff, 0xba, 0xc
    SETIDT VEC, SEL(8) + 1, main, 0xee
    FAULTV "INT n to ring 1", GP, SEL(8), int $VEC
    SETDESC 8, 0, 0xfffff, 0x9e, 0xc
    SETIDT VEC, SEL(8), main, 0xee
    FAULTV "INT n to conforming code", GP, SEL(8), int $VEC
    SETIDT UD, SEL(8), main, 0x8e
    FAULTV "exception to conforming code", GP, SEL(8) + 1, ud2
    RESETIDT UD
    RESETIDT VEC
    V86
    pushw $0x4003
    pushw $0
    pushw $1f
    iretw
1:  pushfw
    popw %ax
    pushl $0x00220002
    pushl $0
    pushl $1f
    iretl
1:  pushfl
    popl %ebx
    ENDV86 "IRET within the mode"
    CHECKW "IRET: FLAGS, IOPL stays", "%ax", 0x7003
    CHECK "IRETD: EFLAGS", "%ebx", 0x00203002
    CHECK "still in the mode", "rec_flags", 0x00233002 | FL_RF
    V86
    pushw $FL_TF | 2
    popfw
    nop
77: ud2
    BITS32
    EXPECT "single step", DB
    CHECK "its EFLAGS", "rec_flags", FL_VM | IOPL3 | FL_TF
    CHECK "CS pushed", "rec_cs", 0
    FAULTV "OUT needs the bitmap even with IOPL 3", GP, 0, outb %al, $0x80
    movw $104, tss32 + 102
    movl $0x8900, gdt + TSS_SEL + 4
    movw $104 + 17, gdt + TSS_SEL
    movw $TSS_SEL, %ax
    ltr %ax
    movl $-1, tss32 + 104 + 16
    andb $~1, tss32 + 104 + 16
    NOFAULTV "OUT, bit clear", outb %al, $0x80
    FAULTV "OUT, bit set", GP, 0, outb %al, $0x81

    // ---- Privileged instructions -----------------------------------------------------------------------------------
    FAULTV "HLT", GP, 0, hlt
    FAULTV "CLTS", GP, 0, clts
    FAULTV "LMSW", GP, 0, lmsw %ax
    FAULTV "MOV to CR0", GP, 0, .byte 0x0f, 0x22, 0xc0
    FAULTV "MOV from CR0", GP, 0, .byte 0x0f, 0x20, 0xc0
    FAULTV "MOV from CR3", GP, 0, .byte 0x0f, 0x20, 0xd8
    FAULTV "MOV to DR7", GP, 0, .byte 0x0f, 0x23, 0xf8
    FAULTV "MOV from DR6", GP, 0, .byte 0x0f, 0x21, 0xf0
    FAULTV "LGDT", GP, 0, lgdtw %ds:0
    FAULTV "LIDT", GP, 0, lidtw %ds:0
    FAULTV "INVLPG", GP, 0, invlpg %ds:0
    FAULTV "WBINVD", GP, 0, wbinvd
    FAULTV "INVD", GP, 0, invd
    FAULTV "RDMSR", GP, 0, rdmsr
    FAULTV "WRMSR", GP, 0, wrmsr
    FAULTV "SLDT", UD, NONE, sldtw %ax
    FAULTV "STR", UD, NONE, strw %ax
    FAULTV "LLDT", UD, NONE, lldt %ax
    FAULTV "LTR", UD, NONE, ltr %ax
    FAULTV "LAR", UD, NONE, larw %ax, %ax
    FAULTV "LSL", UD, NONE, lslw %ax, %ax
    FAULTV "VERR", UD, NONE, verr %ax
    FAULTV "VERW", UD, NONE, verw %ax
    FAULTV "ARPL", UD, NONE, .byte 0x63, 0xc0
    FAULTV "MOV to CS", UD, NONE, .byte 0x8e, 0xc8
    FAULTV "LES with a register", UD, NONE, .byte 0xc4, 0xc0
    NOFAULTV "SGDT", sgdtw %ss:0x10
    NOFAULTV "SIDT", sidtw %ss:0x10
    NOFAULTV "RDTSC", rdtsc
    NOFAULTV "CPUID", cpuid

    // ---- Segments --------------------------------------------------------------------------------------------------
    movl $0x5a5a1234, 0x30010
    movl $0xa5a56789, 0x100000
    V86
    movw $0x3001, %ax
    movw %ax, %ds
    movl %ds:0, %ebx
    movw $0xffff, %ax
    movw %ax, %es
    movl %es:0x10, %ecx
    lcallw $0x100, $far_v86 - 0x1000
    movl %esp, %esi
    ENDV86 "segments as in real mode"
    CHECK "base is selector times 16", "%ebx", 0x5a5a1234
    CHECK "FFFF:0010 is 100000", "%ecx", 0xa5a56789
    CHECK "far CALL: CS", "%edx", 0x100
    CHECK "far RET: ESP", "%esi", V86_SP
    movl $0xffff, %ebx
    FAULTV "word at FFFF", GP, 0, movw %ds:(%bx), %ax
    movl $0xffff, %ebp
    FAULTV "word at FFFF through BP", SS, 0, movw (%bp), %ax
    movl $0x10000, %ebx
    FAULTV "32-bit address past FFFF", GP, 0, movb %ds:(%ebx), %al
    FAULTV "JMP rel32 past FFFF", GP, 0, .byte 0x66, 0xe9, 0, 0, 1, 0
    FAULTV "far JMP past FFFF", GP, 0, ljmpl $0, $0x10000
    movl $0xffff, v86_sp
    FAULTV "POP at SP FFFF", SS, 0, popw %ax
    movl $V86_SP, v86_sp
    xorl %ecx, %ecx
    FAULTV "DIV by 0", DE, NONE, divw %cx

    // ---- Reflection: the monitor steps over HLT and goes back ----------------------------------------------------------
    SETIDT GP, CS32, skip_byte, 0x8e
    xorl %eax, %eax
    V86
    hlt
    incw %ax
    hlt
    incw %ax
    movw %ds, %dx
    ENDV86 "monitor returns to the mode"
    RESETIDT GP
    CHECK "two HLT skipped", "%eax", 2
    CHECKW "DS is restored", "%dx", 0x1111

    // ---- Pages: code in the mode is ring 3 ------------------------------------------------------------------------------
    movl $0x00000087, 0x50000
    movl $0x00400083, 0x50004
    movl %cr4, %eax
    orl $CR4_PSE, %eax
    movl %eax, %cr4
    movl $0x50000, %eax
    movl %eax, %cr3
    movl %cr0, %eax
    orl $CR0_PG, %eax
    movl %eax, %cr0
    NOFAULTV "user page", movb %ss:0, %al
    movl $0x51000, %edi                 // 4 KB pages, of which 30000 is a supervisor's
    movl $7, %eax
    movl $1024, %ecx
1:  movl %eax, (%edi)
    addl $4, %edi
    addl $0x1000, %eax
    loop 1b
    movl $0x30003, 0x51000 + 0x30 * 4
    movl $0x51007, 0x50000
    movl $0x50000, %eax
    movl %eax, %cr3
    movl $0x3000, v86_ds
    FAULTV "supervisor page", PF, 5, movb %ds:0x123, %al
    CHECK "its address", "rec_cr2", 0x30123
    FAULTV "write to a supervisor page", PF, 7, movb %al, %ds:0x123
    movl %cr0, %eax
    andl $~CR0_PG, %eax
    movl %eax, %cr0

    // ---- A task in the mode -----------------------------------------------------------------------------------------------
    SETDESC 11, 0x40000, 103, 0x89
    movl $0x40000, %edi
    xorl %eax, %eax
    movl $26, %ecx
    rep stosl
    movl $task_v86, 0x40000 + 32
    movl $FL_VM | IOPL3, 0x40000 + 36
    movl $V86_SP, 0x40000 + 56
    movl $V86_SS, 0x40000 + 80
    movl $0x3001, 0x40000 + 84
    movl $RING0_TOP, 0x40000 + 4
    movl $DS32, 0x40000 + 8
    movl $0x5a5a1234, 0x30010
    TRY
    ljmp $SEL(11), $0
    EXPECT_IP "task switch into the mode", UD, NONE, task_v86_end
    CHECK "its DS", "%eax", 0x5a5a1234
    movb $0x89, gdt + TSS_SEL + 5
    movl $TSS_SEL, %eax
    ltr %ax

    // ---- VME ----------------------------------------------------------------------------------------------------------
    movl $1, %eax
    cpuid
    testb $2, %dl
    jnz vme
    SKIP "VME", "not in CPUID"
    jmp no_vme
vme:
    movl $2, user_flags
    movl %cr4, %eax
    orl $CR4_VME | CR4_PVI, %eax
    movl %eax, %cr4
    // Interrupt redirection: 32 bytes below the I/O bitmap, which moves up.
    movw $104 + 32, tss32 + 102
    movl $tss32 + 104, %edi
    movl $-1, %eax
    movl $8, %ecx
    rep stosl
    movl $0x8900, gdt + TSS_SEL + 4
    movw $104 + 32 - 1, gdt + TSS_SEL
    movw $TSS_SEL, %ax
    ltr %ax
    FAULTV "VME: INT n, bit set", GP, 0, int $0x21
    andb $~2, tss32 + 104 + 4
    movl $int21_v86, 0x21 * 4
    V86
    sti
    pushfw
    popw %bx
    int $0x21
    pushfw
    popw %cx
    cli
    pushfw
    popw %dx
    ENDV86 "VME: INT n, bit clear"
    CHECKW "the real-mode handler runs", "%ax", 0x2121
    CHECKW "PUSHF shows VIF as IF, IOPL 3", "%bx", 0x3202
    CHECKW "flags that INT pushed", "%si", 0x3202
    CHECKW "INT clears VIF", "%di", 0x3002
    CHECKW "IRET restores VIF", "%cx", 0x3202
    CHECKW "CLI clears VIF", "%dx", 0x3002
    V86
    sti
    ENDV86 "VME: STI"
    CHECK "VIF, not IF", "rec_flags", FL_VM | FL_VIF | FL_RF | 2
    movl $FL_VIP | 2, user_flags
    FAULTV "VME: STI with VIP", GP, 0, sti
    TRY
    calll enter_v86
    BITS16
    pushw $FL_IF | 2
77: popfw
    ud2
    BITS32
    EXPECT "VME: POPF of IF with VIP", GP, 0
    NOFAULTV "VME: CLI with VIP", cli
    movl $2, user_flags
    TRY
    calll enter_v86
    BITS16
    pushw $FL_TF | 2
77: popfw
    ud2
    BITS32
    EXPECT "VME: POPF of TF", GP, 0
    FAULTV "VME: PUSHFD", GP, 0, pushfl
    FAULTV "VME: POPFD", GP, 0, popfl
    FAULTV "VME: IRETD", GP, 0, iretl
    TRY
    calll enter_ring3_32
    sti
    pushfl
    popl %esi
    cli
    int $SYS_VECTOR
    EXPECT_ANY_IP "PVI: STI and CLI at ring 3", SYS_VECTOR
    CHECK "VIF", "%esi", FL_VIF | 2
    CHECK "CLI clears VIF", "rec_flags", 2
    movl $FL_VIP | 2, user_flags
    FAULT3 "PVI: STI with VIP", GP, 0, sti
    movl $2, user_flags
no_vme:
    FINISH

// Goes on after the call in virtual-8086 mode, CS 0; EFLAGS user_flags.
enter_v86:
    popl v86_ip
    pushl v86_gs
    pushl v86_fs
    pushl v86_ds
    pushl v86_es
    pushl $V86_SS
    pushl v86_sp
    pushl user_flags
    orl $FL_VM, (%esp)
    pushl $0
    pushl v86_ip
    iretl

segments_probe:
    movl %ds, %eax
    movl %eax, %edx
    movl %es, %eax
    orl %eax, %edx
    movl %fs, %eax
    orl %eax, %edx
    movl %gs, %eax
    orl %eax, %edx
    movl $DS32, %eax
    movl %eax, %ds
    movl %eax, %es
    movl %eax, %fs
    movl %eax, %gs
    movl rec_resume_sp, %esp
    pushl %edx
    calll no_exception32
    popl %edx
    jmp *rec_resume
skip_byte:
    addl $4, %esp
    incl (%esp)
    iretl
BITS16
far_v86:
    movw %cs, %dx
    movzwl %dx, %edx
    lretw
int21_v86:
    movw $0x2121, %ax
    movw %sp, %bp
    movw 4(%bp), %si
    pushfw
    popw %di
    iretw
task_v86:
    movl %ds:0, %eax
task_v86_end:
    ud2
    .data
v86_ip: .long 0
v86_sp: .long V86_SP
v86_ds: .long 0
v86_es: .long 0
v86_fs: .long 0
v86_gs: .long 0
