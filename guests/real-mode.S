// Real mode: limits and wraparound, interrupts, flags, stack forms, what is undefined there, unreal mode.
#include "lib.inc"
START_REAL

.macro ES3000
    pushw $0x3000
    popw %es
.endm

main:
    // ---- Segment limit 0FFFF -----------------------------------------------------------------------------------
    ES3000
    movw $0xffff, %bx
    movw $0xffff, %bp
    movl $0x11223344, %es:0xfffc
    movl $0x55667788, %es:0
    CHECK "dword at FFFC", "%es:0xfffc", 0x11223344
    CHECKB "byte at FFFF", "%es:(%bx)", 0x11
    FAULT "word read at FFFF", GP, NONE, movw %es:(%bx), %ax
    ES3000
    FAULT "word write at FFFF", GP, NONE, movw %ax, %es:(%bx)
    ES3000
    FAULT "dword read at FFFD", GP, NONE, movl %es:0xfffd, %eax
    FAULT "word through BP at FFFF is SS", SS, NONE, movw (%bp), %ax
    ES3000
    FAULT "BP with ES override at FFFF is GP", GP, NONE, movw %es:(%bp), %ax
    FAULT "BX with SS override at FFFF is SS", SS, NONE, movw %ss:(%bx), %ax
    movl $0x10000, %ebx
    FAULT "offset 10000 by 32-bit address", GP, NONE, movb (%ebx), %al
    FAULT "offset 10000 through ESP base", SS, NONE, movb 0x10000(%esp), %al
    ES3000
    movw $0xcccc, %es:0xfffe
    FAULT "dword write at FFFE", GP, NONE, movl %eax, %es:0xfffe
    ES3000
    CHECKW "its first half was not written", "%es:0xfffe", 0xcccc

    // ---- Address arithmetic ------------------------------------------------------------------------------------
    movl $0x12345678, %es:0x10
    movw $0xfff0, %bx
    movw $0x20, %si
    CHECK "BX+SI wraps", "%es:(%bx,%si)", 0x12345678
    movw $0xfff8, %bx
    CHECK "BX+disp8 wraps", "%es:0x18(%bx)", 0x12345678
    movl $0xabcdfff8, %ebx
    CHECK "high half of EBX is ignored", "%es:0x18(%bx)", 0x12345678
    movb $0x5a, %es:0x0f
    movw $0xfff0, %bx
    movb $0x1f, %al
    .byte 0x26, 0xd7                    // xlat with ES
    CHECKB "XLAT wraps", "%al", 0x5a
    movb $0x77, %es:0xffff
    movl $0xffff, %esi
    lodsb %es:(%si), %al
    CHECKB "LODSB at FFFF", "%al", 0x77
    CHECK "SI wraps to 0", "%esi", 0
    movl $0xfff0fffe, %esi
    movw $4, %cx
    rep lodsb
    CHECK "REP LODSB wraps SI only", "%esi", 0xfff00002
    std
    movl $0x10000, %esi
    lodsb
    cld
    CHECK "SI wraps backwards", "%esi", 0x1ffff
    movl $0x20000, %ecx
    jcxz 1f
    incl %ecx
1:  CHECK "JCXZ looks at CX", "%ecx", 0x20000
    jecxz 1f
    incl %ecx
1:  CHECK "JECXZ looks at ECX", "%ecx", 0x20001
    movl $0x10003, %ecx
    xorw %ax, %ax
1:  incw %ax
    loop 1b
    CHECK "LOOP decrements CX", "%ecx", 0x10000
    CHECKW "three rounds", "%ax", 3
    movl $3, %ecx
    movl $0x200, %esi
    .byte 0x67
    rep lodsb
    CHECK "REP with 32-bit address uses ESI", "%esi", 0x203
    movl $0x10002, %ecx
    movl $0x10200, %edi
    xorb %al, %al
    ES3000
    rep stosb
    CHECK "REP counts CX only", "%ecx", 0x10000
    CHECK "DI advances, high half stays", "%edi", 0x10202
    movl $0x89abcdef, 0x500
    movw $0x50, %ax
    movw %ax, %fs
    CHECK "segment base is selector times 16", "%fs:0", 0x89abcdef

    // ---- Code at the end of the segment ------------------------------------------------------------------------
    ES3000
    movw $0x1eeb, %es:0xfff0            // jmp +1e: from FFF2 to 0010
    movb $0xea, %es:0x0010              // ljmp 0:after_wrap
    movw $after_wrap, %es:0x0011
    movw $0, %es:0x0013
    TRY
    ljmp $0x3000, $0xfff0
after_wrap:
    EXPECT_ANY_IP "JMP rel8 wraps IP", 0xff
    movb $0xb8, %es:0xffff              // mov $…, %ax whose operand is past the limit
    TRY
    ljmp $0x3000, $0xffff
    EXPECT_IP "instruction crossing FFFF", GP, NONE, 0xffff
    CHECK "its CS", "rec_cs", 0x3000
    FAULT "JMP rel32 past the limit", GP, NONE, .byte 0x66, 0xe9, 0, 0, 1, 0
    FAULT "far JMP to offset 10000", GP, NONE, ljmpl $0, $0x10000
    movl $0x10000, %eax
    FAULT "JMP r32 past the limit", GP, NONE, jmpl *%eax
    movl %esp, %ebp
    FAULT "CALL r32 past the limit", GP, NONE, calll *%eax
    CHECK "CALL that faults leaves ESP", "rec_sp", STACK_TOP

    // ---- Stack -------------------------------------------------------------------------------------------------
    TRY
    movw $0x3000, %ax
    movw %ax, %ss
    movw $0xffff, %sp
    AT
    popw %ax
    EXPECT "POP at SP FFFF", SS
    CHECK "SP is unchanged", "rec_sp", 0xffff
    TRY
    movw $0x3000, %ax
    movw %ax, %ss
    movw $2, %sp
    AT
    pushl %eax
    EXPECT "PUSH dword across SP 0", SS
    movw $0x3000, %ax
    movw %ax, %ss
    movl $0xabcd0000, %esp
    pushw $0x1234
    movl %esp, %eax
    movw %ss:0xfffe, %bx
    xorw %cx, %cx
    movw %cx, %ss
    movl $STACK_TOP, %esp
    CHECK "PUSH at SP 0 wraps to FFFE", "%eax", 0xabcdfffe
    CHECKW "and writes there", "%bx", 0x1234
    pushw %sp
    popw %ax
    CHECKW "PUSH SP pushes the old SP", "%ax", STACK_TOP
    pushw $0x4321
    pushw $0
    popl %eax
    CHECK "two words make a dword", "%eax", 0x43210000
    pushl $-2
    popw %ax
    popw %bx
    CHECKW "PUSH imm8 dword sign-extends", "%bx", 0xffff
    ES3000
    pushl $0x5a5a5a5a
    pushl %es
    popl %eax
    CHECKW "PUSH ES as dword", "%ax", 0x3000
    popl %eax
    pushl $0x00001111
    popl %fs
    CHECK "POP FS as dword", "%fs", 0x1111
    CHECK "takes four bytes", "%esp", STACK_TOP
    movl $STACK_TOP, %esp
    movw $0x1001, %ax
    movw $0x1002, %cx
    movw $0x1003, %dx
    movw $0x1004, %bx
    movw $0x1005, %bp
    movw $0x1006, %si
    movw $0x1007, %di
    pushaw
    CHECKW "PUSHA order: AX first", "0xffe", 0x1001
    CHECKW "PUSHA stores the old SP", "0xff6", STACK_TOP
    CHECKW "PUSHA order: DI last", "0xff0", 0x1007
    movw $0, 0xff6
    popaw
    CHECK "POPA skips SP", "%esp", STACK_TOP
    CHECKW "POPA restores BP", "%bp", 0x1005
    movw $0x500, %bp
    movw $0xaaaa, 0x4fe
    enter $4, $2
    CHECKW "ENTER sets BP", "%bp", STACK_TOP - 2
    CHECK "ENTER with level 2", "%esp", STACK_TOP - 10
    CHECKW "copies the outer frame", "0xffc", 0xaaaa
    CHECKW "and pushes its own", "0xffa", STACK_TOP - 2
    leave
    CHECKW "LEAVE restores BP", "%bp", 0x500
    CHECK "and SP", "%esp", STACK_TOP
    pushw $0x7788
    .byte 0x67, 0x8f, 0x44, 0x24, 0xfe  // popw -2(%esp): the address uses the incremented ESP
    CHECKW "POP to memory by ESP", "0xffe", 0x7788
    movw $0x3456, 0x520
    lcallw $0, $far_target
    CHECK "far CALL and RETF imm16", "%esp", STACK_TOP + 4
    movl $STACK_TOP, %esp
    lcalll $0, $far_target32
    CHECKW "far CALL with 32-bit operands", "%ax", 8
    movl $far_target32, 0x520
    movw $0, 0x524
    lcalll *0x520
    CHECK "far CALL through memory", "%esp", STACK_TOP
    movw $0x1234, 0x520
    movw $0x5678, 0x522
    lesw 0x520, %bx
    CHECKW "LES offset", "%bx", 0x1234
    CHECK "LES segment", "%es", 0x5678

    // ---- Flags -------------------------------------------------------------------------------------------------
    pushw $0xfcd7
    popfw
    pushfw
    popw %ax
    pushw $2
    popfw
    CHECKW "POPF sets IOPL and NT, not 15, 5, 3", "%ax", 0x7cd7
    pushl $0x00240002
    popfl
    CHECKF "POPFD sets AC and ID", 0x240000, 0x240000
    pushl $0xff1a8002
    popfl
    CHECKF "POPFD sets no RF, VM, VIF, VIP or reserved", 0xffdb802a, 0x2
    pushl $2
    popfl
    pushl $FL_ID | 0x3002
    pushl $0
    pushl $1f
    iretl
1:  CHECKF "IRETD restores flags", FL_ID | FL_IOPL, FL_ID | FL_IOPL
    pushw $0x0002
    pushw $0
    pushw $1f
    iretw
1:  CHECKF "IRET leaves the high flags", FL_ID | FL_IOPL, FL_ID
    stc
    sti
    movw $int_handler, 0x21 * 4
    int $0x21
int_return:
    cli
    CHECK "INT leaves IF set for IRET", "%ecx", 0x203
    CHECKW "INT clears IF", "%bx", 1
    CHECKW "INT pushes the next IP", "%dx", int_return
    CHECK "IRET restores SP", "%esp", STACK_TOP
    pushl $2
    popfl

    // ---- Exceptions of instructions ----------------------------------------------------------------------------
    xorw %cx, %cx
    movw $1, %ax
    FAULT "DIV by 0", DE, NONE, divw %cx
    movw $0x100, %ax
    movb $1, %cl
    FAULT "DIV overflow", DE, NONE, divb %cl
    movw $0x8000, %ax
    movw $0xffff, %dx
    movw $-1, %cx
    FAULT "IDIV of -8000 by -1", DE, NONE, idivw %cx
    FAULT "AAM 0", DE, NONE, .byte 0xd4, 0
    TRY
    int3
    AT
    EXPECT "INT3 is a trap", BP
    TRY
    movb $0x7f, %al
    incb %al
    into
    AT
    EXPECT "INTO is a trap", OF
    TRY
    xorb %al, %al
    into
    EXPECT_ANY_IP "INTO with OF clear", 0xff
    TRY
    .byte 0xf1
    AT
    EXPECT "INT1 is a trap", DB
    TRY
    int $0x0d
    AT
    EXPECT "INT 13 in software", GP
    movw $2, 0x530
    movw $5, 0x532
    movw $6, %ax
    FAULT "BOUND above", BR, NONE, bound %ax, 0x530
    movw $1, %ax
    FAULT "BOUND below", BR, NONE, bound %ax, 0x530
    movw $5, %ax
    NOFAULT "BOUND at the limit", bound %ax, 0x530
    FAULT "UD2", UD, NONE, ud2
    FAULT "UD1", UD, NONE, .byte 0x0f, 0xb9, 0xc0
    FAULT "SLDT", UD, NONE, sldtw %ax
    FAULT "STR", UD, NONE, strw %ax
    FAULT "LLDT", UD, NONE, lldt %ax
    FAULT "LTR", UD, NONE, ltr %ax
    FAULT "VERR", UD, NONE, verr %ax
    FAULT "VERW", UD, NONE, verw %ax
    FAULT "LAR", UD, NONE, larw %ax, %ax
    FAULT "LSL", UD, NONE, lslw %ax, %ax
    FAULT "ARPL", UD, NONE, arpl %ax, %ax
    FAULT "MOV to CS", UD, NONE, .byte 0x8e, 0xc8
    FAULT "MOV to segment 6", UD, NONE, .byte 0x8e, 0xf0
    FAULT "MOV from segment 7", UD, NONE, .byte 0x8c, 0xf8
    FAULT "LES with a register", UD, NONE, .byte 0xc4, 0xc0
    FAULT "LEA with a register", UD, NONE, .byte 0x8d, 0xc0
    FAULT "BOUND with a register", UD, NONE, .byte 0x62, 0xc0
    FAULT "far CALL with a register", UD, NONE, .byte 0xff, 0xd8
    FAULT "far JMP with a register", UD, NONE, .byte 0xff, 0xe8
    FAULT "FF /7", UD, NONE, .byte 0xff, 0xf8
    FAULT "FE /2", UD, NONE, .byte 0xfe, 0xd0
    FAULT "C6 /1", UD, NONE, .byte 0xc6, 0xc8, 0
    FAULT "0F BA /0", UD, NONE, .byte 0x0f, 0xba, 0xc0, 1
    FAULT "CMPXCHG8B with a register", UD, NONE, .byte 0x0f, 0xc7, 0xc8
    FAULT "MOV from CR1", UD, NONE, .byte 0x0f, 0x20, 0xc8
    FAULT "MOV to CR5", UD, NONE, .byte 0x0f, 0x22, 0xe8
    FAULT "LGDT with a register", UD, NONE, .byte 0x0f, 0x01, 0xd7
    FAULT "LIDT with a register", UD, NONE, .byte 0x0f, 0x01, 0xdf
    FAULT "LOCK NOP", UD, NONE, .byte 0xf0, 0x90
    FAULT "LOCK ADD to a register", UD, NONE, .byte 0xf0, 0x01, 0xc0
    FAULT "LOCK MOV", UD, NONE, .byte 0xf0, 0x89, 0x06, 0x30, 0x05
    FAULT "LOCK CMP", UD, NONE, .byte 0xf0, 0x39, 0x06, 0x30, 0x05
    FAULT "LOCK BT", UD, NONE, .byte 0xf0, 0x0f, 0xa3, 0x06, 0x30, 0x05
    NOFAULT "LOCK ADD to memory", .byte 0xf0, 0x01, 0x06, 0x30, 0x05
    NOFAULT "LOCK BTS to memory", .byte 0xf0, 0x0f, 0xab, 0x06, 0x30, 0x05
    NOFAULT "15 bytes", .byte 0x66,0x66,0x66,0x66,0x66,0x66,0x66,0x66,0x66,0x66,0x66,0x66,0x66,0x66,0x90
    FAULT "16 bytes", GP, NONE, .byte 0x66,0x66,0x66,0x66,0x66,0x66,0x66,0x66,0x66,0x66,0x66,0x66,0x66,0x66,0x66,0x90
    FAULT "SYSENTER", GP, NONE, sysenter
    FAULT "SYSEXIT", GP, NONE, sysexit

    // ---- Control registers, descriptor tables ------------------------------------------------------------------
    smsww %ax
    CHECKW "SMSW: PE clear, ET set", "%ax", 0x0010
    movl %cr0, %eax
    movl %eax, %ebx
    andl $~0x10, %eax
    movl %eax, %cr0
    movl %cr0, %eax
    cmpl %eax, %ebx
    sete %al
    CHECKB "CR0.ET cannot be cleared", "%al", 1
    movl $0x80000010, %eax
    FAULT "CR0.PG without PE", GP, NONE, movl %eax, %cr0
    movl $0x20000010, %eax
    FAULT "CR0.NW without CD", GP, NONE, movl %eax, %cr0
    movl $0x80000000, %eax
    FAULT "reserved bit of CR4", GP, NONE, movl %eax, %cr4
    movw $0x000e, %ax
    lmsw %ax
    smsww %ax
    CHECKW "LMSW sets MP, EM, TS", "%ax", 0x001e
    FAULT "x87 with EM", NM, NONE, fnop
    FAULT "WAIT with MP and TS", NM, NONE, fwait
    clts
    smsww %ax
    CHECKW "CLTS", "%ax", 0x0016
    NOFAULT "WAIT with EM alone", fwait
    xorw %ax, %ax
    lmsw %ax
    smsww %ax
    CHECKW "LMSW clears MP, EM, TS", "%ax", 0x0010
    movw $0x37, 0x540
    movl $0xff123456, 0x542
    lgdtl 0x540
    sgdtl 0x550
    CHECK "LGDT with 32-bit operand: base", "0x552", 0xff123456
    CHECKW "limit", "0x550", 0x37
    .byte 0x0f, 0x01, 0x16, 0x40, 0x05  // lgdtw 0x540
    sgdtl 0x550
    CHECK "LGDT with 16-bit operand: 24 bits of base", "0x552", 0x00123456

    // ---- Interrupt table ---------------------------------------------------------------------------------------
    movw $0x1ff, 0x540
    movl $0, 0x542
    lidtl 0x540
    FAULT "INT past the IDT limit", GP, NONE, int $0x80
    movw $moved_handler, 0x7f * 4
    movw $0, 0x7f * 4 + 2
    NOFAULT "the last vector within it", int $0x7f
    movw $0x1fd, 0x540                  // the last byte of vector 7F is missing
    lidtl 0x540
    FAULT "vector cut off by the limit", GP, NONE, int $0x7f
    lidtl real_idt_pointer
    ES3000
    xorw %si, %si
    xorw %di, %di
    movw $0x200, %cx
    rep movsw
    movw $moved_handler, %es:0x22 * 4
    movw $0x3ff, 0x540
    movl $0x30000, 0x542
    lidtl 0x540
    xorl %eax, %eax
    int $0x22
    lidtl real_idt_pointer
    CHECK "LIDT moves the vectors", "%eax", 0x1234

    // ---- Single step -------------------------------------------------------------------------------------------
    TRY
    pushw $FL_TF | 2
    popfw
    nop
    AT
    EXPECT "TF traps after the next instruction", DB
    CHECK "pushed FLAGS have TF", "rec_flags", 0x102
    TRY
    xorw %ax, %ax
    pushw $FL_TF | 2
    popfw
    movw %ax, %ss
    nop
    AT
    nop
    EXPECT "MOV SS delays the trap", DB
    TRY
    pushw $FL_TF | 2
    popfw
    int $0x23
    nop
    EXPECT_ANY_IP "INT n under TF clears TF", 0x23
    CHECK "FLAGS pushed by INT keep TF", "rec_flags", 0x102

    // ---- String I/O --------------------------------------------------------------------------------------------
    movw $0x3412, 0x560
    movw $0x560, %si
    movw $0x80, %dx
    movw $2, %cx
    rep outsb
    CHECKW "REP OUTSB advances SI", "%si", 0x562
    CHECKW "and counts CX", "%cx", 0
    ES3000
    movw $0x100, %di
    movw $0x21, %dx                     // the interrupt mask, all ones
    movw $3, %cx
    movl $0, %es:0x100
    rep insb
    CHECK "REP INSB writes ES:DI", "%es:0x100", 0xffffff

    // ---- Unreal mode -------------------------------------------------------------------------------------------
    movl $0xcafe1234, %edx
    cli
    lgdtl gdt_pointer
    movl %cr0, %eax
    orb $CR0_PE, %al
    movl %eax, %cr0
    movw $DS32, %bx
    movw %bx, %ds
    movw %bx, %gs
    andb $~CR0_PE, %al
    movl %eax, %cr0
    xorw %bx, %bx
    movw %bx, %ds
    movw $0x10, %bx
    movw %bx, %gs                       // base 100, limit still 4 GB
    movl $0x200000, %ebx
    TRY
    movl %edx, (%ebx)
    movl (%ebx), %ecx
    movl %gs:-0x100(%ebx), %esi
    EXPECT_ANY_IP "unreal mode keeps the limit", 0xff
    CHECK "data at 2 MB", "%ecx", 0xcafe1234
    CHECK "loading a segment keeps its limit", "%esi", 0xcafe1234
    movl $0x12345678, 0x10000
    CHECK "offset past FFFF in real mode", "0x10000", 0x12345678
    FAULT "ES still has 64 KB", GP, NONE, movl %es:(%ebx), %eax
    FAULT "SS still has 64 KB", SS, NONE, movl %ss:(%ebx), %eax

    // Protected mode without reloading CS: 16-bit code goes on, and back.
    movl %cr0, %eax
    orb $CR0_PE, %al
    movl %eax, %cr0
    smsww %bx
    movw %cs, %cx
    movw $DS16, %dx
    movw %dx, %es
    andb $~CR0_PE, %al
    movl %eax, %cr0
    CHECKW "PE set, CS not reloaded", "%bx", 0x0011
    CHECKW "CS selector stays", "%cx", 0
    // The real-mode limit of 64 KB comes back with a 16-bit data segment.
    movl %cr0, %eax
    orb $CR0_PE, %al
    movl %eax, %cr0
    movw $DS16, %bx
    movw %bx, %ds
    andb $~CR0_PE, %al
    movl %eax, %cr0
    xorw %bx, %bx
    movw %bx, %ds
    movw %bx, %es
    movl $0x200000, %ebx
    FAULT "64 KB limit again", GP, NONE, movl (%ebx), %eax
    FINISH

far_target:
    lretw $4
far_target32:
    movl $STACK_TOP, %eax
    subl %esp, %eax
    lretl
int_handler:
    pushfw
    popw %bx
    andw $FL_IF, %bx
    setz %bl
    movw %sp, %bp
    movw (%bp), %dx
    movzwl 4(%bp), %ecx
    andl $FL_IF | 3, %ecx
    iretw
moved_handler:
    movw $0x1234, %ax
    iretw
