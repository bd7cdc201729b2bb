// Single stepping, instruction, data and I/O breakpoints, DR6 and DR7, RF, the MOV SS shadow (32-bit protected mode).
#include "lib.inc"
START_PROTECTED

#define DR6_CLEAR 0xffff0ff0
#define BS 0x4000
#define BD 0x2000
#define WATCHED 0x700

// DR0 = \address with the R/W and LEN bits \kind (0 execute, 1 write, 2 I/O, 3 read or write; LEN << 2), globally on.
.macro WATCH address, kind
    movl $\address, %eax
    movl %eax, %dr0
    xorl %eax, %eax
    movl %eax, %dr6
    movl $((\kind) << 16) + 0x402, %eax
    movl %eax, %dr7
.endm
.macro UNWATCH
    movl $0x400, %eax
    movl %eax, %dr7
.endm
// Sets EFLAGS.TF; the next instruction traps.
.macro STEP
    pushl $FL_TF | 2
    popfl
.endm
.macro DEBUG name, dr6
    EXPECT "\name", DB
    CHECK "\name: DR6", "rec_dr6", \dr6
    UNWATCH
    movl $0, %eax
    movl %eax, %dr6
.endm
.macro NO_DEBUG name
    EXPECT_ANY_IP "\name", 0xff
    UNWATCH
.endm

main:
    UNWATCH
    xorl %eax, %eax
    movl %eax, %dr6
    // ---- The registers -----------------------------------------------------------------------------------------------
    movl %dr6, %eax
    CHECK "DR6 after writing 0", "%eax", DR6_CLEAR
    movl $-1, %eax
    movl %eax, %dr6
    movl %dr6, %eax
    andl $0xfffeffff, %eax              // bit 16 (RTM) belongs to some CPUs only
    orl $0x00000800, %eax               // so does bit 11
    CHECK "DR6 after writing ones", "%eax", 0xfffeefff
    xorl %eax, %eax
    movl %eax, %dr6
    movl %eax, %dr7
    movl %dr7, %eax
    CHECK "DR7 after writing 0", "%eax", 0x400
    movl $0x5555aaaa, %eax
    movl %eax, %dr3
    movl %dr3, %ebx
    CHECK "DR3", "%ebx", 0x5555aaaa
    .byte 0x0f, 0x21, 0xe1              // MOV ECX, DR4
    CHECK "DR4 is DR6", "%ecx", DR6_CLEAR
    .byte 0x0f, 0x21, 0xe9              // MOV ECX, DR5
    CHECK "DR5 is DR7", "%ecx", 0x400
    movl %cr4, %eax
    orl $CR4_DE, %eax
    movl %eax, %cr4
    FAULT "DR4 with CR4.DE", UD, NONE, .byte 0x0f, 0x21, 0xe1
    FAULT "DR5 with CR4.DE", UD, NONE, .byte 0x0f, 0x23, 0xe9
    movl %cr4, %eax
    andl $~CR4_DE, %eax
    movl %eax, %cr4
    FAULT3 "ring 3: MOV from DR0", GP, 0, movl %dr0, %eax
    FAULT3 "ring 3: MOV to DR7", GP, 0, movl %eax, %dr7

    // ---- Single step -----------------------------------------------------------------------------------------------------
    TRY
    STEP
    nop
    AT
    DEBUG "step", DR6_CLEAR + BS
    CHECK "step: EFLAGS", "rec_flags", FL_TF | 2
    TRY
    movl $0x900, %esp
    STEP
    pushfl
    AT
    DEBUG "step over PUSHF", DR6_CLEAR + BS
    CHECK "PUSHF shows TF", 0x8fc, FL_TF | 2
    TRY
    pushl $2
    STEP
    popfl
    AT
    DEBUG "step over POPF that clears TF", DR6_CLEAR + BS
    CHECK "its EFLAGS", "rec_flags", 2
    TRY
    movl $5, %ecx
    movl $WATCHED, %edi
    STEP
    AT
    rep stosb
    DEBUG "step over one iteration of REP", DR6_CLEAR + BS
    CHECK "its ECX", "rec_ecx", 4
    TRY
    movl $1, %ecx
    movl $WATCHED, %edi
    STEP
    rep stosb
    AT
    DEBUG "step over the last iteration", DR6_CLEAR + BS
    TRY
    movl $0, %ecx
    STEP
    rep stosb
    AT
    DEBUG "step over REP with count 0", DR6_CLEAR + BS
    TRY
    STEP
    jmp 1f
    nop
1:  AT
    DEBUG "step over JMP: at the target", DR6_CLEAR + BS
    TRY
    movl $DS32, %eax
    STEP
    movl %eax, %ss
    nop
    AT
    DEBUG "step over MOV SS and the next", DR6_CLEAR + BS
    TRY
    pushl $DS32
    STEP
    popl %ss
    nop
    AT
    DEBUG "step over POP SS and the next", DR6_CLEAR + BS
    TRY
    movl $DS32, %eax
    STEP
    movl %eax, %ds
    AT
    DEBUG "MOV DS has no shadow", DR6_CLEAR + BS
    movl $STACK_TOP, 0x720
    movw $DS32, 0x724
    TRY
    STEP
    lss 0x720, %esp
    AT
    DEBUG "LSS has no shadow", DR6_CLEAR + BS
    TRY
    STEP
    AT
    ud2
    EXPECT "a fault under TF comes alone", UD
    CHECK "its EFLAGS", "rec_flags", FL_TF | FL_RF | 2
    TRY
    STEP
    int $SYS_VECTOR
    EXPECT_ANY_IP "INT n under TF enters its handler unstepped", SYS_VECTOR
    CHECK "and pushes TF", "rec_flags", FL_TF | 2
    SETIDT 0x41, CS32, just_iret, 0x8e
    TRY
    STEP
    int $0x41
    nop
    AT
    DEBUG "stepping goes on after the handler's IRET, one instruction later", DR6_CLEAR + BS
    TRY
    pushl $FL_TF | 2
    pushl $CS32
    pushl $1f
    iretl
1:  nop
    AT
    DEBUG "IRET that sets TF: after one instruction", DR6_CLEAR + BS
    TRY
    calll enter_ring3_32
    STEP
    nop
    AT
    DEBUG "step at ring 3", DR6_CLEAR + BS
    movl $FL_TF | 2, user_flags
    TRY
    calll enter_ring3_32
    nop
    AT
    DEBUG "IRET to ring 3 with TF", DR6_CLEAR + BS
    movl $2, user_flags
    movl $0xffff8ff3, %eax
    movl %eax, %dr6
    TRY
    STEP
    nop
    AT
    EXPECT "BS is added to what DR6 holds", DB
    movl rec_dr6, %eax
    andl $BS, %eax
    CHECK "BS", "%eax", BS
    xorl %eax, %eax
    movl %eax, %dr6

    // ---- Instruction breakpoints --------------------------------------------------------------------------------------------
    WATCH 1f, 0
    TRY
    nop
77:
1:  incl %ebx
    EXPECT "instruction breakpoint is a fault", DB
    CHECK "its DR6", "rec_dr6", DR6_CLEAR + 1
    movl rec_flags, %eax
    andl $FL_RF, %eax
    CHECK "it pushes RF clear", "%eax", 0
    WATCH 1f, 0
    TRY
    pushl $FL_RF | 2
    pushl $CS32
    pushl $1f
    movl $7, %ebx
    iretl
1:  incl %ebx
    NO_DEBUG "IRET with RF suppresses it once"
    CHECK "the instruction ran", "%ebx", 8
    WATCH 1f, 0
    movl $3, %ebx
    TRY
    pushl $FL_RF | 2
    pushl $CS32
    pushl $1f
    iretl
77:
1:  decl %ebx
    jnz 1b
    EXPECT "RF lasts for one instruction", DB
    CHECK "second round", "%ebx", 2
    WATCH 1f, 0
    movl $4, %ecx
    movl $WATCHED, %edi
    TRY
    pushl $FL_RF | 2
    pushl $CS32
    pushl $1f
    iretl
1:  rep stosb
    NO_DEBUG "RF lasts for a whole REP"
    WATCH 1f, 0
    movl $DS32, %eax
    TRY
    movl %eax, %ss
1:  nop
    NO_DEBUG "MOV SS suppresses it"
    WATCH 1f, 0
    TRY
77:
1:  ud2
    EXPECT "breakpoint before #UD", DB
    WATCH 1f + 1, 0
    TRY
1:  .byte 0x66, 0x90
    NO_DEBUG "breakpoint on the second byte"
    WATCH 1f, 0
    movl $0x400, %eax
    movl %eax, %dr7
    TRY
1:  nop
    NO_DEBUG "disabled breakpoint"
    WATCH 1f, 0
    movl $0x401, %eax                   // local
    movl %eax, %dr7
    TRY
77:
1:  nop
    EXPECT "local enable", DB
    UNWATCH
    movl $2f, %eax
    movl %eax, %dr3
    xorl %eax, %eax
    movl %eax, %dr6
    movl $0x480, %eax
    movl %eax, %dr7
    TRY
77:
2:  nop
    DEBUG "DR3", DR6_CLEAR + 8
    TRY
    WATCH 1f, 0
    STEP
    nop
77:
1:  nop
    EXPECT "step and breakpoint at the same place", DB
    movl rec_dr6, %eax
    andl $BS, %eax
    CHECK "has BS", "%eax", BS
    UNWATCH
    WATCH 1f, 0
    TRY
    calll enter_ring3_32
77:
1:  nop
    EXPECT "breakpoint at ring 3", DB
    UNWATCH

    // ---- Data breakpoints ------------------------------------------------------------------------------------------------------
    .macro DATA name, address, kind, insn:vararg
    WATCH \address, \kind
    TRY
    \insn
    AT
    DEBUG "\name", DR6_CLEAR + 1
    .endm
    .macro NO_DATA name, address, kind, insn:vararg
    WATCH \address, \kind
    TRY
    \insn
    NO_DEBUG "\name"
    .endm
    DATA "write of a watched byte", WATCHED, 1, movb %al, WATCHED
    NO_DATA "read of a byte watched for writes", WATCHED, 1, movb WATCHED, %al
    DATA "read of a byte watched for both", WATCHED, 3, movb WATCHED, %al
    DATA "write of a byte watched for both", WATCHED, 3, movb %al, WATCHED
    NO_DATA "the byte before", WATCHED, 1, movb %al, WATCHED-1
    NO_DATA "the byte behind", WATCHED, 1, movb %al, WATCHED+1
    DATA "dword over a watched byte", WATCHED+3, 1, movl %eax, WATCHED
    NO_DATA "dword behind a watched byte", WATCHED-1, 1, movl %eax, WATCHED
    DATA "last byte of a watched dword", WATCHED, 13, movb %al, WATCHED+3
    NO_DATA "behind a watched dword", WATCHED, 13, movb %al, WATCHED+4
    DATA "unaligned dword into a watched word", WATCHED+2, 5, movl %eax, WATCHED-1
    DATA "a watched word is aligned down", WATCHED+1, 5, movb %al, WATCHED
    DATA "read-modify-write", WATCHED, 1, incl WATCHED
    DATA "TEST reads", WATCHED, 3, testb %al, WATCHED
    NO_DATA "LEA does not", WATCHED, 3, leal WATCHED, %eax
    NO_DATA "long NOP does not", WATCHED, 3, nopl WATCHED
    WATCH 0x8fc, 13
    TRY
    movl $0x900, %esp
    pushl %eax
    AT
    DEBUG "PUSH writes", DR6_CLEAR + 1
    WATCH 1f, 3
    TRY
1:  nop
    NO_DEBUG "a fetch is no read"
    movl $WATCHED-2, %edi
    movl $5, %ecx
    WATCH WATCHED, 1
    TRY
    AT
    rep stosb
    DEBUG "REP STOS: after the iteration", DR6_CLEAR + 1
    CHECK "its ECX", "rec_ecx", 2
    CHECK "its EDI", "rec_edi", WATCHED+1
    movw $DS32, WATCHED
    WATCH WATCHED, 3
    TRY
    movw WATCHED, %ss
    nop
    AT
    EXPECT "MOV SS from watched memory: one instruction later", DB
    movl rec_dr6, %eax
    andl $0xf, %eax
    CHECK "its DR6", "%eax", 1
    UNWATCH
    WATCH WATCHED, 1
    TRY
    STEP
    movb %al, WATCHED
    AT
    EXPECT "step and data breakpoint", DB
    CHECK "one exception with both bits", "rec_dr6", DR6_CLEAR + BS + 1
    UNWATCH
    xorl %eax, %eax
    movl %eax, %dr6
    movl $WATCHED+8, %eax
    movl %eax, %dr1
    WATCH WATCHED, 13
    movl $0x00dd040a, %eax              // DR0 and DR1, dword writes
    movl %eax, %dr7
    TRY
    movl %eax, WATCHED+8
    AT
    DEBUG "DR1", DR6_CLEAR + 2
    WATCH WATCHED, 13
    movl $WATCHED, %eax
    movl %eax, %dr1
    movl $0x00dd040a, %eax
    movl %eax, %dr7
    TRY
    movl %eax, WATCHED
    AT
    DEBUG "two breakpoints at once", DR6_CLEAR + 3
    WATCH WATCHED, 13
    TRY
    calll enter_ring3_32
    movl %eax, WATCHED
    AT
    DEBUG "data breakpoint at ring 3", DR6_CLEAR + 1
    SETDESC 0, 0x600, 0xfff, 0x92, 4
    movl $SEL(0), %eax
    movl %eax, %fs
    WATCH WATCHED, 13
    TRY
    movl %eax, %fs:WATCHED-0x600
    AT
    DEBUG "breakpoints are linear addresses", DR6_CLEAR + 1

    // ---- I/O breakpoints, general detect ------------------------------------------------------------------------------------------
    movl %cr4, %eax
    orl $CR4_DE, %eax
    movl %eax, %cr4
    DATA "OUT to a watched port", 0x80, 2, outb %al, $0x80
    DATA "IN from a watched port", 0x61, 2, inb $0x61, %al
    NO_DATA "another port", 0x80, 2, outb %al, $0x84
    NO_DATA "memory at the port's number", 0x710, 2, movb %al, 0x710
    DATA "word over a watched port", 0x81, 2, outw %ax, $0x80
    movl $0x2400, %eax
    movl %eax, %dr7
    TRY
    AT
    movl %dr7, %ebx
    EXPECT "general detect is a fault", DB
    CHECK "DR6.BD", "rec_dr6", DR6_CLEAR + BD
    movl %dr7, %eax
    CHECK "DR7.GD is cleared on entry", "%eax", 0x400
    movl $0x2400, %eax
    xorl %ebx, %ebx
    movl %ebx, %dr6
    movl %eax, %dr7
    FAULT "general detect on a write of DR0", DB, NONE, movl %eax, %dr0
    UNWATCH
    TRY
    .byte 0xf1
    AT
    EXPECT "INT1", DB
    FINISH

just_iret:
    iretl
