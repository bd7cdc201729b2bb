// 32-bit protected mode: task switches by JMP, CALL, task gates, interrupts and IRET, their faults; I/O permission bitmap.
#include "lib.inc"
START_PROTECTED

#define TSS_B 0x40000                   /* the second task, its descriptor and a task gate to it */
#define TB SEL(11)
#define GATE_B SEL(12)
#define TSS_C 0x41000                   /* a 16-bit task */
#define TC SEL(13)
#define VEC 0x41
#define ESP_B 0x44000
#define BUSY(selector) gdt+selector+5

#define T_LINK 0
#define T_CR3 28
#define T_EIP 32
#define T_EFLAGS 36
#define T_EAX 40
#define T_EDX 48
#define T_ESP 56
#define T_ES 72
#define T_CS 76
#define T_SS 80
#define T_DS 84
#define T_FS 88
#define T_LDT 96
#define T_TRAP 100
#define T_IOMAP 102

.macro TASK_B eip, eflags=2
    call reset_tasks
    movl $\eip, TSS_B + T_EIP
    movl $\eflags, TSS_B + T_EFLAGS
.endm
// A task switch that must fault in the old task: TR and the busy bit stay.
.macro SWITCH_FAULT name, vector, error, insn:vararg
    FAULT "\name", \vector, \error, \insn
    strl %eax
    CHECK "\name: TR", "%eax", TSS_SEL
.endm
// A fault in the new task, after the switch: a field of its TSS is wrong.
.macro NEW_TASK_FAULT name, field, value, vector, error, ip=task_echo
    TASK_B task_echo
    movl $(\value), TSS_B + \field
    HANDLER_TASK 0, TS
    HANDLER_TASK 1, NP
    HANDLER_TASK 2, SS
    HANDLER_TASK 3, GP
    TRY
    ljmp $TB, $0
    EXPECT_IP "\name", \vector, \error, \ip
    CHECK "\name: TR", "link", TB
    call reset_tasks
    RESETIDT TS
    RESETIDT NP
    RESETIDT SS
    RESETIDT GP
.endm
// Fault \vector is taken by a task of its own, since the faulting one may have no stack.
.macro HANDLER_TASK n, vector
    SETDESC 16 + \n, 0x42000 + 0x100 * \n, 103, 0x89
    movl $(SEL(16 + \n)) << 16, idt32 + 8 * \vector
    movl $0x8500, idt32 + 8 * \vector + 4
    movl $handler_\vector, 0x42000 + 0x100 * \n + T_EIP
    movl $0x42000 + 0x100 * \n, %edi
    call fill_handler
.endm

main:
    SETDESC 11, TSS_B, 103, 0x89
    movl $TB << 16, gdt + GATE_B
    movl $0x8500, gdt + GATE_B + 4
    SETDESC 13, TSS_C, 0x2b, 0x81
    // ---- JMP ---------------------------------------------------------------------------------------------------
    TASK_B task_echo
    movl $0xa0a0a0a0, %eax
    movl $0xd0d0d0d0, %edx
    movl $DS32_3, %ebx
    movl %ebx, %fs
    stc
    ljmp $TB, $0x12345678
1:  CHECK "JMP: EAX of the new task", "0x700", 0xe0e0e0e0
    CHECK "JMP: EFLAGS of the new task", "0x704", 2
    CHECK "JMP: TR of the new task", "0x708", TB
    CHECK "JMP: old task is available", "0x70c", 0x89
    CHECK "JMP: new task is busy", "0x710", 0x8b
    CHECK "JMP: no link", TSS_B+T_LINK, 0x7777
    CHECK "JMP: CR0.TS", "0x714", CR0_TS
    CHECK "JMP: saved EIP", tss32+T_EIP, 1b
    CHECK "JMP: saved EAX", tss32+T_EAX, 0xa0a0a0a0
    CHECK "JMP: saved EDX", tss32+T_EDX, 0xd0d0d0d0
    CHECK "JMP: saved ESP", tss32+T_ESP, STACK_TOP
    CHECKW "JMP: saved CS", tss32+T_CS, CS32
    CHECKW "JMP: saved FS", tss32+T_FS, DS32_3
    movl tss32 + T_EFLAGS, %eax
    andl $FL_CF | FL_IF | FL_NT | FL_RF, %eax
    CHECK "JMP: saved EFLAGS", "%eax", FL_CF
    CHECK "JMP back: registers", "%edx", 0xd0d0d0d0
    CHECKB "JMP back: old task busy", BUSY(TSS_SEL), 0x8b
    CHECKB "JMP back: new task available", BUSY(TB), 0x89
    strl %eax
    CHECK "JMP back: TR", "%eax", TSS_SEL
    movl %fs, %eax
    CHECK "JMP back: FS", "%eax", DS32_3
    CHECK "saved ESP of the other task", TSS_B+T_ESP, ESP_B
    TASK_B task_echo
    ljmp $GATE_B, $0
    CHECK "JMP through a task gate", "0x708", TB

    // ---- CALL and IRET -----------------------------------------------------------------------------------------
    TASK_B task_echo_iret
    pushl $FL_AC | 2
    popfl
    lcall $TB, $0
1:  CHECKF "CALL: EFLAGS come back", FL_AC | FL_NT, FL_AC
    pushl $2
    popfl
    CHECK "CALL: new task has NT", "0x704", FL_NT | 2
    CHECK "CALL: old task stays busy", "0x70c", 0x8b
    CHECK "CALL: new task is busy", "0x710", 0x8b
    CHECKW "CALL: link", TSS_B+T_LINK, TSS_SEL
    CHECK "CALL: nothing is pushed", "0x718", ESP_B
    CHECKB "IRET: nested task is available", BUSY(TB), 0x89
    CHECKB "IRET: outer task is busy", BUSY(TSS_SEL), 0x8b
    CHECK "IRET: saved EIP", TSS_B+T_EIP, task_echo_after
    movl TSS_B + T_EFLAGS, %eax
    CHECK "IRET: saved NT is clear", "%eax", 2
    CHECK "CALL: saved EIP", tss32+T_EIP, 1b
    CHECK "CALL: saved EFLAGS", tss32+T_EFLAGS, FL_AC | 2
    movl $0, 0x708
    lcall $TB, $0
    CHECK "second CALL goes on after the IRET", "0x708", TB
    TASK_B task_echo_iret
    lcall $GATE_B, $0
    CHECK "CALL through a task gate: NT", "0x704", FL_NT | 2
    // ---- Interrupts through a task gate --------------------------------------------------------------------------
    TASK_B task_echo_iret
    movl $TB << 16, idt32 + 8 * VEC
    movl $0x8500, idt32 + 8 * VEC + 4
    int $VEC
1:  CHECK "INT through a task gate: NT", "0x704", FL_NT | 2
    CHECKW "its link", TSS_B+T_LINK, TSS_SEL
    CHECK "its return EIP", tss32+T_EIP, 1b
    CHECK "nothing is pushed", "0x718", ESP_B
    TASK_B task_echo_iret
    sti
    int $VEC
    cli
    CHECK "IF comes from the TSS", "0x704", FL_NT | 2
    TASK_B task_echo_iret
    movb $0xe5, idt32 + 8 * VEC + 5
    TRY
    calll enter_ring3_32
    int $VEC
    movl %cs, %ecx
    int $SYS_VECTOR
    EXPECT_ANY_IP "INT n through a task gate from ring 3", SYS_VECTOR
    CHECK "returns to ring 3", "%ecx", CS32_3
    CHECK "CS that was saved", tss32+T_CS, CS32_3
    movb $0x85, idt32 + 8 * VEC + 5
    FAULT3 "task gate DPL 0 from ring 3", GP, VEC * 8 + 2, int $VEC
    movl $TB << 16, idt32 + 8 * GP
    movl $0x8500, idt32 + 8 * GP + 4
    TASK_B task_error
    movl $0x1ff8, %eax
1:  movl %eax, %gs
    CHECK "exception through a task gate: error code", "0x700", 0x1ff8
    CHECK "its stack", "0x704", ESP_B - 4
    CHECK "saved EIP is the instruction", "0x708", 1b
    CHECK "saved RF", "0x70c", FL_RF
    RESETIDT GP

    // ---- Faults in the old task -----------------------------------------------------------------------------------
    TASK_B task_echo
    SWITCH_FAULT "JMP to a busy TSS", GP, TSS_SEL, ljmp $TSS_SEL, $0
    SWITCH_FAULT "CALL to a busy TSS", GP, TSS_SEL, lcall $TSS_SEL, $0
    SWITCH_FAULT "JMP with RPL 3", GP, TB, ljmp $(TB + 3), $0
    SWITCH_FAULT "gate with RPL 3", GP, GATE_B, ljmp $(GATE_B + 3), $0
    movb $0x09, BUSY(TB)
    SWITCH_FAULT "JMP to an absent TSS", NP, TB, ljmp $TB, $0
    SWITCH_FAULT "gate to an absent TSS", NP, TB, ljmp $GATE_B, $0
    SWITCH_FAULT "INT to an absent TSS", NP, TB, int $VEC
    movb $0x8b, BUSY(TB)
    SWITCH_FAULT "gate to a busy TSS", GP, TB, lcall $GATE_B, $0
    SWITCH_FAULT "INT to a busy TSS", GP, TB, int $VEC
    movb $0x89, BUSY(TB)
    movw $102, gdt + TB
    SWITCH_FAULT "JMP to a short TSS", TS, TB, ljmp $TB, $0
    SWITCH_FAULT "CALL to a short TSS", TS, TB, lcall $TB, $0
    SWITCH_FAULT "INT to a short TSS", TS, TB, int $VEC
    CHECKB "it is not busy", BUSY(TB), 0x89
    movw $103, gdt + TB
    movb $0x05, BUSY(GATE_B)
    SWITCH_FAULT "absent task gate", NP, GATE_B, ljmp $GATE_B, $0
    movb $0x85, BUSY(GATE_B)
    movw $0, gdt + GATE_B + 2
    SWITCH_FAULT "task gate with null", GP, 0, ljmp $GATE_B, $0
    movw $DS32, gdt + GATE_B + 2
    SWITCH_FAULT "task gate to data", GP, DS32, ljmp $GATE_B, $0
    movw $0x1ff8, gdt + GATE_B + 2
    SWITCH_FAULT "task gate past the GDT", GP, 0x1ff8, ljmp $GATE_B, $0
    movw $TB + 4, gdt + GATE_B + 2
    SWITCH_FAULT "task gate into the LDT", GP, TB + 4, ljmp $GATE_B, $0
    movw $TB, gdt + GATE_B + 2
    FAULT3 "ring 3: JMP to a TSS of DPL 0", GP, TB, ljmp $TB, $0
    FAULT3 "ring 3: task gate of DPL 0", GP, GATE_B, ljmp $GATE_B, $0
    // IRET with NT and a bad link.
    .macro BAD_LINK name, link, vector, error
    movl $\link, tss32 + T_LINK
    TRY
    pushl $FL_NT | 2
    popfl
    AT
    iretl
    EXPECT "IRET, NT: \name", \vector, \error
    .endm
    BAD_LINK "link available", TB, TS, TB
    BAD_LINK "link null", 0, TS, 0
    BAD_LINK "link to data", DS32, TS, DS32
    BAD_LINK "link past the GDT", 0x1ff8, TS, 0x1ff8
    BAD_LINK "link into the LDT", TB + 4, TS, TB + 4
    movb $0x0b, BUSY(TB)
    BAD_LINK "link absent", TB, NP, TB
    movb $0x89, BUSY(TB)

    // ---- Faults in the new task --------------------------------------------------------------------------------------
    SETDESC 1, 0, 0xfffff, 0x1a, 0xc    // absent code
    SETDESC 2, 0, 0xfffff, 0x12, 0xc    // absent data
    SETDESC 3, 0, 0xfffff, 0x90, 0xc    // read-only
    SETDESC 4, 0, 0x000ff, 0x9a, 0x4    // 256 bytes of code
    SETDESC 5, 0, 0xfffff, 0x98, 0xc    // execute-only
    SETDESC 6, 0, 0x0ffff, 0x02         // absent LDT
    NEW_TASK_FAULT "new CS null", T_CS, 0, TS, 0
    NEW_TASK_FAULT "new CS data", T_CS, DS32, TS, DS32
    NEW_TASK_FAULT "new CS past the GDT", T_CS, 0x1ff8, TS, 0x1ff8
    NEW_TASK_FAULT "new CS absent", T_CS, SEL(1), NP, SEL(1)
    NEW_TASK_FAULT "new CS DPL 3, RPL 0", T_CS, CS32_3 - 3, TS, CS32_3 - 3
    NEW_TASK_FAULT "new SS null", T_SS, 0, TS, 0
    NEW_TASK_FAULT "new SS read-only", T_SS, SEL(3), TS, SEL(3)
    NEW_TASK_FAULT "new SS RPL 3", T_SS, DS32 + 3, TS, DS32
    NEW_TASK_FAULT "new SS DPL 3", T_SS, DS32_3 - 3, TS, DS32_3 - 3
    NEW_TASK_FAULT "new DS execute-only", T_DS, SEL(5), TS, SEL(5)
    NEW_TASK_FAULT "new DS absent", T_DS, SEL(2), NP, SEL(2)
    NEW_TASK_FAULT "new ES past the GDT", T_ES, 0x1ff8, TS, 0x1ff8
    NEW_TASK_FAULT "new FS RPL 3, DPL 0", T_FS, DS32 + 3, TS, DS32
    NEW_TASK_FAULT "new LDT of data", T_LDT, DS32, TS, DS32
    NEW_TASK_FAULT "new LDT absent", T_LDT, SEL(6), TS, SEL(6)
    NEW_TASK_FAULT "new LDT in the LDT", T_LDT, 0x14, TS, 0x14
    NEW_TASK_FAULT "new EIP past the limit", T_CS, SEL(4), GP, 0
    TASK_B task_echo
    movl $SEL(1), TSS_B + T_CS
    HANDLER_TASK 1, NP
    TRY
    ljmp $TB, $0
    EXPECT_IP "JMP to a task with absent CS", NP, SEL(1), task_echo
    CHECKB "the old task is available", BUSY(TSS_SEL), 0x89
    CHECKB "the new task is busy", BUSY(TB), 0x8b
    CHECK "EAX is the new task's", TSS_B+T_EAX, 0xe0e0e0e0
    CHECK "ESP is the new task's", TSS_B+T_ESP, ESP_B
    call reset_tasks
    RESETIDT NP
    // The T bit: #DB before the first instruction, with DR6.BT.
    TASK_B task_echo
    movl $1, TSS_B + T_TRAP
    xorl %eax, %eax
    movl %eax, %dr6
    TRY
    ljmp $TB, $0
    EXPECT_IP "T bit", DB, NONE, task_echo
    CHECK "DR6.BT", "rec_dr6", 0xffff8ff0
    xorl %eax, %eax
    movl %eax, %dr6

    // ---- What a switch loads --------------------------------------------------------------------------------------------
    TASK_B task_ring3
    SETDESC 6, 0x31000, 0xff, 0x82
    movl $DESC_LO(0x30000, 0xfff), 0x31008
    movl $DESC_HI(0x30000, 0xfff, 0xf2, 4), 0x3100c
    movl $0x600dcafe, 0x30010
    movl $CS32_3, TSS_B + T_CS
    movl $DS32_3, TSS_B + T_SS
    movl $DS32_3, TSS_B + T_DS
    movl $DS32_3, TSS_B + T_ES
    movl $0x0f, TSS_B + T_FS
    movl $SEL(6), TSS_B + T_LDT
    movl $RING0_TOP - 0x400, TSS_B + 4
    movl $DS32, TSS_B + 8
    TRY
    ljmp $TB, $0
    EXPECT_ANY_IP "task at ring 3 with an LDT", SYS_VECTOR
    CHECK "its LDT", "%ecx", 0x600dcafe
    CHECK "its ring 0 stack", "rec_handler_sp", RING0_TOP - 0x400 - 8
    sldtl %eax
    CHECK "LDTR after the switch", "%eax", SEL(6)
    movl $0x00000155, %eax
    movl %eax, %dr7
    TASK_B task_echo
    ljmp $TB, $0
    movl %dr7, %eax
    andl $0xff, %eax
    CHECK "local breakpoints are disabled by the switch", "%eax", 0
    movl $0x000003aa, %eax
    movl %eax, %dr7
    ljmp $TB, $0
    movl %dr7, %eax
    andl $0xff, %eax
    CHECK "global breakpoints stay", "%eax", 0xaa
    movl $0x400, %eax
    movl %eax, %dr7
    sldtl %eax
    CHECK "null LDT", "%eax", 0
    // A 16-bit task.
    TASK_B task_echo
    movl $TSS_C, %edi
    xorl %eax, %eax
    movl $11, %ecx
    rep stosl
    movw $task_16, TSS_C + 14
    movw $2, TSS_C + 16
    movw $0x1234, TSS_C + 18
    movw $0x0f00, TSS_C + 26
    movw $DS32, TSS_C + 34
    movw $CS32, TSS_C + 36
    movw $DS16, TSS_C + 38
    movw $DS32, TSS_C + 40
    lcall $TC, $0
    CHECKW "16-bit task: AX", "0x700", 0x1234
    CHECKW "16-bit task: SP", "0x704", 0x0f00
    CHECKW "16-bit task: NT", "0x708", FL_NT | 2
    CHECKW "16-bit task: link", TSS_C, TSS_SEL
    CHECKB "16-bit task is available again", BUSY(TC), 0x81
    movw $0x2a, gdt + TC
    FAULT "short 16-bit TSS", TS, TC, ljmp $TC, $0
    // CR3: the two tasks map 4 MB differently.
    movl $0x00000083, 0x50000           // directories at 50000 and 51000
    movl $0x00400083, 0x50004
    movl $0x00000083, 0x51000
    movl $0x00800083, 0x51004
    movl $0x44444444, 0x400000
    movl $0x88888888, 0x800000
    movl %cr4, %eax
    orl $CR4_PSE, %eax
    movl %eax, %cr4
    movl $0x50000, %eax
    movl %eax, %cr3
    movl %eax, tss32 + T_CR3
    movl %cr0, %eax
    orl $CR0_PG, %eax
    movl %eax, %cr0
    TASK_B task_paged
    movl $0x51000, TSS_B + T_CR3
    movl 0x400000, %ebx
    lcall $TB, $0
    CHECK "before: own directory", "%ebx", 0x44444444
    CHECK "other task: its directory", "0x700", 0x88888888
    CHECK "its CR3", "0x704", 0x51000
    CHECK "after: own directory", "0x400000", 0x44444444
    movl $0x77777777, 0x51004
    CHECK "CR3 is not saved", TSS_B+T_CR3, 0x51000
    movl %cr0, %eax
    andl $~CR0_PG, %eax
    movl %eax, %cr0
    xorl %eax, %eax
    movl %eax, %cr3
    movl $0, tss32 + T_CR3

    // ---- I/O permission bitmap ------------------------------------------------------------------------------------------
    call reset_tasks
    movl $tss32 + 104, %edi
    xorl %eax, %eax
    decl %eax
    movl $5, %ecx
    rep stosl
    movw $104, tss32 + T_IOMAP
    movl $0x8900, gdt + TSS_SEL + 4
    movw $104 + 17, gdt + TSS_SEL       // ports 0 to 8F, one more byte
    movw $TSS_SEL, %ax
    ltr %ax
    FAULT3 "bit set: OUT", GP, 0, outb %al, $0x80
    FAULT3 "bit set: IN", GP, 0, inb $0x80, %al
    andb $~0x01, tss32 + 104 + 16
    NOFAULT3 "bit clear: OUT", outb %al, $0x80
    FAULT3 "the next port", GP, 0, outb %al, $0x81
    FAULT3 "word: second bit set", GP, 0, outw %ax, $0x80
    andb $~0x02, tss32 + 104 + 16
    NOFAULT3 "word: both clear", outw %ax, $0x80
    FAULT3 "dword: third set", GP, 0, outl %eax, $0x80
    andb $~0x80, tss32 + 104 + 16
    FAULT3 "word across two bytes", GP, 0, outw %ax, $0x87
    andb $~0x01, tss32 + 104 + 17
    NOFAULT3 "word across two bytes, clear", outw %ax, $0x87
    movl $0x80, %edx
    NOFAULT3 "by DX", outb %al, %dx
    movl $0x10080, %edx
    NOFAULT3 "DX is 16 bits", outb %al, %dx
    movl $0x600, %esi
    NOFAULT3 "OUTS", outsb
    movw $104 + 16, gdt + TSS_SEL
    movl $0x8900, gdt + TSS_SEL + 4
    movw $TSS_SEL, %ax
    ltr %ax
    FAULT3 "the second byte is past the TSS limit", GP, 0, outb %al, $0x80
    movb $0, tss32 + 104 + 15
    NOFAULT3 "two bytes within the limit", outb %al, $0x78
    FAULT3 "port past the bitmap", GP, 0, outb %al, $0xe9
    movl $FL_IOPL | 2, user_flags
    NOFAULT3 "IOPL 3 needs no bitmap", outb %al, $0x81
    movl $0x2002, user_flags
    FAULT3 "IOPL 2 at ring 3", GP, 0, outb %al, $0x81
    movl $2, user_flags
    movw $0xffff, tss32 + T_IOMAP
    FAULT3 "bitmap base past the limit", GP, 0, outb %al, $0x80
    movw $0xff, gdt + TC
    movl $TC, %eax
    ltr %ax
    movw $RING0_TOP - 0x8000, TSS_C + 2
    movw $DS32, TSS_C + 4
    movw $0x68, TSS_C + T_IOMAP
    FAULT3 "a 16-bit TSS has no bitmap", GP, 0, outb %al, $0x78
    FINISH

// The first task with TR, both descriptors available, the second task's TSS filled.
reset_tasks:
    movb $0x89, BUSY(TSS_SEL)
    movl $TSS_SEL, %eax
    ltr %ax
    xorl %eax, %eax
    lldt %ax
    movl $TSS_B, %edi
    movl $26, %ecx
    rep stosl
    movl $0x7777, TSS_B + T_LINK
    movl $0xe0e0e0e0, TSS_B + T_EAX
    movl $ESP_B, TSS_B + T_ESP
    movl $CS32, TSS_B + T_CS
    movl $DS32, TSS_B + T_SS
    movl $DS32, TSS_B + T_DS
    movl $DS32, TSS_B + T_ES
    movl $DS32, TSS_B + T_FS
    movw $103, gdt + TB
    movb $0x89, BUSY(TB)
    movl $0x67, tss32 + T_LINK
    clts
    ret

// Stores what it finds at 700.
echo:
    movl %eax, 0x700
    pushfl
    popl 0x704
    strl %eax
    movl %eax, 0x708
    movzbl BUSY(TSS_SEL), %eax
    movl %eax, 0x70c
    movzbl BUSY(TB), %eax
    movl %eax, 0x710
    movl %cr0, %eax
    andl $CR0_TS, %eax
    movl %eax, 0x714
    leal 4(%esp), %eax
    movl %eax, 0x718
    ret
task_echo:
    call echo
    ljmp $TSS_SEL, $0
    jmp task_echo
task_echo_iret:
    call echo
    iretl
task_echo_after:
    jmp task_echo_iret
// A handler's task: where it was interrupted, by what, then on at the place that TRY named.
.irp vector, TS, NP, SS, GP
handler_\vector:
    movl $\vector, rec_vector
    jmp handler
.endr
handler:
    popl rec_error
    movl TSS_B + T_EIP, %eax
    movl %eax, rec_ip
    strl %eax
    movl gdt + 2(%eax), %eax
    andl $0xffffff, %eax                // base of this TSS
    movzwl (%eax), %eax
    movl %eax, link
    pushl $2
    popfl
    movl rec_resume_sp, %esp
    jmp *rec_resume
fill_handler:
    xorl %eax, %eax
    movl %eax, T_CR3(%edi)
    movl %eax, T_LDT(%edi)
    movl $2, T_EFLAGS(%edi)
    movl $0x43000, T_ESP(%edi)
    movl $CS32, T_CS(%edi)
    movl $DS32, %eax
    movl %eax, T_SS(%edi)
    movl %eax, T_DS(%edi)
    movl %eax, T_ES(%edi)
    movl %eax, T_FS(%edi)
    movl %eax, T_FS + 4(%edi)
    ret
task_error:
    movl %esp, 0x704
    popl 0x700
    movl tss32 + T_EIP, %eax
    movl %eax, 0x708
    addl $2, tss32 + T_EIP              // past the MOV to GS
    movl tss32 + T_EFLAGS, %eax
    andl $FL_RF, %eax
    movl %eax, 0x70c
    iretl
task_ring3:
    movl %fs:0x10, %ecx
    int $SYS_VECTOR
task_16:
    movl %eax, 0x700
    movl %esp, 0x704
    pushfl
    popl 0x708
    iretl
task_paged:
    movl 0x400000, %eax
    movl %eax, 0x700
    movl %cr3, %eax
    movl %eax, 0x704
    iretl
    .data
link:   .long 0
