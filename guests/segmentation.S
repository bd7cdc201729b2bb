// 32-bit protected mode: segment loads and their faults, limits, types, LAR, LSL, VERR, VERW, ARPL, LDT, 16-bit segments.
#include "lib.inc"
START_PROTECTED

// Loads %\seg with a selector of a descriptor made for it; vector 0: must succeed.
.macro LOAD name, seg, access, vector, rpl=0
    SETDESC 0, 0, 0xfffff, \access, 0xc
    movl $(SEL(0) + \rpl), %eax
    .if \vector
    FAULT "\name", \vector, SEL(0), movl %eax, %\seg
    .else
    TRY
    movl %eax, %\seg
    movl $DS32, %eax
    movl %eax, %\seg
    EXPECT_ANY_IP "\name", 0xff
    .endif
.endm
// Far jump to a selector of a descriptor made for it.
.macro JUMP name, access, vector, rpl=0
    SETDESC 0, 0, 0xfffff, \access, 0xc
    .if \vector
    FAULT "\name", \vector, SEL(0), ljmp $(SEL(0) + \rpl), $78f
78:
    .else
    TRY
    ljmp $(SEL(0) + \rpl), $78f
78: movl %cs, %ebx
    ljmp $CS32, $79f
79:
    EXPECT_ANY_IP "\name", 0xff
    CHECK "\name: CS", "%ebx", SEL(0)
    .endif
.endm
.macro CALLFAR name, access, vector, rpl=0
    SETDESC 0, 0, 0xfffff, \access, 0xc
    FAULT "\name", \vector, SEL(0), lcall $(SEL(0) + \rpl), $main
.endm
// Access through FS with limit and attributes; vector 0: must succeed. Base 30000.
.macro ACCESS name, limit, access, flags, vector, insn:vararg
    SETDESC 1, 0x30000, \limit, \access, \flags
    movl $SEL(1), %eax
    movl %eax, %fs
    .if \vector
    FAULT "\name", \vector, 0, \insn
    .else
    NOFAULT "\name", \insn
    .endif
.endm
// The same at ring 3 with SS, base 30000, and ESP FF8.
.macro ACCESS_SS name, limit, access, flags, vector, insn:vararg
    SETDESC 1, 0x30000, \limit, \access, \flags
    movl $SEL(1) + 3, user_ss
    movl $0xff8, user_sp
    .if \vector
    FAULT3 "\name", \vector, 0, \insn
    .else
    NOFAULT3 "\name", \insn
    .endif
    movl $DS32_3, user_ss
    movl $RING3_TOP, user_sp
.endm
// Runs an instruction for each of the 16 types with P, S and DPL from \access; bit t of the result: ZF for type t.
.macro TYPES name, access, rpl, expected, insn:vararg
    xorl %ebx, %ebx
    movl $15, %ecx
80: SETDESC 0, 0, 0x0ffff, \access, 0
    orb %cl, gdt + SLOT + 5
    movl $(SEL(0) + \rpl), %eax
    \insn
    jnz 81f
    btsl %ecx, %ebx
81: decl %ecx
    jns 80b
    CHECK "\name", "%ebx", \expected
.endm

main:
    // ---- DS ----------------------------------------------------------------------------------------------------
    LOAD "DS data", ds, 0x92, 0
    LOAD "DS read-only data", ds, 0x90, 0
    LOAD "DS expand-down", ds, 0x96, 0
    LOAD "DS readable code", ds, 0x9a, 0
    LOAD "DS execute-only code", ds, 0x98, GP
    LOAD "DS conforming readable code", ds, 0x9e, 0
    LOAD "DS conforming code, RPL 3", ds, 0x9e, 0, 3
    LOAD "DS conforming execute-only", ds, 0x9c, GP
    LOAD "DS not present", ds, 0x12, NP
    LOAD "DS not present, execute-only", ds, 0x18, GP
    LOAD "DS not present, RPL 3", ds, 0x12, GP, 3
    LOAD "DS TSS", ds, 0x89, GP
    LOAD "DS LDT", ds, 0x82, GP
    LOAD "DS call gate", ds, 0x8c, GP
    LOAD "DS RPL 3, DPL 0", ds, 0x92, GP, 3
    LOAD "DS RPL 1, DPL 0", ds, 0x92, GP, 1
    LOAD "DS RPL 1, DPL 1", ds, 0xb2, 0, 1
    LOAD "DS RPL 3, DPL 3", ds, 0xf2, 0, 3
    LOAD "DS DPL 3", ds, 0xf2, 0
    LOAD "DS code, RPL 3, DPL 0", ds, 0x9a, GP, 3
    LOAD "ES not present", es, 0x12, NP
    LOAD "FS execute-only", fs, 0x98, GP
    LOAD "GS RPL 3", gs, 0x92, GP, 3
    movl $0xfff8, %eax
    FAULT "DS past the GDT limit", GP, 0xfff8, movl %eax, %ds
    movl $0x00c, %eax
    FAULT "DS from a null LDT", GP, 0x00c, movl %eax, %ds
    movl $3, %eax
    NOFAULT "null selector with RPL 3", movl %eax, %fs
    movl %fs, %eax
    CHECK "it reads back", "%eax", 3
    FAULT "access through a null segment", GP, 0, movb %fs:0, %al
    xorl %eax, %eax
    movl %eax, %gs
    FAULT "write through a null segment", GP, 0, movb %al, %gs:0x100
    movl $0x1000, %edi
    TRY
    movl %eax, %es
    AT
    stosb
    EXPECT "STOSB with null ES", GP, 0
    TRY
    pushl $SEL(0) + 3
    SETDESC 0, 0, 0xfffff, 0x92, 0xc
    AT
    popl %es
    EXPECT "POP ES", GP, SEL(0)
    CHECK "POP that faults keeps ESP", "rec_sp", STACK_TOP - 4
    movl $0x11223344, 0x600
    movw $SEL(0) + 3, 0x604
    movl $5, %ebx
    FAULT "LES", GP, SEL(0), les 0x600, %ebx
    CHECK "LES that faults keeps the register", "%ebx", 5
    FAULT "LSS", GP, SEL(0), lss 0x600, %ebx
    movw $DS32, 0x604
    lfs 0x600, %ebx
    CHECK "LFS loads", "%ebx", 0x11223344
    CHECK "and its selector", "%fs", DS32

    // ---- SS ----------------------------------------------------------------------------------------------------
    LOAD "SS data", ss, 0x92, 0
    LOAD "SS read-only", ss, 0x90, GP
    LOAD "SS code", ss, 0x9a, GP
    LOAD "SS conforming code", ss, 0x9e, GP
    LOAD "SS not present", ss, 0x12, SS
    LOAD "SS not present read-only", ss, 0x10, GP
    LOAD "SS RPL 3", ss, 0x92, GP, 3
    LOAD "SS DPL 3", ss, 0xf2, GP
    LOAD "SS RPL 3, DPL 3", ss, 0xf2, GP, 3
    LOAD "SS TSS", ss, 0x89, GP
    xorl %eax, %eax
    FAULT "SS null", GP, 0, movl %eax, %ss
    movl $0xfff0, %eax
    FAULT "SS past the GDT limit", GP, 0xfff0, movl %eax, %ss
    movl $0x8c, %eax
    FAULT "SS from a null LDT", GP, 0x8c, movl %eax, %ss

    // ---- CS ----------------------------------------------------------------------------------------------------
    JUMP "JMP code", 0x9a, 0
    JUMP "JMP execute-only code", 0x98, 0
    JUMP "JMP conforming code", 0x9c, 0
    JUMP "JMP conforming code, RPL 3", 0x9e, 0, 3
    JUMP "JMP data", 0x92, GP
    JUMP "JMP not present", 0x1a, NP
    JUMP "JMP not present data", 0x12, GP
    JUMP "JMP RPL 3", 0x9a, GP, 3
    JUMP "JMP DPL 3", 0xfa, GP
    JUMP "JMP DPL 3, RPL 3", 0xfa, GP, 3
    JUMP "JMP DPL 3, not present", 0x7a, GP
    JUMP "JMP conforming DPL 3", 0xfe, GP
    JUMP "JMP conforming, not present", 0x1e, NP
    JUMP "JMP LDT", 0x82, GP
    JUMP "JMP interrupt gate", 0x8e, GP
    JUMP "JMP trap gate", 0x8f, GP
    JUMP "JMP reserved type", 0x88, GP
    CALLFAR "CALL data", 0x92, GP
    CALLFAR "CALL not present", 0x1a, NP
    CALLFAR "CALL DPL 3", 0xfa, GP
    CALLFAR "CALL conforming DPL 3", 0xfe, GP
    FAULT "JMP null", GP, 0, ljmp $0, $main
    FAULT "JMP null with RPL", GP, 0, ljmp $3, $main
    FAULT "JMP past the GDT limit", GP, 0x7f0, ljmp $0x7f0, $main
    SETDESC 0, 0, 0xfff, 0x9a, 4
    FAULT "JMP past the segment limit", GP, 0, ljmp $SEL(0), $0x1000
    FAULT "CALL past the segment limit", GP, 0, lcall $SEL(0), $0x1000
    CHECK "CALL that faults keeps ESP", "rec_sp", STACK_TOP
    movl $0xfffff, %eax
    SETDESC 0, 0x30000, 0xfff, 0x9a, 4
    movl $0x90909090, 0x30ffc
    TRY
    ljmp $SEL(0), $0xffc
    EXPECT_IP "running past the limit", GP, 0, 0x1000
    movl $0xb8909090, 0x30ffc
    TRY
    ljmp $SEL(0), $0xffc
    EXPECT_IP "instruction across the limit", GP, 0, 0xfff
    movl $0x05eb9090, 0x30ffc           // jmp to 1005
    TRY
    ljmp $SEL(0), $0xffc
    EXPECT_IP "near JMP past the limit", GP, 0, 0xffe

    // ---- Accessed bit ------------------------------------------------------------------------------------------
    SETDESC 0, 0, 0xfffff, 0x92, 0xc
    movl $SEL(0), %eax
    larl %eax, %ebx
    verr %ax
    verw %ax
    CHECKB "LAR, VERR and VERW set no accessed bit", gdt+SLOT+5, 0x92
    movl %eax, %fs
    CHECKB "load sets the accessed bit", gdt+SLOT+5, 0x93
    movl $DS32, %eax
    movl %eax, %fs
    SETDESC 0, 0, 0xfffff, 0x98, 0xc
    movl $SEL(0), %eax
    FAULT "failing load", GP, SEL(0), movl %eax, %fs
    CHECKB "sets no accessed bit", gdt+SLOT+5, 0x98
    SETDESC 0, 0, 0xfffff, 0x1a, 0xc
    FAULT "JMP to absent code", NP, SEL(0), ljmp $SEL(0), $main
    CHECKB "sets no accessed bit either", gdt+SLOT+5, 0x1a
    SETDESC 0, 0, 0xfffff, 0x9a, 0xc
    ljmp $SEL(0), $1f
1:  ljmp $CS32, $1f
1:  CHECKB "JMP sets the accessed bit", gdt+SLOT+5, 0x9b
    // A loaded segment does not follow its descriptor.
    SETDESC 0, 0x30000, 0xfff, 0x92, 4
    movl $SEL(0), %eax
    movl %eax, %fs
    SETDESC 0, 0, 0, 0, 0
    movl $0x600dcafe, 0x30010
    CHECK "the hidden part keeps base and limit", "%fs:0x10", 0x600dcafe

    // ---- Limits ------------------------------------------------------------------------------------------------
    ACCESS "byte at the limit", 0xfff, 0x92, 4, 0, movb %fs:0xfff, %al
    ACCESS "byte past the limit", 0xfff, 0x92, 4, GP, movb %fs:0x1000, %al
    ACCESS "word across the limit", 0xfff, 0x92, 4, GP, movw %fs:0xfff, %ax
    ACCESS "dword across the limit", 0xfff, 0x92, 4, GP, movl %fs:0xffd, %eax
    ACCESS "dword at the limit", 0xfff, 0x92, 4, 0, movl %fs:0xffc, %eax
    ACCESS "write past the limit", 0xfff, 0x92, 4, GP, movb %al, %fs:0x1000
    ACCESS "quadword across the limit", 0xfff, 0x92, 4, GP, cmpxchg8b %fs:0xffc
    ACCESS "offset FFFFFFFF", 0xfff, 0x92, 4, GP, movb %fs:0xffffffff, %al
    ACCESS "dword at FFFFFFFE", 0xfff, 0x92, 4, GP, movl %fs:0xfffffffe, %eax
    ACCESS "limit 0 with G is FFF", 0, 0x92, 0xc, 0, movl %fs:0xffc, %eax
    ACCESS "limit 0 with G ends at FFF", 0, 0x92, 0xc, GP, movl %fs:0xffd, %eax
    ACCESS "limit 1 with G is 1FFF", 1, 0x92, 0xc, 0, movl %fs:0x1ffc, %eax
    ACCESS "limit 0: one byte", 0, 0x92, 4, 0, movb %fs:0, %al
    ACCESS "limit 0: no word", 0, 0x92, 4, GP, movw %fs:0, %ax
    ACCESS "limit FFFFF in bytes", 0xfffff, 0x92, 4, GP, movb %fs:0x100000, %al
    ACCESS "expand-down: at its limit", 0xfff, 0x96, 4, GP, movb %fs:0xfff, %al
    ACCESS "expand-down: word across its limit", 0xfff, 0x96, 4, GP, movw %fs:0xfff, %ax
    ACCESS "expand-down: above its limit", 0xfff, 0x96, 4, 0, movb %fs:0x1000, %al
    ACCESS "expand-down: offset 0", 0xfff, 0x96, 4, GP, movb %fs:0, %al
    ACCESS "expand-down B: top of 4 GB", 0xfff, 0x96, 4, 0, movb %fs:0xffffffff, %al
    ACCESS "expand-down 16-bit: FFFF", 0xfff, 0x96, 0, 0, movb %fs:0xffff, %al
    ACCESS "expand-down 16-bit: 10000", 0xfff, 0x96, 0, GP, movb %fs:0x10000, %al
    ACCESS "expand-down 16-bit: word at FFFF", 0xfff, 0x96, 0, GP, movw %fs:0xffff, %ax
    ACCESS "expand-down G: FFF", 0, 0x96, 0xc, GP, movb %fs:0xfff, %al
    ACCESS "expand-down G: 1000", 0, 0x96, 0xc, 0, movb %fs:0x1000, %al
    ACCESS "expand-down read-only: write", 0xfff, 0x94, 4, GP, movb %al, %fs:0x1000
    ACCESS "write to read-only", 0xfff, 0x90, 4, GP, movb %al, %fs:0
    ACCESS "read of read-only", 0xfff, 0x90, 4, 0, movb %fs:0, %al
    ACCESS "write to code", 0xfff, 0x9a, 4, GP, movb %al, %fs:0
    ACCESS "read of readable code", 0xfff, 0x9a, 4, 0, movb %fs:0, %al
    ACCESS "read-modify-write of read-only", 0xfff, 0x90, 4, GP, incl %fs:0
    ACCESS "CMPXCHG of read-only", 0xfff, 0x90, 4, GP, cmpxchgl %ecx, %fs:0
    ACCESS "BT of read-only", 0xfff, 0x90, 4, 0, btl %ecx, %fs:0
    ACCESS "BTS of read-only", 0xfff, 0x90, 4, GP, btsl $0, %fs:0
    FAULT "write through CS", GP, 0, movb %al, %cs:0x600
    ACCESS_SS "stack: past the limit is SS", 0xfff, 0xf2, 4, SS, movb %ss:0x1000, %al
    ACCESS_SS "stack: EBP base past the limit", 0xfff, 0xf2, 4, SS, movb 0x100000(%ebp), %al
    ACCESS_SS "stack: ESP base past the limit", 0xfff, 0xf2, 4, SS, movb 0x100000(%esp), %al
    ACCESS_SS "stack: PUSH within", 0xfff, 0xf2, 4, 0, pushl %eax
    ACCESS_SS "stack: PUSH past the limit", 0x7ff, 0xf2, 4, SS, pushl %eax
    ACCESS_SS "stack: PUSHA past the limit", 0x7ff, 0xf2, 4, SS, pushal
    ACCESS_SS "stack: CALL past the limit", 0x7ff, 0xf2, 4, SS, call main
    ACCESS_SS "stack: ENTER past the limit", 0x7ff, 0xf2, 4, SS, enter $8, $0
    ACCESS_SS "stack: expand-down", 0x7ff, 0xf6, 4, 0, pushl %eax
    ACCESS_SS "stack: expand-down below its limit", 0xfff, 0xf6, 4, SS, pushl %eax
    ACCESS_SS "stack: RET past the limit", 0x7ff, 0xf2, 4, SS, ret
    ACCESS_SS "stack: DS override is GP", 0x7ff, 0xf2, 4, 0, movb %ds:(%esp), %al
    // An execute-only code segment cannot be read.
    SETDESC 0, 0, 0xfffff, 0x98, 0xc
    TRY
    ljmp $SEL(0), $1f
1:  AT
    movb %cs:0x600, %al
    EXPECT "read of execute-only CS", GP, 0

    // ---- LAR, LSL, VERR, VERW: all types ------------------------------------------------------------------------
    TYPES "LAR: system types", 0x80, 0, 0x1a3e, larl %eax, %edx
    TYPES "LSL: system types", 0x80, 0, 0x0a0e, lsll %eax, %edx
    TYPES "VERR: system types", 0x80, 0, 0, verr %ax
    TYPES "VERW: system types", 0x80, 0, 0, verw %ax
    TYPES "LAR: segment types", 0x90, 0, 0xffff, larl %eax, %edx
    TYPES "LSL: segment types", 0x90, 0, 0xffff, lsll %eax, %edx
    TYPES "VERR: segment types", 0x90, 0, 0xccff, verr %ax
    TYPES "VERW: segment types", 0x90, 0, 0x00cc, verw %ax
    TYPES "LAR: absent segments", 0x10, 0, 0xffff, larl %eax, %edx
    TYPES "VERR: absent segments", 0x10, 0, 0xccff, verr %ax
    TYPES "LAR: RPL 3 on DPL 0", 0x90, 3, 0xf000, larl %eax, %edx
    TYPES "LSL: RPL 3 on DPL 0", 0x90, 3, 0xf000, lsll %eax, %edx
    TYPES "VERR: RPL 3 on DPL 0", 0x90, 3, 0xc000, verr %ax
    TYPES "VERW: RPL 3 on DPL 0", 0x90, 3, 0, verw %ax
    TYPES "LAR: system, RPL 3 on DPL 0", 0x80, 3, 0, larl %eax, %edx
    TYPES "LAR: system, RPL 3 on DPL 3", 0xe0, 3, 0x1a3e, larl %eax, %edx
    TYPES "VERW: RPL 3 on DPL 3", 0xf0, 3, 0x00cc, verw %ax
    SETDESC 0, 0x12345678, 0x08765, 0xb2, 0xd
    movl $SEL(0), %eax
    larl %eax, %edx
    CHECK "LAR value", "%edx", 0x00d0b200
    movl $-1, %edx
    larw %ax, %dx
    CHECK "LAR 16-bit value", "%edx", 0xffffb200
    lsll %eax, %edx
    CHECK "LSL value with G", "%edx", 0x08765fff
    movl $-1, %edx
    lslw %ax, %dx
    CHECK "LSL 16-bit value", "%edx", 0xffff5fff
    SETDESC 0, 0, 0xabcde, 0x92, 4
    lsll %eax, %edx
    CHECK "LSL value in bytes", "%edx", 0xabcde
    SETGATE 0, CS32, main, 0xec, 0
    movl $SEL(0) + 3, %eax
    larl %eax, %edx
    andl $0xff00, %edx
    CHECK "LAR of a call gate", "%edx", 0xec00
    xorl %eax, %eax
    movl $7, %edx
    larl %eax, %edx
    CHECKF "LAR of null clears ZF", FL_ZF, 0
    CHECK "and keeps the register", "%edx", 7
    movl $0xfff8, %eax
    cmpl %eax, %eax
    larl %eax, %edx
    CHECKF "LAR past the GDT clears ZF", FL_ZF, 0
    movl $0x14, %eax
    cmpl %eax, %eax
    verr %ax
    CHECKF "VERR in a null LDT clears ZF", FL_ZF, 0
    stc
    movl $DS32, %eax
    lsll %eax, %edx
    CHECKF "LSL changes ZF only", FL_ZF | FL_CF, FL_ZF | FL_CF
    CHECK "LSL of a flat segment", "%edx", 0xffffffff
    movl $DS32, 0x600
    verw 0x600
    CHECKF "VERW with memory", FL_ZF, FL_ZF
    movl $0x10, %eax
    movl $0x13, %ebx
    arpl %bx, %ax
    CHECKF "ARPL raises", FL_ZF, FL_ZF
    CHECK "the RPL", "%eax", 0x13
    movl $0x22, %eax
    movl $1, %ebx
    arpl %bx, %ax
    CHECKF "ARPL does not lower", FL_ZF, 0
    CHECK "and keeps", "%eax", 0x22

    // ---- LDT and task register ---------------------------------------------------------------------------------
    SETDESC 2, 0x31000, 0x17, 0x82      // LDT of three descriptors at 31000
    movl $DESC_LO(0x30000, 0xfff), 0x31008
    movl $DESC_HI(0x30000, 0xfff, 0x92, 4), 0x3100c
    movl $SEL(2), %eax
    NOFAULT "LLDT", lldt %ax
    sldtl %eax
    CHECK "SLDT", "%eax", SEL(2)
    movl $0x0c, %eax
    NOFAULT "load from the LDT", movl %eax, %fs
    CHECK "its base", "%fs:0x10", 0x600dcafe
    CHECKB "its accessed bit", "0x3100d", 0x93
    movl $0x1c, %eax
    FAULT "past the LDT limit", GP, 0x1c, movl %eax, %fs
    movl $0x14, %eax
    FAULT "empty LDT entry", GP, 0x14, movl %eax, %fs
    movl $4, %eax
    FAULT "LDT entry 0 is not the null selector", GP, 4, movl %eax, %fs
    xorl %eax, %eax
    NOFAULT "LLDT null", lldt %ax
    movl $0x0c, %eax
    FAULT "no LDT any more", GP, 0x0c, movl %eax, %fs
    SETDESC 2, 0x31000, 0x17, 0x02
    movl $SEL(2), %eax
    FAULT "LLDT not present", NP, SEL(2), lldt %ax
    SETDESC 2, 0x31000, 0x17, 0x92
    FAULT "LLDT of data", GP, SEL(2), lldt %ax
    SETDESC 2, 0x31000, 0x17, 0x89
    FAULT "LLDT of a TSS", GP, SEL(2), lldt %ax
    movl $SEL(2) + 4, %eax
    FAULT "LLDT from the LDT", GP, SEL(2) + 4, lldt %ax
    movl $0xfff0, %eax
    FAULT "LLDT past the GDT", GP, 0xfff0, lldt %ax
    FAULT "LTR past the GDT", GP, 0xfff0, ltr %ax
    movl $TSS_SEL, %eax
    FAULT "LTR of a busy TSS", GP, TSS_SEL, ltr %ax
    xorl %eax, %eax
    FAULT "LTR null", GP, 0, ltr %ax
    SETDESC 2, 0x31000, 0x67, 0x09
    movl $SEL(2), %eax
    FAULT "LTR not present", NP, SEL(2), ltr %ax
    SETDESC 2, 0x31000, 0x67, 0x82
    FAULT "LTR of an LDT", GP, SEL(2), ltr %ax
    SETDESC 2, 0, 0x67, 0x89
    movw $tss32, gdt + SLOT + 16 + 2
    movl $SEL(2) + 3, %eax
    NOFAULT "LTR with RPL 3", ltr %ax
    CHECKB "LTR sets the busy bit", gdt+SLOT+16+5, 0x8b
    strl %eax
    CHECK "STR", "%eax", SEL(2) + 3
    movb $0x89, gdt + TSS_SEL + 5
    movl $TSS_SEL, %eax
    ltr %ax
    SETDESC 3, 0x31000, 0x2b, 0x81
    movl $SEL(3), %eax
    NOFAULT "LTR of a 16-bit TSS", ltr %ax
    CHECKB "its busy bit", gdt+SLOT+24+5, 0x83
    movb $0x89, gdt + TSS_SEL + 5
    movl $TSS_SEL, %eax
    ltr %ax

    // ---- Stack size and code size ------------------------------------------------------------------------------
    movl $DS16, %eax
    movl $0x50800, %esp
    movl %eax, %ss
    pushl $0x13579bdf
    movl %esp, %ecx
    movl $DS32, %eax
    movl %eax, %ss
    movl $STACK_TOP, %esp
    CHECK "16-bit stack: PUSH moves SP only", "%ecx", 0x507fc
    CHECK "and writes at SP", "0x7fc", 0x13579bdf
    movl $DS16, %eax
    movl %eax, %ss
    movl $0x50000, %esp
    pushw $1
    movl %esp, %ecx
    call 1f
1:  movl %esp, %edx
    popl %ebx
    movl $0x5fffe, %esp
    popw %ax
    movl %esp, %esi
    movl $DS32, %eax
    movl %eax, %ss
    movl $STACK_TOP, %esp
    CHECK "16-bit stack: SP wraps down", "%ecx", 0x5fffe
    CHECK "16-bit stack: CALL", "%edx", 0x5fffa
    CHECK "16-bit stack: SP wraps up", "%esi", 0x50000
    movl $DS16, %eax
    movl %eax, %ss
    movl $0x50900, %ebp
    movl $0x50800, %esp
    enter $0x10, $0
    movl %esp, %ecx
    movl %ebp, %edx
    leave
    movl %esp, %esi
    movl $DS32, %eax
    movl %eax, %ss
    movl $STACK_TOP, %esp
    CHECK "16-bit stack: ENTER", "%ecx", 0x507ec
    CHECK "its EBP", "%edx", 0x507fc
    CHECK "16-bit stack: LEAVE", "%esi", 0x50800
    movl $0xffff1234, %eax
    ljmp $CS16, $1f
BITS16
1:  movw $0x5678, %ax                   // b8 with 16-bit immediate
    movl %eax, %edx
    movw $0x600, %bx
    movw $0xaabb, (%bx)
    pushw %ax
    popw %cx
    calll 2f
2:  popl %esi
    ljmpl $CS32, $1f
BITS32
1:  CHECK "16-bit code segment: operands", "%edx", 0xffff5678
    CHECKW "16-bit code segment: addresses", "0x600", 0xaabb
    CHECK "its stack is still 32-bit", "%esp", STACK_TOP
    FAULT "JMP to 16-bit code past 64 KB", GP, 0, ljmp $CS16, $0x10000
    movl $0x10000, %ebx
    TRY
    ljmp $CS16, $1f
BITS16
1:  AT
    movw %cs:(%ebx), %ax
BITS32
    EXPECT "16-bit code reads past its limit", GP, 0

    // ---- Ring 3 ------------------------------------------------------------------------------------------------
    movl $DS32_3, %ebx
    SETDESC 0, 0, 0xfffff, 0x92, 0xc
    SETDESC 1, 0, 0xfffff, 0x9e, 0xc
    movl $SEL(0), %esi
    movl $SEL(1), %edi
    FAULT3 "ring 3: DS of ring 0", GP, SEL(0), movl %esi, %ds
    FAULT3 "ring 3: SS of ring 0", GP, SEL(0), movl %esi, %ss
    movl $DS32_3 - 3, %ebx
    FAULT3 "ring 3: SS with RPL 0", GP, 0x20, movl %ebx, %ss
    NOFAULT3 "ring 3: DS conforming", movl %edi, %ds
    FAULT3 "ring 3: JMP to ring 0", GP, CS32, ljmp $CS32, $main
    FAULT3 "ring 3: CALL to ring 0", GP, CS32, lcall $CS32, $main
    TRY
    calll enter_ring3_32
    ljmp $SEL(1), $1f
1:  movl %cs, %ecx
    int $SYS_VECTOR
    EXPECT_ANY_IP "ring 3: JMP to conforming ring 0 code", SYS_VECTOR
    CHECK "stays at ring 3", "%ecx", SEL(1) + 3
    TRY
    calll enter_ring3_32
    movl %esi, %eax
    xorl %ecx, %ecx
    larl %eax, %edx
    setz %cl
    movl %edi, %eax
    larl %eax, %edx
    setz %ch
    int $SYS_VECTOR
    EXPECT_ANY_IP "ring 3: LAR", SYS_VECTOR
    CHECK "sees conforming code only", "%ecx", 0x100
    FAULT3 "ring 3: LLDT", GP, 0, lldt %ax
    FAULT3 "ring 3: LTR", GP, 0, ltr %ax
    NOFAULT3 "ring 3: SLDT", sldtl %eax
    NOFAULT3 "ring 3: STR", strl %eax
    movl $0, %eax
    NOFAULT3 "ring 3: null DS", movl %eax, %ds
    xorl %ebx, %ebx
    FAULT3 "ring 3: null SS", GP, 0, movl %ebx, %ss
    FINISH
